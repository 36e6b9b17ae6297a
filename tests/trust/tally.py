"""What the suite did, to be said at its end; and how much it does.

A plugin of pytest (tests/conftest.py names it), for two processes to add up what their tests did.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

# The long form: `make trust`. TRUST_SEED=7 plays another month.
IS_LONG = os.environ.get("TRUST") == "long"
SEED = int(os.environ.get("TRUST_SEED", "1"))
# What was done (runs, kills), counted at the receiving side (mails, texts, files), and found (differences).
TALLY: Counter[str] = Counter()
# In this order, then all else as it comes; the differences last.
FIRST = ("kills", "servers killed", "runs", "mails", "texts", "files")
LAST = "differences"


def count(**counts: int) -> None:
    """Add to what is said at the end: ``count(runs=3, differences=0)``."""
    TALLY.update({name.replace("_", " "): number for name, number in counts.items()})


def size(short: int, long: int) -> int:
    """Return how much of something there is in the form of the suite that runs."""
    return long if IS_LONG else short


def report() -> str:
    """Say what the suite did."""
    names = [*FIRST, *sorted(TALLY.keys() - {*FIRST, LAST}), LAST]
    done = ", ".join(f"{name} {TALLY[name]}" for name in names if name in TALLY)
    return f"{'long' if IS_LONG else 'short'} form, seed {SEED}: {done}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what the tests of this process did, if it is one of several."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["trust"] = dict(TALLY)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what the tests of another process did; one that crashed says nothing."""
    TALLY.update(getattr(node, "workeroutput", {}).get("trust", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the suite did."""
    if TALLY:
        terminalreporter.section("runs that can be trusted")
        terminalreporter.write_line(report())
