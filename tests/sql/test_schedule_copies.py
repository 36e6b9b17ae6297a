"""What a schedule line copies: every column of every table, against the list of what becomes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tests.conftest import Workflow
from tests.factories import Factory
from tests.snapshots import changed_tables, snapshot
from tests.sql.test_operation_mgt import Airflow, airflow, rows  # noqa: F401  (a fixture)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# A pattern in winter, a start in summer: nine in the morning stays nine in the morning.
PATTERN = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
START = datetime(2026, 4, 6, 7, 0, tzinfo=UTC)
SHIFT = START - PATTERN

NEW = "new"  # the copy's own: keys, names, the copy that it belongs to
SHIFTED = "shifted"  # as much later as the start is
# What a copy carries on is not named here. Everything else is: None and other values are what it is reset to.
COPIED: dict[str, dict[str, Any]] = {
    "campaign": {
        "id": NEW, "internal_name": NEW, "label": NEW, "template_id": NEW, "ends_at": NEW,
        # Being edited when it is made, started in the same run: its start is reached.
        "status": "started",
        "created_at": NEW, "updated_at": NEW,
        "kind": "unique", "is_template": False, "follows_template": False,
        "starts_at": SHIFTED, "recurrence": None, "real_cost": None, "calculated_cost": None, "canceled_at": None,
    },
    "workflow_template": {
        "id": NEW, "internal_name": NEW, "campaign_id": NEW, "created_at": NEW, "updated_at": NEW,
    },
    "delivery_outline": {
        "id": NEW, "internal_name": NEW, "campaign_id": NEW, "created_at": NEW, "updated_at": NEW,
    },
    "delivery_outline_item": {"id": NEW, "outline_id": NEW, "created_at": NEW, "updated_at": NEW},
    "delivery": {
        "id": NEW, "internal_name": NEW, "campaign_id": NEW, "outline_id": NEW, "workflow_template_id": NEW,
        "created_at": NEW, "updated_at": NEW,
        "status": "being_edited", "is_template": False, "extraction_date": SHIFTED, "contact_date": SHIFTED,
        "workflow_id": None, "failed_from": None, "failure": None, "real_cost": None, "calculated_cost": None,
        "targeted_count": None, "message_count": None, "submitted_at": None, "analysed_at": None,
        "extracted_at": None, "started_at": None, "finished_at": None, "canceled_at": None, "held_at": None,
        "released_at": None, "confirmed_at": None, "confirmed_by_id": None, "content_checked": False,
    },
    "delivery_cost": {"id": NEW, "delivery_id": NEW, "created_at": NEW, "updated_at": NEW},
    "task": {
        "id": NEW, "internal_name": NEW, "campaign_id": NEW, "created_at": NEW, "updated_at": NEW,
        "status": "scheduled", "starts_at": SHIFTED, "ends_at": SHIFTED, "days_completed": 0, "finished_at": None,
        "canceled_at": None, "real_cost": None, "calculated_cost": None,
    },
    "task_cost": {"id": NEW, "task_id": NEW, "created_at": NEW, "updated_at": NEW},
    "cost_breakdown": {
        "id": NEW, "campaign_id": NEW, "delivery_id": NEW, "task_id": NEW, "created_at": NEW, "updated_at": NEW,
    },
    "approval_policy": {"id": NEW, "campaign_id": NEW, "delivery_id": NEW, "created_at": NEW, "updated_at": NEW},
    "approval_policy_reviewer": {"id": NEW, "approval_policy_id": NEW},
}  # fmt: skip
# The settings that are carried on, and must be named as that: who adds a column decides here.
CARRIED = {
    "campaign": "program_id owner_id duration budget_id budget_status commitment_level provisional_cost fixed_cost "
    "approval_mode notifications_enabled create_in_advance time_zone missed_starts creation_cap submit_for_approval "
    "automatic_start",
    "workflow_template": "label dag_id conf severity",
    "delivery_outline": "label",
    "delivery_outline_item": "label description cost",
    "delivery": "label channel service_id subject body_text body_html sender budget_id commitment_level "
    "provisional_cost requested_quantity approvals_demanded messages_per_minute",
    "delivery_cost": "cost_type_id surcharge expense_category_id",
    "task": "label program_id assigned_to_id service_id budget_id commitment_level provisional_cost",
    "task_cost": "cost_type_id surcharge expense_category_id",
    "cost_breakdown": "kind expense_category_id amount",
    "approval_policy": "kind enabled deadline reminders",
    "approval_policy_reviewer": "staff_id staff_group_id",
}
# Tables that name one of the copied ones and are results, or the schedule itself.
RESULTS = {
    "approval", "budget_charge", "campaign_schedule", "cost_line", "cost_problem", "delivery_batch",
    "delivery_exclusion", "delivery_message", "delivery_sending", "delivery_target", "delivery_volume",
    "derived_real_cost", "expense_line", "extraction_attempt", "extraction_file", "notification", "provider_alert",
    "provider_answer", "provider_job", "provider_return", "recurrence_plan", "stock_consumption", "technical_run",
    "workflow",
}  # fmt: skip


def test_every_column_of_a_copied_table_is_decided_about(db: psycopg.Connection[Any]) -> None:
    for table, changed in COPIED.items():
        columns = rows(
            db,
            "SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
            f"AND attrelid = 'campaign.{table}'::regclass",
        )
        assert {name for (name,) in columns} == {*changed, *CARRIED[table].split()}, (
            f"{table}: say in this file whether a copy carries a new column on or starts without it, and reset it in "
            "serve_schedules.sql if it is a result"
        )


def test_every_table_that_belongs_to_a_copied_one_is_decided_about(db: psycopg.Connection[Any]) -> None:
    referring = rows(
        db,
        """
        SELECT DISTINCT child.relname
        FROM pg_constraint AS key
        INNER JOIN pg_class AS child ON key.conrelid = child.oid
        INNER JOIN pg_class AS parent ON key.confrelid = parent.oid
        WHERE
            key.contype = 'f' AND child.relnamespace = 'campaign'::regnamespace
            AND parent.relname = ANY(ARRAY['{}'])
        """.format("','".join(COPIED)),
    )
    assert {name for (name,) in referring} - set(COPIED) == RESULTS, "copied, or a result?"


def full_template(db: psycopg.Connection[Any], factory: Factory) -> int:
    """Insert a periodic campaign with a value, different from its default, in every column that there is."""
    olga, maya = factory.staff(internal_name="olga"), factory.staff(internal_name="maya")
    group = factory.insert("staff_group", internal_name="reviewers", label="Reviewers")
    budget, other_budget = factory.budget(), factory.budget()
    category = factory.insert("expense_category", internal_name="print", label="Print", nature="external")
    provider = factory.insert("provider", internal_name="printers", label="Printers")
    service = factory.insert("service", internal_name="letters", label="Letters", provider_id=provider)
    costs = factory.insert("cost_category", service_id=service, label="Print", channel="direct_mail")
    cost_type = factory.insert("cost_type", cost_category_id=costs, label="Letter")
    above = factory.campaign(internal_name="above", is_template=True)
    factory.policy("target", campaign_id=above, deadline="5 days", staff=(maya,))
    factory.policy("content", campaign_id=above, deadline="9 days")
    campaign = factory.campaign(
        internal_name="letter", label="Letter", kind="periodic", is_template=True, template_id=above,
        owner_id=olga, starts_at=PATTERN, ends_at=PATTERN + 400 * DAY, duration="1 mon",
        budget_id=budget, budget_status="defined", commitment_level="reserved", provisional_cost=10, fixed_cost=11,
        real_cost=12, calculated_cost=13, approval_mode="manual", notifications_enabled=False,
        create_in_advance="2 days", recurrence="FREQ=YEARLY;BYMONTH=12", time_zone="Europe/Paris",
        missed_starts="latest", creation_cap=7, submit_for_approval=True, automatic_start=False,
    )  # fmt: skip
    factory.policy("content", campaign_id=campaign, enabled=True, deadline="2 days", reminders=["1 day"],
                   staff=(maya,), groups=(group,))  # fmt: skip
    factory.policy("start", campaign_id=campaign, enabled=False)
    template = factory.insert(
        "workflow_template", internal_name="letter-target", label="Targeting", campaign_id=campaign,
        dag_id="campaignTargeting", conf=Jsonb({"lists": ["vip"]}), severity="critical",
    )  # fmt: skip
    shared = factory.insert("workflow_template", internal_name="shared", label="Shared", dag_id="campaignTargeting")
    outline = factory.insert("delivery_outline", internal_name="offers", label="Offers", campaign_id=campaign)
    for number in (1, 2):
        factory.insert("delivery_outline_item", outline_id=outline, label=f"Offer {number}", description="x", cost=5)
    everything = {
        "service_id": service, "subject": "s", "body_text": "t", "body_html": "h", "sender": "me",
        "budget_id": other_budget, "commitment_level": "committed", "provisional_cost": 20, "real_cost": 21,
        "calculated_cost": 22, "extraction_date": PATTERN + DAY, "contact_date": PATTERN + 2 * DAY,
        "requested_quantity": 500, "approvals_demanded": True, "messages_per_minute": 70, "content_checked": True,
    }  # fmt: skip
    moments = [
        "submitted_at", "analysed_at", "extracted_at", "started_at", "finished_at", "held_at", "released_at",
        "confirmed_at",
    ]  # fmt: skip
    delivery = factory.delivery(
        internal_name="mail", label="Mail", campaign_id=campaign, status="finished", outline_id=outline,
        workflow_template_id=template, is_template=True, targeted_count=9, message_count=8, confirmed_by_id=olga,
        **everything, **dict.fromkeys(moments, PATTERN),
    )  # fmt: skip
    factory.delivery(
        internal_name="card", label="Card", campaign_id=campaign, status="failed", failed_from="routing",
        failure="no paper", workflow_template_id=shared, channel="email",
    )  # fmt: skip
    factory.delivery(internal_name="gone", campaign_id=campaign, status="canceled")
    factory.insert("delivery_cost", delivery_id=delivery, cost_type_id=cost_type, surcharge=3,
                   expense_category_id=category)  # fmt: skip
    factory.policy("extraction", delivery_id=delivery, deadline="1 day", staff=(olga,))
    task = factory.insert(
        "task", internal_name="brief", label="Brief", campaign_id=campaign, status="finished",
        starts_at=PATTERN - DAY, ends_at=PATTERN + DAY, assigned_to_id=maya, days_completed=2, finished_at=PATTERN,
        service_id=service, budget_id=other_budget, commitment_level="reserved", provisional_cost=30, real_cost=31,
        calculated_cost=32,
    )  # fmt: skip
    factory.insert("task", internal_name="dropped", label="Dropped", campaign_id=campaign, status="canceled")
    factory.insert("task_cost", task_id=task, cost_type_id=cost_type, surcharge=4, expense_category_id=category)
    for owner in ({"campaign_id": campaign}, {"delivery_id": delivery}, {"task_id": task}):
        for kind in ("provisional", "real"):
            factory.insert("cost_breakdown", kind=kind, expense_category_id=category, amount=6, **owner)
    return campaign


def table_rows(db: psycopg.Connection[Any], table: str) -> list[dict[str, Any]]:
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"SELECT * FROM campaign.{table} ORDER BY id".encode()).fetchall()


@pytest.fixture
def copied(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> dict[str, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Serve one line of the full template; return per table the rows with their copies."""
    campaign = full_template(db, factory)
    factory.insert("campaign_schedule", campaign_id=campaign, starts_at=START)
    before = {table: table_rows(db, table) for table in COPIED}
    summary = run_workflow("operationMgt", START)["serve_schedules"]
    assert (summary["campaigns_created"], summary["deliveries_copied"]) == (1, 2)
    pairs = {}
    for table in COPIED:
        after = table_rows(db, table)
        known = {row["id"] for row in before[table]}
        assert [row for row in after if row["id"] in known] == before[table], f"{table}: the template was changed"
        new = [row for row in after if row["id"] not in known]
        patterns = [row for row in before[table] if is_pattern(db, table, row)]
        assert len(new) == len(patterns), table
        pairs[table] = list(zip(patterns, new, strict=True))
    state = snapshot(db)
    run_workflow("operationMgt", START)
    assert changed_tables(state, snapshot(db)) == {}
    return pairs


