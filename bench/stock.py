"""Stock: 1,000,000 ledger lines on 10,000 stock lines, against an aggregate written by hand.

``bin/env python bench/stock.py`` makes a database of its own beside the campaign database, fills it, measures
and drops it. It prints medians of interleaved rounds in milliseconds:

- *by hand*: empty a table of positions and fill it from one aggregate per source;
- *full*: ``compute_positions.sql`` with ``full``, which also proves every position against what was recorded;
  with all positions to be written, and with none (what a nightly full run meets);
- *run, 100 lines changed*: all statements of a routine run (receive, record, compute, history, alerts) after 50
  orders and 50 extractions, each on a line of its own, and *run, full*: the same with ``full``, which also
  computes every consumption anew from deliveries and cost types; *of it, positions*: what the step
  ``compute_positions`` takes of the routine run, the proof of all positions included.

Targets: full at most 1.5 times *by hand*; a run with 100 lines changed at most 5 % of a full one.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "plugins"))

import psycopg  # noqa: E402
from psycopg.conninfo import make_conninfo  # noqa: E402

from campaign.database import SQL_FOLDER, execute_statements  # noqa: E402
from campaign.migrate import migrate  # noqa: E402

DATABASE = "campaign_bench_stock"
STOCK_LINES = int(os.environ.get("BENCH_STOCK_LINES", "10000"))
LEDGER_LINES = int(os.environ.get("BENCH_LEDGER_LINES", "1000000"))
LINES_PER_DELIVERY = 9
ROUNDS = 5
NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
STEPS = ("receive_orders", "record_consumption", "compute_positions", "record_history", "alert_lines")

BY_HAND = """
TRUNCATE bench_position;
INSERT INTO bench_position (stock_line_id, initial_quantity, received, consumed, on_order, in_stock)
SELECT
    stock_line.id,
    stock_line.initial_quantity,
    coalesce(orders.received, 0),
    coalesce(consumed.quantity, 0),
    coalesce(orders.on_order, 0),
    stock_line.initial_quantity + coalesce(orders.received, 0) - coalesce(consumed.quantity, 0)
FROM campaign.stock_line
LEFT JOIN (
    SELECT
        stock_line_id,
        sum(quantity) FILTER (WHERE received_at IS NOT NULL) AS received,
        sum(quantity) FILTER (WHERE received_at IS NULL) AS on_order
    FROM campaign.stock_order
    GROUP BY stock_line_id
) AS orders ON orders.stock_line_id = stock_line.id
LEFT JOIN (
    SELECT stock_line_id, sum(quantity) AS quantity
    FROM campaign.stock_consumption
    GROUP BY stock_line_id
) AS consumed ON consumed.stock_line_id = stock_line.id
"""

FILL = """
INSERT INTO campaign.plan (id, internal_name, label) VALUES (1, 'p', 'P');
INSERT INTO campaign.program (id, plan_id, internal_name, label) VALUES (1, 1, 'p', 'P');
INSERT INTO campaign.campaign (id, program_id, internal_name, label)
SELECT n, 1, 'c' || n, 'C' || n FROM generate_series(1, 1000) AS n;
INSERT INTO campaign.provider (id, internal_name, label) VALUES (1, 'p', 'P');
INSERT INTO campaign.service (id, provider_id, internal_name, label) VALUES (1, 1, 's', 'S');
INSERT INTO campaign.cost_category (id, service_id, label, channel) VALUES (1, 1, 'C', 'direct_mail');
INSERT INTO campaign.stock (id, internal_name, label) VALUES (1, 's', 'S');
INSERT INTO campaign.stock_line (id, stock_id, internal_name, label, initial_quantity, alert_level)
SELECT n, 1, 'l' || n, 'L' || n, 1000000, 1000 FROM generate_series(1, %(stock_lines)s) AS n;
INSERT INTO campaign.cost_type (id, cost_category_id, label, stock_line_id, units_per_message)
SELECT n, 1, 'T' || n, n, 1 + n %% 3 FROM generate_series(1, %(stock_lines)s) AS n;
INSERT INTO campaign.stock_order (stock_line_id, ordered_at, delivery_on, quantity)
SELECT 1 + n * 7919 %% %(stock_lines)s, '2026-01-01', date '2026-01-02' + (n %% 330)::int, 1 + n %% 5000
FROM generate_series(1, %(orders)s) AS n;
INSERT INTO campaign.delivery (
    id, internal_name, label, campaign_id, channel, status, message_count, extracted_at
)
SELECT
    n, 'd' || n, 'D' || n, 1 + n %% 1000, 'direct_mail', 'routing', 100 + n * 31 %% 1000,
    timestamptz '2026-01-02 00:00:00Z' + n * interval '4 minutes'
