"""Runs of technical workflows without a scheduler: their steps, in order, in this process."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.definitions.mappedoperator import MappedOperator

from campaign.operators.batch_plan import BatchPlanStep
from campaign.operators.workflow_step import WorkflowStep

Summaries = dict[str, dict[str, Any]]


def execute_workflow(
    dag: DAG, run_id: str, as_of: datetime, *, steps: tuple[str, ...] | None = None, **params: Any
) -> Summaries:
    """Execute the steps of a technical workflow in order.

    What an Airflow run adds (states, retries, XCom) is tested in acceptance/.

    :param steps: task_ids of the steps to execute; None: all.
    :param params: parameters of the run: ``campaign``, ``full``, ``dry_run``.
    :returns: each task's summary under its task_id; that of a mapped task adds up its instances, and is missing
        when there is none.
    """
    dag_run = SimpleNamespace(
        run_type="manual", data_interval_end=None, logical_date=None, run_after=as_of, run_id=run_id, dag_id=dag.dag_id
    )
    summaries: Summaries = {}
    shares: dict[str, list[Any]] = {}

    def execute(task: WorkflowStep) -> Any:
        context: Any = {
            "dag": dag,
            "task": task,
            "run_id": run_id,
            "dag_run": dag_run,
            "params": {"as_of": None, "campaign": None, "full": False, "dry_run": False, **params},
        }
        step = task.prepare_for_execution()
        step.render_template_fields(context)
        result = step.execute(context)
        if isinstance(step, BatchPlanStep):
            shares[task.task_id], result = result, step.summary
        return result

    for task in dag.topological_sort():
        if steps is not None and task.task_id not in steps:
            continue
        if isinstance(task, MappedOperator):
            # One instance for each element of what the step before returned, one after the other.
            [(name, argument)] = task.expand_input.value.items()
            done = [
                execute(task.unmap(task.partial_kwargs | {name: share})) for share in shares[argument.operator.task_id]
            ]
            if done:
                summaries[task.task_id] = {
                    key: sum(one[key] for one in done) if isinstance(value, int) else value
                    for key, value in done[0].items()
                }
        else:
            assert isinstance(task, WorkflowStep), f"{task.task_id} is no step of a workflow"
            summaries[task.task_id] = execute(task)
    return summaries
