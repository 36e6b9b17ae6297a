"""NotificationStep: every notice goes out once, to a server that may misbehave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.sdk import DAG
from psycopg.types.json import Jsonb

from campaign.mail import MailServerAwayError
from campaign.operators.notification import NotificationStep
from tests.factories import Factory
from tests.mail_server import MailServer

AS_OF = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def send(as_of: datetime = AS_OF, **params: Any) -> dict[str, Any]:
    """Run the step once, as a task of deliveryMgt."""
    with DAG("deliveryMgt", schedule=None) as dag:
        step = NotificationStep(task_id="send_notifications")
    dag_run = SimpleNamespace(run_type="manual", data_interval_end=None, logical_date=None, run_after=as_of)
    context: Any = {"dag": dag, "task": step, "run_id": "test", "dag_run": dag_run, "params": params}
    return step.execute(context)


@pytest.fixture
def notify(db: psycopg.Connection[Any], factory: Factory) -> Any:
    """Return a function that writes a notice that a delivery is held."""

    def write(email: str = "olga@example.com", label: str = "Olga", **columns: Any) -> int:
        facts = {
            "delivery": "Été <b>& Söhne</b>",
            "delivery_id": 7,
            "campaign": "Loyalty",
            "contact_date": "2026-11-01T09:00:00+00:00",
            "extraction_date": None,
        }
        staff = factory.staff(email=email, label=label, time_zone="Europe/Paris")
        count = db.execute("SELECT count(*) FROM campaign.notification").fetchone()
        values = {
            "kind": "delivery_held",
            "dedupe_key": f"held:{count}",
            "source": "deliveryMgt",
            "facts": Jsonb(facts),
            "created_at": AS_OF,
        }
        return factory.insert("notification", staff_id=staff, recipient_email=email, **(values | columns))

    return write


def states(db: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return db.execute(
        """
        SELECT recipient_email, sent_at IS NOT NULL, failed_at IS NOT NULL, tries, error
        FROM campaign.notification ORDER BY id
        """
    ).fetchall()


@pytest.mark.usefixtures("mail_server")
def test_no_notices_no_conversation(mail_server: MailServer, db: psycopg.Connection[Any]) -> None:
    assert send() == {"notifications_sent": 0, "notifications_failed": 0, "notifications_postponed": 0}
    assert mail_server.messages == []


def test_mail_has_text_html_and_the_headers_that_it_needs(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any
) -> None:
    notify(label="Zoë")
    assert send()["notifications_sent"] == 1
    [(recipient, mail)] = mail_server.messages
    [(message_id,)] = db.execute("SELECT message_id FROM campaign.notification").fetchall()
    headers = {name: str(mail[name]) for name in ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted")}
    assert recipient == "olga@example.com"
    assert headers == {
        "From": "campaigns@example.com",
        "To": "olga@example.com",
        "Subject": "Held: Été <b>& Söhne</b> (Loyalty) was due to leave some time ago",
        "Date": "Mon, 02 Nov 2026 09:00:00 +0000",
        "Message-ID": message_id,
        "Auto-Submitted": "auto-generated",
    }
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    assert "Hello Zoë" in text.get_content()
    assert "the delivery Été <b>& Söhne</b> of" in text.get_content()
    assert "at 2026-11-01 10:00 CET" in text.get_content()
    assert "Été &lt;b&gt;&amp; Söhne&lt;/b&gt; of" in html.get_content()


def test_second_run_sends_nothing(mail_server: MailServer, notify: Any) -> None:
    notify()
    send()
    assert send()["notifications_sent"] == 0
    assert len(mail_server.messages) == 1


def test_notices_of_other_workflows_are_left_to_them(mail_server: MailServer, notify: Any) -> None:
    notify(source="stockMgt")
    assert send()["notifications_sent"] == 0


def test_refused_address_is_recorded_and_the_others_go_out(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any
) -> None:
    for email in ("a@example.com", "nobody@example.com", "b@example.com"):
        notify(email)
    mail_server.on_recipient = lambda address: "550 No such user" if address.startswith("nobody") else None
    assert send() == {"notifications_sent": 2, "notifications_failed": 1, "notifications_postponed": 0}
    assert states(db) == [
        ("a@example.com", True, False, 1, None),
        ("nobody@example.com", False, True, 1, "550 No such user"),
        ("b@example.com", True, False, 1, None),
    ]
    assert db.execute("SELECT level, message FROM campaign.journal").fetchall() == [
        ("info", "Sent the mail delivery_held (notification 1)."),
        ("error", "The mail delivery_held (notification 2) cannot be delivered: 550 No such user"),
        ("info", "Sent the mail delivery_held (notification 3)."),
    ]


@pytest.mark.parametrize("address", ["(x)@x.de", "a@", "print@printers.com.", "x@y.z\r\nBcc: all@example.com"])
def test_address_that_is_none_fails_its_own_mail_only(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any, address: str
) -> None:
    notify("first@example.com")
    db.execute("UPDATE campaign.notification SET recipient_email = %s", [address])
    notify("second@example.com")
    assert send() == {"notifications_sent": 1, "notifications_failed": 1, "notifications_postponed": 0}
    assert [recipient for recipient, _ in mail_server.messages] == ["second@example.com"]


def test_refused_sender_is_no_fault_of_the_mails(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any
) -> None:
    notify()
    notify()
    mail_server.on_sender = lambda address: "530 Authentication required"
    with pytest.raises(MailServerAwayError, match="530"):
        send()
    assert [(sent, failed) for _, sent, failed, _, _ in states(db)] == [(False, False)] * 2
    mail_server.reset()
    assert send()["notifications_sent"] == 2


def test_temporary_refusal_is_tried_again_later(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any
) -> None:
    notify()
    mail_server.on_data = lambda message: "451 Try again later"
    assert send()["notifications_postponed"] == 1
    assert send() == {"notifications_sent": 0, "notifications_failed": 0, "notifications_postponed": 0}
    mail_server.reset()
    assert send(AS_OF + timedelta(minutes=4))["notifications_sent"] == 0
    assert send(AS_OF + timedelta(minutes=5))["notifications_sent"] == 1
    assert states(db) == [("olga@example.com", True, False, 2, None)]


def test_temporary_refusal_without_end_is_given_up(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any
) -> None:
    notify(tries=7)
    mail_server.on_data = lambda message: "451 Try again later"
    assert send()["notifications_failed"] == 1
    assert states(db) == [("olga@example.com", False, True, 8, "451 Try again later (after 8 tries)")]


def test_line_dropped_after_data_repeats_the_same_mail(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any
) -> None:
    notify()
    mail_server.on_data = lambda message: "drop"
    with pytest.raises(MailServerAwayError, match="1 of 1 mails wait for the next run"):
        send()
    [(_, sent, failed, tries, error)] = states(db)
    assert (sent, failed, tries) == (False, False, 1)
    assert "Connection unexpectedly closed" in error
    mail_server.on_data = lambda message: None
    # The text was made at the first try: what is repeated is the same mail, whatever the facts say now.
    db.execute("UPDATE campaign.notification SET facts = '{}'")
    assert send(AS_OF + timedelta(minutes=5))["notifications_sent"] == 1
    (_, first), (_, second) = mail_server.messages
    assert first["Message-ID"] == second["Message-ID"]
    assert without_boundaries(first) == without_boundaries(second)


@pytest.mark.parametrize("answer", ["drop", "421 Too many mails on this line"])
def test_line_lost_with_one_mail_does_not_hold_up_the_others(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any, answer: str
) -> None:
    for name in ("evil", "a", "b"):
        notify(f"{name}@example.com")
    mail_server.on_data = lambda message: answer if str(message["To"]).startswith("evil") else None
    assert send() == {"notifications_sent": 2, "notifications_failed": 0, "notifications_postponed": 1}
    assert [(sent, failed, tries) for _, sent, failed, tries, _ in states(db)] == [
        (False, False, 1), (True, False, 1), (True, False, 1),
    ]  # fmt: skip
    # Without end, it is given up, and the journal says so.
    db.execute("UPDATE campaign.notification SET tries = 7 WHERE sent_at IS NULL")
    notify("c@example.com")
    assert send(AS_OF + timedelta(minutes=5)) == {
        "notifications_sent": 1,
        "notifications_failed": 1,
        "notifications_postponed": 0,
    }
    lines = db.execute("SELECT level, message FROM campaign.journal ORDER BY id").fetchall()
    assert [level for level, _ in lines] == ["info", "info", "error", "info"]
    [(_, message)] = [line for line in lines if line[0] == "error"]
    assert "cannot be delivered: the line was lost" in message
    assert "(after 8 tries)" in message


def test_server_that_drops_every_line_is_away(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any
) -> None:
    for name in "abcde":
        notify(f"{name}@example.com")
    mail_server.on_recipient = lambda address: "421 Closing"
    with pytest.raises(MailServerAwayError, match="5 of 5 mails wait for the next run"):
        send()
    assert [(sent, tries) for _, sent, _, tries, _ in states(db)] == [(False, 1)] * 3 + [(False, 0)] * 2
    mail_server.reset()
    assert send(AS_OF + timedelta(minutes=5))["notifications_sent"] == 5


def without_boundaries(mail: EmailMessage) -> list[str]:
    return [part.get_content() for part in mail.iter_parts() if isinstance(part, EmailMessage)]


def test_server_that_is_away_loses_nothing(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify()
    monkeypatch.setenv(
        "AIRFLOW_CONN_SMTP_DEFAULT",
        '{"conn_type": "smtp", "host": "127.0.0.1", "port": 1, "extra": {"disable_ssl": true, "disable_tls": true}}',
    )
    with pytest.raises(MailServerAwayError, match="smtp_default is away"):
        send()
    assert states(db) == [("olga@example.com", False, False, 0, None)]


def test_template_that_leaves_the_sandbox_fails_its_own_mail_only(
    mail_server: MailServer, db: psycopg.Connection[Any], notify: Any
) -> None:
    notify("evil@example.com", facts=Jsonb({"template": "{{ ''.__class__.__mro__ }}", "delivery": 1, "campaign": 1}))
    notify("good@example.com")
    assert send() == {"notifications_sent": 1, "notifications_failed": 1, "notifications_postponed": 0}
    [(_, _, failed, _, error), _] = states(db)
    assert failed
    assert "notification_template of the service" in error


def test_dry_run_sends_nothing(mail_server: MailServer, db: psycopg.Connection[Any], notify: Any) -> None:
    notify()
    assert send(dry_run=True) == {
        "dry_run": True, "notifications_sent": 1, "notifications_failed": 0, "notifications_postponed": 0,
    }  # fmt: skip
    assert mail_server.messages == []
    assert states(db) == [("olga@example.com", False, False, 0, None)]


def test_two_senders_at_once_send_each_mail_once(mail_server: MailServer, notify: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    for number in range(20):
        notify(f"person{number}@example.com")
    with ThreadPoolExecutor(2) as pool:
        counts = [future.result()["notifications_sent"] for future in [pool.submit(send) for _ in range(2)]]
    assert sum(counts) == 20
    assert len({mail["Message-ID"] for _, mail in mail_server.messages}) == len(mail_server.messages) == 20
