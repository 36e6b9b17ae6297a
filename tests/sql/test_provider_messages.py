"""SMS and push: requests that the provider can tell apart, and what becomes of each message."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.message_provider import MessageProvider
from tests.sql.test_delivery_sending import messages, ready, setting, status

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[MessageProvider]:
    provider = MessageProvider()
    monkeypatch.setenv("AIRFLOW_CONN_TEXTERS", provider.airflow_connection())
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
    provider: MessageProvider,
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
    provider: MessageProvider,
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
    provider: MessageProvider,
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
    provider: MessageProvider,
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
    provider: MessageProvider,
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
    provider: MessageProvider,
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
