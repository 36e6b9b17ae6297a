"""Tells the database that a run has ended: one of the five, or one that they started.

Airflow calls these functions in the scheduler when any run ends. How a run of a technical workflow ended is
entered for the watch (:mod:`campaign.watch`). ``operationMgt`` starts the DAG runs of workflows and
``providerMgt`` those of post-processing; neither holds a worker while it waits: for theirs, news goes to the
database, which starts them at once. What is missed here, their clock catches.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

from campaign.dag_runs import RUN_ID_PREFIX
from campaign.events import announce
from campaign.watch import record_run_end
from campaign.workflow_dag import TECHNICAL_WORKFLOWS

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)

WAITING_WORKFLOWS = ("operationMgt", "providerMgt")


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Tell who waits for a run that ended well."""
    _tell_of_end(dag_run, "success")


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Tell who waits for a run that failed."""
    _tell_of_end(dag_run, "failed")


def _tell_of_end(dag_run: DagRun, state: str) -> None:
    try:
        if dag_run.dag_id in TECHNICAL_WORKFLOWS:
            record_run_end(dag_run.dag_id, dag_run.run_id, state)
        if dag_run.run_id.startswith(RUN_ID_PREFIX):
            announce(*WAITING_WORKFLOWS)
    except Exception:
        # The scheduler must go on whatever happens to news.
        log.warning("The end of %s %s could not be announced", dag_run.dag_id, dag_run.run_id, exc_info=True)
