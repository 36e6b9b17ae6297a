"""deliveryMgt: what is started, sent, counted and finished, and what stops it."""

from __future__ import annotations

import json
import socket
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from campaign.operators.message_sending import open_line
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.snapshots import changed_tables, snapshot

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def clock(db: psycopg.Connection[Any]) -> None:
    set_clock(db, NOW)


def set_clock(db: psycopg.Connection[Any], moment: datetime) -> None:
    db.execute("SELECT set_config('campaign.as_of', %s, false)", [moment.isoformat()])


@pytest.fixture
def owner(factory: Factory) -> int:
    return factory.staff(internal_name="olga")


@pytest.fixture
def campaign(factory: Factory, owner: int) -> int:
    return factory.campaign(internal_name="loyalty", label="Loyalty", owner_id=owner)


def ready(db: psycopg.Connection[Any], factory: Factory, campaign: int, count: int = 3, **columns: Any) -> int:
    """Insert an e-mail that waits for its start, with so many recipients called r1@example.net and so on."""
    values = {
        "channel": "email",
        "label": "Summer",
        "status": "start_pending",
        "subject": "Hello {{ recipient.first_name }}",
        "body_text": "Dear {{ recipient.first_name }}, a {{ recipient.attributes.tier | default('plain') }} offer.\n",
        "body_html": "<p>Dear {{ recipient.first_name }}</p>",
        "sender": "The Shop <shop@example.com>",
        "targeted_count": count,
        "message_count": count,
        "analysed_at": NOW - DAY,
        "confirmed_at": NOW - HOUR,
    }
    delivery = factory.delivery(campaign_id=campaign, **(values | columns))
    first = db.execute("SELECT coalesce(max(id), 0) FROM campaign.recipient").fetchone()
    assert first is not None
    db.execute(
        """
        WITH added AS (
            INSERT INTO campaign.recipient (internal_name, email, phone, push_token, first_name, attributes)
            SELECT 'r' || n, 'r' || n || '@example.net', '+46 70 ' || n, 'token-' || n, 'Åsa ' || n, '{"tier": "gold"}'
            FROM generate_series(%(first)s::bigint + 1, %(first)s::bigint + %(count)s::bigint) AS n
            RETURNING id
        )
        INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role)
        SELECT %(delivery)s, id, 'main' FROM added
        """,
        {"delivery": delivery, "count": count, "first": first[0]},
    )
    return delivery


def status(db: psycopg.Connection[Any], delivery: int) -> str:
    row = db.execute("SELECT status FROM campaign.delivery WHERE id = %s", [delivery]).fetchone()
    assert row is not None
    return str(row[0])


def messages(db: psycopg.Connection[Any], delivery: int) -> Counter[tuple[str, str | None]]:
    return Counter(
        db.execute("SELECT status, error FROM campaign.delivery_message WHERE delivery_id = %s", [delivery]).fetchall()
    )


def setting(db: psycopg.Connection[Any], name: str, value: Any) -> None:
    db.execute("UPDATE campaign.setting SET value = %s WHERE name = %s", [json.dumps(value), name])


