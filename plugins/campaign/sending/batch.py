"""The bookkeeping of a batch: taken by one process, and every message noted before and after it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from campaign.database import Connection, Row, execute_statements
from campaign.sending import Outcome
from campaign.statements import read_statement


class Batch:
    """A batch that this process has taken.

    What is noted goes through the session that holds the batch's lock: a process that lost its session, and
    with it the lock, can note nothing, and so can let nothing leave. Its statements commit by themselves: to
    the database and back once for each note, not for the begin and the commit too.

    :param as_of: the moment of the run: retries are due after it.
    :ivar content: what it is sent as, and what an earlier sender left in flight.
    :ivar counts: outcomes noted, by kind.
    """

    def __init__(self, connection: Connection, batch_id: int, as_of: datetime, content: Row) -> None:
        self.connection = connection
        self.batch_id = batch_id
        self.as_of = as_of
        self.content = content
        self.counts = {"sent": 0, "failed": 0, "postponed": 0, "unknown": 0}

    def read_messages(self) -> list[Row]:
        """Return the messages to send now, each with its recipient's fields."""
        binds = {"batch_id": self.batch_id, "as_of": self.as_of}
        with self.connection.transaction():
            return execute_statements(self.connection, read_statement("delivery_mgt/take_batch.sql"), binds)[0]

    def note(self, outcomes: Sequence[Outcome], outstanding: Sequence[int], wanted: Sequence[int]) -> bool:
        """Note what became of messages and that others are about to leave, and commit.

        :param outstanding: recipients whose message has left, and whose answer has not come.
        :param wanted: recipients whose message is to leave next.
        :returns: whether they may leave: not when the delivery was paused, stopped or canceled meanwhile.
        """
        sent = [outcome.recipient_id for outcome in outcomes if outcome.kind == "sent"]
        failed = [outcome for outcome in outcomes if outcome.kind in ("failed", "unknown")]
        postponed = [outcome for outcome in outcomes if outcome.kind == "postponed"]
        found = self.connection.execute(
            "SELECT campaign.note_messages(%s, %s, %s, %s, %s::text[], %s::boolean[], %s, %s::text[], %s, %s)",
            [
                self.batch_id,
                self.as_of,
                sent,
                [outcome.recipient_id for outcome in failed],
                [outcome.error for outcome in failed],
                [outcome.kind == "unknown" for outcome in failed],
                [outcome.recipient_id for outcome in postponed],
                [outcome.error for outcome in postponed],
                list(outstanding),
                list(wanted),
            ],
        ).fetchone()
        for outcome in outcomes:
            self.counts[outcome.kind] += 1
        if failed or postponed:
            self.connection.execute(
                "SELECT campaign.stop_failing_delivery(%s, %s)", [self.content["delivery_id"], self.as_of]
            )
        return bool(found and found[0])

    def keep_request(self, key: str | None, request: Any) -> None:
        """Keep a request to a provider until it is answered, so that it can be repeated as it was; or forget it."""
        with self.connection.transaction():
            self.connection.execute(
                """
                UPDATE campaign.delivery_batch
                SET request_key = %s, request = %s, request_tries = 0
                WHERE id = %s
                """,
                [key, None if request is None else json.dumps(request), self.batch_id],
            )

    def postpone_request(self, tries: int) -> bool:
        """Leave the request that is kept for a later run; return False when it was made that often."""
        with self.connection.transaction():
            found = self.connection.execute(
                """
                UPDATE campaign.delivery_batch
                SET
                    request_tries = request_tries + 1,
                    next_try_at = %(as_of)s::timestamptz
                    + campaign.growing_pause('message_pauses', request_tries + 1)
                WHERE id = %(id)s
                RETURNING request_tries < %(tries)s
                """,
                {"as_of": self.as_of, "id": self.batch_id, "tries": tries},
            ).fetchone()
        return bool(found and found[0])


@contextmanager
def take_batch(connection: Connection, batch_id: int, as_of: datetime) -> Iterator[Batch | None]:
    """Take a batch for as long as the context lasts, and close it then.

    :param connection: with no transaction open; from here on, its statements commit by themselves.
    :returns: None when somebody else sends it, or there is nothing of it to send any more.
    """
    connection.autocommit = True
    locked = connection.execute("SELECT pg_try_advisory_lock(campaign.batch_lock(%s))", [batch_id]).fetchone()
    if not locked or not locked[0]:
        yield None
        return
    try:
        with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
            content = cursor.execute(
                read_statement("delivery_mgt/take_batch_content.sql").encode(), {"batch_id": batch_id}
            ).fetchone()
            if content and content["channel"] == "email" and content["in_flight"]:
                connection.execute("SELECT campaign.settle_batch(%s)", [batch_id])
        yield Batch(connection, batch_id, as_of, content) if content else None
    finally:
        if not connection.closed:
            connection.rollback()
            connection.execute("SELECT campaign.close_batch(%s)", [batch_id])
            connection.execute("SELECT pg_advisory_unlock(campaign.batch_lock(%s))", [batch_id])
