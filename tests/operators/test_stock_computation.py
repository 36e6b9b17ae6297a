"""StockComputation in a DAG of a team's own: up to date, in turn with stockMgt, and refusing shortage."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.sdk import DAG

from campaign.database import SQL_FOLDER
from campaign.operators.stock_computation import (
    StockComputation,
    StockShortageError,
    UnknownStockLineError,
    UnknownStockStateError,
)
from tests.conftest import Workflow
from tests.factories import Factory
from tests.stock_world import Warehouse

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def house(db: psycopg.Connection[Any], factory: Factory, mail_server: Any) -> Warehouse:
    return Warehouse(db, factory)


def check_envelopes(as_of: datetime = NOON, params: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    """Run the step as a DAG of a team's own would."""
    with DAG("campaignEnvelopes", schedule=None, template_searchpath=[str(SQL_FOLDER)]):
        step = StockComputation(task_id="check_envelopes", stock_lines=["envelopes"], **arguments)
    return execute(step, as_of, params)


def execute(step: StockComputation, as_of: datetime = NOON, params: dict[str, Any] | None = None) -> dict[str, Any]:
    dag_run = SimpleNamespace(run_type="manual", data_interval_end=None, logical_date=as_of, run_after=as_of)
    context: Any = {"dag": step.dag, "task": step, "run_id": "manual", "dag_run": dag_run, "params": params or {}}
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


def test_example_of_the_page_returns_what_the_page_says(house: Warehouse) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "stock.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    [returned] = re.findall(r"`(\{\"stock_lines\": .*?\})`", page)
    line = house.line("envelopes-c5", 5000, 2000)
    house.extract(house.delivery(house.uses(line)), 3400, NOON)
    house.order(line, "2026-11-16", 10_000, ordered_at=NOON)
    names: dict[str, Any] = {}
    with DAG("campaignEnvelopes", schedule=None, template_searchpath=[str(SQL_FOLDER)]):
        exec(example, names)  # noqa: S102
    summary = execute(names["check_envelopes"])
    assert {"stock_lines": summary["stock_lines"]} == json.loads(returned)


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


def test_state_that_does_not_exist_is_refused_before_anything_is_done(house: Warehouse) -> None:
    house.extract(house.delivery(house.uses(house.line("envelopes"))), 10, NOON)
    with pytest.raises(UnknownStockStateError, match=r"^refused_states: empty; there are low and insufficient\.$"):
        check_envelopes(refused_states=["low", "empty"])
    assert house.consumption() == []


def test_run_for_the_past_says_where_the_line_stood_then(house: Warehouse, run_workflow: Workflow) -> None:
    line = house.line("envelopes")
    house.extract(house.delivery(house.uses(line)), 950, NOON - timedelta(days=1))
    house.order(line, "2026-11-02", 5000, ordered_at=NOON - timedelta(days=2))
    run_workflow("stockMgt", NOON)
    assert check_envelopes(NOON - timedelta(days=1))["stock_lines"] == {
        "envelopes": {"in_stock": 50, "on_order": 5000, "state": "low"}
    }
    with pytest.raises(StockShortageError, match=r"^Stock is short: envelopes \(50, low\)\."):
        check_envelopes(NOON - timedelta(days=1), refused_states=["low"])


def test_run_for_the_past_leaves_the_present_alone(house: Warehouse, run_workflow: Workflow) -> None:
    line = house.line("envelopes")
    run_workflow("stockMgt", NOON)
    house.extract(house.delivery(house.uses(line)), 10, NOON - timedelta(days=1))
    assert check_envelopes(NOON - timedelta(hours=1))["consumptions_recorded"] == 0
    assert house.consumption() == []
