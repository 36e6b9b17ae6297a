"""What approvers are warned of, and what is foreseen."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.conftest import Workflow
from tests.factories import Factory
from tests.stock_world import Warehouse

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def house(db: psycopg.Connection[Any], factory: Factory) -> Warehouse:
    db.execute("SELECT set_config('campaign.as_of', %s, false)", [NOON.isoformat()])
    return Warehouse(db, factory)


class TestWarnings:
    def warnings(self, house: Warehouse, delivery: int) -> list[str]:
        return house.scalar("SELECT campaign.stock_warnings(%s)", delivery)

    @pytest.mark.parametrize("is_recorded", [False, True], ids=["before stockMgt ran", "after"])
    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            (899, []),
            (900, ["Stock status 'Envelopes (Warehouse (warehouse))' low '100'"]),
            (1000, ["Stock status 'Envelopes (Warehouse (warehouse))' low '0'"]),
            (1012, ["Stock status 'Envelopes (Warehouse (warehouse))' insufficient '-12'"]),
        ],
    )
    def test_the_delivery_counts(
        self, house: Warehouse, run_workflow: Workflow, count: int, expected: list[str], *, is_recorded: bool
    ) -> None:
        house.line("unconcerned", 0)
        envelopes, paper = house.line("envelopes"), house.line("paper", 9000)
        delivery = house.delivery(house.uses(envelopes), house.uses(paper, 2))
        house.extract(delivery, count, NOON)
        if is_recorded:
            run_workflow("stockMgt", NOON)
        assert self.warnings(house, delivery) == expected

    def test_others_and_orders_count_too(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("envelopes")
        cost_type = house.uses(line)
        before, other, mine = (house.delivery(cost_type) for _ in range(3))
        house.extract(before, 300, NOON - DAY)
        run_workflow("stockMgt", NOON - DAY)
        house.extract(other, 300, NOON)
        house.extract(mine, 300, NOON)
        assert self.warnings(house, mine) == ["Stock status 'Envelopes (Warehouse (warehouse))' low '100'"]
        house.order(line, "2026-11-03", 1)
        assert len(self.warnings(house, mine)) == 1
        house.order(line, "2026-11-02", 1)
        assert self.warnings(house, mine) == []
        run_workflow("stockMgt", NOON)
        assert self.warnings(house, mine) == []
        house.cancel(mine, NOON)
        assert self.warnings(house, mine) == []

    def test_each_line_once_in_order(self, house: Warehouse) -> None:
        paper, ink = house.line("paper", 10, 0), house.line("ink", 10, 5)
        delivery = house.delivery(house.uses(paper), house.uses(paper), house.uses(ink, 0.5))
        house.extract(delivery, 10, NOON)
        assert self.warnings(house, delivery) == [
            "Stock status 'Ink (Warehouse (warehouse))' low '5'",
            "Stock status 'Paper (Warehouse (warehouse))' insufficient '-10'",
        ]

    def test_extracted_again_counts_once(self, house: Warehouse, run_workflow: Workflow) -> None:
        delivery = house.delivery(house.uses(house.line("paper")))
        house.extract(delivery, 800, NOON)
        run_workflow("stockMgt", NOON)
        house.extract(delivery, 950, NOON + HOUR)
        assert self.warnings(house, delivery) == ["Stock status 'Paper (Warehouse (warehouse))' low '50'"]

    def test_not_extracted_yet_counts_with_its_messages(self, house: Warehouse) -> None:
        delivery = house.delivery(house.uses(house.line("paper")), status="target_ready", message_count=950)
        assert self.warnings(house, delivery) == ["Stock status 'Paper (Warehouse (warehouse))' low '50'"]

    def test_line_that_is_not_selected_any_more_does_not_concern_it(
        self, house: Warehouse, run_workflow: Workflow
    ) -> None:
        cost_type = house.uses(house.line("paper", 2000))
        delivery, other = house.delivery(cost_type), house.delivery(cost_type)
        for extracted in (delivery, other):
            house.extract(extracted, 1950, NOON)
        run_workflow("stockMgt", NOON)
        house.db.execute("DELETE FROM campaign.delivery_cost WHERE delivery_id = %s", [delivery])
        assert self.warnings(house, delivery) == []

    def test_computed_when_it_is_submitted_and_when_it_is_answered_and_kept_on_record_then(
        self, house: Warehouse, factory: Factory
    ) -> None:
        delivery = house.delivery(house.uses(house.line("envelopes")))
        factory.policy("extraction", staff=(house.keeper,), delivery_id=delivery)
        house.extract(delivery, 1012, NOON)
        approval = house.scalar("SELECT campaign.submit_approval(%s, 'extraction')", delivery)
        seen = []
        for change in (
            "SELECT 1",
            "UPDATE campaign.stock_line SET initial_quantity = 1002",
            f"SELECT campaign.decide_approval({approval}, {house.keeper}, true)",
            "UPDATE campaign.stock_line SET initial_quantity = 9999",
        ):
            house.db.execute(change)
            seen += house.rows("SELECT status, warnings FROM campaign.approval WHERE id = %s", approval)
        [then, now] = (
            [f"Stock status 'Envelopes (Warehouse (warehouse))' insufficient '{units}'"] for units in (-12, -10)
        )
        assert seen == [("pending", then), ("pending", then), ("approved", now), ("approved", now)]

    def test_no_stock_no_warning(self, house: Warehouse) -> None:
        assert self.warnings(house, house.delivery(house.uses(None))) == []
        assert self.warnings(house, house.delivery()) == []
        assert self.warnings(house, -1) == []


class TestForecast:
    def forecast(self, house: Warehouse) -> list[tuple[Any, ...]]:
        return house.rows(
            """
            SELECT stock_line_id, low_on, empty_on, delivery_id, empty_delivery_id
            FROM campaign.stock_forecast ORDER BY stock_line_id
            """
        )

    def planned(self, house: Warehouse, cost_type: int, day: int, count: int | None, **columns: Any) -> int:
        return house.delivery(
            cost_type, status="target_ready", message_count=count, extraction_date=NOON + day * DAY, **columns
        )

    def test_nothing_planned_nothing_foreseen(self, house: Warehouse) -> None:
        line = house.line("paper")
        assert self.forecast(house) == [(line, None, None, None, None)]

    def test_days_and_deliveries(self, house: Warehouse) -> None:
        line = house.line("paper")
        cost_type = house.uses(line, 2)
        self.planned(house, cost_type, 1, 100)
        house.order(line, "2026-11-08", 100)
        low = self.planned(house, cost_type, 6, 400)
        empty = self.planned(house, cost_type, 9, 50)
        self.planned(house, cost_type, 8, 500, is_template=True)
        assert self.forecast(house) == [(line, date(2026, 11, 8), date(2026, 11, 11), low, empty)]

    def test_order_of_the_day_comes_first(self, house: Warehouse) -> None:
        line = house.line("paper")
        self.planned(house, house.uses(line), 6, 1000)
        house.order(line, "2026-11-08", 101)
        assert self.forecast(house) == [(line, None, None, None, None)]

    def test_low_already(self, house: Warehouse) -> None:
        line = house.line("paper", 50)
        house.order(line, "2026-11-08", 1000)
        assert self.forecast(house) == [(line, date(2026, 11, 2), None, None, None)]

    def test_what_left_since_the_last_run_counts(self, house: Warehouse) -> None:
        line = house.line("paper")
        delivery = house.delivery(house.uses(line))
        house.extract(delivery, 950, NOON)
        assert self.forecast(house) == [(line, date(2026, 11, 2), None, delivery, None)]

    def test_past_date_is_today_and_no_date_too(self, house: Warehouse) -> None:
        first, second = house.line("paper"), house.line("envelopes")
        overdue = self.planned(house, house.uses(first), -5, 950)
        undated = house.delivery(house.uses(second), status="extraction_pending", message_count=950)
        assert self.forecast(house) == [
            (first, date(2026, 11, 2), None, overdue, None),
            (second, date(2026, 11, 2), None, undated, None),
        ]

    def test_extracted_again_takes_the_difference(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        delivery = house.delivery(house.uses(line))
        house.extract(delivery, 800, NOON)
        run_workflow("stockMgt", NOON)
        house.db.execute(
            """
            UPDATE campaign.delivery
            SET status = 'extraction_pending', message_count = 850, extraction_date = %s
            """,
            [NOON + DAY],
        )
        assert self.forecast(house) == [(line, None, None, None, None)]
        house.db.execute("UPDATE campaign.delivery SET message_count = 900")
        assert self.forecast(house) == [(line, date(2026, 11, 3), None, delivery, None)]

    def test_extracted_again_before_the_first_time_is_recorded_counts_once(
        self, house: Warehouse, run_workflow: Workflow
    ) -> None:
        line = house.line("paper")
        house.extract(house.delivery(house.uses(line)), 800, NOON)
        house.db.execute("UPDATE campaign.delivery SET status = 'extraction_pending'")
        nothing = [(line, None, None, None, None)]
        assert self.forecast(house) == nothing
        run_workflow("stockMgt", NOON)
        assert self.forecast(house) == nothing

    def test_order_and_its_correction_arrive_together(self, house: Warehouse) -> None:
        lines = [house.line("paper", 200), house.line("envelopes", 200)]
        for line in lines:
            order = house.order(line, "2026-11-08", 1000)
            house.order(line, "2026-11-08", -150, corrects_id=order)
        # Of one line the order is read first, of the other its correction.
        house.db.execute("UPDATE campaign.stock_order SET ordered_at = ordered_at WHERE id = %s", [order])
        assert self.forecast(house) == [(line, None, None, None, None) for line in lines]

    @pytest.mark.parametrize(
        ("requested", "last_count", "expected"),
        [(0, None, None), (950, None, 950), (0, 950, 950), (910, 950, 910), (990, 950, 950)],
    )
    def test_estimate_of_a_target(
        self, house: Warehouse, factory: Factory, requested: int, last_count: int | None, expected: int | None
    ) -> None:
        line = house.line("paper", 1000, (1000 - expected) if expected else 100)
        template = factory.insert(
            "workflow_template", internal_name="loyalty", label="Loyalty", dag_id="campaignTargeting"
        )
        for days_ago, count in ((1, last_count), (2, 1)):
            if last_count:
                house.delivery(
                    status="finished", workflow_template_id=template,
                    message_count=count, analysed_at=NOON - days_ago * DAY,
                )  # fmt: skip
        delivery = self.planned(
            house, house.uses(line), 3, None, workflow_template_id=template, requested_quantity=requested
        )
        low = (date(2026, 11, 5), None, delivery, None) if expected else (None, None, None, None)
        assert self.forecast(house) == [(line, *low)]

    @pytest.mark.parametrize("status", ["canceled", "finished"])
    def test_campaign_that_is_over_plans_nothing(self, house: Warehouse, status: str) -> None:
        line = house.line("paper")
        self.planned(house, house.uses(line), 1, 5000)
        house.db.execute("UPDATE campaign.campaign SET status = %s", [status])
        assert self.forecast(house) == [(line, None, None, None, None)]
