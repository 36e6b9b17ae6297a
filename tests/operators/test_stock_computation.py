"""StockComputation in a DAG of a team's own: up to date, in turn with stockMgt, and refusing shortage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.sdk import DAG

from campaign.database import SQL_FOLDER
from campaign.operators.stock_computation import StockComputation, StockShortageError, UnknownStockLineError
from tests.conftest import Workflow
from tests.factories import Factory
from tests.stock_world import Warehouse

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def house(db: psycopg.Connection[Any], factory: Factory, mail_server: Any) -> Warehouse:
    return Warehouse(db, factory)


def check_envelopes(as_of: datetime = NOON, params: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    """Run the example of the operator's documentation."""
    with DAG("campaignEnvelopes", schedule=None, template_searchpath=[str(SQL_FOLDER)]) as dag:
        step = StockComputation(task_id="check_envelopes", stock_lines=["envelopes"], **arguments)
    dag_run = SimpleNamespace(run_type="manual", data_interval_end=None, logical_date=as_of, run_after=as_of)
    context: Any = {"dag": dag, "task": step, "run_id": "manual", "dag_run": dag_run, "params": params or {}}
    step = step.prepare_for_execution()
    step.render_template_fields(context)
    return step.execute(context)


def test_brings_the_stock_up_to_date_and_says_where_it_stands(house: Warehouse) -> None:
    line = house.line("envelopes")
    house.order(line, "2026-11-02", 5)
    house.extract(house.delivery(house.uses(line)), 10, NOON)
    assert check_envelopes() == {
        "orders_received": 1,
        "units_received": 5,
        "consumptions_recorded": 1,
        "positions_changed": 1,
        "positions_not_balanced": 0,
        "stock_lines": {"envelopes": {"in_stock": 995, "on_order": 0, "state": "ok"}},
    }
    assert house.rows("SELECT DISTINCT source, run_id FROM campaign.journal WHERE source <> 'edit'") == [
        ("stockMgt", "campaignEnvelopes.check_envelopes.manual")
    ]


def test_stock_mgt_goes_on_from_there(house: Warehouse, run_workflow: Workflow) -> None:
    line = house.line("envelopes")
    house.extract(house.delivery(house.uses(line)), 900, NOON)
    check_envelopes()
    summaries = run_workflow("stockMgt", NOON + timedelta(hours=1))
    assert summaries["compute_positions"]["positions_changed"] == 0
    assert summaries["alert_lines"]["alerts"] == 1


def test_refuses_a_line_that_is_short_after_it_computed(house: Warehouse) -> None:
    line = house.line("envelopes")
    house.extract(house.delivery(house.uses(line)), 1012, NOON)
    with pytest.raises(StockShortageError, match=r"^Stock is short: envelopes \(-12, insufficient\)\."):
        check_envelopes(refused_states=["insufficient"])
    assert house.position(line) == (0, 1012, 0, -12, "insufficient")


def test_low_passes_unless_it_is_refused(house: Warehouse) -> None:
    house.extract(house.delivery(house.uses(house.line("envelopes"))), 950, NOON)
    assert check_envelopes(refused_states=["insufficient"])["stock_lines"]["envelopes"]["state"] == "low"
    with pytest.raises(StockShortageError):
        check_envelopes(refused_states=["insufficient", "low"])


def test_unknown_line_is_named_and_nothing_is_done(house: Warehouse) -> None:
    house.extract(house.delivery(house.uses(house.line("paper"))), 10, NOON)
    with pytest.raises(UnknownStockLineError, match="no stock_line with the internal name envelopes"):
        check_envelopes()
    assert house.consumption() == []


def test_dry_run_says_what_it_would_do(house: Warehouse) -> None:
    house.extract(house.delivery(house.uses(house.line("envelopes"))), 10, NOON)
    summary = check_envelopes(params={"dry_run": True})
    assert summary["stock_lines"] == {"envelopes": {"in_stock": 990, "on_order": 0, "state": "ok"}}
    assert house.consumption() == []


def test_run_for_the_past_leaves_the_present_alone(house: Warehouse, run_workflow: Workflow) -> None:
    line = house.line("envelopes")
    run_workflow("stockMgt", NOON)
    house.extract(house.delivery(house.uses(line)), 10, NOON - timedelta(days=1))
    assert check_envelopes(NOON - timedelta(hours=1))["consumptions_recorded"] == 0
    assert house.consumption() == []
