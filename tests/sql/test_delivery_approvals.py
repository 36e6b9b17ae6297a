"""deliveryMgt: who is asked, reminded and told, and what an answer does."""

from __future__ import annotations

import json
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from campaign.operators.workflow_step import WorkflowStep
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.snapshots import changed_tables, snapshot

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def clock(db: psycopg.Connection[Any]) -> None:
    """Let people act at the moment that the tests call now."""
    set_clock(db, NOW)


def set_clock(db: psycopg.Connection[Any], moment: datetime) -> None:
    db.execute("SELECT set_config('campaign.as_of', %s, false)", [moment.isoformat()])


@pytest.fixture
def owner(factory: Factory) -> int:
    return factory.staff(internal_name="olga")


@pytest.fixture
def reviewer(factory: Factory) -> int:
    return factory.staff(internal_name="rita", time_zone="Europe/Paris")


@pytest.fixture
def campaign(factory: Factory, owner: int) -> int:
    return factory.campaign(internal_name="loyalty", label="Loyalty", owner_id=owner)


def analysed(factory: Factory, campaign: int, **columns: Any) -> int:
    """Insert a delivery whose target was analysed an hour ago."""
    values = {"status": "target_ready", "targeted_count": 100, "message_count": 90, "analysed_at": NOW - HOUR}
    return factory.delivery(campaign_id=campaign, **(values | columns))


