"""Record where the budgets stood on the day of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from campaign.database import Connection, execute_statements, is_for_the_past, workflow_transaction
from campaign.operators.cost_aggregation import CostAggregation
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Context


class CostHistory(WorkflowStep):
    """Record where the budgets stood on the day of the run.

    For the present, that is where they stand. For the past, the costs are calculated anew as of then by the
    very statements of the :class:`CostAggregation` before this step, the position is read, and all of it is
    rolled back: only the record of the day remains.

    :param position_sql: file whose statement returns the position as JSON, in one column. (templated)
    :param record_sql: file that records ``%(position)s`` for the day of ``%(as_of)s``. (templated)
    """

    stays_in_the_house: ClassVar[bool] = True
    template_fields: Sequence[str] = ("position_sql", "record_sql")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "position_sql": "postgresql",
        "record_sql": "postgresql",
    }

    def __init__(self, *, position_sql: str, record_sql: str, **kwargs: object) -> None:
        super().__init__(computes_the_past=True, **kwargs)
        self.position_sql = position_sql
        self.record_sql = record_sql

    def perform(self, run: Run, context: Context) -> Summary:
        """Record and commit."""
        with workflow_transaction(run) as connection:
            return self.rehearse(connection, run, context)

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Record in the open transaction."""
        if run.campaign is not None:
            self.log.info("The run is limited to a campaign: the day's position is that of all.")
            return {"amounts_of_the_day": 0}
        position = (
            self._past_position(connection, run, context)
            if is_for_the_past(connection, run)
            else self._read_position(connection, run)
        )
        summary: Summary = {}
        for rows in execute_statements(connection, self.record_sql, run.binds() | {"position": position}):
            summary |= rows[0]
        return summary

    def _past_position(self, connection: Connection, run: Run, context: Context) -> str:
        with connection.transaction(force_rollback=True):
            for step in self._steps_before():
                if isinstance(step, CostAggregation):
                    aggregation = step.prepare_for_execution()
                    aggregation.render_template_fields(context)
                    aggregation.calculate(connection, run)
            return self._read_position(connection, run)

    def _read_position(self, connection: Connection, run: Run) -> str:
        ((row,),) = execute_statements(connection, self.position_sql, run.binds())
        return str(row["position"])
