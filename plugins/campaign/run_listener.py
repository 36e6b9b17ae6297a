"""Tells the workflows that a run they started has ended.

``operationMgt`` starts the DAG runs of workflows and ``providerMgt`` those of post-processing; neither
holds a worker while it waits. Airflow calls these functions in the scheduler when any run ends; for
theirs, news goes to the database, which starts them at once. What is missed here, their clock catches.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

from campaign.dag_runs import RUN_ID_PREFIX
from campaign.events import announce

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)

WAITING_WORKFLOWS = ("operationMgt", "providerMgt")


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Tell who waits for a run that ended well."""
    _announce_end(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Tell who waits for a run that failed."""
    _announce_end(dag_run)


def _announce_end(dag_run: DagRun) -> None:
    if not dag_run.run_id.startswith(RUN_ID_PREFIX):
        return
    try:
        announce(*WAITING_WORKFLOWS)
    except Exception:
        # The scheduler must go on whatever happens to news.
        log.warning("The end of %s %s could not be announced", dag_run.dag_id, dag_run.run_id, exc_info=True)
