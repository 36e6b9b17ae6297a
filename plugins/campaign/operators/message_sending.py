"""Send messages of online deliveries: one task's share of what is due."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httpx
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

from campaign.database import Connection, Row, connect, execute_statements
from campaign.operators.notification import DEFAULT_SENDER
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.run import Run
from campaign.sending import Message, Outcome, SendingHaltedError
from campaign.sending.batch import Batch, take_batch
from campaign.sending.content import Content
from campaign.sending.mail_form import MailForm, wire_address
from campaign.sending.mail_sender import MailSender
from campaign.sending.pace import Pace
from campaign.sending.provider_sender import ProviderSender, make_content
from campaign.sending.smtp_line import SmtpLine
from campaign.statements import read_statement
from campaign.templating import TemplateRefusedError

if TYPE_CHECKING:
    import smtplib

    from airflow.sdk import Context

SETTINGS = """
SELECT
    extract(EPOCH FROM (value #>> '{}')::interval)::double precision AS slice,
    campaign.number_setting('lines_per_worker', 16)::integer AS lines,
    campaign.number_setting('messages_per_request', 200)::integer AS per_request,
    campaign.number_setting('message_tries', 5)::integer AS tries
FROM campaign.setting
WHERE name = 'sending_slice'
"""


class MessageSendingStep(WorkflowStep):
    """Send the batches of one share, one after the other, for as long as a run may send.

    Each batch is taken under a lock of its own, so that a second task with the same share, say a retry while
    the first still runs, passes it over. Every message is noted before it can be taken by anybody outside, and
    after it was: ``docs/deliveries.md`` says what that means when something is killed. Being ended by Airflow
    (SIGTERM), it hears the answers to what has left, notes them, and leaves the rest to the next run.

    :param share: ``{"batches": [[batch id, messages a minute or None], ...]}``, from :class:`BatchPlanStep`.
    """

    ui_color = "#e6f4ea"

    def __init__(self, *, share: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.share = share
        self._is_ended = False

    def on_kill(self) -> None:
        """Let nothing more go; what has left is still noted."""
        self._is_ended = True

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Send nothing."""
        return {}

    def perform(self, run: Run, context: Context) -> Summary:
        """Send the share, and say what became of its messages."""
        summary: Summary = dict.fromkeys(("sent", "failed", "postponed", "unknown"), 0)
        halted: dict[str, str] = {}
        hindered: dict[int, str] = {}
        served: dict[int, Counter[str]] = defaultdict(Counter)
        with connect(run.application_name) as connection, ExitStack() as senders:
            connection.execute("SELECT set_config('campaign.run_id', %s, false)", [run.run_id])
            settings = _read_settings(connection)
            over_at = time.monotonic() + settings["slice"]
            carrier = _Carrier(senders, settings, is_over=lambda: self._is_ended or time.monotonic() > over_at)
            for batch_id, per_minute in self.share["batches"]:
                if carrier.is_over():
                    break
                carrier.pace.limit(per_minute)
                with take_batch(connection, batch_id, run.as_of) as batch:
                    if batch is None:
                        continue
                    delivery_id, conn_id = batch.content["delivery_id"], batch.content["conn_id"]
                    try:
                        if conn_id not in halted:
                            carrier.send(batch)
                    except SendingHaltedError as error:
                        halted[conn_id] = str(error)
                if conn_id in halted:
                    hindered[delivery_id] = f"the connection {conn_id} takes nothing ({halted[conn_id]}). Mend that."
                served[delivery_id].update(batch.counts)
                for kind, count in batch.counts.items():
                    summary[kind] += count
            _note_share(connection, run, hindered, served)
            if carrier.is_over():
                # There is more to send: the next run goes on at once.
                connection.execute("SELECT pg_notify('campaign_event', %s)", [run.dag_id])
                connection.commit()
        if halted:
            reasons = "; ".join(f"connection {conn_id}: {reason}" for conn_id, reason in halted.items())
            raise SendingHaltedError(f"Not all could be sent, and waits for the next run. {reasons}. So far: {summary}")
        return {f"messages_{kind}": count for kind, count in summary.items()}


class _Carrier:
    """The senders of a task, one for each connection, opened when they are first needed."""

    def __init__(self, stack: ExitStack, settings: Row, is_over: Callable[[], bool]) -> None:
        self.stack = stack
        self.settings = settings
        self.is_over = is_over
        self.pace = Pace()
        self._mail: dict[tuple[str, str], MailSender] = {}
        self._providers: dict[str, ProviderSender] = {}
        self._contents: dict[int, tuple[Content, MailForm]] = {}
        self._default_senders: dict[str, str] = {}

    def send(self, batch: Batch) -> None:
        """Send a batch through the connection that it names."""
        if batch.content["channel"] == "email":
            content, form = self._content(batch)
            sender = self._mail_sender(batch.content["conn_id"], form.sender_address)
            sender.send(make_mails(batch.read_messages(), content, form), batch)
        else:
            self._provider_sender(batch.content["conn_id"]).send(batch)

    def _content(self, batch: Batch) -> tuple[Content, MailForm]:
        """Return the templates of a delivery, compiled once, and its headers."""
        row = batch.content
        if row["delivery_id"] not in self._contents:
            if row["conn_id"] not in self._default_senders:
                with _halted_by_its_settings():
                    hook = SmtpHook(row["conn_id"])
                    hook.smtp_connection = hook.get_connection(row["conn_id"])
                    self._default_senders[row["conn_id"]] = hook.from_email or DEFAULT_SENDER
            try:
                form = MailForm(row["sender"] or self._default_senders[row["conn_id"]])
            except ValueError as error:
                raise SendingHaltedError(f"the sender of {row['delivery_label']}: {error}") from error
            self._contents[row["delivery_id"]] = make_content(row), form
        return self._contents[row["delivery_id"]]

    def _mail_sender(self, conn_id: str, address: str) -> MailSender:
        if (conn_id, address) not in self._mail:
            sender = MailSender(partial(open_line, conn_id, address), self.settings["lines"], self.pace, self.is_over)
            self.stack.callback(sender.close)
            self._mail[conn_id, address] = sender
        return self._mail[conn_id, address]

    def _provider_sender(self, conn_id: str) -> ProviderSender:
        if conn_id not in self._providers:
            with _halted_by_its_settings():
                client, path = open_client(conn_id)
            self.stack.callback(client.close)
            self._providers[conn_id] = ProviderSender(
                client,
                path,
                size=self.settings["per_request"],
                tries=self.settings["tries"],
                pace=self.pace,
                is_over=self.is_over,
            )
        return self._providers[conn_id]


@contextmanager
def _halted_by_its_settings() -> Iterator[None]:
    """Let a connection that is missing, or set up wrongly, hold up only what goes through it."""
    try:
        yield
    except (AirflowException, AirflowRuntimeError, httpx.InvalidURL, ValueError, TypeError) as error:
        raise SendingHaltedError(f"it is missing, or set up wrongly: {error}") from error


def make_mails(rows: list[Row], content: Content, form: MailForm) -> Iterator[Message | Outcome]:
    """Make the mails of a batch, one by one; a mail that cannot be made is an outcome, with the reason."""
    for row in rows:
        try:
            address = wire_address(row["email"])
            mail = form.write(address, row["key"], content.render(row), content.unsubscribe(row["key"]))
        except (ValueError, TemplateRefusedError) as error:
            yield Outcome(row["recipient_id"], "failed", f"not sent: {error}")
        else:
            yield Message(row["recipient_id"], address, mail)


def open_line(conn_id: str, sender_address: str) -> SmtpLine:
    """Connect and log in to a mail server as its Airflow connection says.

    :raises smtplib.SMTPException: when it does not let us in.
    :raises OSError: when it cannot be reached.
    :raises SendingHaltedError: when the connection cannot be used as it is.
    """
    with _halted_by_its_settings():
        hook = SmtpHook(conn_id).get_conn()
    client = cast("smtplib.SMTP", hook._smtp_client)
    client.ehlo_or_helo_if_needed()
    return SmtpLine(client, sender_address, patience=float(hook.timeout))


def open_client(conn_id: str) -> tuple[httpx.Client, str]:
    """Return a client for a provider, as its Airflow connection says, and the path of its endpoint.

    The connection is of the type HTTP: host (with ``https://``, or the schema field), port, and a login for Basic
    authentication. Its extras may hold ``endpoint``, ``headers`` (like ``{"Authorization": "Bearer ..."}``) and
    ``timeout`` in seconds.
    """
    connection = BaseHook.get_connection(conn_id)
    extra = connection.extra_dejson
    host = connection.host or ""
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    if connection.port:
        host = f"{host}:{connection.port}"
    client = httpx.Client(
        base_url=host,
        auth=(connection.login, connection.password or "") if connection.login else None,
        headers=extra.get("headers") or {},
        timeout=float(extra.get("timeout") or 30),
    )
    return client, str(extra.get("endpoint") or "/")


def _note_share(connection: Connection, run: Run, hindered: dict[int, str], served: dict[int, Counter[str]]) -> None:
    """Enter in the journal what was sent, and on deliveries what their messages wait for."""
    binds = run.binds() | {
        "hindered_ids": list(hindered),
        "reasons": list(hindered.values()),
        "served_ids": list(served),
        "sent_counts": [counts["sent"] for counts in served.values()],
        "failed_counts": [counts["failed"] for counts in served.values()],
    }
    with connection.transaction():
        execute_statements(connection, read_statement("delivery_mgt/note_share.sql"), binds)


def _read_settings(connection: Connection) -> Row:
    row = connection.execute(SETTINGS).fetchone()
    connection.commit()
    names = ("slice", "lines", "per_request", "tries")
    return dict(zip(names, row or (120.0, 16, 200, 5), strict=True))
