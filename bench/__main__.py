"""Runs the benchmarks: ``python -m bench`` all of them, ``python -m bench stock`` one by its name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def main(wanted: list[str]) -> int:
    """Run the benchmarks that are named; return 1 when one of them misses its target."""
    unknown = sorted(set(wanted) - set(NAMES))
    if unknown:
        sys.exit(f"There is no benchmark {', '.join(unknown)}. There are: {', '.join(NAMES)}.")
    return max(importlib.import_module(f"bench.{name}").main() for name in wanted or NAMES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
