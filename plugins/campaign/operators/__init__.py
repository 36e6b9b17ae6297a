"""The operators of the technical workflows, one class a file."""
