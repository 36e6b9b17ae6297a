"""Run the statements of one SQL file as a step of a technical workflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from campaign.database import Connection, execute_statements, is_for_the_past, workflow_transaction
from campaign.operators.workflow_step import LINES_LOGGED, Summary, WorkflowStep
from campaign.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Context

REPORT_COLUMN = "report"


class SqlStep(WorkflowStep):
    """Run one SQL file in one transaction, under the lock of the workflow.

    The file may use the binds of :meth:`campaign.run.Run.binds` and ``%(is_past)s``. A statement that
    returns one row adds its columns to the step's summary: counts, under their names. A statement whose
    first column is called ``report`` writes each of its rows to the log instead.

    :param sql: path of the file below ``include/sql``. (templated)
    :param parameters: values for more binds of the file.
    """

    stays_in_the_house: ClassVar[bool] = True
    template_fields: Sequence[str] = ("sql",)
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "postgresql"}

    def __init__(self, *, sql: str, parameters: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.parameters = parameters

    def perform(self, run: Run, context: Context) -> Summary:
        """Run the file and commit."""
        with workflow_transaction(run) as connection:
            return self.rehearse(connection, run, context)

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Run the file in the open transaction."""
        binds = run.binds() | {"is_past": is_for_the_past(connection, run)} | (self.parameters or {})
        summary: Summary = {}
        for rows in execute_statements(connection, self.sql, binds):
            if rows and next(iter(rows[0])) == REPORT_COLUMN:
                self._log_report(rows)
            elif len(rows) == 1:
                summary |= rows[0]
        return summary

    def _log_report(self, rows: list[dict[str, Any]]) -> None:
        for row in rows[:LINES_LOGGED]:
            self.log.info(" | ".join(str(value) for value in row.values()))
        if len(rows) > LINES_LOGGED:
            self.log.info("... and %d more", len(rows) - LINES_LOGGED)
