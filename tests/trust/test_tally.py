"""What the suite did is said at its end, by however many processes it was done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT


def run_pytest(folder: Path, *options: str) -> list[str]:
    """Run the tests of a folder; return what was said of runs that can be trusted."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.trust.tally", "-p", "no:cacheprovider", *options, folder]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "TRUST_SEED": "7", "TRUST": "short"}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=folder).stdout
    return [line for line in said.splitlines() if "form, seed" in line]


@pytest.mark.parametrize("options", [(), ("--numprocesses", "2", "--dist", "loadfile")], ids=["one", "two processes"])
def test_summary_adds_up_what_all_processes_did(tmp_path: Path, options: tuple[str, ...]) -> None:
    for number in (1, 2):
        (tmp_path / f"test_{number}.py").write_text(
            "from tests.trust.tally import count\n"
            f"def test() -> None:\n    count(differences=0, mails_that_came_again=1, kills={number}, runs=10)\n"
        )
    assert run_pytest(tmp_path, *options) == [
        "short form, seed 7: kills 3, runs 20, mails that came again 2, differences 0"
    ]


def test_summary_is_silent_when_no_month_was_played(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test() -> None:\n    pass\n")
    assert run_pytest(tmp_path) == []