FROM generate_series(1, %(deliveries)s) AS n;
INSERT INTO campaign.delivery_cost (delivery_id, cost_type_id)
SELECT delivery, 1 + (delivery * 7 + use * 1009) %% %(stock_lines)s
FROM generate_series(1, %(deliveries)s) AS delivery, generate_series(1, %(uses)s) AS use;
SELECT setval(pg_get_serial_sequence('campaign.delivery', 'id'), max(id)) FROM campaign.delivery;
CREATE TABLE bench_position (
    stock_line_id bigint PRIMARY KEY, initial_quantity bigint, received bigint, consumed bigint,
    on_order bigint, in_stock bigint
)
"""

CHANGE = """
INSERT INTO campaign.stock_order (stock_line_id, ordered_at, delivery_on, quantity)
SELECT 1 + (%(round)s * 131 + n * 97) %% %(stock_lines)s, '2026-01-01', '2026-11-01', 10
FROM generate_series(1, 50) AS n;
WITH left_now AS (
    INSERT INTO campaign.delivery (internal_name, label, campaign_id, channel)
    SELECT concat('new', %(round)s, '-', n), 'New', 1 + n, 'direct_mail'
    FROM generate_series(1, 50) AS n
    RETURNING id
)
INSERT INTO campaign.delivery_cost (delivery_id, cost_type_id)
SELECT id, 1 + (id * 89 + 5000) %% %(stock_lines)s FROM left_now;
UPDATE campaign.delivery SET status = 'file_to_approve', message_count = 200, extracted_at = %(as_of)s
WHERE internal_name LIKE concat('new', %(round)s, '-%%')
"""


class Bench:
    """One connection to a filled database, and what a run of stockMgt sends to it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.statements = {step: (SQL_FOLDER / "stock_mgt" / f"{step}.sql").read_text() for step in STEPS}
        self.as_of = NOON

    def sql(self, text: str, **values: Any) -> None:
        execute_statements(self.connection, text, values)
        self.connection.commit()

    def run(self, *steps: str, full: bool = False) -> dict[str, Any]:
        """Do these steps as the workflow does, each in its transaction."""
        summary: dict[str, Any] = {}
        for step in steps:
            binds = {
                "as_of": self.as_of, "campaign": None, "full": full, "run_id": "bench", "dag_id": "stockMgt",
                "is_past": False,
            }  # fmt: skip
            # A session of a workflow says so, and is no edit by hand.
            self.connection.execute("SELECT set_config('campaign.instance', 'bench', true)")
            for rows in execute_statements(self.connection, self.statements[step], binds):
                summary |= rows[0]
            self.connection.commit()
        return summary

    def run_watched(self, times: dict[str, list[float]]) -> dict[str, Any]:
        """Do a routine run, and note what its positions take."""
        summary = self.run("receive_orders", "record_consumption")
        started = time.perf_counter()
        summary |= self.run("compute_positions")
        times.setdefault("of it, positions", []).append((time.perf_counter() - started) * 1000)
        return summary | self.run("record_history", "alert_lines")

    def fill(self) -> None:
        """Make the ledger through the contract's own tables, and let stockMgt run once."""
        deliveries = LEDGER_LINES * 9 // 10 // LINES_PER_DELIVERY
        self.sql(
            FILL,
            stock_lines=STOCK_LINES,
            orders=LEDGER_LINES // 10,
            deliveries=deliveries,
            uses=LINES_PER_DELIVERY,
        )
        self.vacuum()
        started = time.perf_counter()
        summary = self.run(*STEPS)
        print(
            f"first run: {summary['consumptions_recorded']:,} consumptions recorded, "
            f"{summary['orders_received']:,} orders received, in {time.perf_counter() - started:.1f} s"
        )
        self.vacuum()

    def vacuum(self) -> None:
        self.connection.autocommit = True
        self.connection.execute("VACUUM ANALYZE")
        self.connection.autocommit = False

    def change(self, number: int) -> None:
        """Change 100 lines: 50 orders that are due, 50 files extracted."""
        self.as_of += timedelta(minutes=1)
        self.sql(CHANGE, round=number, stock_lines=STOCK_LINES, as_of=self.as_of)

    def change_all(self) -> None:
        """Change every stock line, so that every position has to be written anew."""
        self.sql("UPDATE campaign.stock_line SET initial_quantity = initial_quantity + 1")
        self.connection.autocommit = True
        for table in ("stock_line", "stock_balance", "stock_line_queue"):
            self.connection.execute(f"VACUUM campaign.{table}")
        self.connection.autocommit = False

    def measure(self) -> dict[str, float]:
        """Return medians in milliseconds, by the names that are printed."""
        times: dict[str, list[float]] = {}

        def timed(name: str, work: Callable[[], Any]) -> Any:
            started = time.perf_counter()
            result = work()
            times.setdefault(name, []).append((time.perf_counter() - started) * 1000)
            return result

        for number in range(ROUNDS):
            timed("by hand", lambda: self.sql(BY_HAND))
            self.change_all()
            written = timed("full, all written", lambda: self.run("compute_positions", full=True))
            assert written["positions_changed"] == STOCK_LINES, written
            self.run("record_history", "alert_lines")
            unchanged = timed("full, none written", lambda: self.run("compute_positions", full=True))
            assert unchanged["positions_changed"] == unchanged["positions_not_balanced"] == 0, unchanged
            self.change(number)
            summary = timed("run, 100 lines changed", lambda: self.run_watched(times))
            assert (summary["orders_received"], summary["consumptions_recorded"]) == (50, 50), summary
            timed("run, nothing changed", lambda: self.run(*STEPS))
            timed("run, full", lambda: self.run(*STEPS, full=True))
        self.sql(BY_HAND)
        differing = self.connection.execute(
            """
            SELECT count(*) FROM campaign.stock_position AS ours
            INNER JOIN bench_position AS theirs USING (stock_line_id)
            WHERE ours.in_stock <> theirs.in_stock OR ours.on_order <> theirs.on_order
            """
        ).fetchone()
        assert differing == (0,), differing
        return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    """Measure, print, and say by the exit code whether the targets are met."""
    dsn = os.environ.get("CAMPAIGN_DSN")
    if not dsn:
        sys.exit("CAMPAIGN_DSN is not set: run it with bin/env.")
    with psycopg.connect(dsn, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {DATABASE}")
        try:
            bench_dsn = make_conninfo(dsn, dbname=DATABASE)
            migrate(bench_dsn)
            with closing(psycopg.connect(bench_dsn)) as connection:
                bench = Bench(connection)
                bench.fill()
                medians = bench.measure()
        finally:
            server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    print(f"{LEDGER_LINES:,} ledger lines on {STOCK_LINES:,} stock lines, median of {ROUNDS} rounds:")
    for name, median in medians.items():
        print(f"  {name:23} {median:8.1f} ms   {median / medians['by hand']:5.2f} x by hand")
    ratio = max(medians["full, all written"], medians["full, none written"]) / medians["by hand"]
    share = medians["run, 100 lines changed"] / medians["run, full"]
    positions = medians["of it, positions"] / medians["full, none written"]
    print(f"full / by hand: {ratio:.2f} (target 1.50)")
    print(f"run with 100 lines changed / full run: {share:.1%} (target 5%); its positions alone: {positions:.1%}")
    return 0 if ratio <= 1.5 and share <= 0.05 else 1


if __name__ == "__main__":
    sys.exit(main())
