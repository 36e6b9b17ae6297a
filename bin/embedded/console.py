"""What a person at the terminal sees. All of it goes to stderr: stdout belongs to the command of bin/env."""

import sys
import time


class Problem(Exception):
    """Something that the person can put right; its text says what and how. Shown without a traceback."""


def say(text: str) -> None:
    """Print a line at once."""
    print(text, file=sys.stderr, flush=True)


class Step:
    """A line for something that takes a while, and how long it took: ``with Step("starting x"):``."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.started = time.monotonic()

    def __enter__(self) -> "Step":
        say(f"  {self.title} ...")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            say(f"  {self.title}: done in {time.monotonic() - self.started:.1f} s")


def tail(path: object, lines: int = 15) -> str:
    """Last lines of a log file, indented, to show beside a failure."""
    try:
        with open(str(path), encoding="utf-8", errors="replace") as file:
            return "".join(f"    {line}" for line in file.readlines()[-lines:]).rstrip()
    except OSError:
        return "    (no log)"
