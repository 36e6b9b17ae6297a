"""Compute stock: receive orders, record consumptions, compute positions; the shared operator for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from psycopg import sql

from campaign.database import Connection, execute_statements, is_for_the_past, workflow_transaction
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Context

STOCK_DAG_ID = "stockMgt"
STOCK_COMPUTATION = (
    "stock_mgt/receive_orders.sql",
    "stock_mgt/record_consumption.sql",
    "stock_mgt/compute_positions.sql",
)
REPORT_COLUMN = "report"
SHORTAGES = ("low", "insufficient")


class StockShortageError(RuntimeError):
    """A stock line that the step was asked to watch is below zero, or at its alert level."""


class UnknownStockLineError(LookupError):
    """The step was asked to watch a stock line that does not exist."""


class UnknownStockStateError(ValueError):
    """The step was asked to refuse a state that no stock line can be in, so that it would refuse nothing."""


class StockComputation(WorkflowStep):
    """Compute the stock up to the moment of the run, in one transaction, and report where it stands.

    The workflow stockMgt is built of it, one file a step. In a DAG of your own it brings the stock up to
    date and stops the run when a line that it needs is short, say before a targeting starts::

        StockComputation(
            task_id="check_envelopes",
            stock_lines=["envelopes-c5"],
            refused_states=["insufficient", "low"],
        )

    Wherever it runs, it takes turns with stockMgt under one lock, its effects are entered in the journal as
    stockMgt's, and ``as_of``, ``campaign``, ``full`` and ``dry_run`` mean what they mean there (a DAG
    without these parameters computes as of its own date).

    A statement may return a column ``report``: its texts go to the log. Its other columns are counts, and
    go to the summary once.

    :param sql: files below ``include/sql``, run in this order. (templated)
    :param stock_lines: internal names of stock lines whose position the summary shall hold. (templated)
    :param refused_states: states (``low``, ``insufficient``) of these lines that fail the step, after the
        computation is committed.
    :raises StockShortageError: when one of the lines is in a refused state; names each and its quantity.
    :raises UnknownStockLineError: when one of the lines does not exist.
    :raises UnknownStockStateError: when a refused state is neither of the two, before anything is computed.
    """

    stays_in_the_house: ClassVar[bool] = True
    template_fields: Sequence[str] = ("sql", "stock_lines")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "postgresql"}
    ui_color = "#fdf3d8"

    def __init__(
        self,
        *,
        sql: str | Sequence[str] = STOCK_COMPUTATION,
        stock_lines: Sequence[str] = (),
        refused_states: Sequence[str] = (),
        computes_the_past: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(computes_the_past=computes_the_past, **kwargs)
        # A list: Airflow replaces the file names in it by the files' text.
        self.sql = sql if isinstance(sql, str) else list(sql)
        self.stock_lines = list(stock_lines)
        self.refused_states = refused_states

    def perform(self, run: Run, context: Context) -> Summary:
        """Compute and commit; then refuse what is short."""
        unknown = [state for state in self.refused_states if state not in SHORTAGES]
        if unknown:
            raise UnknownStockStateError(f"refused_states: {', '.join(unknown)}; there are {' and '.join(SHORTAGES)}.")
        with workflow_transaction(as_stock_run(run)) as connection:
            summary = self.rehearse(connection, run, context)
        short = [
            f"{name} ({position['in_stock']}, {position['state']})"
            for name, position in summary.get("stock_lines", {}).items()
            if position["state"] in self.refused_states
        ]
        if short:
            raise StockShortageError(f"Stock is short: {', '.join(short)}. Order, or lower the alert level.")
        return summary

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Compute in the open transaction."""
        run = as_stock_run(run)
        is_past = is_for_the_past(connection, run)
        binds = run.binds() | {"is_past": is_past}
        summary: Summary = {}
        for statements in [self.sql] if isinstance(self.sql, str) else self.sql:
            for rows in execute_statements(connection, statements, binds):
                summary |= self._read(rows)
        if self.stock_lines:
            summary["stock_lines"] = read_positions(connection, self.stock_lines, run.as_of if is_past else None)
        return summary

    def _read(self, rows: list[dict[str, Any]]) -> Summary:
        for row in rows:
            report = row.pop(REPORT_COLUMN, None)
            if report is not None:
                self.log.info(report)
        return rows[0] if rows else {}


def as_stock_run(run: Run) -> Run:
    """Return the run as one of stockMgt: under its lock, in its bookkeeping, by a run id of its own."""
    if run.dag_id == STOCK_DAG_ID:
        return run
    return replace(run, dag_id=STOCK_DAG_ID, run_id=f"{run.dag_id}.{run.task_id}.{run.run_id}")


def read_positions(
    connection: Connection, stock_lines: Sequence[str], moment: datetime | None = None
) -> dict[str, dict[str, Any]]:
    """Read where stock lines stand: ``in_stock`` (units), ``on_order`` (units) and ``state``, by name.

    :param moment: as of this moment of the past; None reads the positions as they were last computed.
    :raises UnknownStockLineError: when one of them does not exist.
    """
    positions_then = sql.SQL("campaign.stock_position_as_of(%(moment)s::timestamptz)")
    found = connection.execute(
        sql.SQL(
            """
            SELECT stock_line.internal_name, position.in_stock, position.on_order, position.state
            FROM {positions} AS position
            INNER JOIN campaign.stock_line AS stock_line ON position.stock_line_id = stock_line.id
            WHERE stock_line.internal_name = ANY(%(stock_lines)s)
            """
        ).format(positions=positions_then if moment else sql.Identifier("campaign", "stock_position")),
        {"stock_lines": list(stock_lines), "moment": moment},
    ).fetchall()
    positions = {name: {"in_stock": units, "on_order": order, "state": state} for name, units, order, state in found}
    unknown = [name for name in stock_lines if name not in positions]
    if unknown:
        raise UnknownStockLineError(f"There is no stock_line with the internal name {', '.join(unknown)}.")
    return {name: positions[name] for name in stock_lines}
