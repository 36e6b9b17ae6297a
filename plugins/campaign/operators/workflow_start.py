"""Start the queued workflows of campaigns as DAG runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from campaign.dag_runs import DagRunError, require_runnable_dag, start_dag_run
from campaign.database import Connection, Row, execute_statements, workflow_transaction
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.run import Run
from campaign.statements import read_statement

if TYPE_CHECKING:
    from airflow.sdk import Context


class WorkflowStartStep(WorkflowStep):
    """Start each queued workflow as the DAG run that its row names, and record what came of it.

    The row, with the run id, was committed before; a crash between the start and its record is mended
    by the next run, which finds the DAG run under that id. A DAG that is missing or paused is said on
    the workflow, and tried again by the next run.
    """

    def perform(self, run: Run, context: Context) -> Summary:
        """Start the workflows, then record all outcomes in one transaction."""
        with workflow_transaction(run) as connection:
            workflows = self._select(connection, run)
        outcomes = [self._start(workflow) for workflow in workflows]
        with workflow_transaction(run) as connection:
            return record_outcomes(connection, run, outcomes)

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Say which workflows would be started, and which cannot be; record that in the open transaction."""
        outcomes = [self._look(workflow) for workflow in self._select(connection, run)]
        return record_outcomes(connection, run, outcomes)

    def _select(self, connection: Connection, run: Run) -> list[Row]:
        statement = read_statement("operation_mgt/select_startable_workflows.sql")
        return execute_statements(connection, statement, run.binds())[0]

    def _start(self, workflow: Row) -> dict[str, Any]:
        """Start one workflow, and return what came of it."""
        try:
            start_dag_run(workflow["dag_id"], workflow["run_id"], workflow["conf"])
        except DagRunError as error:
            return self._trouble(workflow, error)
        self.log.info("Started %s as %s of %s", workflow["internal_name"], workflow["run_id"], workflow["dag_id"])
        return {"id": workflow["id"], "outcome": "started"}

    def _look(self, workflow: Row) -> dict[str, Any]:
        """Return what would come of a start; whether its parameters are refused, only the start says."""
        try:
            require_runnable_dag(workflow["dag_id"])
        except DagRunError as error:
            return self._trouble(workflow, error)
        self.log.info("Would start %s as %s of %s", workflow["internal_name"], workflow["run_id"], workflow["dag_id"])
        return {"id": workflow["id"], "outcome": "started"}

    def _trouble(self, workflow: Row, error: DagRunError) -> dict[str, Any]:
        self.log.warning("%s: %s", workflow["internal_name"], error)
        outcome = "failed" if error.is_final else "blocked"
        return {"id": workflow["id"], "outcome": outcome, "reason": str(error)}


def record_outcomes(connection: Connection, run: Run, outcomes: list[dict[str, Any]]) -> Summary:
    """Record what became of workflows, with all that follows from it.

    :param outcomes: per workflow its ``id``, the ``outcome`` (started, blocked, finished, failed), and
        the ``reason`` when it is blocked or failed.
    """
    binds = run.binds() | {"outcomes": Jsonb(outcomes)}
    return execute_statements(connection, read_statement("operation_mgt/record_workflows.sql"), binds)[0][0]
