"""Campaign Workflows: the shared operators of the five technical workflows, and what they stand on."""
