"""Recurring and periodic campaigns: lines by rules and entered ones, each served once, by hand-written examples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Workflow
from tests.factories import Factory
from tests.snapshots import changed_tables, snapshot
from tests.sql.test_operation_mgt import Airflow, airflow, rows  # noqa: F401  (a fixture)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FIRST = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)  # a Monday
LINES = """
SELECT line.starts_at, workflow.label, line.skipped_at IS NOT NULL
FROM campaign.campaign_schedule AS line LEFT JOIN campaign.workflow ON line.workflow_id = workflow.id
ORDER BY line.starts_at
"""
WORKFLOWS = "SELECT label, status, start_planning_date FROM campaign.workflow ORDER BY id"
PROBLEMS = "SELECT message FROM campaign.journal WHERE level <> 'info' ORDER BY id"


def recurring(factory: Factory, **columns: Any) -> int:
    """Insert a recurring campaign with a workflow template and one delivery that belongs to it."""
    values = {
        "internal_name": "tea", "label": "Tea", "kind": "recurring", "starts_at": FIRST,
        "recurrence": "FREQ=DAILY", "create_in_advance": DAY,
    }  # fmt: skip
    if "owner_id" not in columns:
        columns["owner_id"] = factory.staff()
    campaign = factory.campaign(**(values | columns))
    name = columns.get("internal_name", "tea")
    template = factory.insert(
        "workflow_template", internal_name=f"{name}-target", label="Targeting", campaign_id=campaign,
        dag_id="campaignTargeting", conf=Jsonb({"everybody": True}), severity="production",
    )  # fmt: skip
    factory.delivery(
        internal_name=f"{name}-mail", label="Mail", campaign_id=campaign, is_template=True, channel="email",
        workflow_template_id=template, contact_date=columns.get("starts_at", FIRST) + 2 * HOUR,
    )  # fmt: skip
    return campaign


def test_line_gets_a_workflow_in_advance_and_starts_at_its_start(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    recurring(factory)
    summary = run_workflow("operationMgt", FIRST - DAY - HOUR)
    assert summary["plan_schedules"]["lines_planned"] == 0
    summary = run_workflow("operationMgt", FIRST)
    assert summary["plan_schedules"]["lines_planned"] == 2
    assert summary["serve_schedules"] == {
        "schedules_hindered": 0, "lines_waiting": 0, "recurring_workflows_created": 2, "campaigns_created": 0,
        "deliveries_copied": 2,
    }  # fmt: skip
    assert rows(db, LINES) == [
        (FIRST, "Targeting - #1", False),
        (FIRST + DAY, "Targeting - #2", False),
    ]
    assert rows(db, WORKFLOWS) == [
        ("Targeting - #1", "running", FIRST),
        ("Targeting - #2", "pending", FIRST + DAY),
    ]
    assert rows(db, "SELECT internal_name, number, severity, dag_id FROM campaign.workflow ORDER BY id") == [
        ("tea-target_1", 1, "production", "campaignTargeting"),
        ("tea-target_2", 2, "production", "campaignTargeting"),
    ]
    deliveries = """
        SELECT delivery.internal_name, delivery.label, delivery.status, delivery.is_template, delivery.contact_date,
            workflow.internal_name, delivery.approvals_demanded
        FROM campaign.delivery LEFT JOIN campaign.workflow ON delivery.workflow_id = workflow.id ORDER BY delivery.id
    """
    assert rows(db, deliveries) == [
        ("tea-mail", "Mail", "being_edited", True, FIRST + 2 * HOUR, None, False),
        ("tea-mail_1", "Mail - #1", "targeting_pending", False, FIRST + 2 * HOUR, "tea-target_1", False),
        ("tea-mail_2", "Mail - #2", "being_edited", False, FIRST + DAY + 2 * HOUR, "tea-target_2", False),
    ]
    assert airflow.confs == {
        "campaign__tea-target_1": {
            "everybody": True, "workflow": "tea-target_1", "delivery": "tea-mail_1",
            "as_of": "2026-11-02T09:00:00.000000Z", "start_planning_date": "2026-11-02T09:00:00.000000Z",
        },
    }  # fmt: skip
    before = snapshot(db)
    run_workflow("operationMgt", FIRST)
    run_workflow("operationMgt", FIRST, full=True)
    assert changed_tables(before, snapshot(db)) == {}
    run_workflow("operationMgt", FIRST + DAY)
    assert airflow.started == ["tea-target_1", "tea-target_2"]
    assert rows(db, LINES)[2:] == [(FIRST + 2 * DAY, "Targeting - #3", False)]


def test_line_without_automatic_start_waits_for_a_person(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    campaign = recurring(factory, recurrence=None, missed_starts="skip")
    factory.insert("campaign_schedule", campaign_id=campaign, starts_at=FIRST, automatic_start=False)
    run_workflow("operationMgt", FIRST - HOUR)
    run_workflow("operationMgt", FIRST + 5 * DAY)
    assert rows(db, WORKFLOWS) == [("Targeting - #1", "pending", FIRST)]
    person = factory.staff(internal_name="maya")
    db.execute("SELECT campaign.start_workflow(id, %s) FROM campaign.workflow", [person])
    # Started now: nothing was missed, whatever missed_starts says.
    now = (db.execute("SELECT now()").fetchone() or (FIRST,))[0]
    run_workflow("operationMgt", max(now, FIRST + 6 * DAY))
    assert rows(db, WORKFLOWS) == [("Targeting - #1", "running", FIRST)]
    with pytest.raises(
        psycopg.Error, match="Workflow tea-target_1 is running: only one that is pending can be started"
    ):
        db.execute("SELECT campaign.start_workflow(id, %s) FROM campaign.workflow", [person])


def test_submitted_for_approval_demands_them_whatever_the_settings(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    campaign = recurring(factory, submit_for_approval=True)
    factory.policy("content", campaign_id=campaign, enabled=False)
    run_workflow("operationMgt", FIRST)
    query = """
        SELECT setting.kind, setting.is_demanded FROM campaign.approval_setting AS setting
        INNER JOIN campaign.delivery ON setting.delivery_id = delivery.id
        WHERE delivery.internal_name = '{}' ORDER BY 1
    """
    assert rows(db, query.format("tea-mail_1")) == [
        ("budget", True), ("content", True), ("start", True), ("target", True),
    ]  # fmt: skip
    assert {demanded for _, demanded in rows(db, query.format("tea-mail"))} == {False}


def test_several_deliveries_share_the_workflow_of_their_line(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    campaign = recurring(factory)
    (template,) = rows(db, "SELECT id FROM campaign.workflow_template")[0]
    factory.delivery(
        internal_name="sms", campaign_id=campaign, is_template=True, channel="sms", workflow_template_id=template
    )
    factory.delivery(internal_name="plain", campaign_id=campaign, workflow_template_id=template)
    factory.delivery(
        internal_name="gone", campaign_id=campaign, is_template=True, status="canceled", workflow_template_id=template
    )
    run_workflow("operationMgt", FIRST)
    assert airflow.confs["campaign__tea-target_1"]["deliveries"] == ["tea-mail_1", "sms_1"]
    query = "SELECT internal_name, status FROM campaign.delivery WHERE workflow_id IS NOT NULL ORDER BY id"
    assert rows(db, query)[:2] == [("tea-mail_1", "targeting_pending"), ("sms_1", "targeting_pending")]
    # Its DAG prepared only the first: the other one gets a run of its own.
    db.execute("UPDATE campaign.delivery SET status = 'target_ready' WHERE internal_name = 'tea-mail_1'")
    airflow.runs["campaign__tea-target_1"] = "success"
    run_workflow("operationMgt", FIRST + HOUR)
    assert rows(db, "SELECT internal_name, number, status FROM campaign.workflow ORDER BY id") == [
        ("tea-target_1", 1, "finished"), ("tea-target_2", 2, "pending"), ("sms_1_targeting_1", None, "running"),
    ]  # fmt: skip


def test_cap_is_kept_oldest_first_and_told(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    recurring(factory, creation_cap=3, recurrence="FREQ=DAILY;COUNT=5", create_in_advance=timedelta(0))
    run_workflow("operationMgt", FIRST + 10 * DAY)
    assert [label for _, label, _ in rows(db, LINES)] == [
        "Targeting - #1", "Targeting - #2", "Targeting - #3", None, None,
    ]  # fmt: skip
    assert rows(db, PROBLEMS) == [
        ("2 schedule lines of campaign 'Tea' wait for the next run: one run serves 3 (creation_cap).",)
    ]
    run_workflow("operationMgt", FIRST + 10 * DAY)
    assert [label for _, label, _ in rows(db, LINES)][3:] == ["Targeting - #4", "Targeting - #5"]
    before = snapshot(db)
    run_workflow("operationMgt", FIRST + 10 * DAY)
    assert changed_tables(before, snapshot(db)) == {}


@pytest.mark.parametrize("advance", [timedelta(0), 2 * DAY])
@pytest.mark.parametrize(("missed_starts", "served"), [("run_all", {1, 2, 3, 4}), ("latest", {4}), ("skip", set())])
def test_missed_starts_are_served_as_the_campaign_says(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, airflow: Airflow,  # noqa: F811
    mail_server: Any, missed_starts: str, served: set[int], advance: timedelta,
) -> None:  # fmt: skip
    owner = factory.staff(internal_name="olga", email="olga@example.com")
    recurring(factory, missed_starts=missed_starts, create_in_advance=advance, owner_id=owner)
    run_workflow("operationMgt", FIRST)
    # Nobody looks for four days; 2, 3, 4 and 5 November at nine were missed, the 6th comes at its time.
    back = FIRST + 4 * DAY + 3 * HOUR
    run_workflow("operationMgt", back)
    started = {name for name in airflow.started}
    labels = rows(db, "SELECT internal_name, start_planning_date FROM campaign.workflow")
    by_day = {(start - FIRST).days: name for name, start in labels}
    assert {day for day in range(1, 5) if by_day.get(day) in started} == served
    assert by_day[0] in started
    skipped = [(start - FIRST).days for start, _, is_skipped in rows(db, LINES) if is_skipped]
    assert skipped == sorted({1, 2, 3, 4} - served)
    # What was created in advance is canceled with its delivery.
    canceled = rows(db, "SELECT count(*) FROM campaign.workflow WHERE status = 'canceled'")
    assert canceled == [(len(set(skipped) & {1, 2}) if advance else 0,)]
    assert rows(db, "SELECT count(*) FROM campaign.delivery WHERE status = 'canceled'") == canceled
    if skipped:
        said = {
            "latest": "3 missed starts of campaign 'Tea' were skipped, as its missed_starts (latest) says: "
            "2026-11-03 09:00 to 2026-11-05 09:00 (UTC).",
            "skip": "4 missed starts of campaign 'Tea' were skipped, as its missed_starts (skip) says: "
            "2026-11-03 09:00 to 2026-11-06 09:00 (UTC).",
        }[missed_starts]
        assert said in [message for (message,) in rows(db, PROBLEMS)]
        assert rows(db, "SELECT kind, recipient_email, error FROM campaign.notification") == [
            ("starts_skipped", "olga@example.com", None)
        ]
        (told,) = rows(db, "SELECT subject FROM campaign.notification")
        assert told == ("Starts of campaign 'Tea' were skipped",)
    before = snapshot(db)
    run_workflow("operationMgt", back)
    assert changed_tables(before, snapshot(db)) == {}


def test_lines_follow_a_rule_that_was_changed(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    campaign = recurring(factory, create_in_advance=2 * DAY, creation_cap=2)
    factory.insert("campaign_schedule", campaign_id=campaign, starts_at=FIRST + DAY + 3 * HOUR)
    run_workflow("operationMgt", FIRST)
    assert [(start - FIRST, label) for start, label, _ in rows(db, LINES)] == [
        (0 * DAY, "Targeting - #1"), (DAY, "Targeting - #2"), (DAY + 3 * HOUR, None), (2 * DAY, None),
    ]  # fmt: skip
    # At ten instead of nine: the line of the third day was not served, so it moves; no past start is made up.
    db.execute("UPDATE campaign.campaign SET recurrence = 'FREQ=DAILY;BYHOUR=10', creation_cap = NULL")
    run_workflow("operationMgt", FIRST + HOUR + timedelta(minutes=30))
    assert [(start - FIRST, label) for start, label, _ in rows(db, LINES)] == [
        (0 * DAY, "Targeting - #1"),
        (HOUR, "Targeting - #3"),
        (DAY, "Targeting - #2"),
        (DAY + HOUR, "Targeting - #4"),
        (DAY + 3 * HOUR, "Targeting - #5"),
        (2 * DAY + HOUR, "Targeting - #6"),
    ]
    # Removed: what was entered and what was served stays. Given again: it holds from then on.
    db.execute("UPDATE campaign.campaign SET recurrence = NULL")
    factory.insert("campaign_schedule", campaign_id=campaign, starts_at=FIRST + 20 * DAY)
    run_workflow("operationMgt", FIRST + 5 * DAY)
    assert len(rows(db, LINES)) == 7
    run_workflow("operationMgt", FIRST + 8 * DAY)
    db.execute("UPDATE campaign.campaign SET recurrence = 'FREQ=DAILY', create_in_advance = '0'")
    run_workflow("operationMgt", FIRST + 9 * DAY)
    assert [(start - FIRST).days for start, _, _ in rows(db, LINES)[6:]] == [9, 20]


def test_no_lines_beyond_the_end_nor_for_campaigns_that_are_over(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    campaign = recurring(factory, ends_at=FIRST + 2 * DAY, create_in_advance=30 * DAY)
    factory.insert("campaign_schedule", campaign_id=campaign, starts_at=FIRST + 3 * DAY)
    recurring(factory, internal_name="gone", status="canceled")
    recurring(factory, internal_name="over", status="finished")
    recurring(factory, internal_name="pattern", is_template=True)
    run_workflow("operationMgt", FIRST)
    assert [(start - FIRST).days for start, label, _ in rows(db, LINES) if label] == [0, 1, 2]
    assert len(rows(db, LINES)) == 4
    # A shorter life takes lines that are not served; what lies beyond does not keep a campaign open.
    for name in list(airflow.runs):
        airflow.runs[name] = "failed"
    db.execute("UPDATE campaign.workflow SET status = 'finished'")
    db.execute("UPDATE campaign.delivery SET status = 'finished' WHERE NOT is_template")
    run_workflow("operationMgt", FIRST + 4 * DAY)
    assert rows(db, "SELECT status FROM campaign.campaign WHERE internal_name = 'tea'") == [("finished",)]


def test_start_that_was_missed_before_the_end_is_served_before_the_campaign_finishes(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    recurring(factory, ends_at=FIRST + 2 * DAY, create_in_advance=timedelta(0))
    run_workflow("operationMgt", FIRST)
    run_workflow("operationMgt", FIRST + 10 * DAY)
    assert [label for _, label, _ in rows(db, LINES)] == ["Targeting - #1", "Targeting - #2", "Targeting - #3"]
    assert rows(db, "SELECT status FROM campaign.campaign") == [("started",)]


def test_what_is_in_the_way_is_said_once(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    factory.campaign(internal_name="bare", label="Bare", kind="recurring", recurrence="FREQ=DAILY", starts_at=FIRST)
    factory.campaign(internal_name="timeless", label="Timeless", kind="recurring", recurrence="FREQ=DAILY")
    undated = factory.campaign(internal_name="undated", label="Undated", kind="periodic", is_template=True)
    factory.delivery(campaign_id=undated, contact_date=FIRST)
    factory.insert("campaign_schedule", campaign_id=undated, starts_at=FIRST)
    broken = factory.campaign(internal_name="broken", label="Broken", kind="recurring", starts_at=FIRST)
    db.execute("ALTER TABLE campaign.campaign DISABLE TRIGGER check_recurrence")
    db.execute("UPDATE campaign.campaign SET recurrence = 'FREQ=DAILY;BYDAY=XX' WHERE id = %s", [broken])
    recurring(factory)
    for _ in range(2):
        summary = run_workflow("operationMgt", FIRST)
    assert summary["plan_schedules"]["rules_not_planned"] == 2
    assert summary["serve_schedules"]["schedules_hindered"] == 2
    assert sorted(rows(db, PROBLEMS)) == [
        ("The recurrence of campaign 'Broken' makes no lines: BYDAY must be days like MO,FR, or 1MO and -1FR for the "
         "first Monday and the last Friday, not 'XX'.",),
        ("The recurrence of campaign 'Timeless' makes no lines: the rule counts from the start of the campaign, and "
         "it has none. Enter campaign.starts_at.",),
        ("The schedule of campaign 'Bare' cannot be served: it has no workflow template, so there is nothing to run. "
         "Give it one (workflow_template.campaign_id).",),
        ("The schedule of campaign 'Undated' cannot be served: the dates of its deliveries and tasks count from its "
         "start, and it has none. Enter campaign.starts_at.",),
    ]  # fmt: skip
    assert airflow.started == ["tea-target_1"]


def test_served_line_stays_on_record(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    recurring(factory, create_in_advance=timedelta(0))
    run_workflow("operationMgt", FIRST)
    with pytest.raises(psycopg.Error, match="it stays on record, so that it is not served again"):
        db.execute("DELETE FROM campaign.campaign_schedule")


def test_dry_run_a_past_run_and_the_limit_to_one_campaign(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, airflow: Airflow,  # noqa: F811
) -> None:  # fmt: skip
    recurring(factory, create_in_advance=timedelta(0))
    recurring(factory, internal_name="milk", label="Milk", create_in_advance=timedelta(0))
    before = snapshot(db)
    summary = run_workflow("operationMgt", FIRST + DAY, dry_run=True)
    assert summary["serve_schedules"]["recurring_workflows_created"] == 4
    assert summary["start_workflows"]["workflows_started"] == 4
    assert changed_tables(before, snapshot(db)) == {}
    for dry_run in (True, False):
        summary = run_workflow("operationMgt", FIRST, campaign="milk", dry_run=dry_run)
        # One line served: what was made is in the log, and not in the summary.
        assert {name: count for name, count in summary["serve_schedules"].items() if name != "dry_run"} == {
            "schedules_hindered": 0, "lines_waiting": 0, "recurring_workflows_created": 1, "campaigns_created": 0,
            "deliveries_copied": 1,
        }  # fmt: skip
    assert [start for start, _, _ in rows(db, LINES)] == [FIRST]
    assert airflow.started == ["milk-target_1"]
    before = snapshot(db)
    summary = run_workflow("operationMgt", FIRST - HOUR)
    assert summary["serve_schedules"]["for_the_past"]
    assert changed_tables(before, snapshot(db)) == {}


def test_preview_shows_the_next_lines_and_how_many_there_will_be(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    made = db.execute(
        "SELECT * FROM campaign.preview_recurrence('FREQ=MONTHLY;BYDAY=-1FR;COUNT=12', 'Europe/Paris', %s, 2)", [FIRST]
    ).fetchall()
    assert made == [
        (1, datetime(2026, 11, 27, 9, tzinfo=UTC), datetime.fromisoformat("2026-11-27T10:00"), 12),
        (2, datetime(2026, 12, 25, 9, tzinfo=UTC), datetime.fromisoformat("2026-12-25T10:00"), 12),
    ]
    with pytest.raises(psycopg.errors.CheckViolation, match="The recurrence 'FREQ=X' cannot be used: FREQ must be"):
        db.execute("SELECT * FROM campaign.preview_recurrence('FREQ=X', 'UTC', now())")
    campaign = recurring(factory, time_zone="Europe/Paris", ends_at=FIRST + 6 * DAY, create_in_advance=HOUR)
    factory.insert("campaign_schedule", campaign_id=campaign, starts_at=FIRST + DAY + HOUR)
    run_workflow("operationMgt", FIRST)
    db.execute("SELECT set_config('campaign.as_of', %s, false)", [FIRST.isoformat()])
    preview = db.execute("SELECT * FROM campaign.preview_recurrence(%s, 3)", [campaign]).fetchall()
    assert preview == [
        (FIRST + DAY, datetime.fromisoformat("2026-11-03T10:00"), FIRST + DAY - HOUR, True, 7),
        (FIRST + DAY + HOUR, datetime.fromisoformat("2026-11-03T11:00"), FIRST + DAY, False, 7),
        (FIRST + 2 * DAY, datetime.fromisoformat("2026-11-04T10:00"), FIRST + 2 * DAY - HOUR, True, 7),
    ]
    assert len(db.execute("SELECT * FROM campaign.preview_recurrence(%s, 50)", [campaign]).fetchall()) == 7
    for rule, count in (("FREQ=DAILY", None), ("FREQ=DAILY;COUNT=4", 4), ("FREQ=DAILY;UNTIL=20261105", 4)):
        assert rows(db, f"SELECT campaign.recurrence_line_count('{rule}', 'UTC', '{FIRST.isoformat()}')") in (
            [(count,)], [] if count is None else None,
        ), rule  # fmt: skip


@pytest.mark.parametrize(
    ("missed_starts", "days"), [("run_all", [0, 1, 2, 3, 4]), ("latest", [2, 3, 4, 5, 6]), ("skip", [3, 4, 5, 6, 7])]
)
def test_preview_of_a_rule_that_began_in_the_past_shows_what_will_be_made(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, airflow: Airflow,  # noqa: F811
    missed_starts: str, days: list[int],
) -> None:  # fmt: skip
    campaign = recurring(factory, missed_starts=missed_starts, create_in_advance=2 * DAY)
    now = FIRST + 2 * DAY + 3 * HOUR
    db.execute("SELECT set_config('campaign.as_of', %s, false)", [now.isoformat()])
    preview = db.execute("SELECT starts_at FROM campaign.preview_recurrence(%s, 5)", [campaign]).fetchall()
    assert [(start - FIRST).days for (start,) in preview] == days
    run_workflow("operationMgt", now)
    made = [start for start, label, is_skipped in rows(db, LINES) if label and not is_skipped]
    assert made == [start for (start,) in preview if start <= now + 2 * DAY]


def test_canceled_workflow_leaves_its_delivery_to_a_person(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,  # noqa: F811
) -> None:
    recurring(factory)
    run_workflow("operationMgt", FIRST)
    db.execute("SELECT campaign.cancel_workflow(id, 'wrong list') FROM campaign.workflow")
    run_workflow("operationMgt", FIRST)
    query = "SELECT internal_name, status, failure FROM campaign.delivery WHERE NOT is_template ORDER BY id"
    assert rows(db, query) == [
        ("tea-mail_1", "failed", "Its targeting workflow tea-target_1 was canceled. Send it back with "
         "campaign.retry_delivery: it gets a new one."),
        ("tea-mail_2", "canceled", None),
    ]  # fmt: skip
    assert [status for _, status, _ in rows(db, WORKFLOWS)] == ["canceled", "canceled"]
    db.execute("SELECT campaign.retry_delivery(id) FROM campaign.delivery WHERE status = 'failed'")
    now = (db.execute("SELECT now()").fetchone() or (FIRST,))[0]
    run_workflow("operationMgt", max(now, FIRST + HOUR), campaign="tea")
    assert ("tea-mail_1_targeting_2",) in rows(db, "SELECT internal_name FROM campaign.workflow")
    with pytest.raises(psycopg.Error, match="only one that has not ended can be canceled"):
        db.execute("SELECT campaign.cancel_workflow(min(id), 'x') FROM campaign.workflow")
