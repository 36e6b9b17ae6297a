"""Days back-filled by ``airflow backfill create`` on a real scheduler, in random order, are as the days on time."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.test_whole_product import PROJECT, Stack
from tests.budget_world import World
from tests.conftest import Workflow
from tests.trust.tally import IS_LONG, SEED, count

pytestmark = pytest.mark.skipif(not IS_LONG, reason="a scheduler at work for minutes: make trust")

# Long ago: Airflow back-fills no moment that has not come yet.
FIRST = datetime(2020, 3, 2, tzinfo=UTC)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
# The last run of a day by the schedule of each.
LAST_RUNS = {"budgetMgt": timedelta(hours=23, minutes=45), "stockMgt": timedelta(hours=23, minutes=5)}
HISTORIES = {
    "budget_history": """
        SELECT history.as_of, budget.internal_name, history.level, history.amount
        FROM campaign.budget_history AS history JOIN campaign.budget ON history.budget_id = budget.id
        WHERE history.as_of < '2020-04-01' ORDER BY 1, 2, 3
    """,
    "stock_history": """
        SELECT history.as_of, stock_line.internal_name, history.received, history.consumed, history.on_order
        FROM campaign.stock_history AS history JOIN campaign.stock_line ON history.stock_line_id = stock_line.id
        WHERE history.as_of < '2020-04-01' ORDER BY 1, 2
    """,
}


def build(db: psycopg.Connection[Any]) -> World:
    """Insert what was there before the first day."""
    world = World(db)
    world.frame()
    world.named("staff", "kim", email="kim@example.com")
    world.named("stock", "warehouse", assigned_to_id="kim")
    world.named("stock_line", "sheets", stock_id="warehouse", initial_quantity=1000, alert_level=0)
    world.cost_type("paper", channel="direct_mail", basis="per_message", method="linear", amount="0.5")
    world.set("cost_type", "paper", stock_line_id="sheets")
    world.cost_type("room", service="rooms", channel="task", basis="per_day", amount="100")
    return world


def pass_day(world: World, number: int, day: datetime) -> None:
    """Do what happened on a day: an analysis, an extraction, an order, a task; and what came of the day before."""
    noon = day + timedelta(hours=12)
    name = f"letter {number}"
    world.analysed(
        name,
        "paper",
        messages=100 + number,
        at=noon,
        channel="direct_mail",
        extracted_at=noon,
        status="file_to_approve",
    )
    world.add("stock_order", stock_line_id="sheets", ordered_at=noon, delivery_on=day + timedelta(days=1), quantity=50)
    world.task(f"hall {number}", "room", days_completed=1, status="finished", finished_at=noon)
    if number % 2:
        world.set("delivery", f"letter {number - 1}", status="finished", finished_at=noon)
    elif number:
        world.set("delivery", f"letter {number - 1}", status="canceled", canceled_at=noon)


def histories(db: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    """Return what is recorded of the days."""
    return {name: db.execute(query.encode()).fetchall() for name, query in HISTORIES.items()}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Start the whole product in a state folder of its own."""
    stack = Stack(tmp_path / "state")
    stack.run(str(PROJECT / "bin" / "stack"), "up")
    yield stack
    stack.run(str(PROJECT / "bin" / "stack"), "clean")


def test_days_backfilled_in_random_order_are_the_days_on_time(
    db: psycopg.Connection[Any], run_workflow: Workflow, stack: Stack
) -> None:
    on_time = build(db)
    for number, day in enumerate(DAYS):
        pass_day(on_time, number, day)
        for dag_id, last_run in LAST_RUNS.items():
            run_workflow(dag_id, day + last_run)
    with stack.connect() as late:
        world = build(late)
        for number, day in enumerate(DAYS):
            pass_day(world, number, day)
        for dag_id in LAST_RUNS:
            stack.env("airflow", "dags", "unpause", dag_id)
        wait_for(late, "run_id NOT LIKE 'backfill__%'", len(LAST_RUNS))
        assert histories(late) == {name: [] for name in HISTORIES}
        current = late.execute("SELECT * FROM campaign.budget_position ORDER BY budget_id").fetchall()
        past = [(dag_id, day + last_run) for dag_id, last_run in LAST_RUNS.items() for day in DAYS]
        random.Random(SEED).shuffle(past)  # noqa: S311
        for done, (dag_id, moment) in enumerate(past):
            tick = moment.isoformat()
            backfill = ("backfill", "create", "--dag-id", dag_id, "--from-date", tick, "--to-date", tick)
            stack.env("airflow", *backfill)
            wait_for(late, "run_id LIKE 'backfill__%'", done + 1)
            # A workflow has one backfill at a time, and Airflow looks every 30 seconds which are over.
            time.sleep(31)
        found = histories(late)
        assert late.execute("SELECT * FROM campaign.budget_position ORDER BY budget_id").fetchall() == current
    expected = histories(db)
    count(backfills=len(past), differences=sum(found[name] != expected[name] for name in HISTORIES))
    assert found == expected


def wait_for(db: psycopg.Connection[Any], condition: str, wanted: int) -> None:
    """Wait until so many runs have ended well."""
    deadline = time.monotonic() + 300
    query = (
        f"SELECT count(DISTINCT (dag_id, as_of)) FROM campaign.technical_run WHERE state = 'success' AND {condition}"
    )
    while time.monotonic() < deadline:
        if db.execute(query.encode()).fetchall()[0][0] >= wanted:
            return
        time.sleep(1)
    raise AssertionError(db.execute("SELECT * FROM campaign.technical_run").fetchall())
