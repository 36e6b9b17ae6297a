"""What the suite did, to be said at its end; and how much it does."""

from __future__ import annotations

import os
from collections import Counter

# The long form: `make trust`. TRUST_SEED=7 plays another month.
IS_LONG = os.environ.get("TRUST") == "long"
SEED = int(os.environ.get("TRUST_SEED", "1"))
# What was done (runs, kills), counted at the receiving side (mails, texts, files), and found (differences).
TALLY: Counter[str] = Counter()


def count(**counts: int) -> None:
    """Add to what is said at the end: ``count(runs=3, differences=0)``."""
    TALLY.update(counts)


def size(short: int, long: int) -> int:
    """Return how much of something there is in the form of the suite that runs."""
    return long if IS_LONG else short


def report() -> str:
    """Say what the suite did."""
    done = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in TALLY.items())
    return f"{'long' if IS_LONG else 'short'} form, seed {SEED}: {done}"
