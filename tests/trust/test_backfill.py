"""Days back-filled by ``airflow backfill create`` on a real scheduler, in random order, are as the days on time."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.test_whole_product import PROJECT, Stack
from tests.budget_world import World
from tests.conftest import Workflow
from tests.trust.comparison import content, describe, differences, open_alerts
from tests.trust.player import WORKFLOWS
from tests.trust.tally import IS_LONG, SEED, count

pytestmark = pytest.mark.skipif(not IS_LONG, reason="a scheduler at work for minutes: make trust")

# Long ago: Airflow back-fills no moment that has not come yet.
FIRST = datetime(2020, 3, 2, tzinfo=UTC)
DAYS = [FIRST + timedelta(days=number) for number in range(int(os.environ.get("TRUST_DAYS", "7")))]
# The last run of a day by the schedule of each.
LAST_RUNS = {
    "stockMgt": timedelta(hours=23, minutes=5),
    "budgetMgt": timedelta(hours=23, minutes=45),
    "operationMgt": timedelta(hours=23, minutes=55),
    "deliveryMgt": timedelta(hours=23, minutes=55),
    "providerMgt": timedelta(hours=23, minutes=55),
}
# Is told as of the run that sees its cause: compared by who stands told of what.
TOLD = frozenset({"notification"})
HISTORIES = ("budget_history", "stock_history")


def build(db: psycopg.Connection[Any]) -> World:
    """Insert what was there before the first day."""
    world = World(db)
    world.frame(approval_mode="manual", commitment_level="reserved")
    world.set("budget", "marketing", allocated=100 * len(DAYS))
    world.named("staff", "kim", email="kim@example.com")
    world.named("stock", "warehouse", assigned_to_id="kim")
    world.named("stock_line", "sheets", stock_id="warehouse", initial_quantity=300, alert_level=300)
    world.cost_type("paper", channel="direct_mail", basis="per_message", method="linear", amount="0.5")
    world.set("cost_type", "paper", stock_line_id="sheets")
    world.cost_type("room", service="rooms", channel="task", basis="per_day", amount="100")
    for kind in ("content", "extraction"):
        policy = world.add("approval_policy", campaign_id="loyalty", kind=kind)
        world.add("approval_policy_reviewer", approval_policy_id=policy, staff_id="kim")
    return world


def pass_day(world: World, number: int, day: datetime) -> None:
    """Do what happened on a day: an analysis, an extraction, an order, a task; and what came of the days before."""
    noon = day + timedelta(hours=12)
    world.db.execute("SELECT set_config('campaign.as_of', %s, false)", [noon.isoformat()])
    world.analysed(f"letter {number}", "paper", messages=100 + number, at=noon, channel="direct_mail")
    world.db.execute("SELECT campaign.submit_approval(%s, 'content')", [world.ids[f"letter {number}"]])
    world.add("stock_order", stock_line_id="sheets", ordered_at=noon, delivery_on=day + timedelta(days=1), quantity=50)
    world.task(f"hall {number}", "room", days_completed=1, status="finished", finished_at=noon)
    if number >= 1:
        approve(world, f"letter {number - 1}")
        world.set("delivery", f"letter {number - 1}", status="file_to_approve", extracted_at=noon)
    if number >= 2:
        end(world, number - 2, noon)
    if number >= 3:
        # What was canceled is not billed.
        world.db.execute("UPDATE campaign.invoice SET status = 'paid', paid_at = %s WHERE status = 'issued'", [noon])


def approve(world: World, delivery: str) -> None:
    """Approve the content of a delivery."""
    [[approval]] = world.rows(
        "SELECT id FROM campaign.approval WHERE delivery_id = %s AND status = 'pending'", world.ids[delivery]
    )
    world.db.execute("SELECT campaign.decide_approval(%s, %s, true, 'seen')", [approval, world.ids["kim"]])


def end(world: World, number: int, noon: datetime) -> None:
    """Let a delivery end: one is canceled, the next one finishes and is billed."""
    name = f"letter {number}"
    if number % 2:
        world.db.execute("SELECT campaign.cancel_delivery(%s, 'no longer wanted')", [world.ids[name]])
    else:
        world.set("delivery", name, status="finished", finished_at=noon)
        world.add("invoice", number=f"invoice {number}", provider_id="printers", status="issued")
        world.add("invoice_line", invoice_id=f"invoice {number}", label=name, amount=50 + number)


def attach_invoices(db: psycopg.Connection[Any]) -> None:
    """Name the invoice lines on the expense lines that are there."""
    db.execute(
        """
        UPDATE campaign.expense_line SET invoice_line_id = invoice_line.id
        FROM campaign.delivery, campaign.invoice_line
        WHERE expense_line.delivery_id = delivery.id AND invoice_line.label = delivery.internal_name
            AND expense_line.invoice_line_id IS NULL
        """
    )


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Start the whole product in a state folder of its own."""
    stack = Stack(tmp_path / "state")
    stack.run(str(PROJECT / "bin" / "stack"), "up")
    yield stack
    stack.run(str(PROJECT / "bin" / "stack"), "clean")


