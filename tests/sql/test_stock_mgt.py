"""stockMgt: what is received, consumed, recorded and told; twice, late, in any order, cut in the middle."""

from __future__ import annotations

import json
import os
import threading
import zlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from campaign.mail import MailServerAwayError
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.snapshots import changed_tables, snapshot
from tests.stock_world import Warehouse

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NOTHING_DONE = {
    "receive_orders": {"orders_received": 0, "units_received": 0},
    "record_consumption": {"consumptions_recorded": 0},
    "compute_positions": {"positions_changed": 0, "positions_not_balanced": 0},
    "record_history": {"history_rows_written": 0},
    "alert_lines": {"states_changed": 0, "alerts": 0, "recoveries": 0, "notifications_written": 0},
    "send_notifications": {"notifications_sent": 0, "notifications_failed": 0, "notifications_postponed": 0},
}


@pytest.fixture
def house(db: psycopg.Connection[Any], factory: Factory) -> Warehouse:
    return Warehouse(db, factory)


def test_empty_database_ends_well_and_changes_nothing(db: psycopg.Connection[Any], run_workflow: Workflow) -> None:
    before = snapshot(db)
    assert run_workflow("stockMgt", NOON) == NOTHING_DONE
    assert changed_tables(before, snapshot(db)) == {}


def test_second_run_changes_nothing(
    db: psycopg.Connection[Any], house: Warehouse, run_workflow: Workflow, mail_server: MailServer
) -> None:
    line = house.line("paper", 1000)
    house.order(line, "2026-11-02", 50)
    house.extract(house.delivery(house.uses(line, 2)), 500, NOON)
    first = run_workflow("stockMgt", NOON)
    assert first == {
        "receive_orders": {"orders_received": 1, "units_received": 50},
        "record_consumption": {"consumptions_recorded": 1},
        "compute_positions": {"positions_changed": 1, "positions_not_balanced": 0},
        "record_history": {"history_rows_written": 1},
        "alert_lines": {"states_changed": 1, "alerts": 1, "recoveries": 0, "notifications_written": 1},
        "send_notifications": {
            "notifications_sent": 1, "notifications_failed": 0, "notifications_postponed": 0,
        },
    }  # fmt: skip
    before = snapshot(db)
    assert run_workflow("stockMgt", NOON) == NOTHING_DONE
    assert run_workflow("stockMgt", NOON, full=True) == NOTHING_DONE
    assert changed_tables(before, snapshot(db)) == {}
    assert len(mail_server.messages) == 1