def approvals(db: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return db.execute(
        """
        SELECT approval.kind, approval.round, approval.status, approval.late,
            (
                SELECT array_agg(staff.internal_name ORDER BY staff.internal_name)
                FROM campaign.approval_reviewer AS reviewer
                INNER JOIN campaign.staff AS staff ON reviewer.staff_id = staff.id
                WHERE reviewer.approval_id = approval.id
            )
        FROM campaign.approval AS approval
        ORDER BY approval.kind, approval.round
        """
    ).fetchall()


def notices(db: psycopg.Connection[Any], kind: str) -> list[str]:
    return [
        name
        for (name,) in db.execute(
            "SELECT recipient_email FROM campaign.notification WHERE kind = %s ORDER BY 1", [kind]
        )
    ]


def status(db: psycopg.Connection[Any], delivery: int) -> str:
    row = db.execute("SELECT status FROM campaign.delivery WHERE id = %s", [delivery]).fetchone()
    assert row is not None
    return str(row[0])


def pending(db: psycopg.Connection[Any], kind: str) -> int:
    row = db.execute("SELECT id FROM campaign.approval WHERE kind = %s AND status = 'pending'", [kind]).fetchone()
    assert row is not None
    return int(row[0])


def decide(db: psycopg.Connection[Any], approval: int, staff: int, approve: bool, comment: str = "") -> None:
    db.execute("SELECT campaign.decide_approval(%s, %s, %s, %s)", [approval, staff, approve, comment])


def test_delivery_without_approvals_moves_on_at_once(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow
) -> None:
    mail = analysed(factory, campaign)
    online = analysed(factory, campaign, channel="email")
    run_workflow("deliveryMgt", NOW)
    assert status(db, mail) == "extraction_pending"
    assert status(db, online) == "pending_confirmation"
    assert approvals(db) == []


def test_analysis_after_the_moment_of_the_run_does_not_count(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow
) -> None:
    delivery = analysed(factory, campaign, analysed_at=NOW + HOUR)
    run_workflow("deliveryMgt", NOW)
    assert status(db, delivery) == "target_ready"


def test_reviewers_are_people_and_groups_each_once_and_the_owner_when_none_is_given(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    group = factory.insert("staff_group", internal_name="reviewers", label="Reviewers")
    second = factory.staff(internal_name="sven")
    gone = factory.staff(internal_name="gone", active=False)
    for member in (reviewer, second, gone):
        factory.insert("staff_group_member", staff_group_id=group, staff_id=member)
    factory.policy("content", campaign_id=campaign, staff=(reviewer,), groups=(group,))
    factory.policy("target", campaign_id=campaign)
    delivery = analysed(factory, campaign)
    summary = run_workflow("deliveryMgt", NOW, dry_run=False)
    assert summary["submit_approvals"] == {
        "approvals_submitted": 2, "approvals_asked_later": 0, "proofs_submitted": 0, "proofs_written": 0,
    }  # fmt: skip
    assert approvals(db) == [
        ("content", 1, "pending", False, ["rita", "sven"]),
        ("target", 1, "pending", False, ["olga"]),
    ]
    assert notices(db, "approval_request") == ["olga@example.com", "rita@example.com", "sven@example.com"]
    assert status(db, delivery) == "target_ready"


def test_policy_of_the_delivery_wins_over_its_campaign_and_that_over_the_template(
    db: psycopg.Connection[Any], factory: Factory, owner: int
) -> None:
    template = factory.campaign(is_template=True)
    copy = factory.campaign(template_id=template, owner_id=owner)
    delivery = factory.delivery(campaign_id=copy)
    for kind in ("content", "target", "extraction"):
        factory.policy(kind, campaign_id=template, deadline=timedelta(days=1))
    factory.policy("target", campaign_id=copy, enabled=False)
    factory.policy("extraction", campaign_id=copy, enabled=False)
    factory.policy("extraction", delivery_id=delivery, deadline=timedelta(days=2))
    rows = db.execute(
        "SELECT kind, is_demanded, deadline FROM campaign.approval_setting WHERE delivery_id = %s ORDER BY kind",
        [delivery],
    ).fetchall()
    assert rows == [
        ("budget", False, timedelta(days=3)),
        ("content", True, timedelta(days=1)),
        ("extraction", True, timedelta(days=2)),
        ("proof", False, timedelta(days=3)),
        ("target", False, timedelta(days=3)),
    ]


def test_budget_approval_demands_that_of_the_target_and_waits_for_the_cost_split(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    provider = factory.insert("provider", internal_name="printers", label="The Printers Inc.")
    service = factory.insert("service", internal_name="catalog", label="Catalog", provider_id=provider)
    factory.policy("budget", campaign_id=campaign, staff=(reviewer,))
    analysed(factory, campaign, service_id=service)
    run_workflow("deliveryMgt", NOW)
    assert [row[0] for row in approvals(db)] == ["target"]
    run_workflow("budgetMgt", NOW)
    run_workflow("deliveryMgt", NOW + HOUR)
    assert [row[0] for row in approvals(db)] == ["budget", "target"]


def test_budget_is_asked_for_once_the_split_follows_all_edits(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy("target", campaign_id=campaign, enabled=False)
    provider = factory.insert("provider", internal_name="printers", label="The Printers Inc.")
    service = factory.insert("service", internal_name="catalog", label="Catalog", provider_id=provider)
    category = factory.insert("cost_category", service_id=service, label="Print", channel="direct_mail")
    cost_type = factory.insert("cost_type", cost_category_id=category, label="Letter", selected_by_default=True)
    factory.insert("cost_structure", cost_type_id=cost_type, basis="per_message", method="linear", amount=2)
    factory.policy("budget", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign, service_id=service)
    run_workflow("budgetMgt", NOW)
    # Analysed anew at the moment of the run that calculated the cost, to the same count.
    db.execute("UPDATE campaign.delivery SET analysed_at = %s WHERE id = %s", [NOW, delivery])
    for _ in range(2):
        run_workflow("deliveryMgt", NOW)
        assert "budget" not in [row[0] for row in approvals(db)]
    run_workflow("budgetMgt", NOW)
    run_workflow("deliveryMgt", NOW)
    assert [row[:3] for row in approvals(db) if row[0] == "budget"] == [("budget", 1, "pending")]


def test_first_answer_decides_and_a_later_one_is_told_who_did(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    other = factory.staff(internal_name="sven", label="Sven")
    factory.policy("content", campaign_id=campaign, staff=(reviewer, other))
    delivery = analysed(factory, campaign, label="Summer Catalog")
    run_workflow("deliveryMgt", NOW)
    approval = pending(db, "content")
    decide(db, approval, reviewer, True)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="Rita already approved the content of"):
        decide(db, approval, other, False)
    run_workflow("deliveryMgt", NOW + HOUR)
    assert status(db, delivery) == "extraction_pending"


@pytest.mark.parametrize(
    ("person", "setting", "allowed"),
    [
        ("reviewer", False, True),
        ("admin", False, True),
        ("owner", False, False),
        ("owner", True, True),
        ("stranger", True, False),
    ],
)
def test_who_may_decide(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    owner: int,
    reviewer: int,
    run_workflow: Workflow,
    person: str,
    setting: bool,
    allowed: bool,
) -> None:
    people = {
        "reviewer": reviewer,
        "owner": owner,
        "admin": factory.staff(is_admin=True),
        "stranger": factory.staff(),
    }
    db.execute("UPDATE campaign.setting SET value = %s WHERE name = 'owner_may_confirm'", [json.dumps(setting)])
    factory.policy("content", campaign_id=campaign, staff=(reviewer,))
    analysed(factory, campaign)
    run_workflow("deliveryMgt", NOW)
    approval = pending(db, "content")
    if allowed:
        decide(db, approval, people[person], True)
        assert approvals(db) == [("content", 1, "approved", False, ["rita"])]
    else:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not decide the content"):
            decide(db, approval, people[person], True)
        assert approvals(db) == [("content", 1, "pending", False, ["rita"])]


def test_rejection_tells_the_owner_and_waits_for_a_new_round(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign)
    run_workflow("deliveryMgt", NOW)
    decide(db, pending(db, "content"), reviewer, False, "The price is wrong")
    run_workflow("deliveryMgt", NOW + HOUR)
    assert notices(db, "approval_rejected") == ["olga@example.com"]
    assert status(db, delivery) == "target_ready"
    assert [row[:3] for row in approvals(db)] == [("content", 1, "rejected")]
    set_clock(db, NOW + 2 * HOUR)
    db.execute("SELECT campaign.submit_approval(%s, 'content')", [delivery])
    assert [row[:3] for row in approvals(db)] == [("content", 1, "rejected"), ("content", 2, "pending")]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="waits for an answer already"):
        db.execute("SELECT campaign.submit_approval(%s, 'content')", [delivery])


def test_approval_is_void_when_what_was_shown_changes(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign, subject="Summer")
    run_workflow("deliveryMgt", NOW)
    decide(db, pending(db, "content"), reviewer, True)
    db.execute("UPDATE campaign.delivery SET subject = 'Winter' WHERE id = %s", [delivery])
    run_workflow("deliveryMgt", NOW + HOUR)
    assert [row[:3] for row in approvals(db)] == [("content", 1, "void"), ("content", 2, "pending")]
    assert notices(db, "approval_void") == ["olga@example.com"]
    assert status(db, delivery) == "target_ready"


def test_answer_to_what_has_changed_is_refused(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign)
    run_workflow("deliveryMgt", NOW)
    db.execute("UPDATE campaign.delivery SET body_text = 'Other' WHERE id = %s", [delivery])
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="changed after it was shown"):
        decide(db, pending(db, "content"), reviewer, True)


def test_decision_made_after_the_moment_of_the_run_does_not_count(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign)
    run_workflow("deliveryMgt", NOW)
    set_clock(db, NOW + 2 * HOUR)
    decide(db, pending(db, "content"), reviewer, True)
    run_workflow("deliveryMgt", NOW + HOUR)
    assert status(db, delivery) == "target_ready"
    run_workflow("deliveryMgt", NOW + 3 * HOUR)
    assert status(db, delivery) == "extraction_pending"


def test_missed_reminders_collapse_into_one_and_none_comes_after_the_answer(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy(
        "content",
        campaign_id=campaign,
        staff=(reviewer,),
        deadline=3 * DAY,
        reminders=[2 * DAY, DAY, 12 * HOUR],
    )
    analysed(factory, campaign)
    sent = []
    # Those of two days and one day are missed.
    for moment in (NOW, NOW + HOUR, NOW + 2 * DAY + HOUR, NOW + 2 * DAY + 2 * HOUR, NOW + 2 * DAY + 13 * HOUR):
        run_workflow("deliveryMgt", moment)
        sent.append(len(notices(db, "approval_reminder")))
    assert sent == [0, 0, 1, 1, 2]
    set_clock(db, NOW + 2 * DAY + 14 * HOUR)
    decide(db, pending(db, "content"), reviewer, True)
    run_workflow("deliveryMgt", NOW + 4 * DAY)
    assert len(notices(db, "approval_reminder")) == 2
    assert notices(db, "approval_late") == []


def test_reminder_that_could_not_be_sent_is_not_sent_after_the_answer(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    reviewer: int,
    run_workflow: Workflow,
    mail_server: MailServer,
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,), deadline=3 * DAY, reminders=[DAY])
    analysed(factory, campaign)
    run_workflow("deliveryMgt", NOW)
    mail_server.messages.clear()
    mail_server.on_recipient = lambda address: "451 Try again later"
    run_workflow("deliveryMgt", NOW + 2 * DAY)
    assert notices(db, "approval_reminder") == ["rita@example.com"]
    set_clock(db, NOW + 2 * DAY + HOUR)
    decide(db, pending(db, "content"), reviewer, True)
    mail_server.reset()
    run_workflow("deliveryMgt", NOW + 2 * DAY + 2 * HOUR)
    assert mail_server.messages == []
    assert db.execute("SELECT error FROM campaign.notification WHERE kind = 'approval_reminder'").fetchall() == [
        ("not sent: the approval is approved",)
    ]


def test_approval_that_nothing_waits_for_ends_when_the_delivery_leaves(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,), deadline=2 * DAY, reminders=[DAY])
    delivery = analysed(
        factory, campaign, channel="email", status="start_pending", subject="a", body_text="b", confirmed_at=NOW
    )
    run_workflow("deliveryMgt", NOW)
    assert approvals(db) == [("content", 1, "pending", False, ["rita"])]
    db.execute("UPDATE campaign.approval_policy SET enabled = false")
    for days in (0, 1, 2):
        run_workflow("deliveryMgt", NOW + days * DAY + HOUR)
    assert status(db, delivery) == "finished"
    assert approvals(db) == [("content", 1, "canceled", False, ["rita"])]
    assert notices(db, "approval_reminder") == notices(db, "approval_late") == []


def test_late_approval_is_told_once_and_can_still_be_answered(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,), deadline=DAY)
    delivery = analysed(factory, campaign)
    run_workflow("deliveryMgt", NOW)
    for hours in (23, 24, 25):
        run_workflow("deliveryMgt", NOW + hours * HOUR)
    assert notices(db, "approval_late") == ["olga@example.com"]
    assert approvals(db) == [("content", 1, "pending", True, ["rita"])]
    late = db.execute("SELECT count(*) FROM campaign.journal WHERE message LIKE '%is late%'").fetchone()
    assert late == (1,)
    set_clock(db, NOW + 26 * HOUR)
    decide(db, pending(db, "content"), reviewer, True)
    run_workflow("deliveryMgt", NOW + 27 * HOUR)
    assert status(db, delivery) == "extraction_pending"