def run_late(stack: Stack, db: psycopg.Connection[Any]) -> None:
    """Let the five run for the first time, when all has happened."""
    for dag_id in WORKFLOWS:
        stack.env("airflow", "dags", "unpause", dag_id)
    wait_for(db, "SELECT count(DISTINCT dag_id) = 5 FROM campaign.technical_run WHERE state = 'success'")
    attach_invoices(db)
    wait_for(
        db,
        """
        SELECT (SELECT count(*) FROM campaign.cost_line WHERE level = 'invoiced')
            = (SELECT count(*) FROM campaign.invoice WHERE status = 'paid')
        """,
    )


def backfill(stack: Stack, db: psycopg.Connection[Any]) -> None:
    """Run each of the five for the end of each day, every one in a random order of its own."""
    chance = random.Random(SEED)  # noqa: S311
    orders = {dag_id: chance.sample(DAYS, len(DAYS)) for dag_id in LAST_RUNS}
    for number in range(len(DAYS)):
        ticks = {dag_id: (days[number] + LAST_RUNS[dag_id]).isoformat() for dag_id, days in orders.items()}
        stack.env("python", str(PROJECT / "tests" / "trust" / "create_backfills.py"), *chain(*ticks.items()))
        wait_for(
            db,
            f"""
            SELECT count(DISTINCT (dag_id, as_of)) = {len(orders) * (number + 1)}
            FROM campaign.technical_run WHERE state = 'success' AND run_id LIKE 'backfill__%'
            """,
        )
        # A workflow has one backfill at a time, and Airflow looks every 30 seconds which are over.
        time.sleep(31)


def wait_for(db: psycopg.Connection[Any], question: str) -> None:
    """Wait until the answer is yes."""
    deadline = time.monotonic() + 600
    while db.execute(question.encode()).fetchone() != (True,):
        assert time.monotonic() < deadline, db.execute("SELECT * FROM campaign.technical_run").fetchall()
        time.sleep(1)


def state(db: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Return what is, and the histories of the days that were played."""
    found = content(db, without=TOLD)
    return found | {name: [row for row in found[name] if '"as_of": "2020' in row] for name in HISTORIES}


def test_days_backfilled_in_random_order_are_the_days_on_time(
    db: psycopg.Connection[Any], run_workflow: Workflow, stack: Stack
) -> None:
    on_time = build(db)
    for number, day in enumerate(DAYS):
        pass_day(on_time, number, day)
        attach_invoices(db)
        for dag_id, last_run in LAST_RUNS.items():
            run_workflow(dag_id, day + last_run)
    now = datetime.now(UTC)
    for dag_id in WORKFLOWS:
        run_workflow(dag_id, now)
    with stack.connect() as late:
        world = build(late)
        for number, day in enumerate(DAYS):
            pass_day(world, number, day)
        run_late(stack, late)
        assert [state(late)[name] for name in HISTORIES] == [[], []]
        backfill(stack, late)
        found = [state(db), state(late)]
        alerts = [open_alerts(db), open_alerts(late)]
    different = differences(*found)
    count(backfills=len(DAYS) * len(LAST_RUNS), differences=len(different))
    assert different == {}, describe(different)
    assert alerts[0] == alerts[1]
    assert {name for name, _ in alerts[0]} == {"sheets", "marketing"}