def is_pattern(db: psycopg.Connection[Any], table: str, row: dict[str, Any]) -> bool:
    """Say whether a row is one of those that are to be copied."""
    if table == "campaign":
        return row["internal_name"] == "letter"
    if table == "approval_policy":
        # Of the template above, what the template itself does not say: the target approval.
        return row["kind"] == "target" or row["deadline"] != timedelta(days=9)
    if table == "cost_breakdown":
        return row["kind"] == "provisional"
    return row.get("status") != "canceled" and row.get("internal_name") != "shared"


def test_copy_carries_every_setting_and_no_result(copied: Any) -> None:
    for table, pairs in copied.items():
        assert pairs, f"{table}: nothing was tried"
        for pattern, copy in pairs:
            for column, value in pattern.items():
                want = COPIED[table].get(column, "carried")
                if want == "carried":
                    assert copy[column] == value, (table, column)
                elif want == SHIFTED and value is not None:
                    assert copy[column] - value == SHIFT, (table, column)
                elif want not in (NEW, SHIFTED):
                    assert copy[column] == want, (table, column)
    for table in COPIED:
        for column in CARRIED[table].split():
            # Each setting had a value in some row, so that losing it would be seen.
            assert any(pattern[column] is not None for pattern, _ in copied[table]) or column == "program_id", (
                table, column,
            )  # fmt: skip


