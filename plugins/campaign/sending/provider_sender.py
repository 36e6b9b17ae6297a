"""Sends SMS and push messages to a provider's HTTP endpoint, in requests that the provider can tell apart."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from campaign.database import Row
from campaign.sending import Outcome, SendingHaltedError
from campaign.sending.batch import Batch
from campaign.sending.content import Content
from campaign.sending.pace import Pace
from campaign.templating import TemplateRefusedError

# Answers after which the same request may succeed later.
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
# The provider does not let us in: no message fares better.
NOT_LET_IN = {401, 403, 404, 405}
KINDS = {"sent": "sent", "failed": "failed", "retry": "postponed"}


class ProviderSender:
    """Posts messages to one provider.

    A request is kept in the database before it is made and repeated as it was, under the same
    ``Idempotency-Key``, until it is answered: whatever is killed when, the provider can tell that it knows it.

    :param client: with the address, the credentials and the time-out of the connection.
    :param path: of the endpoint, below the address.
    :param size: how many messages a request has.
    :param tries: how often a request is made, over all runs.
    :param is_over: asked between requests: whether to leave the rest to the next run.
    """

    def __init__(
        self,
        client: httpx.Client,
        path: str,
        *,
        size: int,
        tries: int,
        pace: Pace,
        is_over: Callable[[], bool],
    ) -> None:
        self.client = client
        self.path = path
        self.size = size
        self.tries = tries
        self.pace = pace
        self.is_over = is_over

    def send(self, batch: Batch) -> None:
        """Send what is due of a batch: first what an earlier sender asked for and got no answer to.

        :raises SendingHaltedError: when the provider cannot be reached, or does not let us in.
        """
        if batch.content["request_key"]:
            self._make_request(batch, batch.content["request_key"], json.loads(batch.content["request"]))
        content, waiting = make_content(batch.content), iter(batch.read_messages())
        for messages in self._cut(content, waiting, batch):
            ids = [message["recipient_id"] for message in messages]
            key = hashlib.sha256(
                json.dumps([batch.content["delivery_id"], [message["body"] for message in messages]]).encode()
            ).hexdigest()
            request = {"recipient_ids": ids, "body": self._body(batch, messages)}
            batch.keep_request(key, request)
            if not batch.note([], [], ids):
                batch.keep_request(None, None)
                return
            self._make_request(batch, key, request)

    def _cut(self, content: Content, waiting: Iterator[Row], batch: Batch) -> Iterator[list[Row]]:
        """Yield messages in portions, as the pace allows."""
        portion: list[Row] = []
        hindered: list[Outcome] = []
        for row in waiting:
            if self.is_over():
                break
            try:
                body = _message(batch.content["channel"], content, row)
            except TemplateRefusedError as error:
                hindered.append(Outcome(row["recipient_id"], "failed", str(error)))
                continue
            portion.append({"recipient_id": row["recipient_id"], "body": body})
            if len(portion) >= self.size or len(portion) >= max(1, self.pace.room()):
                yield portion
                portion = []
                self._wait()
        if hindered:
            batch.note(hindered, [], [])
        if portion and not self.is_over():
            yield portion

    def _wait(self) -> None:
        while not self.is_over() and (pause := self.pace.wait()) > 0:
            time.sleep(min(pause, 0.5))

    @staticmethod
    def _body(batch: Batch, messages: list[Row]) -> Row:
        return {
            "delivery": batch.content["delivery_name"],
            "channel": batch.content["channel"],
            "messages": [message["body"] for message in messages],
        }

    def _make_request(self, batch: Batch, key: str, request: Row) -> None:
        ids = request["recipient_ids"]
        self.pace.take(len(ids))
        try:
            answer = self.client.post(self.path, json=request["body"], headers={"Idempotency-Key": key})
        except httpx.HTTPError as error:
            self._postpone(batch, ids, f"the provider cannot be reached: {error}")
            return
        if answer.status_code in NOT_LET_IN:
            raise SendingHaltedError(f"the provider does not let us in: {answer.status_code} {answer.text[:200]}")
        if answer.status_code in TRY_AGAIN or answer.is_redirect:
            self._postpone(batch, ids, f"the provider says {answer.status_code} {answer.text[:200]}")
            return
        if answer.is_success:
            outcomes = list(read_answer(answer, request))
        else:
            reason = f"the provider refused the request: {answer.status_code} {answer.text[:200]}"
            outcomes = [Outcome(recipient_id, "failed", reason) for recipient_id in ids]
        batch.note(outcomes, [], [])
        batch.keep_request(None, None)

    def _postpone(self, batch: Batch, ids: list[int], reason: str) -> None:
        """Leave a request for a later run; give it up when it was made often enough."""
        if not batch.postpone_request(self.tries):
            outcomes = [
                Outcome(recipient_id, "unknown", f"unknown whether it left, after {self.tries} tries: {reason}")
                for recipient_id in ids
            ]
            batch.note(outcomes, [], [])
            batch.keep_request(None, None)
            return
        raise SendingHaltedError(reason)


def make_content(row: Row) -> Content:
    """Return the templates that a batch is sent as."""
    return Content({part: row[part] for part in ("subject", "body_text", "body_html")}, row)


def read_answer(answer: httpx.Response, request: Row) -> Iterator[Outcome]:
    """Yield what became of each message of a request.

    An answer may name the messages that it did not take: ``{"results": [{"id": ..., "status":
    "sent|failed|retry", "error": ...}]}``. What it does not name, it took.
    """
    try:
        said = {str(result["id"]): result for result in answer.json()["results"]}
    except (ValueError, KeyError, TypeError):
        said = {}
    for recipient_id, message in zip(request["recipient_ids"], request["body"]["messages"], strict=True):
        result: dict[str, Any] = said.get(message["id"], {})
        kind = KINDS.get(str(result.get("status", "sent")), "failed")
        error = None if kind == "sent" else f"the provider says: {str(result.get('error') or result['status'])[:500]}"
        yield Outcome(recipient_id, kind, error)


def _message(channel: str, content: Content, row: Row) -> dict[str, str]:
    parts = content.render(row)
    if channel == "sms":
        return {"id": row["key"], "to": row["phone"], "text": parts.body_text or ""}
    return {"id": row["key"], "to": row["push_token"], "title": parts.subject, "text": parts.body_text or ""}