class TestConsumption:
    def test_cost_type_selected_by_default_takes_its_units_too(
        self, db: psycopg.Connection[Any], factory: Factory, house: Warehouse, run_workflow: Workflow
    ) -> None:
        line = house.line("paper", 1000)
        cost_type = house.uses(line, 2)
        db.execute("UPDATE campaign.cost_type SET selected_by_default = true")
        delivery = house.delivery()
        db.execute(
            """
            UPDATE campaign.delivery
            SET service_id = (SELECT service_id FROM campaign.cost_category), channel = category.channel
            FROM campaign.cost_category AS category
            """
        )
        house.extract(delivery, 100, NOON)
        run_workflow("stockMgt", NOON)
        assert house.rows("SELECT stock_line_id, quantity FROM campaign.stock_consumption") == [(line, 200)]
        # What a person selects in the category takes the place of its default.
        other = house.uses(house.line("card", 1000), 1)
        assert other != cost_type
        factory.insert("delivery_cost", delivery_id=delivery, cost_type_id=other)
        run_workflow("stockMgt", NOON + HOUR)
        assert house.scalar("SELECT sum(quantity) FROM campaign.stock_consumption") == 100

    def test_default_that_comes_or_goes_after_the_file_left(
        self, db: psycopg.Connection[Any], house: Warehouse, run_workflow: Workflow
    ) -> None:
        house.uses(house.line("paper", 1000), 2)
        [(service, channel)] = house.rows("SELECT service_id, channel FROM campaign.cost_category")
        delivery = house.delivery(service_id=service, channel=channel)
        house.extract(delivery, 100, NOON)
        consumed = []
        for change in (
            "SELECT 1",
            "UPDATE campaign.cost_type SET selected_by_default = true",
            "UPDATE campaign.cost_type SET selected_by_default = false",
            "INSERT INTO campaign.cost_type (cost_category_id, label, stock_line_id, selected_by_default) "
            "SELECT cost_category_id, 'Default', stock_line_id, true FROM campaign.cost_type",
            "UPDATE campaign.cost_type SET stock_line_id = NULL WHERE selected_by_default",
            "UPDATE campaign.cost_type SET stock_line_id = (SELECT id FROM campaign.stock_line), units_per_message = 3 "
            "WHERE selected_by_default",
            "UPDATE campaign.cost_category SET channel = 'sms'",
            "UPDATE campaign.delivery SET channel = 'sms', started_at = extracted_at",
            "UPDATE campaign.delivery SET service_id = NULL",
        ):
            db.execute(change)
            run_workflow("stockMgt", NOON)
            consumed.append(house.scalar("SELECT consumed FROM campaign.stock_position"))
        assert consumed == [0, 200, 0, 100, 0, 300, 0, 300, 0]

    def test_extracted_file_takes_messages_times_units(self, house: Warehouse, run_workflow: Workflow) -> None:
        envelopes, paper = house.line("envelopes"), house.line("paper", 40_000)
        delivery = house.delivery(house.uses(envelopes), house.uses(paper, 4), house.uses(None))
        house.extract(delivery, 340, NOON - HOUR)
        run_workflow("stockMgt", NOON)
        assert house.consumption() == [
            (delivery, envelopes, 340, 340, NOON - HOUR),
            (delivery, paper, 340, 1360, NOON - HOUR),
        ]
        assert house.position(envelopes) == (0, 340, 0, 660, "ok")
        assert house.position(paper) == (0, 1360, 0, 38_640, "ok")

    def test_seeds_and_control_group_cost_nothing(
        self, house: Warehouse, factory: Factory, run_workflow: Workflow
    ) -> None:
        line = house.line("paper")
        delivery = house.delivery(house.uses(line))
        factory.insert(
            "extraction_file", delivery_id=delivery, version=1, file_name="f.csv", url="file:///f.csv",
            row_count=12, byte_count=1, sha256="0" * 64,
        )  # fmt: skip
        house.extract(delivery, 10, NOON)
        run_workflow("stockMgt", NOON)
        assert house.position(line)[1] == 10

    def test_units_of_one_line_add_up_and_round_up_once(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("ink")
        delivery = house.delivery(house.uses(line, 0.00125), house.uses(line, 0.00125))
        house.extract(delivery, 401, NOON)
        run_workflow("stockMgt", NOON)
        # 401 x 0.0025 = 1.0025: two started units; rounded one by one it would be 1 + 1 = 2 of 0.50125 each.
        assert house.consumption() == [(delivery, line, 401, 2, NOON)]

    def test_extracted_again_with_another_count(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        delivery = house.delivery(house.uses(line), label="Catalog")
        house.extract(delivery, 300, NOON)
        run_workflow("stockMgt", NOON)
        house.db.execute("UPDATE campaign.delivery SET status = 'targeting_pending' WHERE id = %s", [delivery])
        house.db.execute(
            "UPDATE campaign.delivery SET status = 'target_ready', message_count = 7",
        )
        run_workflow("stockMgt", NOON + HOUR)
        assert house.position(line)[1] == 300, "analysed anew, but not extracted: what was printed stays printed"
        house.extract(delivery, 200, NOON + DAY)
        run_workflow("stockMgt", NOON + DAY)
        assert house.consumption() == [(delivery, line, 200, 200, NOON + DAY)]
        assert house.position(line) == (0, 200, 0, 800, "ok")
        assert house.journal("info") == [
            "The delivery 'Catalog' consumed 300 of the stock line 'Paper' (Warehouse): 300 messages, 1 each.",
            "The consumption of the stock line 'Paper' (Warehouse) by the delivery 'Catalog' went "
            "from 300 to 200: 200 messages, 1 each.",
        ]

    @pytest.mark.parametrize(
        "state",
        [
            "status = 'being_edited', message_count = NULL",
            "status = 'failed', failed_from = 'targeting_pending', failure = 'No memory'",
            "status = 'failed', failed_from = 'extraction_pending', failure = 'No disk'",
        ],
    )
    def test_what_it_was_extracted_with_stands_until_it_is_extracted_again(
        self, house: Warehouse, run_workflow: Workflow, state: str
    ) -> None:
        line = house.line("paper")
        delivery = house.delivery(house.uses(line))
        house.extract(delivery, 300, NOON)
        house.db.execute(
            f"UPDATE campaign.delivery SET message_count = 7, status = 'targeting_pending' WHERE id = {delivery}"
        )
        house.db.execute(f"UPDATE campaign.delivery SET {state} WHERE id = {delivery}")
        run_workflow("stockMgt", NOON + HOUR)
        assert house.consumption() == [(delivery, line, 300, 300, NOON)]

    @pytest.mark.parametrize("given", [NOON + HOUR, None], ids=["with its moment", "at the moment of the update"])
    def test_canceled_before_it_left(self, house: Warehouse, run_workflow: Workflow, given: datetime | None) -> None:
        line = house.line("paper")
        delivery = house.delivery(house.uses(line))
        house.extract(delivery, 300, NOON)
        run_workflow("stockMgt", NOON)
        house.db.execute("SELECT set_config('campaign.as_of', %s, false)", [(NOON + HOUR).isoformat()])
        house.cancel(delivery, given)
        run_workflow("stockMgt", NOON + 2 * HOUR)
        assert house.consumption() == [(delivery, line, 0, 0, NOON + HOUR)]
        assert house.position(line) == (0, 0, 0, 1000, "ok")

    def test_canceled_after_it_left_stays(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        delivery = house.delivery(
            house.uses(line), channel="email", status="in_progress", message_count=30, started_at=NOON
        )
        house.cancel(delivery, NOON + HOUR)
        run_workflow("stockMgt", NOON + DAY)
        assert house.consumption() == [(delivery, line, 30, 30, NOON)]

    def test_deleted_delivery_leaves_nothing_to_do(self, house: Warehouse, run_workflow: Workflow) -> None:
        house.extract(house.delivery(), 10, NOON)
        house.db.execute("DELETE FROM campaign.delivery")
        run_workflow("stockMgt", NOON)
        assert house.rows("SELECT * FROM campaign.stock_delivery_queue") == []

    def test_online_delivery_takes_when_it_starts(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("vouchers")
        delivery = house.delivery(
            house.uses(line), channel="sms", status="start_pending", message_count=30, extracted_at=NOON - DAY
        )
        run_workflow("stockMgt", NOON)
        assert house.consumption() == []
        house.db.execute(
            "UPDATE campaign.delivery SET status = 'in_progress', started_at = %s WHERE id = %s",
            [NOON, delivery],
        )
        run_workflow("stockMgt", NOON + HOUR)
        assert house.consumption() == [(delivery, line, 30, 30, NOON)]

    def test_not_before_its_moment(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        delivery = house.delivery(house.uses(line))
        house.extract(delivery, 300, NOON + HOUR)
        run_workflow("stockMgt", NOON)
        assert house.consumption() == []
        run_workflow("stockMgt", NOON + HOUR)
        assert house.consumption() == [(delivery, line, 300, 300, NOON + HOUR)]

    def test_templates_take_nothing(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        house.extract(house.delivery(house.uses(line), is_template=True), 300, NOON)
        run_workflow("stockMgt", NOON, full=True)
        assert house.consumption() == []

    def test_no_message_count_takes_nothing(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        delivery = house.delivery(house.uses(line), extracted_at=NOON, status="routing")
        run_workflow("stockMgt", NOON)
        assert house.consumption() == [(delivery, line, 0, 0, NOON)]

    def test_selection_and_units_follow_until_finished(
        self, house: Warehouse, factory: Factory, run_workflow: Workflow
    ) -> None:
        line, other = house.line("paper"), house.line("envelopes")
        cost_type = house.uses(line)
        running, finished = house.delivery(cost_type), house.delivery(cost_type)
        for delivery in (running, finished):
            house.extract(delivery, 10, NOON)
        house.db.execute(
            "UPDATE campaign.delivery SET status = 'finished', finished_at = %s WHERE id = %s",
            [NOON, finished],
        )
        run_workflow("stockMgt", NOON)
        house.db.execute("UPDATE campaign.cost_type SET units_per_message = 3 WHERE id = %s", [cost_type])
        late = house.uses(other)
        extra = factory.insert("delivery_cost", delivery_id=running, cost_type_id=late)
        factory.insert("delivery_cost", delivery_id=finished, cost_type_id=late)
        run_workflow("stockMgt", NOON + HOUR)
        expected = [
            (running, line, 10, 30, NOON), (running, other, 10, 10, NOON), (finished, line, 10, 10, NOON),
        ]  # fmt: skip
        assert house.consumption() == expected
        run_workflow("stockMgt", NOON + HOUR, full=True)
        assert house.consumption() == expected
        house.db.execute("DELETE FROM campaign.delivery_cost WHERE id = %s", [extra])
        run_workflow("stockMgt", NOON + 2 * HOUR)
        assert house.consumption()[1] == (running, other, 10, 0, NOON)

    def test_lines_that_were_brought_along_stay(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        delivery = house.delivery()
        house.db.execute(
            """
            INSERT INTO campaign.stock_consumption
            (stock_line_id, campaign_id, delivery_id, quantity, consumed_at)
            SELECT %s, campaign_id, id, 70, %s FROM campaign.delivery WHERE id = %s
            """,
            [line, NOON - DAY, delivery],
        )
        run_workflow("stockMgt", NOON, full=True)
        assert house.position(line) == (0, 70, 0, 930, "ok")
        run_workflow("stockMgt", NOON - DAY)
        run_workflow("stockMgt", NOON - 2 * DAY)
        assert house.history() == [
            ("2026-10-31", line, 0, 0, 0, 1000, "ok"),
            ("2026-11-01", line, 0, 70, 0, 930, "ok"),
            ("2026-11-02", line, 0, 70, 0, 930, "ok"),
        ]

    def test_report_of_a_campaign(self, house: Warehouse, factory: Factory, run_workflow: Workflow) -> None:
        line = house.line("paper")
        cost_type, campaign = house.uses(line), factory.campaign()
        house.extract(house.delivery(cost_type, campaign_id=campaign), 10, NOON - DAY)
        house.extract(house.delivery(cost_type, campaign_id=campaign), 20, NOON)
        house.extract(house.delivery(cost_type), 40, NOON)
        run_workflow("stockMgt", NOON)
        assert house.rows("SELECT * FROM campaign.stock_campaign_consumption WHERE campaign_id = %s", campaign) == [
            (campaign, line, 30, 2, NOON - DAY, NOON)
        ]


class TestOrders:
    def test_received_on_its_day_in_the_zone_of_the_instance(self, house: Warehouse, run_workflow: Workflow) -> None:
        house.db.execute("UPDATE campaign.setting SET value = '\"America/New_York\"' WHERE name = 'time_zone'")
        line = house.line("paper")
        order = house.order(line, "2026-11-02", 50, ordered_at=NOON - 9 * DAY)
        midnight = datetime(2026, 11, 2, 5, 0, tzinfo=UTC)
        run_workflow("stockMgt", midnight - timedelta(seconds=1))
        assert house.position(line) == (0, 0, 50, 1000, "ok")
        run_workflow("stockMgt", midnight)
        assert house.position(line) == (50, 0, 0, 1050, "ok")
        assert house.rows("SELECT id, received_at FROM campaign.stock_order") == [(order, midnight)]
        assert house.rows("SELECT received FROM campaign.stock_position_as_of(%s)", midnight) == [(50,)]
        assert [row[0] for row in house.history()] == ["2026-11-01", "2026-11-02"]

    def test_late_ones_after_an_outage_have_their_own_date(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        house.order(line, "2026-10-20", 1)
        house.order(line, "2026-10-28", 2)
        run_workflow("stockMgt", NOON)
        assert house.rows("SELECT quantity, received_at FROM campaign.stock_order ORDER BY 1") == [
            (1, datetime(2026, 10, 20, tzinfo=UTC)),
            (2, datetime(2026, 10, 28, tzinfo=UTC)),
        ]

    def test_moved_before_receipt_follows_the_new_date(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        order = house.order(line, "2026-11-03", 50)
        run_workflow("stockMgt", NOON)
        house.db.execute("UPDATE campaign.stock_order SET delivery_on = '2026-11-05' WHERE id = %s", [order])
        run_workflow("stockMgt", NOON + 2 * DAY)
        assert house.position(line) == (0, 0, 50, 1000, "ok")
        run_workflow("stockMgt", NOON + 3 * DAY)
        assert house.position(line) == (50, 0, 0, 1050, "ok")

    def test_deleted_before_receipt(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        order = house.order(line, "2026-11-03", 50, ordered_at=NOON - DAY)
        run_workflow("stockMgt", NOON)
        assert house.position(line) == (0, 0, 50, 1000, "ok")
        house.db.execute("DELETE FROM campaign.stock_order WHERE id = %s", [order])
        run_workflow("stockMgt", NOON + HOUR)
        assert house.position(line) == (0, 0, 0, 1000, "ok")

    def test_not_on_order_before_it_is_ordered(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        house.order(line, "2026-12-01", 50, ordered_at=NOON + DAY)
        run_workflow("stockMgt", NOON)
        assert house.position(line) == (0, 0, 0, 1000, "ok")
        run_workflow("stockMgt", NOON + DAY)
        assert house.position(line) == (0, 0, 50, 1000, "ok")

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE campaign.stock_order SET quantity = 40",
            "UPDATE campaign.stock_order SET delivery_on = '2026-12-01'",
            "UPDATE campaign.stock_order SET received_at = NULL",
            "DELETE FROM campaign.stock_order",
        ],
    )
    def test_received_order_stands(self, house: Warehouse, run_workflow: Workflow, statement: str) -> None:
        order = house.order(house.line("paper"), "2026-11-02", 50)
        run_workflow("stockMgt", NOON)
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            house.db.execute(statement)
        assert refused.value.diag.message_primary == (
            f"Order {order} was received on 2026-11-02: "
            "its quantity, its date and its stock line cannot be changed any more."
        )

    def test_correcting_order(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        order = house.order(line, "2026-11-02", 50)
        run_workflow("stockMgt", NOON)
        house.order(line, "2026-11-02", -8, corrects_id=order)
        run_workflow("stockMgt", NOON + HOUR)
        assert house.position(line) == (42, 0, 0, 1042, "ok")
        with pytest.raises(psycopg.errors.CheckViolation, match=f"^Order {order} was of 50: its corrections cannot"):
            house.order(line, "2026-11-02", -43, corrects_id=order)
        with pytest.raises(psycopg.errors.CheckViolation, match="is on the same stock_line"):
            house.order(house.line("envelopes"), "2026-11-02", -1, corrects_id=order)

    def test_order_stays_worth_its_corrections(self, house: Warehouse) -> None:
        line, other = house.line("paper"), house.line("envelopes")
        order = house.order(line, "2026-11-05", 50)
        correction = house.order(line, "2026-11-05", -40, corrects_id=order)
        for change, refusal in (
            ("quantity = 39", f"^Order {order} was of 39: its corrections cannot take more than that."),
            (f"stock_line_id = {other}", "^A correcting order is on the same stock_line as the order that it corrects"),
            (
                f"corrects_id = {house.order(line, '2026-11-05', 5)}",
                f"^Order {order} is corrected by others: it cannot",
            ),
        ):
            with pytest.raises(psycopg.errors.CheckViolation, match=refusal):
                house.db.execute(f"UPDATE campaign.stock_order SET {change} WHERE id = {order}")
        with pytest.raises(psycopg.errors.CheckViolation, match=f"^Order {order} was of 50: its corrections cannot"):
            house.db.execute(f"UPDATE campaign.stock_order SET quantity = -51 WHERE id = {correction}")
        with pytest.raises(psycopg.errors.CheckViolation, match=f"^Order {correction} is a correction itself"):
            house.order(line, "2026-11-05", -1, corrects_id=correction)
        house.db.execute(
            f"UPDATE campaign.stock_order SET quantity = 40, delivery_on = '2026-11-09' WHERE id = {order}"
        )

    @pytest.mark.parametrize(
        ("table", "columns", "refusal"),
        [
            ("stock_order", {"quantity": 10**12 + 1}, "the quantity of a stock_order is at most"),
            ("stock_order", {"delivery_on": "20261-11-02"}, "delivery_on must be a day from 1900-01-01 to 9999-12-31"),
            ("stock_order", {"delivery_on": "infinity"}, "delivery_on must be a day from 1900-01-01 to 9999-12-31"),
            ("stock_line", {"initial_quantity": 10**12 + 1}, "the initial_quantity of a stock_line is at most"),
            ("stock_line", {"alert_level": 10**12 + 1}, "the alert_level of a stock_line is at most"),
            ("cost_type", {"units_per_message": 10**6 + 1}, "units_per_message is at most 1000000"),
        ],
    )
    def test_slip_of_the_finger_does_not_stop_the_sums_of_the_others(
        self, house: Warehouse, run_workflow: Workflow, table: str, columns: dict[str, Any], refusal: str
    ) -> None:
        """Each of these made every run fail, for sums beyond what a number or a calendar holds."""
        line = house.line("paper")
        rows: dict[str, dict[str, Any]] = {
            "stock_order": {"stock_line_id": line, "delivery_on": "2026-11-02", "quantity": 1},
            "stock_line": {"stock_id": house.stock, "internal_name": "ink", "label": "Ink"},
            "cost_type": {"cost_category_id": house.category, "label": "Ink", "stock_line_id": line},
        }
        with pytest.raises(psycopg.errors.CheckViolation, match=refusal):
            house.factory.insert(table, **rows[table] | columns)
        for name, most in columns.items():
            if isinstance(most, int):
                house.factory.insert(table, **rows[table] | {name: most - 1})
        house.order(line, "9999-12-31", 3)
        run_workflow("stockMgt", NOON)
        assert house.journal("error") == []

    def test_order_that_somebody_is_changing_keeps_no_other_waiting(
        self, house: Warehouse, dsn: str, run_workflow: Workflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGOPTIONS", "-c lock_timeout=5s")
        line = house.line("paper")
        first, second = house.order(line, "2026-11-01", 5), house.order(line, "2026-11-01", 7)
        with psycopg.connect(dsn) as somebody:
            somebody.execute("UPDATE campaign.stock_order SET quantity = 6 WHERE id = %s", [first])
            run_workflow("stockMgt", NOON)
            assert house.rows("SELECT id FROM campaign.stock_order WHERE received_at IS NOT NULL") == [(second,)]
        run_workflow("stockMgt", NOON + HOUR)
        assert house.position(line) == (13, 0, 0, 1013, "ok")

    @pytest.mark.parametrize("quantity", [0, -5])
    def test_plain_order_is_above_zero(self, house: Warehouse, quantity: int) -> None:
        with pytest.raises(psycopg.errors.CheckViolation, match="the quantity of a stock_order is above 0"):
            house.order(house.line("paper"), "2026-11-02", quantity)


class TestHistory:
    def test_days_in_any_order_say_the_same(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper", 100, 10)
        cost_type = house.uses(line)
        first, second = house.delivery(cost_type), house.delivery(cost_type)
        house.extract(first, 40, NOON - 2 * DAY)
        house.extract(first, 45, NOON - DAY)
        house.extract(second, 60, NOON - DAY)
        house.cancel(second, NOON)
        house.order(line, "2026-11-01", 5, ordered_at=NOON - 2 * DAY)
        for moment in (NOON, NOON - 2 * DAY, NOON - 3 * DAY, NOON - DAY):
            run_workflow("stockMgt", moment)
        expected = [
            ("2026-10-30", line, 0, 0, 0, 100, "ok"),
            ("2026-10-31", line, 0, 40, 5, 60, "ok"),
            ("2026-11-01", line, 5, 105, 0, 0, "low"),
            ("2026-11-02", line, 5, 45, 0, 60, "ok"),
        ]
        assert house.history() == expected
        house.db.execute("DELETE FROM campaign.stock_history")
        house.db.execute("DELETE FROM campaign.stock_history_day")
        for moment in (NOON - DAY, NOON - 3 * DAY, NOON - 2 * DAY, NOON):
            run_workflow("stockMgt", moment)
        assert house.history() == expected

    def test_earlier_run_of_a_day_does_not_take_it_back(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper")
        house.extract(house.delivery(house.uses(line)), 40, NOON)
        run_workflow("stockMgt", NOON + HOUR)
        run_workflow("stockMgt", NOON - HOUR)
        assert house.history() == [("2026-11-02", line, 0, 40, 0, 960, "ok")]

    def test_run_for_the_past_leaves_the_present_alone_and_sends_nothing(
        self, db: psycopg.Connection[Any], house: Warehouse, run_workflow: Workflow, mail_server: MailServer
    ) -> None:
        line = house.line("paper", 1000)
        run_workflow("stockMgt", NOON)
        house.extract(house.delivery(house.uses(line)), 950, NOON - 2 * DAY)
        house.order(line, "2026-10-31", 10)
        before = snapshot(db)
        run_workflow("stockMgt", NOON - DAY)
        assert changed_tables(before, snapshot(db)).keys() == {"stock_history", "stock_history_day"}
        assert house.history()[0] == ("2026-11-01", line, 10, 950, 0, 60, "low")
        assert mail_server.messages == []

    def test_day_that_a_run_for_the_past_began_is_completed_by_the_next(
        self, house: Warehouse, factory: Factory, run_workflow: Workflow
    ) -> None:
        line = house.line("paper")
        run_workflow("stockMgt", NOON - DAY)
        loyalty = factory.campaign(internal_name="loyalty")
        house.extract(house.delivery(house.uses(line), campaign_id=loyalty), 10, NOON + HOUR)
        run_workflow("stockMgt", NOON + 2 * HOUR, campaign="loyalty")
        run_workflow("stockMgt", NOON)
        assert house.history()[-1] == ("2026-11-02", line, 0, 0, 0, 1000, "ok")
        run_workflow("stockMgt", NOON + 3 * HOUR)
        assert house.history()[-1] == ("2026-11-02", line, 0, 10, 0, 990, "ok")

    def test_each_day_has_all_lines_though_nothing_happens(self, house: Warehouse, run_workflow: Workflow) -> None:
        lines = [house.line("paper"), house.line("envelopes")]
        assert run_workflow("stockMgt", NOON)["record_history"] == {"history_rows_written": 2}
        assert run_workflow("stockMgt", NOON + HOUR)["record_history"] == {"history_rows_written": 0}
        assert run_workflow("stockMgt", NOON + DAY)["record_history"] == {"history_rows_written": 2}
        assert [row[:2] for row in house.history()] == [
            (day, line) for day in ("2026-11-02", "2026-11-03") for line in lines
        ]


class TestAlerts:
    def take(self, house: Warehouse, line: int, count: int, moment: datetime) -> int:
        delivery = house.delivery(house.uses(line))
        house.extract(delivery, count, moment)
        return delivery

    def test_one_for_each_step_down_and_one_for_the_recovery(
        self, house: Warehouse, run_workflow: Workflow, mail_server: MailServer
    ) -> None:
        line = house.line("paper", 1000, 100)
        self.take(house, line, 900, NOON)
        run_workflow("stockMgt", NOON)
        self.take(house, line, 1, NOON + HOUR)
        run_workflow("stockMgt", NOON + HOUR)
        assert house.told() == [("stock_alert", "kim@example.com", "Paper", "low")]
        below = self.take(house, line, 111, NOON + 2 * HOUR)
        run_workflow("stockMgt", NOON + 2 * HOUR)
        house.cancel(below, NOON + 3 * HOUR)
        run_workflow("stockMgt", NOON + 3 * HOUR)
        house.order(line, "2026-11-03", 2)
        run_workflow("stockMgt", NOON + DAY)
        house.order(line, "2026-11-03", 1)
        run_workflow("stockMgt", NOON + DAY + HOUR)
        self.take(house, line, 1000, NOON + DAY + 2 * HOUR)
        run_workflow("stockMgt", NOON + DAY + 2 * HOUR)
        assert house.told() == [
            ("stock_alert", "kim@example.com", "Paper", "low"),
            ("stock_alert", "kim@example.com", "Paper", "insufficient"),
            ("stock_recovery", "kim@example.com", "Paper", "ok"),
            ("stock_alert", "kim@example.com", "Paper", "insufficient"),
        ]
        assert len(mail_server.messages) == 4
        assert house.journal("warning") == [
            f"Stock status 'Paper (Warehouse (warehouse))' {state}, its alert level is 100."
            for state in (
                "low '100': it was ok",
                "insufficient '-12': it was low",
                "insufficient '-898': it was ok",
            )
        ]

    def test_each_member_of_the_group_in_charge(
        self, house: Warehouse, factory: Factory, run_workflow: Workflow
    ) -> None:
        group = factory.insert("staff_group", internal_name="buyers", label="Buyers")
        for name, active in (("ann", True), ("bob", True), ("gone", False)):
            person = factory.staff(internal_name=name, active=active)
            factory.insert("staff_group_member", staff_group_id=group, staff_id=person)
        house.db.execute("UPDATE campaign.stock SET assigned_to_id = NULL, assigned_group_id = %s", [group])
        self.take(house, house.line("paper"), 1000, NOON)
        run_workflow("stockMgt", NOON)
        assert sorted(house.told()) == [
            ("stock_alert", "ann@example.com", "Paper", "low"),
            ("stock_alert", "bob@example.com", "Paper", "low"),
        ]

    def test_nobody_in_charge_is_in_the_journal(self, house: Warehouse, run_workflow: Workflow) -> None:
        house.db.execute("UPDATE campaign.stock SET assigned_to_id = NULL")
        self.take(house, house.line("paper"), 1000, NOON)
        run_workflow("stockMgt", NOON)
        run_workflow("stockMgt", NOON + HOUR)
        assert house.told() == []
        assert house.journal("warning") == [
            "Stock status 'Paper (Warehouse (warehouse))' low '0': it was ok, its alert level is 100. "
            "Nobody active is in charge of this stock, so nobody was told: "
            "set its assigned_to_id or assigned_group_id."
        ]

    def test_changed_alert_level_is_a_change_of_state(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper", 1000, 100)
        run_workflow("stockMgt", NOON)
        house.db.execute("UPDATE campaign.stock_line SET alert_level = 1000 WHERE id = %s", [line])
        run_workflow("stockMgt", NOON + HOUR)
        house.db.execute("UPDATE campaign.stock_line SET alert_level = 999 WHERE id = %s", [line])
        run_workflow("stockMgt", NOON + 2 * HOUR)
        assert [row[0] for row in house.told()] == ["stock_alert", "stock_recovery"]

    def test_what_a_killed_run_left_untold_is_told_by_the_next_not_by_one_for_the_past(
        self, house: Warehouse, run_workflow: Workflow
    ) -> None:
        self.take(house, house.line("paper"), 1000, NOON)
        run_workflow("stockMgt", NOON)
        house.db.execute("UPDATE campaign.stock_balance SET told_state = 'ok'")
        run_workflow("stockMgt", NOON - HOUR)
        assert len(house.told()) == 1
        run_workflow("stockMgt", NOON + HOUR)
        assert len(house.told()) == 2

    def test_position_that_somebody_removed_silences_no_alert(self, house: Warehouse, run_workflow: Workflow) -> None:
        line = house.line("paper", 1000, 100)
        self.take(house, line, 900, NOON)
        run_workflow("stockMgt", NOON)
        house.order(line, "2026-11-02", 1)
        run_workflow("stockMgt", NOON + HOUR)
        house.db.execute("DELETE FROM campaign.stock_balance")
        run_workflow("stockMgt", NOON + 2 * HOUR)
        self.take(house, line, 1, NOON + 3 * HOUR)
        run_workflow("stockMgt", NOON + 3 * HOUR)
        assert [state for *_, state in house.told()] == ["low", "ok", "low"]

    def test_mail_names_the_orders_the_date_and_the_forecast(
        self, house: Warehouse, run_workflow: Workflow, mail_server: MailServer
    ) -> None:
        line = house.line("paper", 5000, 2000)
        taken = self.take(house, line, 3400, NOON)
        house.db.execute("UPDATE campaign.delivery SET label = 'Summer <Catalog>' WHERE id = %s", [taken])
        house.db.execute("UPDATE campaign.campaign SET label = 'Loyalty'")
        house.order(line, "2026-11-05", 300)
        house.order(line, "2026-11-09", 10_000)
        house.delivery(
            house.uses(line), label="Winter Catalog", status="target_ready", message_count=11_900,
            extraction_date=NOON + 20 * DAY,
        )  # fmt: skip
        run_workflow("stockMgt", NOON)
        [(_, mail)] = mail_server.messages
        assert mail["Subject"] == "Stock low: Paper (Warehouse), 1 600 left"
        text = mail.get_body(("plain",)).get_content()
        text = text.replace("\N{NO-BREAK SPACE}", ",").replace("\r\n", "\n")
        assert text.rstrip() == (
            "Hello Kim Keeper,\n\n"
            "the stock line Paper of Warehouse (warehouse) is low: 1,600 in stock. Its alert level is 2,000; "
            "it was ok before.\n\n"
            "Initial      5,000\nReceived     0\nConsumed     3,400\nIn stock     1,600\n"
            "On order     10,300\nAlert level  2,000\n"
            "Last taken   3,400 by the delivery Summer <Catalog> (Loyalty)\n\n"
            "Orders on the way:\n- 2026-11-05: 300\n- 2026-11-09: 10,000\n"
            "With them, the line is above its alert level on 2026-11-09.\n\n"
            "Forecast, with the orders on the way and the deliveries that are planned:\n"
            "- nothing left on 2026-11-22 with the delivery Winter Catalog\n\n"
            "As of 2026-11-02 12:00 UTC."
        )
        assert "Summer &lt;Catalog&gt;" in mail.get_body(("html",)).get_content()

    def test_mail_server_that_is_down_delays_and_loses_none(
        self,
        house: Warehouse,
        run_workflow: Workflow,
        monkeypatch: pytest.MonkeyPatch,
        mail_server: MailServer,
    ) -> None:
        self.take(house, house.line("paper"), 1000, NOON)
        working = os.environ["AIRFLOW_CONN_SMTP_DEFAULT"]
        away = json.loads(working) | {"port": 1}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(away))
        with pytest.raises(MailServerAwayError):
            run_workflow("stockMgt", NOON)
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", working)
        run_workflow("stockMgt", NOON + HOUR)
        run_workflow("stockMgt", NOON + 2 * HOUR)
        assert len(mail_server.messages) == 1


class TestBalance:
    def test_difference_is_an_error_with_the_name_and_is_put_right(
        self, house: Warehouse, run_workflow: Workflow
    ) -> None:
        line, other = house.line("paper"), house.line("envelopes")
        for stock_line in (line, other):
            house.extract(house.delivery(house.uses(stock_line)), 10, NOON)
        run_workflow("stockMgt", NOON)
        house.db.execute("SET session_replication_role = replica")
        house.db.execute("DELETE FROM campaign.stock_consumption WHERE stock_line_id = %s", [other])
        house.db.execute("RESET session_replication_role")
        summary = run_workflow("stockMgt", NOON + HOUR)["compute_positions"]
        assert summary == {"positions_changed": 1, "positions_not_balanced": 1}
        assert house.journal("error") == [
            "The position of the stock line Envelopes (Warehouse (warehouse)) was 990, the sum of its ledger "
            "is 1000: it was put right. Somebody wrote the ledger or the position past the triggers."
        ]
        assert house.position(other) == (0, 0, 0, 1000, "ok")
        run_workflow("stockMgt", NOON + 2 * HOUR)
        assert len(house.journal("error")) == 1

    def test_full_run_finds_it_too(self, house: Warehouse, run_workflow: Workflow) -> None:
        house.line("paper")
        run_workflow("stockMgt", NOON)
        house.db.execute("UPDATE campaign.stock_balance SET received = 5")
        assert run_workflow("stockMgt", NOON, full=True)["compute_positions"]["positions_not_balanced"] == 1


class TestBalanceOfALargeLedger:
    """Above 5,000 consumptions a routine run sums the rows of the lines that changed; it proves all the same."""

    LINES = 60

    @pytest.fixture
    def lines(self, house: Warehouse, run_workflow: Workflow) -> list[int]:
        """Make 6,000 consumptions and 60 orders on 60 lines, and let the first run of the day prove them."""
        lines = [house.line(f"line-{number}", 10_000, 0) for number in range(self.LINES)]
        campaign = house.factory.campaign()
        house.db.execute(
            """
            WITH delivery AS (
                INSERT INTO campaign.delivery (internal_name, label, campaign_id, channel)
                SELECT concat('past-', n), 'Past', %(campaign)s, 'direct_mail' FROM generate_series(1, 100) AS n
                RETURNING id
            )
            INSERT INTO campaign.stock_consumption (stock_line_id, campaign_id, delivery_id, quantity, consumed_at)
            SELECT line, %(campaign)s, delivery.id, 10, %(moment)s
            FROM delivery CROSS JOIN unnest(%(lines)s::bigint[]) AS line
            """,
            {"campaign": campaign, "lines": lines, "moment": NOON - HOUR},
        )
        for line in lines:
            house.order(line, "2026-11-01", 7)
        house.db.execute("ANALYZE campaign.stock_consumption")
        run_workflow("stockMgt", NOON)
        assert house.journal("error") == []
        return lines

    @pytest.mark.parametrize(
        "tampering",
        [
            "UPDATE campaign.stock_balance SET consumed = consumed - 3 WHERE stock_line_id = {line}",
            "UPDATE campaign.stock_balance SET consumed = consumed - 3, received = received - 3 "
            "WHERE stock_line_id = {line}",
            "DELETE FROM campaign.stock_balance WHERE stock_line_id = {line}",
            "SET session_replication_role = replica; "
            "UPDATE campaign.stock_consumption SET quantity = 13 WHERE stock_line_id = {line}",
            "SET session_replication_role = replica; "
            "DELETE FROM campaign.stock_consumption WHERE id = "
            "(SELECT max(id) FROM campaign.stock_consumption WHERE stock_line_id = {line})",
            "SET session_replication_role = replica; "
            "UPDATE campaign.stock_order SET quantity = 8 WHERE stock_line_id = {line}",
            "SET session_replication_role = replica; DELETE FROM campaign.stock_order WHERE stock_line_id = {line}",
            "ALTER TABLE campaign.stock_consumption DISABLE TRIGGER ALL; "
            "UPDATE campaign.stock_consumption SET quantity = 13 WHERE stock_line_id = {line}; "
            "ALTER TABLE campaign.stock_consumption ENABLE TRIGGER ALL",
            "ALTER TABLE campaign.stock_order DISABLE TRIGGER USER; "
            "UPDATE campaign.stock_order SET quantity = 8 WHERE stock_line_id = {line}",
        ],
    )
    def test_whatever_is_written_behind_its_back_is_found_by_the_next_run(
        self, house: Warehouse, run_workflow: Workflow, lines: list[int], tampering: str
    ) -> None:
        line = lines[zlib.crc32(tampering.encode()) % self.LINES]
        with psycopg.connect(house.db.info.dsn, autocommit=True) as somebody:
            somebody.execute(tampering.format(line=line))
        summary = run_workflow("stockMgt", NOON + HOUR)["compute_positions"]
        assert summary == {"positions_changed": 1, "positions_not_balanced": 1}
        [error] = house.journal("error")
        name = house.scalar("SELECT label FROM campaign.stock_line WHERE id = %s", line)
        assert error.startswith(f"The position of the stock line {name} (Warehouse (warehouse)) was ")
        assert house.rows(
            """
            SELECT stock_line_id FROM campaign.stock_position AS position WHERE (received, consumed) IS DISTINCT FROM (
                (SELECT coalesce(sum(quantity), 0) FROM campaign.stock_order
                WHERE stock_line_id = position.stock_line_id),
                (SELECT coalesce(sum(quantity), 0) FROM campaign.stock_consumption
                WHERE stock_line_id = position.stock_line_id)
            )
            """
        ) == []  # fmt: skip
        run_workflow("stockMgt", NOON + 2 * HOUR)
        assert len(house.journal("error")) == 1

    def test_ledger_that_was_emptied(self, house: Warehouse, run_workflow: Workflow, lines: list[int]) -> None:
        house.db.execute("TRUNCATE campaign.stock_consumption")
        assert run_workflow("stockMgt", NOON + HOUR)["compute_positions"]["positions_not_balanced"] == self.LINES
        assert house.position(lines[0]) == (7, 0, 0, 10_007, "ok")

    def test_what_changes_as_it_may_is_no_error(
        self, house: Warehouse, run_workflow: Workflow, lines: list[int]
    ) -> None:
        house.order(lines[3], "2026-11-01", 100)
        house.extract(house.delivery(house.uses(lines[4])), 50, NOON)
        run_workflow("stockMgt", NOON + HOUR)
        assert house.position(lines[3]) == (107, 1000, 0, 9107, "ok")
        assert house.position(lines[4]) == (7, 1050, 0, 8957, "ok")
        assert house.journal("error") == []

    def test_forged_with_its_proof_is_found_by_the_first_run_of_the_next_day(
        self, house: Warehouse, run_workflow: Workflow, lines: list[int]
    ) -> None:
        """It takes the position and the sum that it is proven against: the rows themselves are read once a day."""
        house.db.execute(
            "UPDATE campaign.stock_balance SET consumed = 0, ledger[3] = 0 WHERE stock_line_id = %s", [lines[9]]
        )
        for hours, found in ((1, 0), (24, 1), (25, 0)):
            summary = run_workflow("stockMgt", NOON + hours * HOUR)
            assert summary["compute_positions"]["positions_not_balanced"] == found


class TestScope:
    def test_campaign_limits_the_run_to_its_consumptions(
        self, house: Warehouse, factory: Factory, run_workflow: Workflow
    ) -> None:
        line, other = house.line("paper"), house.line("envelopes")
        loyalty = factory.campaign(internal_name="loyalty")
        mine = house.delivery(house.uses(line), campaign_id=loyalty)
        theirs = house.delivery(house.uses(line), house.uses(other))
        house.extract(mine, 10, NOON)
        house.extract(theirs, 20, NOON)
        house.order(line, "2026-11-01", 5)
        run_workflow("stockMgt", NOON, campaign="loyalty")
        assert house.consumption() == [(mine, line, 10, 10, NOON)]
        assert house.position(line) == (0, 10, 5, 990, "ok")
        assert house.history() == []
        run_workflow("stockMgt", NOON)
        assert house.position(line) == (5, 30, 0, 975, "ok")
        assert house.position(other) == (0, 20, 0, 980, "ok")

    def test_campaign_and_full(self, house: Warehouse, factory: Factory, run_workflow: Workflow) -> None:
        line = house.line("paper")
        loyalty = factory.campaign(internal_name="loyalty")
        house.extract(house.delivery(house.uses(line), campaign_id=loyalty), 10, NOON)
        house.extract(house.delivery(house.uses(line)), 20, NOON)
        house.db.execute("DELETE FROM campaign.stock_delivery_queue")
        run_workflow("stockMgt", NOON, campaign="loyalty", full=True)
        assert house.position(line)[1] == 10

    def test_dry_run_reports_and_changes_nothing(
        self, db: psycopg.Connection[Any], house: Warehouse, run_workflow: Workflow, mail_server: MailServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        line = house.line("paper")
        house.order(line, "2026-11-02", 50)
        house.extract(house.delivery(house.uses(line), label="Catalog"), 990, NOON)
        before = snapshot(db)
        summaries = run_workflow("stockMgt", NOON, dry_run=True)
        assert changed_tables(before, snapshot(db)) == {}
        assert summaries["compute_positions"] == {
            "dry_run": True, "positions_changed": 1, "positions_not_balanced": 0,
        }  # fmt: skip
        assert summaries["alert_lines"]["notifications_written"] == 1
        assert summaries["send_notifications"]["notifications_sent"] == 1
        assert mail_server.messages == []


class TestConcurrency:
    def test_line_of_a_transaction_that_commits_late_is_not_missed(
        self, house: Warehouse, dsn: str, run_workflow: Workflow
    ) -> None:
        line = house.line("paper")
        late, early = house.delivery(house.uses(line)), house.delivery(house.uses(line))
        with psycopg.connect(dsn) as other:
            other.execute(
                """
                UPDATE campaign.delivery SET status = 'file_to_approve', message_count = 7, extracted_at = %s
                WHERE id = %s
                """,
                [NOON, late],
            )
            other.execute(
                "INSERT INTO campaign.stock_order (stock_line_id, delivery_on, quantity) VALUES (%s, %s, 3)",
                [line, date(2026, 11, 1)],
            )
            house.extract(early, 10, NOON)
            run_workflow("stockMgt", NOON)
            assert house.position(line) == (0, 10, 0, 990, "ok")
        run_workflow("stockMgt", NOON + HOUR)
        assert house.position(line) == (3, 17, 0, 986, "ok")

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ("INSERT INTO campaign.delivery_cost (delivery_id, cost_type_id) VALUES ({delivery}, {more})", 110),
            ("DELETE FROM campaign.delivery_cost WHERE delivery_id = {delivery}", 0),
            ("UPDATE campaign.cost_type SET units_per_message = 3 WHERE id = {own}", 30),
            ("UPDATE campaign.cost_type SET stock_line_id = NULL WHERE id = {own}", 0),
            ("UPDATE campaign.cost_type SET selected_by_default = true WHERE id = {default}", 80),
            (
                "INSERT INTO campaign.cost_type (cost_category_id, label, stock_line_id, selected_by_default) "
                "SELECT cost_category_id, 'New', stock_line_id, true FROM campaign.cost_type WHERE id = {default}",
                20,
            ),
        ],
    )
    def test_other_use_of_stock_that_commits_after_the_file_left_is_not_missed(
        self, house: Warehouse, factory: Factory, dsn: str, run_workflow: Workflow, change: str, expected: int
    ) -> None:
        """Whoever changes it cannot see that the file leaves meanwhile, nor the run what is being changed."""
        line = house.line("paper")
        own, more, default = house.uses(line), house.uses(line, 10), house.uses(line, 7)
        service = house.scalar("SELECT service_id FROM campaign.cost_category")
        category = factory.insert("cost_category", service_id=service, label="Ink", channel="direct_mail")
        house.db.execute("UPDATE campaign.cost_type SET cost_category_id = %s WHERE id = %s", [category, default])
        delivery = house.delivery(own, service_id=service)
        with psycopg.connect(dsn) as other:
            other.execute(change.format(delivery=delivery, own=own, more=more, default=default))
            house.extract(delivery, 10, NOON)
            run_workflow("stockMgt", NOON)
            assert house.position(line)[1] == 10
        run_workflow("stockMgt", NOON + HOUR)
        assert house.position(line)[1] == expected
        assert run_workflow("stockMgt", NOON + HOUR, full=True) == NOTHING_DONE

    def test_move_to_another_campaign_that_commits_late_is_not_missed(
        self, house: Warehouse, factory: Factory, dsn: str, run_workflow: Workflow
    ) -> None:
        line, campaign = house.line("paper"), factory.campaign()
        delivery = house.delivery(house.uses(line))
        house.extract(delivery, 10, NOON)
        with psycopg.connect(dsn) as other:
            other.execute("UPDATE campaign.delivery SET campaign_id = %s WHERE id = %s", [campaign, delivery])
            run_workflow("stockMgt", NOON)
        run_workflow("stockMgt", NOON + HOUR)
        assert house.rows("SELECT campaign_id, quantity FROM campaign.stock_campaign_consumption") == [(campaign, 10)]

    def test_two_runs_at_once(self, house: Warehouse, run_workflow: Workflow, mail_server: MailServer) -> None:
        line = house.line("paper", 10_000, 100)
        cost_type = house.uses(line, 2)
        for number in range(40):
            house.extract(house.delivery(cost_type), 120 + number, NOON)
            house.order(line, "2026-11-01", 1 + number)
        failures: list[BaseException] = []

        def run(name: str, **params: Any) -> None:
            try:
                run_workflow("stockMgt", NOON, run_id=name, **params)
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=run, args=(f"at_once_{n}",), kwargs={"full": n == 1}) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        consumed, received = 2 * sum(range(120, 160)), sum(range(1, 41))
        assert house.position(line) == (
            received, consumed, 0, 10_000 + received - consumed, "insufficient",
        )  # fmt: skip
        assert len(mail_server.messages) == 1
        assert len(house.journal("info")) == 40 + 40 + len(mail_server.messages)

    @pytest.mark.parametrize("step", ["receive_orders", "record_consumption", "compute_positions", "alert_lines"])
    def test_killed_in_the_middle(
        self, house: Warehouse, dsn: str, run_workflow: Workflow, mail_server: MailServer, step: str
    ) -> None:
        line = house.line("paper")
        house.order(line, "2026-11-01", 5)
        house.extract(house.delivery(house.uses(line)), 950, NOON)
        table = {
            "receive_orders": "stock_line_queue",
            "record_consumption": "stock_consumption",
            "compute_positions": "stock_balance",
            "alert_lines": "notification",
        }[step]
        failures: list[BaseException] = []

        def run() -> None:
            try:
                run_workflow("stockMgt", NOON, run_id="killed")
            except BaseException as failure:
                failures.append(failure)

        with psycopg.connect(dsn) as blocker:
            blocker.execute(f"LOCK TABLE campaign.{table} IN SHARE ROW EXCLUSIVE MODE")
            thread = threading.Thread(target=run)
            thread.start()
            killed = False
            while not killed and thread.is_alive():
                killed = house.scalar(
                    """
                    SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity
                    WHERE application_name = %s AND wait_event_type = 'Lock' AND datname = current_database()
                    """,
                    f"stockMgt.{step}",
                )
            thread.join()
            blocker.rollback()
        assert [type(failure) for failure in failures] == [psycopg.errors.AdminShutdown]
        run_workflow("stockMgt", NOON, run_id="killed")
        run_workflow("stockMgt", NOON + HOUR)
        assert house.position(line) == (5, 950, 0, 55, "low")
        assert house.told() == [("stock_alert", "kim@example.com", "Paper", "low")]
        assert len(mail_server.messages) == 1