def test_copies_belong_together_and_share_nothing(db: psycopg.Connection[Any], copied: Any) -> None:
    ((template, campaign),) = copied["campaign"]
    assert (campaign["internal_name"], campaign["label"], campaign["template_id"]) == (
        "letter_1", "Letter - #1", template["id"],
    )  # fmt: skip
    # A month by the clock of the campaign.
    assert campaign["ends_at"] == datetime(2026, 5, 6, 7, 0, tzinfo=UTC)
    assert rows(db, "SELECT created_campaign_id, workflow_id, skipped_at FROM campaign.campaign_schedule") == [
        (campaign["id"], None, None)
    ]
    copies = {table: {pattern["id"]: copy["id"] for pattern, copy in pairs} for table, pairs in copied.items()}
    parents = {
        "campaign_id": "campaign", "outline_id": "delivery_outline", "workflow_template_id": "workflow_template",
        "delivery_id": "delivery", "task_id": "task", "approval_policy_id": "approval_policy",
    }  # fmt: skip
    shared = rows(db, "SELECT id FROM campaign.workflow_template WHERE internal_name = 'shared'")[0][0]
    for table, pairs in copied.items():
        for pattern, copy in pairs:
            for column, parent in parents.items():
                if pattern.get(column) is None:
                    assert copy.get(column) is None
                elif column == "workflow_template_id" and pattern[column] == shared:
                    assert copy[column] == shared
                elif table == "approval_policy" and pattern["campaign_id"] not in (None, template["id"]):
                    assert copy["campaign_id"] == campaign["id"]
                else:
                    assert copy[column] == copies[parent][pattern[column]], (table, column)
    assert [copy["internal_name"] for _, copy in copied["delivery"]] == ["mail_1", "card_1"]
    settings = "SELECT * FROM campaign.approval_setting WHERE delivery_id = {} ORDER BY kind"
    mail = copied["delivery"][0][1]["id"]
    before = rows(db, settings.format(mail))
    db.execute("UPDATE campaign.approval_policy SET enabled = NOT enabled, deadline = '8 days' WHERE campaign_id <> %s",
               [campaign["id"]])  # fmt: skip
    db.execute("DELETE FROM campaign.approval_policy WHERE campaign_id = %s AND kind = 'start'", [campaign["id"]])
    assert rows(db, settings.format(mail)) == before


