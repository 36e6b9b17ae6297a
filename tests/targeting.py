"""Runs of targeting DAGs without a scheduler."""

from __future__ import annotations

import itertools
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from airflow.sdk import DAG

_runs = itertools.count(1)


def run_targeting(dag: DAG, as_of: datetime, *, run_id: str | None = None, **conf: Any) -> dict[str, dict[str, Any]]:
    """Execute the tasks of a targeting DAG in order; its teardowns run however the others went.

    Who gives the built-in targeting no criterion means everybody.

    :returns: per task what it returned.
    """
    run_id = run_id or f"manual__{next(_runs)}"
    params = {**{name: param.value for name, param in dag.params.items()}, "as_of": as_of.isoformat(), **conf}
    if "everybody" in dag.params and not any(params.get(name) for name in ("purchases", "where", "lists")):
        params["everybody"] = conf.get("everybody", True)
    dag_run = SimpleNamespace(data_interval_end=None, logical_date=None, run_after=as_of, run_id=run_id)
    summaries: dict[str, dict[str, Any]] = {}
    try:
        for task in dag.topological_sort():
            if not task.is_teardown:
                summaries[task.task_id] = execute(dag, task, run_id, dag_run, params)
    finally:
        for task in dag.topological_sort():
            if task.is_teardown:
                summaries[task.task_id] = execute(dag, task, run_id, dag_run, params)
    return summaries


def execute(dag: DAG, task: Any, run_id: str, dag_run: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Execute one task as Airflow would, its templates rendered."""
    context: Any = {"dag": dag, "task": task, "run_id": run_id, "dag_run": dag_run, "params": params}
    prepared = task.prepare_for_execution()
    prepared.render_template_fields(context)
    return dict(prepared.execute(context))