def test_delivery_is_sent_to_each_recipient_once_and_finished(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    delivery = ready(db, factory, campaign)
    summary = run_workflow("deliveryMgt", NOW)
    assert summary["start_deliveries"] == {
        "deliveries_due": 1,
        "deliveries_started": 1,
        "deliveries_unable": 0,
        "batches_written": 1,
        "messages_written": 3,
    }
    assert summary["send_messages"] == {
        "messages_sent": 3, "messages_failed": 0, "messages_postponed": 0, "messages_unknown": 0,
    }  # fmt: skip
    assert status(db, delivery) == "finished"
    assert sorted(to for to, _ in mail_server.messages) == ["r1@example.net", "r2@example.net", "r3@example.net"]
    keys = {
        key
        for (key,) in db.execute(
            "SELECT campaign.message_key(delivery_id, recipient_id) FROM campaign.delivery_message"
        )
    }
    assert {mail["Message-ID"] for _, mail in mail_server.messages} == {f"<{key}@example.com>" for key in keys}
    _, mail = mail_server.messages[0]
    number = str(mail["To"])[1]
    assert mail["From"] == "The Shop <shop@example.com>"
    assert mail["Subject"] == f"Hello Åsa {number}"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_body(("plain",)).get_content().split("\r\n") == [f"Dear Åsa {number}, a gold offer.", ""]  # type: ignore[union-attr]
    assert mail.get_body(("html",)).get_content().strip() == f"<p>Dear Åsa {number}</p>"  # type: ignore[union-attr]
    before = snapshot(db)
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert changed_tables(before, snapshot(db)) == {}
    assert len(mail_server.messages) == 3


def test_delivery_starts_when_its_contact_date_is_reached_and_not_before(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    delivery = ready(db, factory, campaign, contact_date=NOW + HOUR)
    run_workflow("deliveryMgt", NOW)
    assert status(db, delivery) == "start_pending"
    run_workflow("deliveryMgt", NOW + HOUR)
    assert status(db, delivery) == "finished"
    assert db.execute("SELECT started_at, finished_at FROM campaign.delivery").fetchone() == (NOW + HOUR, NOW + HOUR)
    assert len(mail_server.messages) == 3


def test_stale_delivery_is_held_and_leaves_when_it_is_released(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    owner: int,
    run_workflow: Workflow,
    mail_server: MailServer,
) -> None:
    delivery = ready(db, factory, campaign, contact_date=NOW - 2 * DAY)
    run_workflow("deliveryMgt", NOW)
    assert status(db, delivery) == "start_pending"
    assert [to for to, _ in mail_server.messages] == ["olga@example.com"]
    db.execute("SELECT campaign.release_delivery(%s, %s)", [delivery, owner])
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert status(db, delivery) == "finished"
    assert len(mail_server.messages) == 4


@pytest.mark.parametrize("change", ["body_text = 'Other'", "message_count = 4, analysed_at = analysed_at"])
def test_nothing_leaves_that_was_not_approved_as_it_stands(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    owner: int,
    run_workflow: Workflow,
    mail_server: MailServer,
    change: str,
) -> None:
    for kind in ("content", "target", "start"):
        factory.policy(kind, campaign_id=campaign)
    delivery = ready(db, factory, campaign, status="pending_confirmation", confirmed_at=None)
    run_workflow("deliveryMgt", NOW)
    for (approval,) in db.execute("SELECT id FROM campaign.approval ORDER BY kind").fetchall():
        db.execute("SELECT campaign.decide_approval(%s, %s, true)", [approval, owner])
    assert status(db, delivery) == "start_pending"
    db.execute(f"UPDATE campaign.delivery SET {change}".encode())
    mail_server.messages.clear()
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert status(db, delivery) == "start_pending"
    assert {to for to, _ in mail_server.messages} == {"olga@example.com"}
    for (approval,) in db.execute("SELECT id FROM campaign.approval WHERE status = 'pending'").fetchall():
        db.execute("SELECT campaign.decide_approval(%s, %s, true)", [approval, owner])
    run_workflow("deliveryMgt", NOW + 2 * MINUTE)
    assert status(db, delivery) == "finished"
    assert messages(db, delivery) == {("sent", None): 3}


def test_label_that_a_template_names_is_approved_and_kept_with_it(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    owner: int,
    run_workflow: Workflow,
    mail_server: MailServer,
) -> None:
    factory.policy("content", campaign_id=campaign)
    delivery = ready(
        db, factory, campaign, subject="{{ delivery.label }}, {{ campaign.label }}", contact_date=NOW + HOUR
    )
    for rename in (
        "SELECT 1",
        "UPDATE campaign.delivery SET label = 'Winter'",
        "UPDATE campaign.campaign SET label = 'Regulars'",
    ):
        db.execute(rename.encode())
        run_workflow("deliveryMgt", NOW)
        [(approval,)] = db.execute("SELECT id FROM campaign.approval WHERE status = 'pending'").fetchall()
        db.execute("SELECT campaign.decide_approval(%s, %s, true)", [approval, owner])
    mail_server.messages.clear()
    mail_server.on_recipient = lambda address: "451 later" if address.startswith("r1@") else None
    run_workflow("deliveryMgt", NOW + HOUR)
    mail_server.reset()
    db.execute("UPDATE campaign.delivery SET label = 'Too late'")
    db.execute("UPDATE campaign.campaign SET label = 'Too late'")
    run_workflow("deliveryMgt", NOW + HOUR + 2 * MINUTE)
    assert status(db, delivery) == "finished"
    assert [(to, str(mail["Subject"])) for to, mail in mail_server.messages] == [("r1@example.net", "Winter, Regulars")]


@pytest.mark.parametrize(
    ("price", "change", "leaves"),
    [
        ("entered", "UPDATE campaign.delivery_cost SET surcharge = 1", False),
        ("entered", "UPDATE campaign.cost_structure SET amount = 6", False),
        ("entered", "UPDATE campaign.campaign SET budget_id = NULL", False),
        ("by default", "UPDATE campaign.cost_structure SET amount = 6", False),
        ("by default", "UPDATE campaign.cost_type SET selected_by_default = false", False),
        # Edited, and it comes to what was approved.
        ("entered", "UPDATE campaign.delivery SET commitment_level = 'reserved'", True),
    ],
)
def test_nothing_leaves_at_a_cost_that_is_yet_to_be_calculated(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    owner: int,
    run_workflow: Workflow,
    mail_server: MailServer,
    price: str,
    change: str,
    leaves: bool,
) -> None:
    factory.policy("budget", campaign_id=campaign)
    budget = factory.insert("budget", internal_name="b", label="B", allocated=100)
    db.execute("UPDATE campaign.campaign SET budget_id = %s, budget_status = 'defined'", [budget])
    provider = factory.insert("provider", internal_name="p", label="P")
    service = factory.insert("service", internal_name="s", label="S", provider_id=provider)
    category = factory.insert("cost_category", service_id=service, label="Mail", channel="email")
    cost_type = factory.insert(
        "cost_type", cost_category_id=category, label="Fixed", selected_by_default=price == "by default"
    )
    factory.insert("cost_structure", cost_type_id=cost_type, basis="fixed", amount=5)
    delivery = ready(db, factory, campaign, service_id=service, contact_date=NOW + HOUR)
    if price == "entered":
        factory.insert("delivery_cost", delivery_id=delivery, cost_type_id=cost_type)

    def answer_all() -> int:
        waiting = db.execute("SELECT id FROM campaign.approval WHERE status = 'pending'").fetchall()
        for (approval,) in waiting:
            db.execute("SELECT campaign.decide_approval(%s, %s, true)", [approval, owner])
        return len(waiting)

    run_workflow("budgetMgt", NOW)
    run_workflow("deliveryMgt", NOW)
    assert answer_all() == 2
    db.execute(change.encode())
    mail_server.messages.clear()
    run_workflow("deliveryMgt", NOW + HOUR)
    assert mail_server.messages == []
    run_workflow("budgetMgt", NOW + HOUR)
    run_workflow("deliveryMgt", NOW + HOUR + MINUTE)
    assert (status(db, delivery) == "finished") is leaves
    if not leaves:
        assert answer_all() == 1
        run_workflow("deliveryMgt", NOW + HOUR + 2 * MINUTE)
    assert status(db, delivery) == "finished"
    assert messages(db, delivery) == {("sent", None): 3}


def test_edit_while_it_is_being_sent_does_not_reach_anybody(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    delivery = ready(db, factory, campaign)
    mail_server.on_recipient = lambda address: "451 later"
    run_workflow("deliveryMgt", NOW)
    mail_server.reset()
    db.execute("UPDATE campaign.delivery SET subject = 'Not approved'")
    run_workflow("deliveryMgt", NOW + 2 * MINUTE)
    assert status(db, delivery) == "finished"
    assert {str(mail["Subject"])[:5] for _, mail in mail_server.messages} == {"Hello"}


@pytest.mark.parametrize(
    ("columns", "failure"),
    [
        ({"subject": "Hello {{ recipient.firstname }}"}, "subject: recipient has no 'firstname'"),
        ({"body_text": "Hello {{ customer }}"}, "body_text: there is no 'customer'"),
        ({"body_html": "<p>{{ recipient.first_name </p>"}, "body_html: "),
        ({"body_text": "{{ recipient.attributes.teir }}"}, "nobody in the target has the attribute 'teir'"),
        ({"body_text": "{{ ''.__class__ }}"}, "body_text: "),
        ({"sender": "nobody"}, "sender: 'nobody' is no address"),
        ({"subject": " "}, "it has no subject"),
        ({"body_text": None, "body_html": None}, "it has neither body_text nor body_html"),
        ({"channel": "sms"}, "the message_conn_id of an HTTP connection"),
    ],
)
def test_faulty_content_is_named_before_anything_leaves(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    run_workflow: Workflow,
    mail_server: MailServer,
    columns: dict[str, Any],
    failure: str,
) -> None:
    delivery = ready(db, factory, campaign, **columns)
    run_workflow("deliveryMgt", NOW)
    row = db.execute("SELECT status, failed_from, failure FROM campaign.delivery WHERE id = %s", [delivery]).fetchone()
    assert row is not None
    assert row[:2] == ("failed", "start_pending")
    assert failure in row[2]
    [(to, mail)] = mail_server.messages
    assert to == "olga@example.com"
    assert failure in " ".join(mail.get_body(("plain",)).get_content().split())  # type: ignore[union-attr]
    db.execute(
        """
        UPDATE campaign.delivery
        SET channel = 'email', subject = 'Hello', body_text = 'Hello', body_html = NULL, sender = NULL
        """
    )
    db.execute("SELECT campaign.retry_delivery(%s)", [delivery])
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert status(db, delivery) == "finished"
    assert len(mail_server.messages) == 4


def test_values_of_recipients_are_escaped_in_html_and_cannot_add_headers(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    ready(db, factory, campaign, count=1)
    db.execute("UPDATE campaign.recipient SET first_name = %s", ["<b>Eve</b>\r\nBcc: all@example.com\r\n.\r\n"])
    run_workflow("deliveryMgt", NOW)
    [(_, mail)] = mail_server.messages
    assert mail["Bcc"] is None
    assert mail["Subject"] == "Hello <b>Eve</b> Bcc: all@example.com ."
    assert "&lt;b&gt;Eve" in mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "\r\n.\r\n" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]


def test_each_answer_of_the_server_has_its_state(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    delivery = ready(db, factory, campaign, count=8)
    setting(db, "failed_share", 1)
    answers = {"r1": "550 unknown", "r2": "451 greylisted", "r3": "421 closing"}
    mail_server.on_recipient = lambda address: answers.get(address.split("@")[0])
    data = {"r4": "554 spam", "r5": "452 full", "r6": "drop"}
    mail_server.on_data = lambda mail: data.get(str(mail["To"]).split("@")[0])
    db.execute("UPDATE campaign.recipient SET email = 'no address' WHERE internal_name = 'r7'")
    run_workflow("deliveryMgt", NOW)
    rows = db.execute(
        """
        SELECT recipient.internal_name, message.status, message.tries, message.is_unknown, message.error,
            message.next_try_at
        FROM campaign.delivery_message AS message
        INNER JOIN campaign.recipient AS recipient ON message.recipient_id = recipient.id
        ORDER BY recipient.internal_name
        """
    ).fetchall()
    lost = "the line to the mail server was lost before it left"
    dropped = rows[5][4]
    assert rows == [
        ("r1", "failed", 1, False, "the address was refused: 550 unknown", None),
        ("r2", "pending", 1, False, "the address was refused for now: 451 greylisted", NOW + MINUTE),
        ("r3", "pending", 1, False, lost, NOW + MINUTE),
        ("r4", "failed", 1, False, "the mail was refused: 554 spam", None),
        ("r5", "pending", 1, False, "the mail was refused for now: 452 full", NOW + MINUTE),
        ("r6", "failed", 1, True, dropped, None),
        ("r7", "failed", 1, False, rows[6][4], None),
        ("r8", "sent", 1, False, None, None),
    ]
    assert dropped.startswith("unknown whether it left: the line was lost after it")
    assert "no address for mail" in rows[6][4]
    assert status(db, delivery) == "in_progress"
    # Not before their pause is over; then each of those that were refused for now, and nobody else.
    mail_server.reset()
    run_workflow("deliveryMgt", NOW + MINUTE / 2)
    assert mail_server.messages == []
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert sorted(to for to, _ in mail_server.messages) == [f"r{n}@example.net" for n in (2, 3, 5)]
    assert status(db, delivery) == "finished"


def test_temporary_refusals_end_after_the_set_number_of_tries(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    delivery = ready(db, factory, campaign, count=1)
    mail_server.on_recipient = lambda address: "450 busy"
    setting(db, "message_tries", 3)
    tried = []
    for minutes in (0, 1, 2, 6, 7, 60):
        run_workflow("deliveryMgt", NOW + minutes * MINUTE)
        tried.append(db.execute("SELECT tries FROM campaign.delivery_message").fetchone())
    assert tried == [(1,), (2,), (2,), (3,), (3,), (3,)]
    assert messages(db, delivery) == {("failed", "the address was refused for now: 450 busy (after 3 tries)"): 1}
    assert status(db, delivery) == "finished"


def test_delivery_stops_when_too_large_a_share_fails_and_a_person_resumes_it(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    owner: int,
    run_workflow: Workflow,
    mail_server: MailServer,
) -> None:
    delivery = ready(db, factory, campaign, count=300)
    setting(db, "lines_per_worker", 1)
    mail_server.on_recipient = lambda address: "550 blocked" if address.endswith("example.net") else None
    run_workflow("deliveryMgt", NOW)
    assert status(db, delivery) == "in_progress"
    # One more envelope was on the line.
    failed = messages(db, delivery)["failed", "the address was refused: 550 blocked"]
    assert failed in (20, 21)
    [(to, mail)] = mail_server.messages
    assert to == "olga@example.com"
    assert mail["Subject"] == "Stopped: Summer (Loyalty), 20 of 20 messages failed"
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert messages(db, delivery)["pending", None] == 300 - failed
    mail_server.reset()
    db.execute("SELECT campaign.resume_delivery(%s, %s)", [delivery, owner])
    run_workflow("deliveryMgt", NOW + 2 * MINUTE)
    assert status(db, delivery) == "finished"
    assert len(mail_server.messages) == 300 - failed


def test_paused_and_canceled_deliveries_send_nothing_more(
    db: psycopg.Connection[Any],
    dsn: str,
    factory: Factory,
    campaign: int,
    owner: int,
    run_workflow: Workflow,
    mail_server: MailServer,
) -> None:
    delivery = ready(db, factory, campaign, count=200)
    setting(db, "lines_per_worker", 4)

    def after(count: int, statement: str, values: list[Any]) -> Any:
        def act(mail: Any) -> None:
            if len(mail_server.messages) == count:
                with psycopg.connect(dsn, autocommit=True) as person:
                    person.execute(statement.encode(), values)

        return act

    mail_server.on_data = after(30, "SELECT campaign.pause_delivery(%s, %s)", [delivery, owner])
    run_workflow("deliveryMgt", NOW)
    paused_at = len(mail_server.messages)
    # What was on its way on the other lines, and no more.
    assert 31 <= paused_at <= 31 + 4
    assert messages(db, delivery) == {("sent", None): paused_at, ("pending", None): 200 - paused_at}
    assert status(db, delivery) == "in_progress"
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="stands still already"):
        db.execute("SELECT campaign.pause_delivery(%s, %s)", [delivery, owner])
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert len(mail_server.messages) == paused_at

    db.execute("SELECT campaign.resume_delivery(%s, %s)", [delivery, owner])
    mail_server.on_data = after(100, "SELECT campaign.cancel_delivery(%s, 'wrong price')", [delivery])
    run_workflow("deliveryMgt", NOW + 2 * MINUTE)
    run_workflow("deliveryMgt", NOW + 3 * MINUTE)
    sent = len(mail_server.messages)
    assert 101 <= sent <= 101 + 4
    assert status(db, delivery) == "canceled"
    assert messages(db, delivery) == {
        ("sent", None): sent,
        ("failed", "not sent: the delivery was canceled"): 200 - sent,
    }
    assert len({mail["Message-ID"] for _, mail in mail_server.messages}) == sent
    assert db.execute("SELECT DISTINCT status FROM campaign.delivery_batch").fetchall() == [("done",)]


def test_who_may_not_pause_or_resume_is_told_why(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, owner: int
) -> None:
    delivery = ready(db, factory, campaign)
    stranger = factory.staff()
    for function in ("pause_delivery", "resume_delivery", "resend_unknown"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="Delivery 'Summer' is start pending"):
            db.execute(f"SELECT campaign.{function}(%s, %s)".encode(), [delivery, owner])
    db.execute("UPDATE campaign.delivery SET status = 'in_progress'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not pause delivery 'Summer'"):
        db.execute("SELECT campaign.pause_delivery(%s, %s)", [delivery, stranger])


def test_who_opted_out_or_left_since_the_analysis_gets_nothing(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    delivery = ready(db, factory, campaign, count=4)
    db.execute("UPDATE campaign.recipient SET opt_out_email = true WHERE internal_name = 'r1'")
    db.execute("UPDATE campaign.recipient SET email = NULL WHERE internal_name = 'r2'")
    db.execute("DELETE FROM campaign.recipient WHERE internal_name = 'r3'")
    run_workflow("deliveryMgt", NOW)
    assert [to for to, _ in mail_server.messages] == ["r4@example.net"]
    assert messages(db, delivery) == {
        ("sent", None): 1,
        ("failed", "not sent: opted out since the target was analysed"): 1,
        ("failed", "not sent: the recipient has no address any more"): 1,
        ("failed", "not sent: the recipient is no longer known"): 1,
    }
    assert status(db, delivery) == "finished"


def test_control_group_gets_nothing_and_seeds_do(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    ready(db, factory, campaign)
    db.execute("UPDATE campaign.delivery_target SET role = 'control' WHERE recipient_id = 1")
    db.execute("UPDATE campaign.delivery_target SET role = 'seed' WHERE recipient_id = 2")
    run_workflow("deliveryMgt", NOW)
    assert sorted(to for to, _ in mail_server.messages) == ["r2@example.net", "r3@example.net"]


def test_delivery_without_recipients_is_finished_at_once(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow
) -> None:
    delivery = ready(db, factory, campaign, count=0)
    summary = run_workflow("deliveryMgt", NOW)
    assert "send_messages" not in summary
    assert status(db, delivery) == "finished"


def test_run_for_the_past_and_dry_run_send_nothing(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    run_workflow("deliveryMgt", NOW + DAY)
    ready(db, factory, campaign)
    before = snapshot(db)
    past = run_workflow("deliveryMgt", NOW)
    rehearsed = run_workflow("deliveryMgt", NOW + DAY, dry_run=True)
    assert changed_tables(before, snapshot(db)) == {}
    assert mail_server.messages == []
    assert past["start_deliveries"]["deliveries_started"] == 1
    assert rehearsed["plan_batches"]["messages_at_most"] == 3
    assert rehearsed["finish_deliveries"]["deliveries_finished"] == 1
    done = run_workflow("deliveryMgt", NOW + DAY)
    assert {**done["plan_batches"], "dry_run": True} == rehearsed["plan_batches"]
    assert {**done["finish_deliveries"], "dry_run": True} == rehearsed["finish_deliveries"]


def test_run_limited_to_a_campaign_sends_only_its_messages_and_notices(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    owner: int,
    run_workflow: Workflow,
    mail_server: MailServer,
) -> None:
    other = factory.campaign(internal_name="other", label="Other", owner_id=owner)
    factory.policy("content", campaign_id=other)
    mine, theirs = ready(db, factory, campaign), ready(db, factory, other)
    mail_server.on_sender = lambda address: "451 not now"
    db.execute("UPDATE campaign.delivery SET contact_date = %s WHERE id = %s", [NOW + DAY, mine])
    with pytest.raises(RuntimeError, match="away"):
        run_workflow("deliveryMgt", NOW)
    assert db.execute("SELECT count(*) FROM campaign.notification").fetchone() == (1,)
    db.execute("UPDATE campaign.delivery SET contact_date = NULL")
    mail_server.reset()
    run_workflow("deliveryMgt", NOW + MINUTE, campaign="loyalty")
    assert (status(db, mine), status(db, theirs)) == ("finished", "start_pending")
    assert {to.partition("@")[2] for to, _ in mail_server.messages} == {"example.net"}


def test_pace_is_kept_and_a_run_ends_with_its_slice(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    delivery = ready(db, factory, campaign, count=300, messages_per_minute=600)
    setting(db, "sending_slice", "2 seconds")
    run_workflow("deliveryMgt", NOW)
    first = len(mail_server.messages)
    assert 15 <= first <= 31
    assert status(db, delivery) == "in_progress"
    db.execute("UPDATE campaign.delivery SET messages_per_minute = NULL")
    setting(db, "sending_slice", "1 minute")
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert status(db, delivery) == "finished"
    assert len({mail["Message-ID"] for _, mail in mail_server.messages}) == len(mail_server.messages) == 300


def test_dot_does_not_wait_until_the_system_of_the_server_acknowledges_the_mail(mail_server: MailServer) -> None:
    line = open_line("smtp_default", "shop@example.com")
    goes_at_once = line.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    line.quit()
    assert goes_at_once


def test_server_that_is_away_loses_nothing(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    delivery = ready(db, factory, campaign)
    mail_server.on_sender = lambda address: "530 log in first"
    with pytest.raises(RuntimeError, match="530 log in first"):
        run_workflow("deliveryMgt", NOW)
    assert messages(db, delivery) == {("pending", None): 3}
    mail_server.reset()
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert len(mail_server.messages) == 3


def test_a_person_has_messages_sent_again_of_which_nothing_is_known(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    owner: int,
    run_workflow: Workflow,
    mail_server: MailServer,
) -> None:
    delivery = ready(db, factory, campaign)
    mail_server.on_data = lambda mail: "drop" if mail["To"] == "r2@example.net" else None
    run_workflow("deliveryMgt", NOW)
    assert status(db, delivery) == "finished"
    mail_server.on_data = lambda mail: None
    assert db.execute("SELECT campaign.resend_unknown(%s, %s)", [delivery, owner]).fetchone() == (1,)
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert status(db, delivery) == "finished"
    assert messages(db, delivery) == {("sent", None): 3}
    twice = [mail["Message-ID"] for to, mail in mail_server.messages if to == "r2@example.net"]
    assert len(twice) == 2
    assert len(set(twice)) == 1


def test_unsubscribe_address_stands_in_the_header_and_in_the_text(
    db: psycopg.Connection[Any], factory: Factory, campaign: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    setting(db, "unsubscribe_url", "https://example.com/u/{key}")
    delivery = ready(db, factory, campaign, count=1, body_text="Stop: {{ unsubscribe_url }}")
    run_workflow("deliveryMgt", NOW)
    [(_, mail)] = mail_server.messages
    key = db.execute("SELECT campaign.message_key(%s, 1)", [delivery]).fetchone()
    assert key is not None
    assert mail["List-Unsubscribe"] == f"<https://example.com/u/{key[0]}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert f"Stop: https://example.com/u/{key[0]}" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
