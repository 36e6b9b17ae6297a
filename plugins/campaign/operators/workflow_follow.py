"""Follow the workflows of campaigns to the end of their DAG runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from psycopg.types.json import Jsonb

from campaign.dag_runs import ENDED, DagRunError, dag_run_state, require_runnable_dag, stop_dag_run
from campaign.database import Connection, Row, execute_statements, workflow_transaction
from campaign.operators.workflow_start import record_outcomes
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.run import Run
from campaign.statements import read_statement

if TYPE_CHECKING:
    from airflow.sdk import Context

OUTCOME_OF_STATE = {"success": "finished", "failed": "failed"}


class WorkflowFollowStep(WorkflowStep):
    """Record the end of each running workflow, stop the runs of canceled ones, and drop what killed runs left."""

    stays_in_the_house: ClassVar[bool] = True

    def perform(self, run: Run, context: Context) -> Summary:
        """Ask Airflow for the state of each run, then record the ends in one transaction."""
        with workflow_transaction(run) as connection:
            workflows = self._select(connection, run)
            canceled = self._select_canceled(connection, run)
        outcomes = [outcome for workflow in workflows if (outcome := self._look(workflow))]
        stops = [self._stop(workflow) for workflow in canceled]
        with workflow_transaction(run) as connection:
            summary = {"workflows_followed": len(workflows), **self._record(connection, run, outcomes)}
            return {**summary, "runs_stopped": self._record_stops(connection, run, stops)["runs_stopped"]}

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Look at the runs, which changes nothing, and record their ends in the open transaction."""
        workflows = self._select(connection, run)
        outcomes = [outcome for workflow in workflows if (outcome := self._look(workflow))]
        return {
            "workflows_followed": len(workflows),
            **self._record(connection, run, outcomes),
            "runs_stopped": sum(map(self._goes_on, self._select_canceled(connection, run))),
        }

    def _record(self, connection: Connection, run: Run, outcomes: list[dict[str, Any]]) -> Summary:
        summary = record_outcomes(connection, run, outcomes)
        return {
            **{name: summary[name] for name in ("workflows_finished", "workflows_failed", "deliveries_failed")},
            **self._drop_stale_sets(connection, run),
        }

    def _select(self, connection: Connection, run: Run) -> list[Row]:
        statement = read_statement("operation_mgt/select_running_workflows.sql")
        return execute_statements(connection, statement, run.binds())[0]

    def _look(self, workflow: Row) -> dict[str, Any] | None:
        """Return how a workflow ended; None while it runs."""
        try:
            state = dag_run_state(workflow["dag_id"], workflow["run_id"])
        except DagRunError as error:
            self.log.warning("%s: %s", workflow["internal_name"], error)
            if not error.is_final:
                return None
            return {"id": workflow["id"], "outcome": "failed", "reason": str(error)}
        self.log.info("%s: its run %s is %s", workflow["internal_name"], workflow["run_id"], state)
        if outcome := OUTCOME_OF_STATE.get(state):
            return {"id": workflow["id"], "outcome": outcome}
        return self._look_at_dag(workflow)

    def _look_at_dag(self, workflow: Row) -> dict[str, Any] | None:
        """Return what keeps a run from its end that has none yet: Airflow leaves those of a paused DAG alone."""
        try:
            require_runnable_dag(workflow["dag_id"])
        except DagRunError as error:
            self.log.warning("%s: %s", workflow["internal_name"], error)
            return {"id": workflow["id"], "outcome": "blocked", "reason": str(error)}
        return None

    def _select_canceled(self, connection: Connection, run: Run) -> list[Row]:
        statement = read_statement("operation_mgt/select_canceled_workflows.sql")
        return execute_statements(connection, statement, run.binds())[0]

    def _stop(self, workflow: Row) -> dict[str, Any]:
        """Stop the run of a canceled workflow, and return what came of it."""
        try:
            stopped = stop_dag_run(workflow["dag_id"], workflow["run_id"])
        except DagRunError as error:
            self.log.warning("%s was canceled, and goes on: %s", workflow["internal_name"], error)
            return {"id": workflow["id"], "outcome": "goes_on", "reason": str(error)}
        return {"id": workflow["id"], "outcome": "stopped" if stopped else "over"}

    def _goes_on(self, workflow: Row) -> bool:
        """Say whether the run of a canceled workflow is there to be stopped."""
        try:
            return dag_run_state(workflow["dag_id"], workflow["run_id"]) not in ENDED
        except DagRunError as error:
            self.log.warning("%s was canceled: %s", workflow["internal_name"], error)
            return False

    def _record_stops(self, connection: Connection, run: Run, stops: list[dict[str, Any]]) -> Summary:
        statement = read_statement("operation_mgt/record_stops.sql")
        return execute_statements(connection, statement, run.binds() | {"stops": Jsonb(stops)})[0][0]

    def _drop_stale_sets(self, connection: Connection, run: Run) -> Summary:
        statement = read_statement("operation_mgt/drop_stale_sets.sql")
        return execute_statements(connection, statement, run.binds())[0][0]
