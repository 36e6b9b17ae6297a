"""Writers: what bookkeeping costs the systems that write, against the same statements on tables without triggers.

``bin/env python bench/writers.py`` makes a database of its own beside the campaign database, fills it with
1,000,000 deliveries, measures and drops it. Each statement runs with all triggers of its table (the queues of the
workflows, the journal of edits, news, updated_at) and with none, in turn. None means dropped: where a trigger is only
disabled, PostgreSQL still keeps the rows for it, and locks them. Each runs on a table without dead rows, in a
transaction that is taken back; the figures are medians of the rounds, in seconds, without the commit:

- *analysis*: an update of all deliveries by the results of an analysis, which costs and approvals follow;
- *contact date*: an update of all deliveries that no cost follows;
- *row by row*: 5,000 deliveries updated one by one, by a loop in the database;
- *surcharge*: an update of one of the five selections of each delivery;
- *new delivery*, *new selection*: a tenth more deliveries, and one more cost type selected for each delivery.

Target: a bulk update of deliveries takes at most 1.5 times what it takes without triggers. Sizes come from
BENCH_DELIVERIES (1000000) and BENCH_ROUNDS (3); BENCH_WRITERS (analysis,contact date,...) names what to measure.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "plugins"), str(PROJECT)]

from bench.budget import DELIVERIES, ROUNDS, Bench, database  # noqa: E402

# Of each: its table, and the statement.
STATEMENTS = {
    "analysis": (
        "delivery",
        "UPDATE campaign.delivery "
        "SET message_count = message_count + 1, analysed_at = analysed_at + interval '1 minute'",
    ),
    "contact date": ("delivery", "UPDATE campaign.delivery SET contact_date = '2027-02-01 09:00:00Z'"),
    "row by row": (
        "delivery",
        "DO $$ BEGIN FOR number IN 1 .. 5000 LOOP "
        "UPDATE campaign.delivery SET message_count = message_count + 1 WHERE id = number; END LOOP; END $$",
    ),
    "surcharge": ("delivery_cost", "UPDATE campaign.delivery_cost SET surcharge = 5 WHERE cost_type_id % 5 = 1"),
    "new delivery": (
        "delivery",
        "INSERT INTO campaign.delivery "
        "(internal_name, label, campaign_id, channel, status, service_id, message_count, analysed_at) "
        "SELECT 'new' || id, label, campaign_id, channel, 'target_ready', service_id, message_count, analysed_at "
        "FROM campaign.delivery WHERE id % 10 = 0",
    ),
    "new selection": (
        "delivery_cost",
        "INSERT INTO campaign.delivery_cost (delivery_id, cost_type_id) "
        "SELECT delivery_id, cost_type_id % 2000 + 1 FROM campaign.delivery_cost WHERE cost_type_id % 5 = 0",
    ),
}
WANTED = [name for name in os.environ.get("BENCH_WRITERS", ",".join(STATEMENTS)).split(",") if name]
TARGETS = {"analysis": 1.5, "contact date": 1.5}


def measure(bench: Bench, name: str) -> None:
    """One round: without triggers, and with all."""
    table, statement = STATEMENTS[name]
    for noted in (False, True):
        bench.connection.execute(f"VACUUM campaign.{table}")
        with bench.connection.transaction(force_rollback=True):
            if not noted:
                drop_triggers(bench, table)
            started = time.perf_counter()
            bench.connection.execute(statement)
            bench.times.setdefault(f"{name}, {noted=}", []).append(time.perf_counter() - started)


def drop_triggers(bench: Bench, table: str) -> None:
    """Drop what is ours on a table; PostgreSQL's own triggers check its keys."""
    for (trigger,) in bench.connection.execute(
        "SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal",
        [f"campaign.{table}"],
    ).fetchall():
        bench.connection.execute(f"DROP TRIGGER {trigger} ON campaign.{table}")


def report(bench: Bench) -> int:
    """Print the figures and what they must be; return 1 when one is missed."""
    missed = 0
    print(f"{bench.deliveries:,} deliveries, median of {ROUNDS} rounds: no trigger, all triggers, ratio")
    for name in WANTED:
        plain, noted = bench.median(f"{name}, noted=False"), bench.median(f"{name}, noted=True")
        target = TARGETS.get(name)
        wanted = f"   (at most {target:g})" if target else ""
        is_missed = target is not None and noted / plain > target
        missed += is_missed
        print(f"  {name:16} {plain:8.2f} s {noted:8.2f} s {noted / plain:7.2f}{wanted}{'  MISSED' * is_missed}")
    return 1 if missed else 0


def main() -> int:
    """Measure, print, and say by the exit code whether the targets are met."""
    dsn = os.environ.get("CAMPAIGN_DSN")
    if not dsn:
        sys.exit("CAMPAIGN_DSN is not set: run it with bin/env.")
    with database(dsn, DELIVERIES) as bench:
        for name in WANTED:
            for _ in range(ROUNDS):
                measure(bench, name)
        return report(bench)


if __name__ == "__main__":
    sys.exit(main())