def test_names_that_are_taken_are_left_to_others(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    campaign = full_template(db, factory)
    line = factory.insert("campaign_schedule", campaign_id=campaign, starts_at=START)
    other = factory.campaign(internal_name="letter_1")
    factory.delivery(internal_name="mail_1", campaign_id=other)
    factory.insert("task", internal_name="brief_1", label="x", campaign_id=other)
    factory.insert("workflow_template", internal_name="letter-target_1", label="x", dag_id="x")
    factory.insert("delivery_outline", internal_name="offers_1", label="x")
    run_workflow("operationMgt", START)
    for table, name in (
        ("campaign", "letter"), ("delivery", "mail"), ("task", "brief"), ("workflow_template", "letter-target"),
        ("delivery_outline", "offers"),
    ):  # fmt: skip
        assert (f"{name}_1~{line}",) in rows(db, f"SELECT internal_name FROM campaign.{table}")


def test_campaign_without_a_duration_lasts_as_long_as_its_template(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    campaign = factory.campaign(
        internal_name="plain", label="Plain", kind="periodic", is_template=True, starts_at=PATTERN,
        ends_at=PATTERN + 3 * DAY, time_zone="Europe/Paris", recurrence="FREQ=MONTHLY;BYDAY=1MO",
    )  # fmt: skip
    factory.insert("campaign_schedule", campaign_id=campaign, starts_at=START + DAY)
    for _ in range(2):
        run_workflow("operationMgt", START + DAY)
    query = "SELECT label, status, starts_at, ends_at FROM campaign.campaign WHERE template_id IS NOT NULL ORDER BY id"
    assert rows(db, query) == [
        ("Plain - #1", "finished", PATTERN, PATTERN + 3 * DAY),
        ("Plain - #2", "started", START, START + 3 * DAY),
        ("Plain - #3", "started", START + DAY, START + 4 * DAY),
    ]
    assert rows(db, "SELECT status FROM campaign.campaign WHERE is_template") == [("being_edited",)]


def test_periodic_campaign_is_a_template_whoever_enters_it(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    campaign = factory.campaign(
        internal_name="plain", label="Plain", kind="periodic", starts_at=PATTERN, ends_at=PATTERN + 3 * DAY,
        time_zone="Europe/Paris", recurrence="FREQ=MONTHLY;BYDAY=1MO", missed_starts="latest",
    )  # fmt: skip
    later = factory.campaign(internal_name="later", label="Later", starts_at=START + 30 * DAY)
    db.execute("UPDATE campaign.campaign SET kind = 'periodic' WHERE id = %s", [later])
    # Its own dates are over; the series goes on.
    run_workflow("operationMgt", START - 5 * DAY)
    run_workflow("operationMgt", START)
    query = "SELECT id, is_template, status FROM campaign.campaign WHERE kind = 'periodic' ORDER BY id"
    assert rows(db, query) == [(campaign, True, "being_edited"), (later, True, "being_edited")]
    query = "SELECT label, is_template, starts_at FROM campaign.campaign WHERE kind = 'unique' ORDER BY id"
    assert rows(db, query) == [("Plain - #1", False, PATTERN), ("Plain - #2", False, START)]


def test_what_would_end_before_its_start_when_clocks_change_ends_with_it(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    first = datetime(2026, 3, 1, 1, 30, tzinfo=UTC)
    # On 29 March ten to three in Paris comes as ten to four, after ten past three.
    spring = factory.campaign(
        internal_name="spring", label="Spring", kind="periodic", is_template=True, starts_at=first,
        ends_at=first + HOUR / 2, time_zone="Europe/Paris",
    )  # fmt: skip
    factory.insert(
        "task", internal_name="night", label="Night", campaign_id=spring, starts_at=first + 27 * DAY + HOUR / 3,
        ends_at=first + 27 * DAY + 2 * HOUR / 3,
    )  # fmt: skip
    factory.insert("campaign_schedule", campaign_id=spring, starts_at=first + DAY)
    # On 25 October 02:30 comes twice; the second of them, and a quarter of an hour after the first.
    autumn = factory.campaign(
        internal_name="autumn", label="Autumn", kind="periodic", is_template=True, starts_at=first,
        duration="15 minutes", time_zone="Europe/Paris",
    )  # fmt: skip
    twice = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    factory.insert("campaign_schedule", campaign_id=autumn, starts_at=twice)
    run_workflow("operationMgt", first + DAY)
    run_workflow("operationMgt", twice)
    (task,) = rows(db, "SELECT starts_at, ends_at FROM campaign.task WHERE internal_name = 'night_1'")
    assert task[0] == task[1]
    query = "SELECT label, starts_at, ends_at FROM campaign.campaign WHERE template_id IS NOT NULL ORDER BY id"
    assert rows(db, query) == [
        ("Spring - #1", first + DAY, first + DAY + HOUR / 2),
        ("Autumn - #1", twice, twice),
    ]
