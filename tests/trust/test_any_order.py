"""A month run on time, and the same month run once at its end and back-filled in random order: no difference."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

from tests.trust.comparison import content, describe, differences, journal_messages
from tests.trust.conftest import OpenHouse
from tests.trust.month import Month, moments_of
from tests.trust.player import WORKFLOWS, Player
from tests.trust.tally import SEED, count, size
from tests.trust.world import BEGIN, DAY, HOUR

# What a run calculates that nobody asked in time: alerts are told as of the run that sees their cause.
TOLD = frozenset({"notification", "budget_alert", "stock_balance", "cost_problem"})
CALCULATING = ("budgetMgt", "stockMgt")
# The last run of a day sees all that came of it; what happens after a run at the same moment, that run does not.
LAST_RUN = 23 * HOUR


def play(player: Player, days: int, *, is_late: bool) -> None:
    """Play a month; late: costs and stock are calculated once, at its end, and back-filled in random order."""
    month = Month(player.house, SEED, is_dated=True)
    on_time = [dag_id for dag_id in WORKFLOWS if not (is_late and dag_id in CALCULATING)]
    past: list[tuple[str, datetime]] = []
    for day in range(days):
        for moment in moments_of(day):
            month.act(moment)
            for dag_id in on_time:
                player.run(dag_id, moment)
                player.airflow.execute_queued(moment)
            past += [(dag_id, moment) for dag_id in WORKFLOWS]
        for dag_id in CALCULATING:
            past.append((dag_id, BEGIN + day * DAY + LAST_RUN))
            if not is_late:
                player.run(*past[-1])
    end = BEGIN + days * DAY + LAST_RUN
    player.run_all(end)
    month.attach_invoices()
    player.run_all(end)
    for dag_id in CALCULATING:
        player.run(dag_id, end)
    if is_late:
        backfill(player, past)


def backfill(player: Player, past: list[tuple[str, datetime]]) -> None:
    """Run every workflow for every moment once more, in random order; that sends nothing."""
    sent = player.outside.all()
    random.Random(SEED).shuffle(past)  # noqa: S311
    for dag_id, moment in past:
        player.run(dag_id, moment, run_id=f"backfill__{dag_id}__{moment.isoformat()}")
    assert player.outside.all() == sent


def test_month_in_any_order_comes_to_the_same(open_house: OpenHouse) -> None:
    days = size(short=3, long=14)
    found: list[dict[str, list[str]]] = []
    journals, outside = [], []
    for is_late in (False, True):
        with open_house(budget_approvals=False, is_dated=True) as player:
            play(player, days, is_late=is_late)
            found.append(content(player.house.db, without=TOLD))
            journals.append({line for line in journal_messages(player.house.db) if line[0] not in CALCULATING})
            outside.append(player.outside)
            count(runs=player.runs, mails=len(player.outside.mails()), files=len(player.outside.files()))
    assert len(found[0]["budget_history"]) > days
    assert len(found[0]["stock_history"]) > days
    different: Any = differences(*found)
    count(differences=len(different))
    assert different == {}, describe(different)
    assert journals[0] == journals[1]
