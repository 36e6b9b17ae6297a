"""A month in several houses, in each with other workflows late: run at its end, and back-filled in random order."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from tests.snapshots import snapshot
from tests.trust.comparison import (
    BESIDE,
    content,
    describe,
    differences,
    journal_messages,
    notices,
    open_alerts,
)
from tests.trust.conftest import OpenHouse
from tests.trust.month import Month, moments_of
from tests.trust.player import WORKFLOWS, Player
from tests.trust.tally import SEED, count
from tests.trust.world import BEGIN, DAY, HOUR, House

# These keep a history of each day; the others act, and what they do late is done late.
CALCULATING = ("budgetMgt", "stockMgt")
ACTING = tuple(dag_id for dag_id in WORKFLOWS if dag_id not in CALCULATING)
# The last run of a day sees all that came of it; what happens after a run at the same moment, that run does not.
LAST_RUN = 23 * HOUR
# The houses come to rest in fewer rounds.
ROUNDS = 40
# What the end of a month is, whenever the workflows ran: all but the moments at which they did something, and what
# comes of them (dates in names of files, which rounds of an approval there were). A canceled delivery may have been
# targeted before it was, or not.
END = {
    "deliveries": """
        SELECT
            delivery.internal_name, campaign.internal_name, delivery.status, delivery.calculated_cost, held_at,
            CASE WHEN delivery.status <> 'canceled' THEN ARRAY[targeted_count, message_count] END
        FROM campaign.delivery JOIN campaign.campaign ON delivery.campaign_id = campaign.id
    """,
    "targets": """
        SELECT delivery.internal_name, recipient.internal_name, target.role, message.status
        FROM campaign.delivery_target AS target
        JOIN campaign.delivery ON target.delivery_id = delivery.id
        JOIN campaign.recipient ON target.recipient_id = recipient.id
        LEFT JOIN campaign.delivery_message AS message
            ON target.delivery_id = message.delivery_id AND target.recipient_id = message.recipient_id
        WHERE delivery.status <> 'canceled'
    """,
    "approvals": """
        SELECT DISTINCT ON (delivery.internal_name, kind) delivery.internal_name, approval.kind, approval.status
        FROM campaign.approval JOIN campaign.delivery ON approval.delivery_id = delivery.id
        WHERE delivery.status <> 'canceled' ORDER BY delivery.internal_name, approval.kind, round DESC
    """,
    "files": """
        SELECT delivery.internal_name, row_count FROM campaign.extraction_file
        JOIN campaign.delivery ON extraction_file.delivery_id = delivery.id WHERE extraction_file.status = 'current'
    """,
    "jobs": """
        SELECT delivery.internal_name, provider_job.kind, provider_job.status FROM campaign.provider_job
        JOIN campaign.delivery ON provider_job.delivery_id = delivery.id
    """,
    "campaigns": "SELECT internal_name, label, status, starts_at, ends_at, calculated_cost FROM campaign.campaign",
    "schedules": """
        SELECT campaign.internal_name, line.starts_at, workflow.label, created.internal_name
        FROM campaign.campaign_schedule AS line
        JOIN campaign.campaign ON line.campaign_id = campaign.id
        LEFT JOIN campaign.workflow ON line.workflow_id = workflow.id
        LEFT JOIN campaign.campaign AS created ON line.created_campaign_id = created.id
        WHERE line.workflow_id IS NOT NULL OR line.created_campaign_id IS NOT NULL
    """,
    "totals": """
        SELECT internal_name, calculated_cost FROM campaign.plan
        UNION ALL SELECT internal_name, calculated_cost FROM campaign.program
        UNION ALL SELECT internal_name, calculated_cost FROM campaign.task
    """,
    "cost lines": """
        SELECT
            budget.internal_name, coalesce(delivery.internal_name, task.internal_name, campaign.internal_name),
            line.level, line.amount
        FROM campaign.cost_line AS line
        JOIN campaign.budget ON line.budget_id = budget.id
        LEFT JOIN campaign.campaign ON line.campaign_id = campaign.id
        LEFT JOIN campaign.delivery ON line.delivery_id = delivery.id
        LEFT JOIN campaign.task ON line.task_id = task.id
    """,
    "budgets": """
        SELECT
            budget.internal_name, position.allocated, planned, reserved, committed, spent, invoiced, available,
            projected
        FROM campaign.budget_position AS position JOIN campaign.budget ON position.budget_id = budget.id
    """,
    "stock": """
        SELECT stock_line.internal_name, received, consumed, on_order, in_stock, state
        FROM campaign.stock_position AS position JOIN campaign.stock_line ON position.stock_line_id = stock_line.id
    """,
    "orders": "SELECT stock_line_id, ordered_at, delivery_on, quantity, received_at FROM campaign.stock_order",
}


class Played:
    """What came of a month.

    :param late: the workflows that run once, at its end, and are back-filled for every moment in random order.
    """

    def __init__(self, player: Player, month: Month, days: int, late: Collection[str]) -> None:
        self.player, self.month, self.late = player, month, late
        self.past: list[tuple[str, datetime]] = []
        month.open()
        month.order()
        for day in range(days):
            for moment in moments_of(day):
                month.act(moment)
                self._run(WORKFLOWS, moment)
            self._run(CALCULATING, BEGIN + day * DAY + LAST_RUN)
        self._end(BEGIN + days * DAY + LAST_RUN)
        if late:
            self._backfill()
        db, self.outside = player.house.db, player.outside
        self.rows = content(db)
        self.notices = notices(self.rows.pop("notification"), ACTING, without=BESIDE)
        self.alerts = open_alerts(db)
        self.journal = {line for line in journal_messages(db) if line[0] not in CALCULATING}
        self.end = {name: sorted(map(repr, player.house.rows(query))) for name, query in END.items()}
        count(runs=player.runs, mails=len(self.outside.mails()), files=len(self.outside.files()))

    def _run(self, workflows: Collection[str], moment: datetime) -> None:
        for dag_id in workflows:
            self.past.append((dag_id, moment))
            if dag_id not in self.late:
                self.player.run(dag_id, moment)
                self.player.airflow.execute_queued(moment)

    def _end(self, moment: datetime) -> None:
        """Run all until they change nothing more, and let people answer what they ask."""
        for _ in range(ROUNDS):
            before = snapshot(self.player.house.db)
            self.month.react(moment)
            self.player.run_all(moment)
            if snapshot(self.player.house.db) == before:
                return
        raise AssertionError("the workflows do not come to rest")

    def _backfill(self) -> None:
        """Run every workflow for every moment once more, in random order; that sends nothing."""
        sent = self.player.outside.all()
        random.Random(SEED).shuffle(self.past)  # noqa: S311
        for dag_id, moment in self.past:
            self.player.run(dag_id, moment, run_id=f"backfill__{dag_id}__{moment.isoformat()}")
        assert self.player.outside.all() == sent


def play(
    open_house: OpenHouse, make_month: Callable[[House, int], Month], days: int, *late: Collection[str]
) -> list[Played]:
    """Play the same month in several houses, each with other workflows late."""
    played = []
    for of_house in late:
        with open_house(budget_approvals=False, is_dated=True) as player:
            played.append(Played(player, make_month(player.house, SEED), days, of_house))
    return played


def assert_same(one: Played, other: Played) -> None:
    """Assert that two houses are the same, histories, alerts and all."""
    different: Any = differences(one.rows, other.rows)
    count(differences=len(different))
    assert different == {}, describe(different)
    assert one.alerts == other.alerts
    assert one.notices == other.notices
    assert one.journal == other.journal
