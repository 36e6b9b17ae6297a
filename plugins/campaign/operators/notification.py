"""Send the notices that a workflow wrote."""

from __future__ import annotations

import smtplib
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import psycopg
from airflow.providers.smtp.hooks.smtp import SmtpHook
from psycopg.rows import dict_row

from campaign.database import Connection, connect, write_journal
from campaign.mail import (
    MailServerAwayError,
    PermanentRefusalError,
    RenderedMail,
    TemporaryRefusalError,
    build_message,
    deliver,
    render_mail,
)
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.run import Run, ui_url
from campaign.templating import TemplateRefusedError
from campaign.watch import SUPERVISION, look_after_workflows

if TYPE_CHECKING:
    from airflow.sdk import Context

SMTP_CONN_ID = "smtp_default"
DEFAULT_SENDER = "campaign-workflows@localhost"
# When so many mails in a row lose the line, the fault is the server's, not theirs.
LOST_IN_A_ROW = 3
NOTHING_SENT = {"notifications_sent": 0, "notifications_failed": 0, "notifications_postponed": 0}


class NotificationStep(WorkflowStep):
    """Send every unsent notification of this workflow, one mail a recipient.

    The row was written in the transaction that decided it. Here its text is rendered and kept, the mail is
    handed over, and the row marked; after a crash in between, or when the line is lost with it, the same mail goes
    again under the same Message-ID. What cannot be delivered says why on the row and in the journal, and the others
    go out.
    When the mail server is away the step fails; nothing is lost, the next try sends.

    It is the step with which each of the five ends, and so the one that keeps the house: before it sends, it looks
    after the other workflows (:mod:`campaign.watch`), and sends what there is to tell the supervisors; and once a
    day it removes old lines of the journal.

    :param smtp_conn_id: Airflow connection of the mail server.
    """

    ui_color = "#e6f4ea"

    def __init__(self, *, smtp_conn_id: str = SMTP_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.smtp_conn_id = smtp_conn_id

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """List the mails that would be sent, and take them for sent."""
        waiting = self._read_waiting(connection, run, [run.dag_id])
        for notification in waiting:
            self.log.info(
                "would send %s (notification %s) to %s%s",
                notification["kind"],
                notification["id"],
                notification["reader"] or "an address that is not of the staff",
                f", about {notification['delivery']}" if notification["delivery"] else "",
            )
        # The steps after this one see them as sent, and do not count them again.
        connection.execute(
            "UPDATE campaign.notification SET sent_at = %s WHERE id = ANY (%s)",
            [run.as_of, [notification["id"] for notification in waiting]],
        )
        return NOTHING_SENT | {"notifications_sent": len(waiting)}

    def perform(self, run: Run, context: Context) -> Summary:
        """Send the mails."""
        with connect(run.application_name) as connection:
            # One sender a workflow at a time, for as long as this connection lives: two would both find
            # the same row unsent. What is for the supervisors goes with whichever of the five comes first.
            lock = "hashtextextended('campaign.notifications:' || %s, 0)"
            connection.execute(f"SELECT pg_advisory_lock({lock})", [run.dag_id])
            supervises = connection.execute(f"SELECT pg_try_advisory_lock({lock})", [SUPERVISION]).fetchone() == (True,)
            connection.commit()
            self._keep_house(connection, run)
            waiting = self._read_waiting(connection, run, [run.dag_id, SUPERVISION] if supervises else [run.dag_id])
            connection.commit()
            summary = NOTHING_SENT.copy()
            if waiting:
                self._send_all(connection, run, waiting, summary)
            return summary

    def _keep_house(self, connection: Connection, run: Run) -> None:
        """Look after the others and the journal; what goes wrong there holds up no mail."""
        try:
            look_after_workflows(connection, run)
            with connection.transaction():
                connection.execute("SELECT campaign.clean_journal(%s, %s, %s)", [run.dag_id, run.run_id, run.as_of])
        except psycopg.Error:
            connection.rollback()
            self.log.warning("The watch or the journal could not be looked after", exc_info=True)

    @staticmethod
    def _read_waiting(connection: Connection, run: Run, sources: list[str]) -> list[dict[str, Any]]:
        with connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(
                """
                SELECT
                    notification.id, notification.kind, notification.recipient_email, notification.facts,
                    notification.subject, notification.body_text, notification.body_html,
                    notification.message_id, notification.created_at, notification.tries,
                    notification.campaign_id, notification.delivery_id,
                    staff.internal_name AS reader, delivery.label AS delivery,
                    coalesce(staff.label, notification.recipient_email) AS label,
                    coalesce(staff.time_zone, setting.value #>> '{}', 'UTC') AS time_zone,
                    coalesce(staff.language, 'en') AS language
                FROM campaign.notification AS notification
                LEFT JOIN campaign.staff AS staff ON notification.staff_id = staff.id
                LEFT JOIN campaign.setting AS setting ON setting.name = 'time_zone'
                LEFT JOIN campaign.campaign AS campaign ON notification.campaign_id = campaign.id
                LEFT JOIN campaign.delivery AS delivery ON notification.delivery_id = delivery.id
                WHERE
                    notification.source = ANY(%(sources)s)
                    AND (
                        %(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text
                        OR notification.source = %(supervision)s
                    )
                    AND notification.sent_at IS NULL
                    AND notification.failed_at IS NULL
                    AND coalesce(notification.next_try_at, '-infinity') <= %(as_of)s::timestamptz
                ORDER BY notification.id
                """,
                {"sources": sources, "campaign": run.campaign, "supervision": SUPERVISION, "as_of": run.as_of},
            ).fetchall()

    def _send_all(self, connection: Connection, run: Run, waiting: list[dict[str, Any]], summary: Summary) -> None:
        left = deque(waiting)
        lost_in_a_row = 0
        try:
            while left:
                with SmtpHook(self.smtp_conn_id) as hook:
                    sender = hook.from_email or DEFAULT_SENDER
                    client = cast("smtplib.SMTP", hook._smtp_client)
                    # One that loses the line is tried later: the others go on with a new line.
                    while left and client.sock is not None:
                        notification = left.popleft()
                        if not self._is_wanted(connection, notification):
                            continue
                        outcome = self._send_one(connection, run, client, sender, notification)
                        connection.commit()
                        summary[outcome] += 1
                        lost_in_a_row = 0 if client.sock is not None else lost_in_a_row + 1
                if lost_in_a_row >= min(LOST_IN_A_ROW, len(waiting)):
                    raise MailServerAwayError("it drops every line")
        except (MailServerAwayError, smtplib.SMTPException, OSError) as error:
            connection.rollback()
            unsent = len(waiting) - summary["notifications_sent"] - summary["notifications_failed"]
            raise MailServerAwayError(
                f"The mail server of the connection {self.smtp_conn_id} is away ({error}): "
                f"{unsent} of {len(waiting)} mails wait for the next run."
            ) from error

    def _send_one(
        self,
        connection: Connection,
        run: Run,
        client: smtplib.SMTP,
        sender: str,
        notification: dict[str, Any],
    ) -> str:
        """Send one mail and mark its row; return which count of the summary it adds to."""
        try:
            mail = self._rendered(connection, notification)
            message = build_message(
                mail,
                sender=sender,
                recipient_email=notification["recipient_email"],
                message_id=notification["message_id"],
                written_at=notification["created_at"],
            )
            deliver(client, message)
        except TemporaryRefusalError as refusal:
            if self._is_postponed(connection, run, notification, str(refusal)):
                return "notifications_postponed"
            self._give_up(connection, run, notification, f"{refusal} (after {notification['tries'] + 1} tries)")
        except (PermanentRefusalError, TemplateRefusedError, ValueError) as refusal:
            self._give_up(connection, run, notification, str(refusal))
        else:
            connection.execute(
                """
                UPDATE campaign.notification
                SET sent_at = clock_timestamp(), tries = tries + 1, error = NULL, next_try_at = NULL
                WHERE id = %s
                """,
                [notification["id"]],
            )
            write_journal(
                connection,
                run,
                "info",
                f"Sent the mail {notification['kind']} (notification {notification['id']}).",
                campaign_id=notification["campaign_id"],
                delivery_id=notification["delivery_id"],
            )
            return "notifications_sent"
        return "notifications_failed"

    @staticmethod
    def _is_wanted(connection: Connection, notification: dict[str, Any]) -> bool:
        """Whether nobody withdrew the notice since it was read: the mails before it may have taken long."""
        found = connection.execute(
            "SELECT failed_at IS NULL FROM campaign.notification WHERE id = %s", [notification["id"]]
        ).fetchone()
        return found == (True,)

    @staticmethod
    def _rendered(connection: Connection, notification: dict[str, Any]) -> RenderedMail:
        """Return the text of the mail, rendered at the first try and kept for the others."""
        if notification["body_text"] is None:
            mail = render_mail(
                notification["kind"],
                notification["facts"],
                {name: notification[name] for name in ("label", "time_zone", "language")},
                ui_url(),
            )
            connection.execute(
                "UPDATE campaign.notification SET subject = %s, body_text = %s, body_html = %s WHERE id = %s",
                [mail.subject, mail.body_text, mail.body_html, notification["id"]],
            )
            connection.commit()
            return mail
        return RenderedMail(
            subject=notification["subject"],
            body_text=notification["body_text"],
            body_html=notification["body_html"],
        )

    @staticmethod
    def _is_postponed(connection: Connection, run: Run, notification: dict[str, Any], error: str) -> bool:
        """Leave a mail that was refused for now to a later run, unless it was tried often enough."""
        found = connection.execute(
            """
            UPDATE campaign.notification
            SET
                tries = tries + 1, error = %(error)s,
                next_try_at = %(as_of)s::timestamptz + campaign.growing_pause('notice_pauses', tries + 1)
            WHERE id = %(id)s AND tries + 1 < campaign.number_setting('notice_tries', 8)
            RETURNING id
            """,
            {"error": error, "as_of": run.as_of, "id": notification["id"]},
        ).fetchone()
        return found is not None

    def _give_up(self, connection: Connection, run: Run, notification: dict[str, Any], error: str) -> None:
        connection.execute(
            """
            UPDATE campaign.notification
            SET tries = tries + 1, error = %s, failed_at = clock_timestamp()
            WHERE id = %s
            """,
            [error, notification["id"]],
        )
        write_journal(
            connection,
            run,
            "error",
            f"The mail {notification['kind']} (notification {notification['id']}) cannot be delivered: {error}",
            campaign_id=notification["campaign_id"],
            delivery_id=notification["delivery_id"],
        )
        self.log.error("notification %s (%s): %s", notification["id"], notification["kind"], error)