def test_campaign_without_notifications_still_has_approvals(
    db: psycopg.Connection[Any], factory: Factory, owner: int, reviewer: int, run_workflow: Workflow
) -> None:
    silent = factory.campaign(owner_id=owner, notifications_enabled=False)
    factory.policy("content", campaign_id=silent, staff=(reviewer,))
    analysed(factory, silent)
    run_workflow("deliveryMgt", NOW)
    assert approvals(db) == [("content", 1, "pending", False, ["rita"])]
    assert notices(db, "approval_request") == []


def test_manual_mode_waits_for_a_person_to_submit(
    db: psycopg.Connection[Any], factory: Factory, owner: int, reviewer: int, run_workflow: Workflow
) -> None:
    manual = factory.campaign(owner_id=owner, approval_mode="manual")
    factory.policy("content", campaign_id=manual, staff=(reviewer,))
    delivery = analysed(factory, manual)
    run_workflow("deliveryMgt", NOW)
    assert approvals(db) == []
    assert status(db, delivery) == "target_ready"
    db.execute("SELECT campaign.submit_approval(%s, 'content')", [delivery])
    assert approvals(db) == [("content", 1, "pending", False, ["rita"])]


def test_file_is_approved_before_it_goes_to_its_provider_and_its_proof_where_that_is_on(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy("extraction", campaign_id=campaign, staff=(reviewer,))
    plain = analysed(factory, campaign, status="file_to_approve", extracted_at=NOW - HOUR)
    run_workflow("deliveryMgt", NOW)
    assert status(db, plain) == "file_to_approve"
    decide(db, pending(db, "extraction"), reviewer, True)
    run_workflow("deliveryMgt", NOW + HOUR)
    assert status(db, plain) == "routing"

    proofed = analysed(factory, campaign, status="file_to_approve", extracted_at=NOW - HOUR)
    factory.policy("extraction", delivery_id=proofed, enabled=False)
    factory.policy("proof", delivery_id=proofed, staff=(reviewer,))
    summary = run_workflow("deliveryMgt", NOW + 2 * HOUR)
    # What its new status asks for is asked by the same run: a second one finds nothing to do.
    assert summary["advance_deliveries"]["to_proof_to_submit"] == 1
    assert status(db, proofed) == "proof_to_validate"
    before = snapshot(db)
    run_workflow("deliveryMgt", NOW + 2 * HOUR)
    assert changed_tables(before, snapshot(db)) == {}
    set_clock(db, NOW + 3 * HOUR)
    decide(db, pending(db, "proof"), reviewer, True)
    run_workflow("deliveryMgt", NOW + 4 * HOUR)
    assert status(db, proofed) == "routing"


def test_what_was_due_long_ago_is_held_until_a_person_releases_it(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, owner: int, reviewer: int, run_workflow: Workflow
) -> None:
    stale = analysed(factory, campaign, status="extraction_pending", extraction_date=NOW - 25 * HOUR)
    recent = analysed(factory, campaign, status="extraction_pending", extraction_date=NOW - 23 * HOUR)
    run_workflow("deliveryMgt", NOW)
    held = db.execute("SELECT id, held_at FROM campaign.delivery ORDER BY id").fetchall()
    assert held == [(stale, NOW), (recent, None)]
    assert notices(db, "delivery_held") == ["olga@example.com"]
    assert db.execute("SELECT campaign.delivery_is_cleared(%s, %s)", [stale, NOW]).fetchone() == (False,)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not release"):
        db.execute("SELECT campaign.release_delivery(%s, %s)", [stale, reviewer])
    db.execute("SELECT campaign.release_delivery(%s, %s)", [stale, owner])
    run_workflow("deliveryMgt", NOW + HOUR)
    assert db.execute("SELECT campaign.delivery_is_cleared(%s, %s)", [stale, NOW]).fetchone() == (True,)


def test_what_is_due_too_long_ago_once_it_moves_on_is_held_by_the_run_that_moves_it(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow
) -> None:
    delivery = analysed(factory, campaign, extraction_date=NOW - 25 * HOUR)
    run_workflow("deliveryMgt", NOW)
    held = db.execute("SELECT status, held_at FROM campaign.delivery WHERE id = %s", [delivery]).fetchall()
    assert held == [("extraction_pending", NOW)]
    before = snapshot(db)
    run_workflow("deliveryMgt", NOW)
    assert changed_tables(before, snapshot(db)) == {}


def cleared(db: psycopg.Connection[Any], delivery: int, moment: datetime) -> bool:
    row = db.execute("SELECT campaign.delivery_is_cleared(%s, %s)", [delivery, moment]).fetchone()
    assert row is not None
    return bool(row[0])


def test_what_is_stale_does_not_go_before_it_is_held_either(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, owner: int, run_workflow: Workflow
) -> None:
    """The workflow that would let it go may come first: the gate itself says no."""
    long_ago = NOW - 5 * DAY
    waiting = analysed(factory, campaign, status="extraction_pending", extraction_date=long_ago)
    routed = analysed(factory, campaign, status="routing", contact_date=long_ago)
    assert [cleared(db, waiting, NOW), cleared(db, routed, NOW)] == [False, False]
    run_workflow("deliveryMgt", NOW)
    for delivery in (waiting, routed):
        db.execute("SELECT campaign.release_delivery(%s, %s)", [delivery, owner])
    assert [cleared(db, waiting, NOW), cleared(db, routed, NOW)] == [True, True]
    # The release was for the date that it saw; a later date is missed anew.
    db.execute("UPDATE campaign.delivery SET extraction_date = %s WHERE id = %s", [NOW + DAY, waiting])
    assert [cleared(db, waiting, NOW + days * DAY) for days in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("state", ["extracting", "proof_to_validate"])
def test_new_round_is_asked_for_wherever_an_approval_becomes_void(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    reviewer: int,
    run_workflow: Workflow,
    state: str,
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign)
    run_workflow("deliveryMgt", NOW)
    decide(db, pending(db, "content"), reviewer, True)
    db.execute("UPDATE campaign.delivery SET status = %s, subject = 'New' WHERE id = %s", [state, delivery])
    run_workflow("deliveryMgt", NOW + HOUR)
    assert [row[:3] for row in approvals(db)] == [("content", 1, "void"), ("content", 2, "pending")]


def test_proof_that_is_answered_or_switched_off_before_the_next_run_lets_the_delivery_go(
    db: psycopg.Connection[Any], factory: Factory, owner: int, reviewer: int, run_workflow: Workflow
) -> None:
    manual = factory.campaign(owner_id=owner, approval_mode="manual")
    policy = factory.policy("proof", campaign_id=manual, staff=(reviewer,))
    answered = analysed(factory, manual, status="proof_to_submit", extracted_at=NOW - HOUR)
    waiting = analysed(factory, manual, status="proof_to_submit", extracted_at=NOW - HOUR)
    db.execute("SELECT campaign.submit_approval(%s, 'proof')", [answered])
    decide(db, pending(db, "proof"), reviewer, True)
    run_workflow("deliveryMgt", NOW)
    assert [status(db, answered), status(db, waiting)] == ["routing", "proof_to_submit"]
    db.execute("UPDATE campaign.approval_policy SET enabled = false WHERE id = %s", [policy])
    run_workflow("deliveryMgt", NOW + HOUR)
    assert status(db, waiting) == "routing"


def test_file_whose_proof_is_granted_already_goes_all_its_way_in_one_run(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy("proof", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign, status="proof_to_submit", extracted_at=NOW - HOUR)
    run_workflow("deliveryMgt", NOW)
    decide(db, pending(db, "proof"), reviewer, True)
    # Extracted anew, to the same file.
    db.execute("UPDATE campaign.delivery SET status = 'file_to_approve' WHERE id = %s", [delivery])
    run_workflow("deliveryMgt", NOW + HOUR)
    assert status(db, delivery) == "routing"
    before = snapshot(db)
    run_workflow("deliveryMgt", NOW + HOUR)
    assert changed_tables(before, snapshot(db)) == {}


def test_approval_is_not_opened_for_what_is_being_canceled(
    db: psycopg.Connection[Any],
    dsn: str,
    factory: Factory,
    campaign: int,
    reviewer: int,
    run_workflow: Workflow,
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign)
    with psycopg.connect(dsn) as person, ThreadPoolExecutor(1) as pool:
        person.execute("SELECT campaign.cancel_delivery(%s, 'no money')", [delivery])
        running = pool.submit(run_workflow, "deliveryMgt", NOW)
        wait_until_blocked(db)
        person.commit()
        running.result(30)
    assert approvals(db) == []
    assert status(db, delivery) == "canceled"


def test_reviewer_and_owner_who_act_at_once_do_not_block_each_other(
    db: psycopg.Connection[Any],
    dsn: str,
    factory: Factory,
    campaign: int,
    reviewer: int,
    run_workflow: Workflow,
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign)
    run_workflow("deliveryMgt", NOW)
    approval = pending(db, "content")
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other, ThreadPoolExecutor(1) as pool:
        one.execute("SELECT campaign.lock_delivery(%s)", [delivery])
        rejecting = pool.submit(
            other.execute, "SELECT campaign.decide_approval(%s, %s, false, 'no')", [approval, reviewer]
        )
        wait_until_blocked(db)
        one.execute("SELECT campaign.cancel_delivery(%s, 'no money')", [delivery])
        one.commit()
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is canceled"):
            rejecting.result(30)
    assert approvals(db) == [("content", 1, "canceled", False, ["rita"])]


def wait_until_blocked(db: psycopg.Connection[Any]) -> None:
    """Return when another session of this database waits for a lock."""
    for _ in range(200):
        row = db.execute(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'
            """
        ).fetchone()
        if row is not None and row[0]:
            return
        time.sleep(0.05)
    raise AssertionError("nobody waits")


def test_supervisors_are_told_where_a_campaign_has_no_owner_any_more(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, owner: int, run_workflow: Workflow
) -> None:
    group = factory.insert("staff_group", internal_name="supervisors", label="Supervisors")
    factory.insert("staff_group_member", staff_group_id=group, staff_id=factory.staff(internal_name="sam"))
    db.execute("UPDATE campaign.staff SET active = false WHERE id = %s", [owner])
    factory.policy("content", campaign_id=campaign, deadline=HOUR)
    analysed(factory, campaign)
    analysed(factory, campaign, status="extraction_pending", extraction_date=NOW - 5 * DAY)
    for moment in (NOW, NOW + 2 * HOUR):
        run_workflow("deliveryMgt", moment)
    assert notices(db, "approval_late") == ["sam@example.com"] * 2
    assert notices(db, "delivery_held") == ["sam@example.com"]
    [(level, message)] = db.execute(
        "SELECT DISTINCT level, split_part(message, ', but ', 2) FROM campaign.journal WHERE message LIKE '%submitted%'"
    ).fetchall()
    assert level == "error"
    assert message == "nobody can answer: give the campaign an owner, or the policy a reviewer."


def test_requests_about_a_canceled_delivery_are_not_sent(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, mail_server: MailServer
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign)
    db.execute("SELECT campaign.submit_approval(%s, 'content')", [delivery])
    db.execute("SELECT campaign.cancel_delivery(%s, 'no money')", [delivery])
    rows = db.execute("SELECT kind, failed_at, error FROM campaign.notification").fetchall()
    assert rows == [("approval_request", NOW, "not sent: the delivery was canceled")]


def test_run_as_of_a_moment_yet_to_come_is_said_once_by_those_it_silences(
    db: psycopg.Connection[Any], run_workflow: Workflow
) -> None:
    run_workflow("deliveryMgt", datetime(2999, 1, 1, tzinfo=UTC), run_id="mistyped")
    for _ in range(2):
        run_workflow("deliveryMgt", NOW)
    [(level, message)] = db.execute("SELECT level, message FROM campaign.journal").fetchall()
    assert level == "warning"
    assert message.startswith("A run as of 2999-01-01 00:00:00+00, which has not come yet (mistyped), makes every run")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stale_after", '"a day or so"'),
        ("stale_after", '"-1 day"'),
        ("transfer_timeout", '"long"'),
        ("job_pauses", '["soon"]'),
        ("workflows_at_once", "0"),
        ("workflows_at_once", '"ten"'),
        ("owner_may_confirm", '"true"'),
        ("time_zone", '"Mars/Olympus"'),
    ],
)
def test_setting_that_no_workflow_could_read_is_refused(db: psycopg.Connection[Any], name: str, value: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=f"The setting {name} must be "):
        db.execute("UPDATE campaign.setting SET value = %s WHERE name = %s", [value, name])


@pytest.fixture
def busy(factory: Factory, campaign: int, reviewer: int) -> None:
    """Leave something to do for every step."""
    factory.policy("content", campaign_id=campaign, staff=(reviewer,), reminders=[2 * DAY], deadline=3 * DAY)
    waiting = analysed(factory, campaign, label="Waiting")
    factory.insert(
        "approval",
        delivery_id=waiting,
        kind="content",
        round=1,
        seal="of something else",
        submitted_at=NOW - 2 * DAY,
        deadline_at=NOW + DAY,
    )
    analysed(factory, campaign, label="New")
    analysed(factory, factory.campaign(internal_name="other"), label="Free")
    analysed(factory, campaign, status="extraction_pending", extraction_date=NOW - 3 * DAY, label="Stale")


@pytest.mark.usefixtures("busy")
def test_second_run_changes_nothing(db: psycopg.Connection[Any], run_workflow: Workflow) -> None:
    run_workflow("deliveryMgt", NOW)
    before = snapshot(db)
    run_workflow("deliveryMgt", NOW)
    assert changed_tables(before, snapshot(db)) == {}


@pytest.mark.usefixtures("busy")
def test_dry_run_lists_the_mails_and_moves_that_would_be(
    run_workflow: Workflow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(WorkflowStep, "log", logging.getLogger("steps"))
    with caplog.at_level("INFO", logger="steps"):
        run_workflow("deliveryMgt", NOW, dry_run=True)
    # A step rehearses those before it too: its log repeats their mails.
    said = {re.sub(r"notification \d+", "notification", record.getMessage()) for record in caplog.records}
    assert sorted(line for line in said if line.startswith("would")) == [
        "would note: Delivery 'Free' went from target ready to extraction pending: all that had to be approved is.",
        "would note: Delivery 'Stale' is held: it was due to leave at 2026-10-30 09:00:00+00. Release it "
        "(campaign.release_delivery) or cancel it.",
        "would note: The approval of the content of 'Waiting' (round 1) is void: what was shown has changed.",
        "would note: The content of 'New' is submitted for approval (round 1) to rita.",
        "would note: The content of 'Stale' is submitted for approval (round 1) to rita.",
        "would note: The content of 'Waiting' is submitted for approval (round 2) to rita.",
        "would send approval_request (notification) to rita, about New",
        "would send approval_request (notification) to rita, about Stale",
        "would send approval_request (notification) to rita, about Waiting",
        "would send approval_void (notification) to olga, about Waiting",
        "would send delivery_held (notification) to olga, about Stale",
    ]


@pytest.mark.usefixtures("busy")
def test_dry_run_reports_what_the_run_then_does_and_changes_nothing(
    db: psycopg.Connection[Any], run_workflow: Workflow
) -> None:
    before = snapshot(db)
    rehearsed = run_workflow("deliveryMgt", NOW, dry_run=True)
    assert changed_tables(before, snapshot(db)) == {}
    done = run_workflow("deliveryMgt", NOW)
    steps = [task for task in done if task not in ("send_notifications", "send_alerts")]
    assert {task: rehearsed[task] for task in steps} == {task: {"dry_run": True, **done[task]} for task in steps}
    assert done["advance_deliveries"]["deliveries_advanced"] == 1
    assert (
        rehearsed["send_notifications"]["notifications_sent"]
        == sum(done["send_notifications"].values())
        == len(notices(db, "approval_request") + notices(db, "approval_void") + notices(db, "delivery_held"))
    )


@pytest.mark.usefixtures("busy")
def test_run_for_the_past_changes_nothing(db: psycopg.Connection[Any], run_workflow: Workflow) -> None:
    run_workflow("deliveryMgt", NOW + 10 * DAY, campaign=None)
    before = snapshot(db)
    summary = run_workflow("deliveryMgt", NOW)
    assert all(counts["for_the_past"] for counts in summary.values())
    assert changed_tables(before, snapshot(db)) == {}


@pytest.mark.usefixtures("busy")
def test_run_limited_to_a_campaign_leaves_the_others_alone(db: psycopg.Connection[Any], run_workflow: Workflow) -> None:
    run_workflow("deliveryMgt", NOW, campaign="other")
    assert db.execute("SELECT label, status FROM campaign.delivery ORDER BY label").fetchall() == [
        ("Free", "extraction_pending"),
        ("New", "target_ready"),
        ("Stale", "extraction_pending"),
        ("Waiting", "target_ready"),
    ]
    assert [row[:3] for row in approvals(db)] == [("content", 1, "pending")]


def test_run_for_a_campaign_that_does_not_exist_says_so(run_workflow: Workflow) -> None:
    with pytest.raises(LookupError, match="no campaign with the internal name 'nowhere'"):
        run_workflow("deliveryMgt", NOW, campaign="nowhere")


def test_canceled_delivery_takes_its_approvals_with_it_and_is_canceled_once(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, reviewer: int, run_workflow: Workflow
) -> None:
    factory.policy("content", campaign_id=campaign, staff=(reviewer,))
    delivery = analysed(factory, campaign)
    run_workflow("deliveryMgt", NOW)
    approval = pending(db, "content")
    db.execute("SELECT campaign.cancel_delivery(%s, 'no money')", [delivery])
    assert approvals(db) == [("content", 1, "canceled", False, ["rita"])]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is canceled; there is nothing to answer"):
        decide(db, approval, reviewer, True)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="only one that has not left can be canceled"):
        db.execute("SELECT campaign.cancel_delivery(%s, 'again')", [delivery])


def test_canceled_campaign_cancels_what_has_not_left(
    db: psycopg.Connection[Any], factory: Factory, campaign: int
) -> None:
    for state in ("being_edited", "target_ready", "routing", "in_progress", "finished"):
        factory.delivery(campaign_id=campaign, label=state, status=state)
    db.execute("UPDATE campaign.campaign SET status = 'canceled' WHERE id = %s", [campaign])
    assert db.execute("SELECT label, status, canceled_at FROM campaign.delivery ORDER BY id").fetchall() == [
        ("being_edited", "canceled", NOW),
        ("target_ready", "canceled", NOW),
        ("routing", "canceled", NOW),
        ("in_progress", "in_progress", None),
        ("finished", "finished", None),
    ]
    assert db.execute("SELECT canceled_at FROM campaign.campaign WHERE id = %s", [campaign]).fetchone() == (NOW,)


def test_failed_delivery_goes_back_to_the_step_that_failed(
    db: psycopg.Connection[Any], factory: Factory, campaign: int
) -> None:
    failed = analysed(factory, campaign, status="failed", failed_from="extraction_pending", failure="no format")
    db.execute("SELECT campaign.retry_delivery(%s)", [failed])
    assert db.execute("SELECT status, failed_from, failure FROM campaign.delivery").fetchall() == [
        ("extraction_pending", None, None)
    ]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="only one that failed can be sent back"):
        db.execute("SELECT campaign.retry_delivery(%s)", [failed])


def test_online_delivery_is_confirmed_by_who_may(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, owner: int, reviewer: int, run_workflow: Workflow
) -> None:
    plain = analysed(factory, campaign, channel="email", status="pending_confirmation")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not confirm"):
        db.execute("SELECT campaign.confirm_delivery(%s, %s)", [plain, reviewer])
    db.execute("SELECT campaign.confirm_delivery(%s, %s)", [plain, owner])
    assert status(db, plain) == "start_pending"

    reviewed = analysed(factory, campaign, channel="email", status="pending_confirmation")
    factory.policy("start", delivery_id=reviewed, staff=(reviewer,))
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="must be submitted for approval first"):
        db.execute("SELECT campaign.confirm_delivery(%s, %s)", [reviewed, owner])
    run_workflow("deliveryMgt", NOW)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not decide the start"):
        db.execute("SELECT campaign.confirm_delivery(%s, %s)", [reviewed, owner])
    db.execute("SELECT campaign.confirm_delivery(%s, %s)", [reviewed, reviewer])
    assert status(db, reviewed) == "start_pending"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"is_template": True}, "is a template: it is only copied"),
        ({"status": "target_ready"}, "only one that is being edited can be submitted"),
    ],
)
def test_delivery_that_cannot_be_submitted_says_why(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, columns: dict[str, Any], message: str
) -> None:
    delivery = factory.delivery(campaign_id=campaign, **columns)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=message):
        db.execute("SELECT campaign.submit_delivery(%s)", [delivery])


def test_functions_for_what_is_not_there_say_so(db: psycopg.Connection[Any]) -> None:
    for call in (
        "submit_delivery(7)", "submit_approval(7, 'content')", "cancel_delivery(7, 'x')", "retry_delivery(7)",
        "release_delivery(7, 1)", "confirm_delivery(7, 1)",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.NoDataFound, match=r"There is no delivery 7\."):
            db.execute(f"SELECT campaign.{call}")
    with pytest.raises(psycopg.errors.NoDataFound, match=r"There is no approval 7\."):
        db.execute("SELECT campaign.decide_approval(7, 1, true)")
