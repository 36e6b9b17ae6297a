"""Costs: 1,000,000 deliveries with 5 cost types each, against what can be written for the plain sums.

``bin/env python bench/budget.py`` makes a database of its own beside the campaign database, fills it, measures and
drops it. Everything runs on the same data, one after the other, in rounds; the figures are medians of seconds:

- *budgetMgt, first full run*: the step ``calculate_costs`` of the workflow with ``full``, everything to be written:
  an expense line a delivery, an item a cost type with its arithmetic in words, cost lines by category, the cost of
  each delivery, campaign, program and plan, the sums of the budgets. *Nothing changed*: the same once more;
- *SQL by hand*: the plain sums by the best single-purpose SQL that we know: tariffs as arrays, ranges of deliveries
  on two connections, into logged tables with keys: items, cost per delivery, charge per delivery and category, sums
  per campaign and level, campaigns, programs, plans, budgets. It leaves out: words, dates and runs of items, lines
  for tasks, entered costs, surcharges apart, defaults, invoices, cancellations, comparing with what stands, keys to
  other tables, indexes that readers use, the cost of each delivery, and telling what it could not calculate;
- *pandas, polars, DuckDB*: read the same rows by ADBC, compute in columns, and write into tables like ours with their
  keys, constraints and indexes (expense_line, expense_item with its words, cost_line by COPY), the sums of campaigns,
  programs, plans and budgets, and the cost of each delivery by one update. They leave out the triggers of the tables,
  the words on rounding, and what the SQL by hand leaves out, and compute in whole numbers of a hundred-thousandth, so
  that they are exact. Reading and writing is most of their time;
- *row loop*: a query, a few computations and inserts per delivery, on a sample, times what is left;
- *1,000 changed*, *10,000 changed*: the step after an update of so many deliveries. What the update costs who writes
  is in ``bench/writers.py``.

Sizes come from BENCH_DELIVERIES (1000000), BENCH_ROUNDS (3), BENCH_PEERS (pandas,polars,duckdb,loop), and growth is
measured from a tenth of them, unless BENCH_GROWTH is 0.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "plugins"), str(PROJECT)]

import psycopg  # noqa: E402
from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: E402

from campaign.database import execute_statements  # noqa: E402
from campaign.migrate import migrate  # noqa: E402

DATABASE = "campaign_bench_budget"
DELIVERIES = int(os.environ.get("BENCH_DELIVERIES", "1000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
PEERS = [name for name in os.environ.get("BENCH_PEERS", "pandas,polars,duckdb,loop").split(",") if name]
GROWTH = os.environ.get("BENCH_GROWTH", "1") != "0"
CONNECTIONS = 2
CHUNK = 10_000
SAMPLE = 500
FOLDER = Path(__file__).parent / "budget_sql"


def read(name: str) -> str:
    """Return the text of an SQL file of this benchmark."""
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8")


class Bench:
    """A filled database of so many deliveries, and what is measured on it."""

    def __init__(self, dsn: str, deliveries: int) -> None:
        self.dsn = dsn
        self.deliveries = deliveries
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.as_of = datetime(2027, 1, 1, tzinfo=UTC)
        self.runs = itertools.count(1)
        self.times: dict[str, list[float]] = {}
        self.step = load_step(dsn)

    def sql(self, text: str, **values: Any) -> None:
        """Run statements, together."""
        with self.connection.transaction():
            execute_statements(self.connection, text, values)

    def fill(self) -> None:
        """Enter plans, campaigns, structures and deliveries through the tables of the contract."""
        self.sql(
            read("fill"),
            deliveries=self.deliveries,
            budgets=200,
            plans=20,
            programs=max(self.deliveries // 2000, 20),
            campaigns=max(self.deliveries // 50, 1),
        )
        self.connection.execute("VACUUM ANALYZE")

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long what is done inside takes; what was written before is on disk when it begins, if we may."""
        with suppress(psycopg.errors.InsufficientPrivilege):
            self.connection.execute("CHECKPOINT")
        started = time.perf_counter()
        yield
        self.times.setdefault(name, []).append(time.perf_counter() - started)

    def median(self, name: str) -> float:
        """Return the median of the rounds, in seconds."""
        return statistics.median(self.times[name])

    def run(self, *, full: bool = False) -> dict[str, Any]:
        """Run calculate_costs as the workflow does."""
        self.as_of += timedelta(minutes=1)
        run_id = f"bench {next(self.runs)}"
        context: Any = {
            "dag": self.step.dag,
            "task": self.step,
            "run_id": run_id,
            "dag_run": SimpleNamespace(
                run_type="manual", data_interval_end=None, logical_date=None, run_after=self.as_of
            ),
            "params": {"full": full},
        }
        step = self.step.prepare_for_execution()
        step.render_template_fields(context)
        return step.execute(context)

    def empty(self) -> None:
        """Take away all that has been calculated, and the queue."""
        self.sql(read("empty"))
        self.connection.execute("VACUUM campaign.delivery")

    def measure_full(self) -> None:
        """A first full run, and one with nothing changed."""
        self.empty()
        with self.timed("budgetMgt, first full run"):
            summary = self.run(full=True)
        assert summary["elements_calculated"] == self.deliveries, summary
        assert summary["items_changed"] == 5 * self.deliveries, summary
        self.connection.execute("VACUUM (ANALYZE) campaign.expense_line, campaign.expense_item, campaign.cost_line")
        before = self.connection.execute(read("written")).fetchall()
        with self.timed("budgetMgt, full run, nothing changed"):
            summary = self.run(full=True)
        assert summary["items_changed"] == summary["cost_lines_changed"] == 0, summary
        assert self.connection.execute(read("written")).fetchall() == before, (
            "a run that changes nothing writes nothing"
        )

    def measure_by_hand(self) -> None:
        """The plain sums by SQL, in ranges on two connections."""
        self.sql(read("by_hand_tables"))
        chunk = read("by_hand_chunk")
        with self.timed("SQL by hand, plain sums"):
            self.sql(read("by_hand_tariffs"))
            starts = iter(range(1, self.deliveries + 1, CHUNK))
            turn = threading.Lock()

            def work() -> None:
                with psycopg.connect(self.dsn) as connection:
                    connection.execute("SET enable_nestloop = off")
                    connection.execute("SET work_mem = '128MB'")
                    connection.commit()
                    while True:
                        with turn:
                            start = next(starts, None)
                        if start is None:
                            return
                        execute_statements(connection, chunk, {"first": start, "last": start + CHUNK - 1})
                        connection.commit()

            workers = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            self.sql(read("by_hand_totals"))

    def check(self, schema: str = "by_hand") -> None:
        """Ours, and theirs, are equal to the cent, item by item, and on each plan and budget."""
        differing = self.connection.execute(read(f"differing_{schema}")).fetchone()
        assert differing
        assert not any(differing), (schema, differing)
        assert self.connection.execute("SELECT count(*) FROM campaign.total_difference").fetchone() == (0,)

    def measure_changes(self, count: int) -> None:
        """An update of so many deliveries, and the run after it."""
        self.sql(read("change"), every=max(self.deliveries // count, 1), shift=next(self.runs))
        with self.timed(f"budgetMgt, {count:,} deliveries changed"):
            summary = self.run()
        assert summary["elements_calculated"] >= min(count, self.deliveries), summary

    def measure_loop(self) -> None:
        """A sample, row by row; what it would take for all is told."""
        started = time.perf_counter()
        with psycopg.connect(self.dsn) as connection:
            for delivery in range(1, SAMPLE + 1):
                price_one(connection, delivery)
            connection.rollback()
        taken = (time.perf_counter() - started) / SAMPLE * self.deliveries
        self.times.setdefault("row loop (from a sample)", []).append(taken)


def price_one(connection: psycopg.Connection[Any], delivery: int) -> None:
    """What a loop does for one delivery: read it, price each of its cost types, write its lines."""
    messages, campaign = connection.execute(
        "SELECT message_count, campaign_id FROM campaign.delivery WHERE id = %s", [delivery]
    ).fetchone() or (0, 0)
    total = Decimal(0)
    items = []
    selections = connection.execute(
        "SELECT structure.id, structure.basis, structure.method, structure.amount, structure.batch_size, "
        "structure.beyond_amount FROM campaign.delivery_cost AS selection "
        "JOIN campaign.cost_structure AS structure USING (cost_type_id) WHERE delivery_id = %s",
        [delivery],
    ).fetchall()
    for structure, basis, method, amount, batch, beyond in selections:
        bands = connection.execute(
            "SELECT up_to, amount FROM campaign.cost_threshold WHERE cost_structure_id = %s ORDER BY up_to", [structure]
        ).fetchall()
        if basis == "fixed":
            cost = amount
        elif method == "linear":
            cost = amount * messages / batch
        elif method == "graduated":
            cost, below = Decimal(0), 0
            for up_to, unit in [*bands, (messages, beyond)]:
                cost += unit * max(min(messages, up_to) - below, 0)
                below = up_to
        else:
            unit = next((unit for up_to, unit in bands if messages <= up_to), beyond)
            cost = unit * (messages if method == "linear_by_threshold" else min(messages, 1))
        cost = cost.quantize(Decimal("0.01"), ROUND_HALF_UP)
        total += cost
        items.append((structure, cost))
    (line,) = connection.execute(
        "INSERT INTO peer.expense_line (campaign_id, delivery_id, cost_total, computed_at) VALUES (%s, %s, %s, now()) "
        "RETURNING id",
        [campaign, delivery, total],
    ).fetchone() or (0,)
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO peer.expense_item (expense_line_id, cost_structure_id, kind, quantity, amount, explanation) "
            "VALUES (%s, %s, 'calculated', %s, %s, '')",
            [(line, structure, messages, cost) for structure, cost in items],
        )
    connection.execute("UPDATE campaign.delivery SET calculated_cost = %s WHERE id = %s", [total, delivery])


def load_step(dsn: str) -> Any:
    """Return the operator of the workflow, with its connection set to this database."""
    found = conninfo_to_dict(dsn)
    os.environ["AIRFLOW_CONN_CAMPAIGN_DB"] = json.dumps(
        {
            "conn_type": "postgres",
            "host": found["host"],
            "login": found.get("user"),
            "password": found.get("password"),
            "port": int(found.get("port") or 5432),
            "schema": found["dbname"],
        }
    )
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(PROJECT / "dags" / "budget_mgt.py").dags["budgetMgt"].get_task("calculate_costs")


@contextmanager
def database(dsn: str, deliveries: int) -> Iterator[Bench]:
    """A database of its own, filled; dropped at the end."""
    with psycopg.connect(dsn, autocommit=True) as server:
        drop(server)
        server.execute(f"CREATE DATABASE {DATABASE}")
        try:
            bench_dsn = make_conninfo(dsn, dbname=DATABASE)
            migrate(bench_dsn)
            bench = Bench(bench_dsn, deliveries)
            bench.fill()
            yield bench
            bench.connection.close()
        finally:
            drop(server)


def drop(server: psycopg.Connection[Any]) -> None:
    """Drop the database; wait for an autovacuum in it, which we may not end."""
    for _ in range(100):
        with suppress(psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
            server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            return
        time.sleep(1)
    sys.exit(f"The database {DATABASE} is in use; drop it by hand.")


def measure_all(bench: Bench) -> None:
    """All rounds on the full size."""
    for number in range(ROUNDS):
        bench.measure_full()
        bench.measure_by_hand()
        if number == 0:
            bench.check()
    # They leave the costs of the deliveries as they found them: to the cent ours.
    measure_peers(bench)
    bench.connection.execute("VACUUM ANALYZE campaign.delivery")
    for count in (1000, 10_000):
        for _ in range(ROUNDS):
            bench.measure_changes(count)


def measure_peers(bench: Bench) -> None:
    """The frames and the loop, into tables like ours."""
    from bench import _budget_frames

    for name in PEERS:
        for number in range(1 if name == "loop" else ROUNDS):
            bench.sql(read("peer_tables"))
            if name == "loop":
                bench.measure_loop()
                continue
            with bench.timed(f"{name}, out, computed, written back"):
                _budget_frames.PEERS[name](bench.dsn)
            if number == 0:
                differing = bench.connection.execute(read("differing_peer")).fetchone()
                assert differing == (0, 0), (name, differing)


def report(bench: Bench, small: Bench | None) -> int:
    """Print the figures and what they must be; return 1 when one is missed."""
    first, by_hand = bench.median("budgetMgt, first full run"), bench.median("SQL by hand, plain sums")
    print(f"{bench.deliveries:,} deliveries, {5 * bench.deliveries:,} items, median of {ROUNDS} rounds:")
    for name in bench.times:
        print(f"  {name:42} {bench.median(name):9.2f} s   {bench.median(name) / by_hand:7.2f} x by hand")
    changed = {count: bench.median(f"budgetMgt, {count:,} deliveries changed") for count in (1000, 10_000)}
    goals: list[tuple[str, float, float]] = [
        ("first full run / SQL by hand", first / by_hand, 2.0),
        ("full run with nothing changed / first", bench.median("budgetMgt, full run, nothing changed") / first, 0.7),
        ("1,000 changed / first full run", changed[1000] / first, 0.02),
        ("10,000 changed / 1,000 changed", changed[10_000] / changed[1000], 10.0),
    ]
    goals += [
        (f"first full run / {name}", first / bench.median(f"{name}, out, computed, written back"), 1.0)
        for name in ("pandas", "polars")
        if name in PEERS
    ]
    if small:
        grown = first / small.median("budgetMgt, first full run") / (bench.deliveries / small.deliveries) * 10
        goals.append(("ten times the deliveries", grown, 12.0))
    for name, found, goal in goals:
        print(f"  {name:42} {found:7.3f}   (at most {goal:g}){'' if found <= goal else '  MISSED'}")
    return 0 if all(found <= goal for _, found, goal in goals) else 1


def main() -> int:
    """Measure, print, and say by the exit code whether the targets are met."""
    dsn = os.environ.get("CAMPAIGN_DSN")
    if not dsn:
        sys.exit("CAMPAIGN_DSN is not set: run it with bin/env.")
    small = None
    if GROWTH:
        with database(dsn, DELIVERIES // 10) as small:
            memory = measured_memory(small.measure_full)
            for _ in range(ROUNDS - 1):
                small.measure_full()
    with database(dsn, DELIVERIES) as bench:
        more = measured_memory(bench.measure_full)
        bench.times.clear()
        measure_all(bench)
    if small:
        print(f"memory of the task: {memory:.0f} MB, and {more:.0f} MB with ten times the deliveries")
    return report(bench, small)


def measured_memory(work: Callable[[], None]) -> float:
    """Do the work, and return the most memory that this process has had, in MB."""
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
