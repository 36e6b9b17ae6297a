"""Calculate costs from their sources, and total them level by level, in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from jinja2 import Environment, StrictUndefined

from campaign.database import (
    SQL_FOLDER,
    Connection,
    Row,
    execute_statements,
    is_for_the_past,
    workflow_transaction,
)
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.parallel import map_on_connections
from campaign.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Context

REPORT_COLUMN = "report"
LEVEL_SQL = SQL_FOLDER / "cost_aggregation" / "total_level.sql"
SETTINGS = {
    # Our own writing is no news to the queue of changes (triggers/budget_changes.sql).
    "campaign.cost_bookkeeping": "off",
    # The work tables of a chunk stay in memory.
    "temp_buffers": "128MB",
    "work_mem": "128MB",
    # A chunk finds its rows by index, whatever the size of the tables: pages and the way down to a row cost little,
    # reading all rows much.
    "seq_page_cost": "0.1",
    "random_page_cost": "0.1",
    "cpu_operator_cost": "0.0005",
    # Of a work table, its size matters, not what is in it.
    "default_statistics_target": "10",
    # Many statements of a fraction of a second each, most over work tables, which parallel workers cannot read.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # Work tables are in the order of their elements: to sort what is in order costs less than to hash it.
    "enable_hashagg": "off",
}


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

    A team adds a source or a level of its own: ``docs/cost-calculation.md`` has an example.

    A run for the past leaves what is current alone; the step that records history calculates for itself.

    A full run of many elements is cut into *chunks*, each calculated by the same sources and levels and committed by
    itself, on several connections; then once more what is above the chunks and what has changed meanwhile.

    :param sources: SQL files below ``include/sql``, with the binds of :class:`SqlStep` and ``%(dry_run)s``,
        ``%(first_campaign)s`` and ``%(last_campaign)s`` (of the chunk, else null), ``%(are_chunks_done)s``. (templated)
    :param levels: the levels, from below to the top.
    :param chunk_sql: SQL file that cuts a full run into chunks of about ``%(chunk_size)s`` elements: rows of
        ``first_campaign`` and ``last_campaign``. None: a full run is one transaction. (templated)
    :param chunk_size: how many deliveries and tasks a chunk holds, about.
    :param connections: how many chunks are calculated at once: as many as the database has cores to spare.
    """

    stays_in_the_house: ClassVar[bool] = True
    template_fields: Sequence[str] = ("sources", "chunk_sql")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sources": "postgresql", "chunk_sql": "postgresql"}

    def __init__(
        self,
        *,
        sources: Sequence[str],
        levels: Sequence[CostLevel],
        chunk_sql: str | None = None,
        chunk_size: int = 50_000,
        connections: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(computes_the_past=True, **kwargs)
        self.sources = sources
        self.levels = levels
        self.chunk_sql = chunk_sql
        self.chunk_size = chunk_size
        self.connections = connections

    def perform(self, run: Run, context: Context) -> Summary:
        """Calculate and commit."""
        with workflow_transaction(run) as connection:
            if self.chunk_sql and run.full and run.campaign is None and not is_for_the_past(connection, run):
                return self.calculate_in_chunks(connection, run, self.chunk_sql)
            return self.rehearse(connection, run, context)

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Calculate in the open transaction; a run for the past calculates only when it is recorded."""
        if is_for_the_past(connection, run):
            self.log.info("A later run has been here: the current costs stay as they are.")
            return {"for_the_past": True}
        return self.calculate(connection, run)

    def calculate_in_chunks(self, connection: Connection, run: Run, chunk_sql: str) -> Summary:
        """Calculate a full run chunk by chunk, and in the open transaction what is left then."""
        (chunks,) = execute_statements(connection, chunk_sql, run.binds() | {"chunk_size": self.chunk_size})
        if len(chunks) < 2:
            return self.calculate(connection, run)
        counts: Counter[str] = Counter()

        def calculate_chunk(connection: Connection, chunk: Row) -> Summary:
            # It need not be on disk before the next begins: the commit of the run, which comes after, waits for all.
            connection.execute("SET LOCAL synchronous_commit = off")
            return self.calculate(connection, run, **chunk)

        for summary in map_on_connections(run.application_name, self.connections, calculate_chunk, chunks):
            counts.update(summary)
        counts.update(self.calculate(connection, run, are_chunks_done=True))
        return dict(counts)

    def calculate(
        self,
        connection: Connection,
        run: Run,
        *,
        first_campaign: int | None = None,
        last_campaign: int | None = None,
        are_chunks_done: bool = False,
    ) -> Summary:
        """Calculate all sources and levels in the open transaction: all that changed, or a chunk, or what is left."""
        binds = run.binds() | {
            "dry_run": run.dry_run,
            "is_past": is_for_the_past(connection, run),
            "first_campaign": first_campaign,
            "last_campaign": last_campaign,
            "are_chunks_done": are_chunks_done,
        }
        for name, value in SETTINGS.items():
            connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        summary: Summary = {}
        for statements in (*self.sources, *map(level_sql, self.levels)):
            for rows in execute_statements(connection, statements, binds):
                if rows and next(iter(rows[0])) == REPORT_COLUMN:
                    # Later steps rehearse this one as well: only its own log has the report.
                    if run.task_id == self.task_id:
                        self.log_report([row[REPORT_COLUMN] for row in rows])
                elif len(rows) == 1:
                    summary |= {name: value for name, value in rows[0].items() if isinstance(value, int)}
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
