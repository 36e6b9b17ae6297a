"""The journal answers for what people change by hand; it is found by index, and cleaned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.budget_world import World
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.sql.test_delivery_sending import ready

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def edits(db: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return db.execute(
        "SELECT campaign_id, delivery_id, message FROM campaign.journal WHERE source = 'edit' ORDER BY id"
    ).fetchall()


class TestEdits:
    @pytest.fixture(autouse=True)
    def name(self, db: psycopg.Connection[Any]) -> None:
        db.execute("SET application_name = 'psql'")

    def test_who_changed_which_amount_and_state(self, db: psycopg.Connection[Any], factory: Factory) -> None:
        budget = factory.budget(internal_name="print", label="Print")
        campaign = factory.campaign(internal_name="loyalty", label="Loyalty")
        delivery = factory.delivery(campaign_id=campaign, internal_name="letter", label="Letter")
        db.execute("DELETE FROM campaign.journal")
        db.execute("UPDATE campaign.budget SET allocated = 12000.50 WHERE id = %s", [budget])
        db.execute("UPDATE campaign.budget SET allocated = 12000.50 WHERE id = %s", [budget])
        db.execute(
            "UPDATE campaign.delivery SET status = 'failed', failed_from = 'routing', failure = 'a' WHERE id = %s",
            [delivery],
        )
        db.execute("UPDATE campaign.campaign SET budget_id = %s, fixed_cost = 5 WHERE id = %s", [budget, campaign])
        db.execute("UPDATE campaign.delivery SET body_html = repeat('x', 99) WHERE id = %s", [delivery])
        db.execute("DELETE FROM campaign.delivery WHERE id = %s", [delivery])
        assert edits(db)[:4] == [
            (None, None, "budget 'Print' (print): allocated from 10000.00 to 12000.50; changed by postgres (psql)."),
            (campaign, delivery, "delivery 'Letter' (letter): failed_from from nothing to routing, failure from "
             "nothing to a, status from being_edited to failed; changed by postgres (psql)."),
            (campaign, None, f"campaign 'Loyalty' (loyalty): budget_id from nothing to {budget}, fixed_cost from "
             "nothing to 5.00; changed by postgres (psql)."),
            (campaign, delivery, "delivery 'Letter' (letter): body_html is a long text; changed by postgres (psql)."),
        ]  # fmt: skip
        assert edits(db)[4][2].endswith("deleted by postgres (psql).")

    def test_what_is_entered(self, db: psycopg.Connection[Any], factory: Factory) -> None:
        factory.budget(internal_name="print", label="Print", allocated=500)
        assert edits(db) == [
            (None, None, "budget 'Print' (print): allocated 500.00, currency EUR; entered by postgres (psql).")
        ]

    def test_a_load_is_one_line(self, db: psycopg.Connection[Any], factory: Factory) -> None:
        campaign = factory.campaign()
        db.execute(
            "INSERT INTO campaign.delivery (internal_name, label, campaign_id, channel) "
            "SELECT 'd' || n, 'D', %s, 'email' FROM generate_series(1, 500) AS n", [campaign],
        )  # fmt: skip
        db.execute("UPDATE campaign.delivery SET provisional_cost = 7")
        assert edits(db) == [(None, None, "500 rows of delivery: changed by postgres (psql).")]

    def test_a_person_s_block_is_an_edit_and_a_function_of_the_house_is_none(
        self, db: psycopg.Connection[Any], factory: Factory
    ) -> None:
        delivery = factory.delivery(internal_name="letter", label="Letter")
        db.execute("SELECT campaign.cancel_delivery(%s, 'no need')", [delivery])
        assert edits(db) == []
        db.execute("DO $$ BEGIN UPDATE campaign.delivery SET provisional_cost = 3; END $$")
        assert len(edits(db)) == 1

    def test_a_workflow_speaks_for_itself(
        self, db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow
    ) -> None:
        campaign = factory.campaign(starts_at=NOON)
        for dag_id in ("operationMgt", "budgetMgt", "deliveryMgt", "stockMgt", "providerMgt"):
            run_workflow(dag_id, NOON)
        assert db.execute("SELECT status FROM campaign.campaign WHERE id = %s", [campaign]).fetchone() == ("started",)
        assert edits(db) == []


class TestRuns:
    """What workflows do is in the journal, with the run that did it."""

    def test_costs_from_what_to_what_and_why(self, db: psycopg.Connection[Any], run_workflow: Workflow) -> None:
        world = World(db)
        world.frame()
        world.cost_type("Letter", basis="per_message", method="linear", amount="0.5")
        delivery = world.analysed("letter", "Letter", messages=100, at=NOON)
        task = world.task("hall", provisional_cost=20)
        run_workflow("budgetMgt", NOON, run_id="first")
        world.set("delivery", "letter", real_cost=40)
        run_workflow("budgetMgt", NOON + timedelta(minutes=1), run_id="second")
        run_workflow("budgetMgt", NOON + timedelta(minutes=2), run_id="third", full=True)
        lines = world.rows(
            "SELECT run_id, delivery_id, task_id, message, written_by FROM campaign.journal "
            "WHERE message LIKE 'The cost of %%' ORDER BY id"
        )
        by = "postgres (budgetMgt.calculate_costs)"
        assert sorted(lines[:2], key=lambda line: line[3]) + lines[2:] == [
            ("first", delivery, None, "The cost of delivery 'letter' went from 0.00 to 50.00: the sum of its "
             "split.", by),
            ("first", None, task, "The cost of task 'hall' went from 0.00 to 20.00: its provisional cost.", by),
            ("second", delivery, None, "The cost of delivery 'letter' went from 50.00 to 40.00: the real cost that was "
             "entered.", by),
        ]  # fmt: skip

    def test_many_costs_are_one_line_a_campaign(self, db: psycopg.Connection[Any], run_workflow: Workflow) -> None:
        world = World(db)
        world.frame()
        db.execute(
            "INSERT INTO campaign.delivery (internal_name, label, campaign_id, channel, provisional_cost) "
            "SELECT 'd' || n, 'D', %s, 'email', 2 FROM generate_series(1, 1001) AS n",
            [world.ids["loyalty"]],
        )
        run_workflow("budgetMgt", NOON)
        assert world.rows("SELECT campaign_id, message FROM campaign.journal WHERE message LIKE 'The cost%%'") == [
            (world.ids["loyalty"], "The costs of 1001 of its deliveries and tasks went from 0.00 to 2002.00 together.")
        ]

    def test_mails_and_messages(
        self, db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, mail_server: MailServer
    ) -> None:
        campaign = factory.campaign(owner_id=factory.staff(internal_name="olga"))
        delivery = ready(db, factory, campaign, count=3, analysed_at=NOON, confirmed_at=NOON)
        factory.policy("content", campaign_id=campaign)
        asked = factory.delivery(campaign_id=campaign, status="targeting_pending", submitted_at=NOON)
        run_workflow("deliveryMgt", NOON, run_id="first")
        factory.policy("content", delivery_id=delivery, enabled=False)
        run_workflow("deliveryMgt", NOON, run_id="second")
        lines = db.execute("SELECT run_id, delivery_id, message FROM campaign.journal WHERE source = 'deliveryMgt'")
        found = set(lines.fetchall())
        [(notification,)] = db.execute(
            "SELECT id FROM campaign.notification WHERE delivery_id = %s", [asked]
        ).fetchall()
        assert found >= {
            ("first", asked, f"Sent the mail approval_request (notification {notification})."),
            ("second", delivery, "Of delivery 'Summer' 3 messages left, and 0 failed."),
        }
        # Functions that a run calls name it too.
        assert {run_id for run_id, *_ in found} == {"first", "second"}


class TestCleaning:
    def write(self, db: psycopg.Connection[Any], days: int, count: int = 1, **columns: Any) -> None:
        names = "".join(f", {name}" for name in columns)
        values = "".join(f", {value}" for value in columns.values())
        db.execute(
            f"INSERT INTO campaign.journal (at, source, message{names}) "
            f"SELECT %s, 'test', %s{values} FROM generate_series(1, %s)",
            [NOON - timedelta(days=days), f"{days} days", count],
        )

    def left(self, db: psycopg.Connection[Any]) -> list[tuple[str, int]]:
        return db.execute(
            "SELECT message, count(*) FROM campaign.journal WHERE source = 'test' GROUP BY 1 ORDER BY 1"
        ).fetchall()

    def test_old_lines_go_and_those_of_open_campaigns_stay(
        self, db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow
    ) -> None:
        open_campaign = factory.campaign()
        over = factory.campaign(status="finished")
        delivery = factory.delivery(campaign_id=open_campaign)
        self.write(db, 729)
        self.write(db, 800)
        self.write(db, 801, campaign_id=open_campaign)
        self.write(db, 802, campaign_id=over)
        self.write(db, 803, delivery_id=delivery)
        run_workflow("stockMgt", NOON)
        assert self.left(db) == [("729 days", 1), ("801 days", 1), ("803 days", 1)]

    def test_kept_as_long_as_set(self, db: psycopg.Connection[Any], run_workflow: Workflow) -> None:
        db.execute("UPDATE campaign.setting SET value = '\"10 days\"' WHERE name = 'journal_kept_for'")
        self.write(db, 9)
        self.write(db, 12)
        run_workflow("deliveryMgt", NOON)
        assert self.left(db) == [("9 days", 1)]

    def test_in_batches_and_once_a_day(self, db: psycopg.Connection[Any], run_workflow: Workflow) -> None:
        self.write(db, 800, 45_000)
        left = []
        for minutes in range(4):
            run_workflow("stockMgt", NOON + timedelta(minutes=minutes))
            left.append(self.left(db))
        assert left == [[("800 days", 25_000)], [("800 days", 5_000)], [], []]
        self.write(db, 900)
        run_workflow("stockMgt", NOON + timedelta(minutes=5))
        assert self.left(db) == [("900 days", 1)]
        run_workflow("stockMgt", NOON + timedelta(days=1))
        assert self.left(db) == []

    def test_rehearsals_and_runs_for_the_past_and_the_future_remove_nothing_early(
        self, db: psycopg.Connection[Any], run_workflow: Workflow
    ) -> None:
        self.write(db, 700)
        run_workflow("stockMgt", NOON, dry_run=True)
        run_workflow("stockMgt", NOON + timedelta(days=5000))
        assert self.left(db) == [("700 days", 1)]


def test_everything_is_found_by_index_among_a_million_lines(db: psycopg.Connection[Any], factory: Factory) -> None:
    campaign = factory.campaign(status="finished")
    delivery = factory.delivery(campaign_id=campaign)
    db.execute(
        """
        INSERT INTO campaign.journal (at, source, run_id, campaign_id, delivery_id, task_id, message)
        SELECT
            timestamptz '2026-11-02' - n * interval '70 seconds', 'stockMgt', 'run_' || n / 10, n %% 5000, n,
            n %% 9000, 'm'
        FROM generate_series(1, 1000000) AS n
        """, [],
    )  # fmt: skip
    db.execute("ANALYZE campaign.journal")
    for query in (
        f"SELECT * FROM campaign.journal WHERE delivery_id = {delivery} ORDER BY at",
        f"SELECT * FROM campaign.journal WHERE campaign_id = {campaign} ORDER BY at",
        "SELECT * FROM campaign.journal WHERE task_id = 7 ORDER BY at",
        "SELECT * FROM campaign.journal WHERE source = 'stockMgt' AND run_id = 'run_77' ORDER BY at",
        "SELECT * FROM campaign.journal WHERE at BETWEEN '2026-10-01' AND '2026-10-02' ORDER BY at",
    ):
        plan = "\n".join(line for (line,) in db.execute(f"EXPLAIN {query}"))
        assert "Seq Scan" not in plan, plan
        assert "journal_" in plan, plan
    scanned = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'journal'"
    db.execute("SELECT pg_stat_force_next_flush()")
    [before] = db.execute(scanned).fetchall()
    db.execute("INSERT INTO campaign.technical_run (dag_id, run_id, as_of) VALUES ('stockMgt', 'clean', %s)", [NOON])
    assert db.execute("SELECT campaign.clean_journal('stockMgt', 'clean', %s)", [NOON]).fetchone() == (20_000,)
    db.execute("SELECT pg_stat_force_next_flush()")
    assert db.execute(scanned).fetchall() == [before]
