"""The benchmark of costs, tiny: that it still runs, and that what it sets beside ours is the same to the cent."""

from __future__ import annotations

import pytest

from bench import _budget_frames, budget

DELIVERIES = 100


@pytest.fixture
def bench(dsn: str, monkeypatch: pytest.MonkeyPatch) -> budget.Bench:
    monkeypatch.setenv("AIRFLOW_CONN_CAMPAIGN_DB", "")
    filled = budget.Bench(dsn, DELIVERIES)
    filled.fill()
    return filled


def test_all_come_to_the_same_amounts(bench: budget.Bench) -> None:
    bench.measure_full()
    bench.measure_by_hand()
    bench.check()
    for peer in _budget_frames.PEERS.values():
        bench.sql(budget.read("peer_tables"))
        peer(bench.dsn)
        assert bench.connection.execute(budget.read("differing_peer")).fetchone() == (0, 0)
        assert bench.connection.execute(
            "SELECT (SELECT count(*) FROM peer.expense_item WHERE explanation LIKE '% = %'), "
            "(SELECT sum(below_amount) FROM peer.cost_total WHERE level = 'plan') = "
            "(SELECT sum(amount) FROM campaign.cost_line), "
            "(SELECT sum(amount) FROM peer.budget_charge) = (SELECT sum(amount) FROM campaign.budget_charge)"
        ).fetchone() == (5 * DELIVERIES, True, True)
    bench.measure_changes(10)
    bench.connection.close()
