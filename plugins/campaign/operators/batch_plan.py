"""Share what is to be sent among the tasks that send it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from campaign.database import Connection, Row, execute_statements, workflow_transaction
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.run import Run
from campaign.statements import read_statement

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchPlanStep(WorkflowStep):
    """List the batches that are due, shared among tasks: what :class:`MessageSendingStep` is mapped over.

    Returns one element per task, ``{"batches": [[batch id, messages a minute or None], ...]}``; none in a dry
    run or a run for the past, so that nothing is sent.

    :ivar summary: the counts of the last execution.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._shares: list[Row] = []
        self.summary: Summary = {}

    def execute(self, context: Context) -> Any:
        """Do the step as the run asks, and return the shares instead of its counts."""
        self._shares = []
        self.summary = super().execute(context)
        return self._shares

    def perform(self, run: Run, context: Context) -> Summary:
        """Settle what a killed sender left, and share what is due."""
        with workflow_transaction(run) as connection:
            rows, summary = self._plan(connection, run)
        self._shares = [
            {"batches": [[row["batch_id"], row["per_minute"]] for row in share]}
            for _, share in groupby(rows, key=lambda row: row["worker"])
        ]
        return summary

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Say how many messages of which delivery would be sent, and take them for sent."""
        rows, summary = self._plan(connection, run)
        binds = run.binds() | {"batch_ids": [row["batch_id"] for row in rows]}
        [counted] = execute_statements(connection, read_statement("delivery_mgt/rehearse_batches.sql"), binds)
        for delivery in counted:
            self.log.info(
                "would send %d messages of %s (%s)", delivery["messages"], delivery["label"], delivery["internal_name"]
            )
        return summary

    def _plan(self, connection: Connection, run: Run) -> tuple[list[Row], Summary]:
        *counted, rows = execute_statements(connection, read_statement("delivery_mgt/plan_batches.sql"), run.binds())
        summary: Summary = {}
        for [counts] in counted:
            summary |= counts
        workers = {row["worker"] for row in rows}
        messages = sum(row["message_count"] for row in rows)
        return rows, summary | {"batches_due": len(rows), "messages_at_most": messages, "tasks_to_send": len(workers)}
