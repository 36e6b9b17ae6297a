"""Calculate costs from their sources, and total them level by level, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from jinja2 import Environment, StrictUndefined

from campaign.database import (
    SQL_FOLDER,
    Connection,
    execute_statements,
    is_for_the_past,
    workflow_transaction,
)
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Context

REPORT_COLUMN = "report"
LEVEL_SQL = SQL_FOLDER / "cost_aggregation" / "total_level.sql"


@dataclass(frozen=True, kw_only=True)
class CostBelow:
    """What a level sums: the ``calculated_cost`` of the rows of a table that belong to its rows.

    :param table: like ``campaign.task``.
    :param column: the column of that table that names the row they belong to, like ``program_id``.
    :param condition: which of its rows count, as SQL over the alias ``below``.
    """

    table: str
    column: str
    condition: str = "true"


@dataclass(frozen=True, kw_only=True)
class LevelAbove:
    """The level that a level is part of.

    :param name: name of that level.
    :param column: the column of this level's table that names the row above, like ``plan_id``.
    """

    name: str
    column: str


@dataclass(frozen=True, kw_only=True)
class CostLevel:
    """A level on which costs are totalled: a table with ``id``, ``real_cost``, ``provisional_cost`` and
    ``calculated_cost``.

    :param name: short name, as sources write it into ``changed_cost``, like ``program``.
    :param table: like ``campaign.program``.
    :param below: what it sums.
    :param above: the level that it is part of, or None for the top.
    """

    name: str
    table: str
    below: tuple[CostBelow, ...]
    above: LevelAbove | None = None


class CostAggregation(WorkflowStep):
    """Calculate costs from their sources, then total them level by level, all in one transaction.

    A *source* is an SQL file that calculates the cost of something and says what has changed: it inserts
    ``(level, id)`` of the row above into the work table ``changed_cost``. Sources run in the order given.
    Then each *level*, from below to the top, totals its changed rows (the real cost entered, else the sum of
    what is below, else the provisional cost) and passes the rows above on. As all of it is one transaction,
    every total is the sum of what is below it at any moment that anybody can see.

    A team that pays for events adds a source and a level of its own like this::

        CostAggregation(
            task_id="calculate_costs",
            sources=(*CAMPAIGN_SOURCES, "events/cost_events.sql"),
            levels=(PROGRAM_WITH_EVENTS, PLAN, REGION),
        )

    A run for the past leaves what is current alone; the step that records history calculates for itself.

    :param sources: SQL files below ``include/sql``, with the binds of :class:`SqlStep` and ``%(dry_run)s``. (templated)
    :param levels: the levels, from below to the top.
    """

    template_fields: Sequence[str] = ("sources",)
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sources": "postgresql"}

    def __init__(self, *, sources: Sequence[str], levels: Sequence[CostLevel], **kwargs: Any) -> None:
        super().__init__(computes_the_past=True, **kwargs)
        self.sources = sources
        self.levels = levels

    def perform(self, run: Run, context: Context) -> Summary:
        """Calculate and commit."""
        with workflow_transaction(run) as connection:
            return self.rehearse(connection, run, context)

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Calculate in the open transaction; a run for the past calculates only when it is recorded."""
        if is_for_the_past(connection, run):
            self.log.info("A later run has been here: the current costs stay as they are.")
            return {"for_the_past": True}
        return self.calculate(connection, run)

    def calculate(self, connection: Connection, run: Run) -> Summary:
        """Calculate all sources and levels in the open transaction."""
        binds = run.binds() | {"dry_run": run.dry_run, "is_past": is_for_the_past(connection, run)}
        # Our own writing is no news to the queue of changes (triggers/budget_changes.sql).
        connection.execute("SET LOCAL campaign.cost_bookkeeping = 'off'")
        connection.execute("SET LOCAL work_mem = '128MB'")
        summary: Summary = {}
        for statements in (*self.sources, *map(level_sql, self.levels)):
            for rows in execute_statements(connection, statements, binds):
                if rows and next(iter(rows[0])) == REPORT_COLUMN:
                    # Later steps rehearse this one as well: only its own log has the report.
                    if run.task_id == self.task_id:
                        self.log_report([row[REPORT_COLUMN] for row in rows])
                elif len(rows) == 1:
                    summary |= rows[0]
        return summary

    def log_report(self, lines: list[str]) -> None:
        """Write the lines of a report to the log."""
        for line in lines:
            self.log.info(line)


def level_sql(level: CostLevel) -> str:
    """Return the statement that totals a level."""
    template = Environment(undefined=StrictUndefined, autoescape=False).from_string(  # noqa: S701 (SQL, not HTML)
        LEVEL_SQL.read_text(encoding="utf-8")
    )
    return template.render(level=level)
