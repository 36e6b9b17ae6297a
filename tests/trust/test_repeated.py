"""Each workflow at each moment of a month: rehearsed, then run, then run again.

A rehearsal says exactly what the run then does, and changes nothing; a second run of the same moment changes no
row, and sends nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.snapshots import changed_tables, snapshot
from tests.trust.conftest import OpenHouse
from tests.trust.month import Month, moments_of
from tests.trust.player import WORKFLOWS, Player
from tests.trust.tally import SEED, count, size
from tests.workflow_runs import Summaries

# The mark of a rehearsal, and what nobody knows before the file is written.
ONE_SIDED = {"dry_run", "bytes_written"}


class Findings:
    """What was found at each moment that ought not to be."""

    def __init__(self) -> None:
        self.rehearsals_that_changed: list[Any] = []
        self.rehearsals_that_erred: list[Any] = []
        self.repetitions_that_changed: list[Any] = []
        self.repetitions_that_sent: list[Any] = []


@pytest.fixture(scope="module")
def findings(open_house: OpenHouse) -> Findings:
    """Play a month, and rehearse and repeat every run of it."""
    findings = Findings()
    with open_house() as player:
        month = Month(player.house, SEED)
        # By some seeds, days pass before each kind of message leaves the house.
        for day in range(28):
            if day >= size(short=4, long=28) and least_sent(player) > 5:
                break
            for moment in moments_of(day):
                month.act(moment)
                for dag_id in WORKFLOWS:
                    play(player, dag_id, moment, findings)
                    player.airflow.execute_queued(moment)
        assert least_sent(player) > 5, "nothing left the house: the month tries too little"
        outside = player.outside.all()
        assert [number for number in outside["mails"].values() if number > 1] == []
        count(runs=player.runs, mails=len(outside["mails"]), texts=len(outside["texts"]), files=len(outside["files"]))
        count(differences=sum(map(len, vars(findings).values())))
    return findings


def least_sent(player: Player) -> int:
    """Return how much left the house of what left it least: mails, texts or files."""
    return min(map(len, player.outside.all().values()))


def play(player: Player, dag_id: str, moment: datetime, findings: Findings) -> None:
    """Rehearse, run, and run again."""
    name, db = f"{dag_id} as of {moment:%d %H:%M}", player.house.db
    before, sent_before = snapshot(db), player.outside.all()
    rehearsed = player.run(dag_id, moment, dry_run=True)
    changed = changed_tables(before, snapshot(db))
    if changed or player.outside.all() != sent_before:
        findings.rehearsals_that_changed.append((name, changed))
    done = player.run(dag_id, moment)
    findings.rehearsals_that_erred += [(name, *error) for error in errors(rehearsed, done)]
    before, sent_before = snapshot(db), player.outside.all()
    player.run(dag_id, moment)
    if changed := changed_tables(before, snapshot(db)):
        findings.repetitions_that_changed.append((name, changed))
    if player.outside.all() != sent_before:
        findings.repetitions_that_sent.append(name)


def errors(rehearsed: Summaries, done: Summaries) -> list[tuple[str, str, Any, Any]]:
    """Return the counts that differ: task, name, what the rehearsal said, what the run did."""
    found = []
    for task_id, summary in rehearsed.items():
        for name in (summary.keys() | done[task_id].keys()) - ONE_SIDED:
            said, actual = summary.get(name), done[task_id].get(name)
            if name == "messages_at_most":
                actual = sum(done.get("send_messages", {}).values())
            if said != actual:
                found.append((task_id, name, said, actual))
    return found


def test_rehearsal_changes_nothing(findings: Findings) -> None:
    assert findings.rehearsals_that_changed == []


def test_rehearsal_says_what_the_run_does(findings: Findings) -> None:
    assert findings.rehearsals_that_erred == []


def test_second_run_changes_no_row(findings: Findings) -> None:
    assert findings.repetitions_that_changed == []


def test_second_run_sends_nothing(findings: Findings) -> None:
    assert findings.repetitions_that_sent == []
