"""SMS and push: requests that the provider can tell apart, and what becomes of each message."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest

from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.sql.test_delivery_sending import messages, ready, setting, status

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

Answer = tuple[int, dict[str, Any]]


class Provider:
    """A provider of SMS and push on the loopback address: keeps what it gets, and knows its keys.

    :ivar requests: what came, in order, as (idempotency key, body, headers).
    :ivar delivered: the ids of messages that it took, in order; a key that it knows takes none again.
    :ivar answer: the answer to a request, given its body; a status of 0 drops the line after taking it.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.delivered: list[str] = []
        self.answer: Callable[[dict[str, Any]], Answer] = lambda body: (200, {})
        self._known: set[str] = set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = self.headers["Idempotency-Key"]
                provider.requests.append((key, body, dict(self.headers)))
                code, said = provider.answer(body)
                if code in (0, 200) and key not in provider._known:
                    provider._known.add(key)
                    refused = {result["id"] for result in said.get("results", []) if result["status"] != "sent"}
                    provider.delivered += [one["id"] for one in body["messages"] if one["id"] not in refused]
                if code == 0:
                    self.connection.close()
                    return
                content = json.dumps(said).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    provider = Provider()
    connection = {
        "conn_type": "http",
        "host": "http://127.0.0.1",
        "port": provider.server.server_port,
        "extra": {"endpoint": "/v1/messages", "headers": {"Authorization": "Bearer secret"}, "timeout": 5},
    }
    monkeypatch.setenv("AIRFLOW_CONN_TEXTERS", json.dumps(connection))
    yield provider
    provider.close()


@pytest.fixture
def campaign(factory: Factory) -> int:
    return factory.campaign(internal_name="loyalty", label="Loyalty", owner_id=factory.staff(internal_name="olga"))


@pytest.fixture
def service(factory: Factory) -> int:
    texters = factory.insert("provider", internal_name="texters", label="Texters", message_conn_id="texters")
    return factory.insert("service", internal_name="sms", label="SMS", provider_id=texters)


def test_sms_goes_out_in_requests_with_a_key_each(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    service: int,
    provider: Provider,
    run_workflow: Workflow,
) -> None:
    setting(db, "messages_per_request", 2)
    delivery = ready(
        db, factory, campaign, count=3, channel="sms", service_id=service, body_text="Hi {{ recipient.first_name }}"
    )
    run_workflow("deliveryMgt", NOW)
    assert status(db, delivery) == "finished"
    assert messages(db, delivery) == {("sent", None): 3}
    keys = [
        key for (key,) in db.execute("SELECT campaign.message_key(%s, n) FROM generate_series(1, 3) AS n", [delivery])
    ]
    assert [body for _, body, _ in provider.requests] == [
        {
            "delivery": provider.requests[0][1]["delivery"],
            "channel": "sms",
            "messages": [{"id": keys[n - 1], "to": f"+46 70 {n}", "text": f"Hi Åsa {n}"} for n in numbers],
        }
        for numbers in ([1, 2], [3])
    ]
    assert len({key for key, *_ in provider.requests}) == 2
    assert provider.requests[0][2]["Authorization"] == "Bearer secret"
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert len(provider.requests) == 2


def test_push_has_a_title(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    service: int,
    provider: Provider,
    run_workflow: Workflow,
) -> None:
    ready(db, factory, campaign, count=1, channel="push", service_id=service, subject="Sale", body_text="Now")
    run_workflow("deliveryMgt", NOW)
    [(_, body, _)] = provider.requests
    assert [{**message, "id": ""} for message in body["messages"]] == [
        {"id": "", "to": "token-1", "title": "Sale", "text": "Now"}
    ]


def test_each_message_has_the_state_that_the_provider_answers(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    service: int,
    provider: Provider,
    run_workflow: Workflow,
) -> None:
    delivery = ready(db, factory, campaign, count=3, channel="sms", service_id=service)
    provider.answer = lambda body: (
        200,
        {
            "results": [
                {"id": body["messages"][0]["id"], "status": "failed", "error": "no such number"},
                {"id": body["messages"][1]["id"], "status": "retry", "error": "network busy"},
            ]
        },
    )
    run_workflow("deliveryMgt", NOW)
    assert messages(db, delivery) == {
        ("failed", "the provider says: no such number"): 1,
        ("pending", "the provider says: network busy"): 1,
        ("sent", None): 1,
    }
    provider.answer = lambda body: (200, {})
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert status(db, delivery) == "finished"
    assert [len(body["messages"]) for _, body, _ in provider.requests] == [3, 1]
    assert len(provider.delivered) == len(set(provider.delivered)) == 2


@pytest.mark.parametrize("code", [429, 503, 0])
def test_request_without_an_answer_is_repeated_as_it_was(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    service: int,
    provider: Provider,
    run_workflow: Workflow,
    code: int,
) -> None:
    delivery = ready(db, factory, campaign, count=3, channel="sms", service_id=service)
    provider.answer = lambda body: (code, {})
    with pytest.raises(RuntimeError, match="waits for the next run"):
        run_workflow("deliveryMgt", NOW)
    assert messages(db, delivery) == {("pending", None): 3}
    # What is edited meanwhile does not change the request.
    db.execute("UPDATE campaign.recipient SET phone = '+1'")
    provider.answer = lambda body: (200, {})
    run_workflow("deliveryMgt", NOW + MINUTE / 2)
    assert len(provider.requests) == 1
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert status(db, delivery) == "finished"
    assert messages(db, delivery) == {("sent", None): 3}
    first, second = provider.requests
    assert first[:2] == second[:2]
    assert len(provider.delivered) == len(set(provider.delivered)) == 3


def test_refused_request_is_final_and_tries_end(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    service: int,
    provider: Provider,
    run_workflow: Workflow,
) -> None:
    setting(db, "message_tries", 2)
    refused = ready(db, factory, campaign, count=1, channel="sms", service_id=service)
    provider.answer = lambda body: (422, {"error": "bad"})
    run_workflow("deliveryMgt", NOW)
    assert messages(db, refused) == {("failed", 'the provider refused the request: 422 {"error": "bad"}'): 1}
    tried = ready(db, factory, campaign, count=1, channel="sms", service_id=service)
    provider.answer = lambda body: (500, {})
    with pytest.raises(RuntimeError, match="the provider says 500"):
        run_workflow("deliveryMgt", NOW + MINUTE)
    run_workflow("deliveryMgt", NOW + 5 * MINUTE)
    assert messages(db, tried) == {
        ("failed", "unknown whether it left, after 2 tries: the provider says 500 {}"): 1,
    }
    assert (status(db, refused), status(db, tried)) == ("finished", "finished")


def test_provider_that_is_away_does_not_hold_up_mail(
    db: psycopg.Connection[Any],
    factory: Factory,
    campaign: int,
    service: int,
    provider: Provider,
    run_workflow: Workflow,
    mail_server: MailServer,
) -> None:
    sms = ready(db, factory, campaign, channel="sms", service_id=service)
    mail = ready(db, factory, campaign)
    provider.answer = lambda body: (401, {})
    with pytest.raises(RuntimeError, match="connection texters: the provider does not let us in: 401"):
        run_workflow("deliveryMgt", NOW)
    assert messages(db, mail) == {("sent", None): 3}
    assert messages(db, sms) == {("pending", None): 3}
    provider.answer = lambda body: (200, {})
    run_workflow("deliveryMgt", NOW + MINUTE)
    assert (status(db, sms), status(db, mail)) == ("finished", "finished")
    assert len(mail_server.messages) == 3
