"""Command line of the embedded stack; bin/stack and bin/env call it with a Python that is new enough."""

import sys

from embedded.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
