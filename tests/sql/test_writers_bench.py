"""The benchmark of writers, tiny: that it still runs, and leaves everything as it was."""

from __future__ import annotations

from typing import Any

import pytest

from bench import budget, writers


def test_each_statement_is_measured_with_and_without_triggers(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CAMPAIGN_DB", "")
    bench = budget.Bench(dsn, 100)
    bench.fill()
    before = state(bench)
    for name in writers.STATEMENTS:
        writers.measure(bench, name)
    assert set(bench.times) == {f"{name}, {noted=}" for name in writers.STATEMENTS for noted in (False, True)}
    assert state(bench) == before
    bench.connection.close()


def state(bench: budget.Bench) -> list[tuple[Any, ...]]:
    return bench.connection.execute(
        "SELECT (SELECT array_agg(delivery.* ORDER BY id) FROM campaign.delivery AS delivery), "
        "(SELECT array_agg(selection.* ORDER BY id) FROM campaign.delivery_cost AS selection), "
        "(SELECT array_agg(format('%s %s', tgrelid::regclass, tgname) ORDER BY oid) FROM pg_trigger)"
    ).fetchall()
