"""deliveryMgt looks at what changed or has come due, and misses nothing of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from campaign.database import SQL_FOLDER, execute_statements
from tests.conftest import Workflow
from tests.factories import Factory

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
KINDS = ("content", "target", "budget", "extraction", "proof", "start")


@pytest.fixture(autouse=True)
def clock(db: psycopg.Connection[Any]) -> None:
    """Let people act at the moment that the tests call now."""
    db.execute("SELECT set_config('campaign.as_of', %s, false)", [NOW.isoformat()])


@pytest.fixture
def sealed(db: psycopg.Connection[Any], factory: Factory) -> None:
    """Two deliveries, 1 by mail and 2 by e-mail, of which everything was approved; runs have looked at them."""
    owner = factory.staff(internal_name="olga")
    campaign = factory.campaign(internal_name="loyalty", owner_id=owner)
    outline = factory.insert("delivery_outline", internal_name="outline", label="Outline")
    factory.insert("delivery_outline_item", outline_id=outline, label="Voucher", cost=5)
    provider = factory.insert("provider", internal_name="printer", label="Printer")
    service = factory.insert("service", internal_name="print", label="Print", provider_id=provider)
    category = factory.insert("cost_category", service_id=service, label="Paper", channel="direct_mail")
    types = [factory.insert("cost_type", cost_category_id=category, label=label) for label in ("Sheet", "Cover")]
    structures = [factory.insert("cost_structure", cost_type_id=one, basis="fixed", amount=5) for one in types]
    template = factory.insert("workflow_template", internal_name="t", label="T", dag_id="t", campaign_id=campaign)
    for id_, channel, status in ((1, "direct_mail", "routing"), (2, "email", "pending_confirmation")):
        factory.delivery(
            id=id_, campaign_id=campaign, channel=channel, status=status, outline_id=outline, service_id=service,
            workflow_template_id=template, subject="Hello", body_text="Hello", content_checked=True,
            contact_date=NOW + DAY, targeted_count=100, message_count=90, submitted_at=NOW - DAY,
            analysed_at=NOW - DAY, extracted_at=NOW - DAY,
        )  # fmt: skip
        factory.insert("delivery_exclusion", delivery_id=id_, reason="opt_out", count=10)
        line = factory.insert("expense_line", id=id_, delivery_id=id_, cost_total=5, computed_at=NOW - HOUR)
        factory.insert(
            "expense_item", expense_line_id=line, cost_structure_id=structures[0], kind="calculated",
            quantity=1, amount=5, explanation="5",
        )  # fmt: skip
        factory.insert(
            "extraction_file", delivery_id=id_, version=1, file_name=f"f{id_}", url="f", row_count=90,
            byte_count=1, sha256="a" * 64,
        )  # fmt: skip
        for kind in KINDS:
            seal = db.execute("SELECT campaign.approval_seal(%s, %s)", [id_, kind]).fetchone()
            assert seal is not None
            factory.insert(
                "approval", delivery_id=id_, kind=kind, round=1, status="approved", seal=seal[0],
                submitted_at=NOW - 2 * HOUR, deadline_at=NOW + DAY, decided_at=NOW - HOUR, decided_by_id=owner,
            )  # fmt: skip
    assert step(db, "void_changed_approvals") == {"approvals_voided": 0, "owners_told": 0}
    step(db, "advance_deliveries")
    assert queue(db) == []


def step(db: psycopg.Connection[Any], name: str, as_of: datetime = NOW, **binds: Any) -> dict[str, Any]:
    """Do the statements of one step; return its counts."""
    values = {
        "as_of": as_of, "campaign": None, "full": False, "run_id": "r", "dag_id": "deliveryMgt", "is_past": False,
    }  # fmt: skip
    text = (SQL_FOLDER / "delivery_mgt" / f"{name}.sql").read_text()
    summary: dict[str, Any] = {}
    with db.transaction():
        db.execute("SELECT set_config('campaign.dag_id', 'deliveryMgt', true)")
        for rows in execute_statements(db, text, values | binds):
            summary |= rows[0]
    return summary


def queue(db: psycopg.Connection[Any]) -> list[int]:
    return [row[0] for row in db.execute("SELECT DISTINCT delivery_id FROM campaign.approval_queue ORDER BY 1")]


def candidates(db: psycopg.Connection[Any]) -> list[int]:
    return [row[0] for row in db.execute("SELECT delivery_id FROM campaign.approval_candidate ORDER BY 1")]


def void(db: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return db.execute(
        "SELECT delivery_id, kind FROM campaign.approval WHERE status = 'void' ORDER BY delivery_id, kind"
    ).fetchall()


def both(*kinds: str) -> list[tuple[int, str]]:
    return [(delivery, kind) for delivery in (1, 2) for kind in sorted(kinds)]


# Everything that a seal is taken over: (what a person or a workflow writes, the approvals that are void by it).
CHANGES = [
    ("UPDATE campaign.delivery SET subject = 'Bye' WHERE id = 1", [(1, "content"), (1, "start")]),
    ("UPDATE campaign.delivery SET body_text = 'Bye' WHERE id = 1", [(1, "content"), (1, "start")]),
    ("UPDATE campaign.delivery SET body_html = 'Bye' WHERE id = 1", [(1, "content"), (1, "start")]),
    ("UPDATE campaign.delivery SET sender = 'a@example.com' WHERE id = 1", [(1, "content"), (1, "start")]),
    ("UPDATE campaign.delivery SET channel = 'sms' WHERE id = 2", [(2, "content"), (2, "start")]),
    ("UPDATE campaign.delivery SET outline_id = NULL WHERE id = 2", [(2, "content"), (2, "start")]),
    ("UPDATE campaign.delivery_outline SET label = 'Other'", both("content", "start")),
    ("UPDATE campaign.delivery_outline_item SET label = 'Other'", both("content", "start")),
    ("UPDATE campaign.delivery_outline_item SET description = 'Other'", both("content", "start")),
    ("UPDATE campaign.delivery_outline_item SET cost = 6", both("content", "start")),
    ("DELETE FROM campaign.delivery_outline_item", both("content", "start")),
    (
        "INSERT INTO campaign.delivery_outline_item (outline_id, label) "
        "SELECT id, 'Other' FROM campaign.delivery_outline",
        both("content", "start"),
    ),
    ("UPDATE campaign.delivery SET targeted_count = 99 WHERE id = 1", [(1, "target")]),
    ("UPDATE campaign.delivery SET message_count = 89 WHERE id = 1", [(1, "start"), (1, "target")]),
    ("UPDATE campaign.delivery SET requested_quantity = 9 WHERE id = 1", [(1, "target")]),
    ("UPDATE campaign.delivery SET analysed_at = analysed_at + interval '1 hour' WHERE id = 1", [(1, "target")]),
    ("UPDATE campaign.delivery SET workflow_template_id = NULL WHERE id = 1", [(1, "target")]),
    ("UPDATE campaign.workflow_template SET dag_id = 'other'", both("target")),
    ("UPDATE campaign.workflow_template SET conf = '{\"other\": 1}'", both("target")),
    ("UPDATE campaign.delivery_exclusion SET count = 11 WHERE delivery_id = 1", [(1, "target")]),
    ("UPDATE campaign.delivery_exclusion SET reason = 'other' WHERE delivery_id = 1", [(1, "target")]),
    ("DELETE FROM campaign.delivery_exclusion WHERE delivery_id = 1", [(1, "target")]),
    ("INSERT INTO campaign.delivery_exclusion VALUES (1, 'other', 1)", [(1, "target")]),
    ("UPDATE campaign.expense_line SET cost_total = 6 WHERE delivery_id = 1", [(1, "budget")]),
    ("UPDATE campaign.expense_line SET provisional_cost = 6 WHERE delivery_id = 1", [(1, "budget")]),
    ("UPDATE campaign.expense_line SET real_cost = 6 WHERE delivery_id = 1", [(1, "budget")]),
    (
        "INSERT INTO campaign.budget (internal_name, label) VALUES ('b', 'B'); "
        "UPDATE campaign.expense_line SET budget_id = (SELECT id FROM campaign.budget) WHERE delivery_id = 1",
        [(1, "budget")],
    ),
    ("DELETE FROM campaign.expense_line WHERE delivery_id = 1", [(1, "budget")]),
    ("UPDATE campaign.expense_item SET amount = 6 WHERE expense_line_id = 1", [(1, "budget")]),
    ("UPDATE campaign.expense_item SET quantity = 6 WHERE expense_line_id = 1", [(1, "budget")]),
    ("DELETE FROM campaign.expense_item WHERE expense_line_id = 1", [(1, "budget")]),
    (
        "INSERT INTO campaign.expense_item (expense_line_id, cost_structure_id, kind, quantity, amount, explanation) "
        "SELECT 1, max(id), 'calculated', 1, 1, '1' FROM campaign.cost_structure; "
        "UPDATE campaign.expense_line SET computed_at = computed_at + interval '1 minute' WHERE id = 1",
        [(1, "budget")],
    ),
    (
        "UPDATE campaign.extraction_file SET sha256 = repeat('b', 64) WHERE delivery_id = 1",
        [(1, "extraction"), (1, "proof")],
    ),
    (
        "UPDATE campaign.extraction_file SET status = 'superseded' WHERE delivery_id = 1",
        [(1, "extraction"), (1, "proof")],
    ),
    ("DELETE FROM campaign.extraction_file WHERE delivery_id = 1", [(1, "extraction"), (1, "proof")]),
    ("UPDATE campaign.service SET notification_template = 'other.html'", both("proof")),
    ("UPDATE campaign.service SET notification_emails = '{a@example.com}'", both("proof")),
    ("UPDATE campaign.delivery SET service_id = NULL WHERE id = 1", [(1, "proof")]),
    ("UPDATE campaign.delivery SET contact_date = '2026-11-05' WHERE id = 2", [(2, "start")]),
    ("UPDATE campaign.approval SET seal = 'forged' WHERE delivery_id = 1 AND kind = 'target'", [(1, "target")]),
]  # fmt: skip


@pytest.mark.usefixtures("sealed")
def test_whatever_a_seal_is_taken_over_voids_the_approval_when_it_changes(db: psycopg.Connection[Any]) -> None:
    for change, voided in CHANGES:
        with db.transaction(force_rollback=True):
            db.execute(change)
            step(db, "void_changed_approvals")
            assert void(db) == voided, change
            step(db, "void_changed_approvals", full=True)
            assert void(db) == voided, f"{change}: a run that looks at everything finds more"


@pytest.mark.usefixtures("sealed")
def test_what_decides_whether_an_approval_is_needed_is_looked_at_when_it_changes(db: psycopg.Connection[Any]) -> None:
    db.execute("UPDATE campaign.delivery SET status = 'target_ready' WHERE id = 1")
    step(db, "void_changed_approvals")
    db.execute("DELETE FROM campaign.approval_candidate")
    for change, seen in [
        ("INSERT INTO campaign.approval_policy (delivery_id, kind) VALUES (1, 'content')", [1]),
        (
            "INSERT INTO campaign.approval_policy (campaign_id, kind) SELECT id, 'content' FROM campaign.campaign",
            [1, 2],
        ),
        ("UPDATE campaign.campaign SET approval_mode = 'manual'", [1, 2]),
        ("UPDATE campaign.campaign SET status = 'finished'", [1, 2]),
        ("UPDATE campaign.campaign SET notifications_enabled = FALSE", [1, 2]),
        ("UPDATE campaign.campaign SET label = 'Other'", [1, 2]),
        ("UPDATE campaign.delivery SET approvals_demanded = TRUE WHERE id = 1", [1]),
        ("UPDATE campaign.delivery SET is_template = TRUE WHERE id = 2", [2]),
        ("UPDATE campaign.delivery SET held_at = '2026-11-01' WHERE id = 2", [2]),
        ("UPDATE campaign.delivery SET released_at = '2026-11-01' WHERE id = 2", [2]),
        ("UPDATE campaign.delivery SET extraction_date = '2026-11-01' WHERE id = 1", [1]),
        ("UPDATE campaign.expense_line SET computed_at = '2026-11-02' WHERE delivery_id = 2", [2]),
        ("UPDATE campaign.approval SET status = 'canceled' WHERE delivery_id = 2 AND kind = 'start'", [2]),
        ("DELETE FROM campaign.approval WHERE delivery_id = 2 AND kind = 'start'", [2]),
        ("UPDATE campaign.setting SET value = '\"2 days\"' WHERE name = 'stale_after'", [1, 2]),
        # And what decides nothing costs nothing.
        ("UPDATE campaign.delivery SET calculated_cost = 7", []),
        ("UPDATE campaign.delivery SET subject = subject", []),
        ("UPDATE campaign.campaign SET ends_at = '2027-01-01'", []),
        ("UPDATE campaign.approval SET late = TRUE", []),
        ("UPDATE campaign.setting SET value = '5' WHERE name = 'workflows_at_once'", []),
    ]:  # fmt: skip
        with db.transaction(force_rollback=True):
            db.execute(change)
            assert queue(db) == seen, change


def test_policy_of_a_template_concerns_the_campaigns_made_from_it(
    db: psycopg.Connection[Any], factory: Factory
) -> None:
    template = factory.campaign(is_template=True)
    copy = factory.campaign(template_id=template)
    delivery = factory.delivery(campaign_id=copy, status="target_ready", submitted_at=NOW, analysed_at=NOW)
    step(db, "void_changed_approvals")
    policy = factory.policy("content", campaign_id=template)
    assert queue(db) == [delivery]
    step(db, "void_changed_approvals")
    db.execute("DELETE FROM campaign.approval_policy WHERE id = %s", [policy])
    assert queue(db) == [delivery]


@pytest.mark.usefixtures("sealed")
def test_analysis_as_of_a_later_moment_voids_now_and_is_looked_at_once_more(db: psycopg.Connection[Any]) -> None:
    db.execute("DELETE FROM campaign.approval_candidate")
    db.execute("UPDATE campaign.delivery SET analysed_at = %s WHERE id = 1", [NOW + HOUR])
    step(db, "void_changed_approvals")
    assert (void(db), candidates(db), queue(db)) == ([(1, "target")], [1], [1])
    for as_of, seen in ((NOW, []), (NOW + HOUR, [1]), (NOW + 2 * HOUR, [])):
        db.execute("DELETE FROM campaign.approval_candidate")
        step(db, "void_changed_approvals", as_of)
        assert candidates(db) == seen, as_of


@pytest.mark.usefixtures("sealed")
def test_what_the_workflow_writes_is_not_noted_and_the_same_by_others_is(db: psycopg.Connection[Any]) -> None:
    db.execute("UPDATE campaign.delivery SET subject = 'Bye' WHERE id = 1")
    step(db, "void_changed_approvals")
    assert (void(db), queue(db)) == ([(1, "content"), (1, "start")], [])
    with db.transaction():
        db.execute("SELECT set_config('campaign.dag_id', 'operationMgt', true)")
        db.execute("UPDATE campaign.approval SET status = 'void' WHERE delivery_id = 1")
        db.execute("UPDATE campaign.delivery SET extracted_at = now() WHERE id = 2")
    assert queue(db) == [1, 2]


@pytest.mark.usefixtures("sealed")
def test_change_in_a_session_that_replicates_is_seen(db: psycopg.Connection[Any]) -> None:
    with db.transaction():
        db.execute("SET LOCAL session_replication_role = replica")
        db.execute("UPDATE campaign.delivery SET subject = 'Bye' WHERE id = 1")
    step(db, "void_changed_approvals")
    assert void(db) == [(1, "content"), (1, "start")]


@pytest.mark.usefixtures("sealed")
def test_change_that_commits_late_is_seen_by_the_next_run(db: psycopg.Connection[Any], dsn: str) -> None:
    with psycopg.connect(dsn) as writer:
        writer.execute("UPDATE campaign.delivery_outline_item SET label = 'Other'")
        step(db, "void_changed_approvals", NOW)
        step(db, "advance_deliveries", NOW)
        assert void(db) == []
        writer.commit()
    step(db, "void_changed_approvals", NOW + HOUR)
    assert void(db) == both("content", "start")


def test_answer_after_the_moment_of_a_run_is_left_to_a_later_one(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow
) -> None:
    owner = factory.staff()
    campaign = factory.campaign(owner_id=owner)
    factory.policy("content", campaign_id=campaign)
    factory.delivery(
        id=1, campaign_id=campaign, status="target_ready", targeted_count=1, message_count=1, submitted_at=NOW - DAY,
        analysed_at=NOW - DAY,
    )  # fmt: skip
    run_workflow("deliveryMgt", NOW - HOUR)
    db.execute("SELECT campaign.decide_approval(id, %s, TRUE) FROM campaign.approval", [owner])
    run_workflow("deliveryMgt", NOW - HOUR / 2)
    assert status(db) == "target_ready"
    run_workflow("deliveryMgt", NOW)
    assert status(db) == "extraction_pending"


@pytest.mark.usefixtures("sealed")
def test_approval_that_a_run_as_of_a_later_moment_asked_for_is_looked_at_when_that_comes(
    db: psycopg.Connection[Any],
) -> None:
    with db.transaction():
        db.execute("SET LOCAL campaign.dag_id = 'deliveryMgt'")
        db.execute("UPDATE campaign.approval SET submitted_at = %s WHERE delivery_id = 1", [NOW + DAY])
    db.execute("UPDATE campaign.delivery SET subject = 'Bye' WHERE id = 1")
    step(db, "void_changed_approvals")
    assert void(db) == []
    db.execute("DELETE FROM campaign.approval_candidate")
    step(db, "void_changed_approvals", NOW + DAY)
    assert void(db) == [(1, "content"), (1, "start")]
    assert queue(db) == []


@pytest.mark.parametrize("moment", ["submitted_at", "analysed_at"])
def test_delivery_is_looked_at_again_when_its_moment_comes(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, moment: str
) -> None:
    campaign = factory.campaign(owner_id=factory.staff())
    factory.policy("target", campaign_id=campaign)
    moments = {"submitted_at": NOW - DAY, "analysed_at": NOW - DAY} | {moment: NOW + HOUR}
    factory.delivery(id=1, campaign_id=campaign, status="target_ready", **moments)
    assert run_workflow("deliveryMgt", NOW)["submit_approvals"]["approvals_submitted"] == 0
    assert run_workflow("deliveryMgt", NOW + HOUR)["submit_approvals"]["approvals_submitted"] == 1


def status(db: psycopg.Connection[Any]) -> str:
    row = db.execute("SELECT status FROM campaign.delivery WHERE id = 1").fetchone()
    assert row is not None
    return str(row[0])


def test_run_that_was_killed_after_it_took_the_queue_is_made_up_for(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow
) -> None:
    factory.delivery(id=1, status="target_ready", analysed_at=NOW - DAY)
    step(db, "void_changed_approvals")
    assert (queue(db), candidates(db)) == ([], [1])
    run_workflow("deliveryMgt", NOW)
    assert status(db) == "extraction_pending"
    assert candidates(db) == []


def test_run_limited_to_a_campaign_leaves_the_rest_of_the_queue(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow
) -> None:
    for id_, name in ((1, "loyalty"), (2, "other")):
        campaign = factory.campaign(internal_name=name)
        factory.delivery(id=id_, campaign_id=campaign, status="target_ready", analysed_at=NOW - DAY)
    run_workflow("deliveryMgt", NOW, campaign="other")
    assert status(db) == "target_ready"
    run_workflow("deliveryMgt", NOW + HOUR)
    assert status(db) == "extraction_pending"


@pytest.mark.parametrize("params", [{"dry_run": True}, {}])
def test_rehearsal_takes_nothing_from_the_queue(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, params: dict[str, bool]
) -> None:
    run_workflow("deliveryMgt", NOW + DAY if not params else NOW)
    factory.delivery(id=1, status="target_ready", analysed_at=NOW - DAY)
    before = queue(db)
    assert run_workflow("deliveryMgt", NOW, **params)["advance_deliveries"]["deliveries_advanced"] == 1
    assert (queue(db), candidates(db)) == (before, [])


def test_what_waits_is_not_looked_at_again(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow
) -> None:
    campaign = factory.campaign(owner_id=factory.staff())
    factory.policy("content", campaign_id=campaign, reminders=[DAY], deadline=3 * DAY)
    factory.delivery(id=1, campaign_id=campaign, status="target_ready", analysed_at=NOW - DAY)
    for hours in range(3):
        run_workflow("deliveryMgt", NOW + hours * HOUR)
    assert (queue(db), candidates(db)) == ([], [])


def test_next_reminder_is_known_and_moves_on(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow
) -> None:
    campaign = factory.campaign(owner_id=factory.staff())
    factory.policy("content", campaign_id=campaign, reminders=[2 * DAY, DAY, HOUR], deadline=3 * DAY)
    factory.delivery(id=1, campaign_id=campaign, status="target_ready", analysed_at=NOW - DAY)

    def next_reminder() -> Any:
        row = db.execute("SELECT next_reminder_at FROM campaign.approval").fetchone()
        assert row is not None
        return row[0]

    known = []
    for as_of in (NOW, NOW + DAY, NOW + 2 * DAY + HOUR, NOW + 3 * DAY - HOUR, NOW + 4 * DAY):
        run_workflow("deliveryMgt", as_of)
        known.append(next_reminder())
    assert known == [NOW + DAY, NOW + 2 * DAY, NOW + 3 * DAY - HOUR, None, None]
    db.execute("UPDATE campaign.approval SET deadline_at = %s", [NOW + 9 * DAY])
    assert next_reminder() == NOW + 7 * DAY
    kinds = db.execute("SELECT count(*) FROM campaign.notification WHERE kind = 'approval_reminder'").fetchone()
    assert kinds == (3,)
