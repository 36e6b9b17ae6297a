"""News: a row that leaves work for a workflow is heard by that workflow's trigger, and by it alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from campaign import events
from campaign.events import CampaignEventTrigger, announce
from tests.factories import Factory


async def hear(dag_id: str, cause: Callable[[], object], count: int, patience: float = 3.0) -> list[str]:
    """Listen for a workflow, cause something, and return what was heard."""
    heard: list[str] = []
    connected = asyncio.Event()

    async def listen() -> None:
        async for event in CampaignEventTrigger(dag_id).run():
            heard.append(event.payload["news"])
            connected.set()
            if len(heard) > count:
                return

    listening = asyncio.create_task(listen())
    await asyncio.wait_for(connected.wait(), 10)
    await asyncio.to_thread(cause)
    await asyncio.wait({listening}, timeout=patience)
    listening.cancel()
    return heard[1:]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SETTLE_SECONDS", 0.2)


def test_submitted_delivery_is_news_for_operation_mgt_only(db: psycopg.Connection[Any], factory: Factory) -> None:
    first, second = factory.delivery(), factory.delivery()

    def submit(delivery: int) -> Callable[[], object]:
        return lambda: db.execute("SELECT campaign.submit_delivery(%s)", [delivery])

    assert asyncio.run(hear("operationMgt", submit(first), 1)) == ["work"]
    assert asyncio.run(hear("providerMgt", submit(second), 1, patience=1.0)) == []


@pytest.mark.usefixtures("db")
def test_burst_of_news_is_one_event() -> None:
    assert asyncio.run(hear("budgetMgt", lambda: [announce("budgetMgt") for _ in range(5)], 2, patience=1.5)) == [
        "work"
    ]


@pytest.mark.usefixtures("db")
def test_news_after_news_is_heard_again() -> None:
    def twice() -> None:
        import time

        announce("budgetMgt")
        time.sleep(1)
        announce("budgetMgt")

    assert asyncio.run(hear("budgetMgt", twice, 2)) == ["work", "work"]


def test_statement_that_changes_no_row_is_no_news(db: psycopg.Connection[Any], factory: Factory) -> None:
    factory.delivery(status="target_ready")

    def nothing() -> None:
        db.execute("INSERT INTO campaign.workflow (internal_name) SELECT 'x' WHERE false")
        db.execute("UPDATE campaign.delivery SET status = status")

    for dag_id in ("operationMgt", "deliveryMgt"):
        assert asyncio.run(hear(dag_id, nothing, 1, patience=1.0)) == []
