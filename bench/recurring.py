"""Recurring campaigns: 10,000 schedule lines due at once, on 100 campaigns, each served in one set-based step.

``bin/env python bench/recurring.py`` makes a database of its own beside the campaign database, fills it, measures
and drops it. It prints medians of rounds in milliseconds, each round rolled back:

- *by hand*: one ``INSERT ... SELECT`` of 10,000 workflows and one of 10,000 deliveries with one cost each, and the
  lines that name them: the least that has to be written;
- *plan*: ``plan_schedules.sql``, which makes the 10,000 lines from 100 rules;
- *serve*: ``serve_schedules.sql``, which copies a workflow, a delivery, its costs, its approval policy and the reviewer
  for each line, and writes the journal;
- *run, nothing due*: both statements again, when all is done.

Target: *serve* at most 3 times *by hand*, which writes 4 rows a line where *serve* writes 7; a run without work under
a second.
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

DATABASE = "campaign_bench_recurring"
CAMPAIGNS = int(os.environ.get("BENCH_CAMPAIGNS", "100"))
LINES = int(os.environ.get("BENCH_LINES", "10000"))
ROUNDS = 5
START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)

FILL = """
INSERT INTO campaign.plan (id, internal_name, label) VALUES (1, 'p', 'P');
INSERT INTO campaign.program (id, plan_id, internal_name, label) VALUES (1, 1, 'p', 'P');
INSERT INTO campaign.staff (id, internal_name, label, email) VALUES (1, 'o', 'O', 'o@example.com');
INSERT INTO campaign.provider (id, internal_name, label) VALUES (1, 'p', 'P');
INSERT INTO campaign.service (id, provider_id, internal_name, label) VALUES (1, 1, 's', 'S');
INSERT INTO campaign.cost_category (id, service_id, label, channel) VALUES (1, 1, 'C', 'direct_mail');
INSERT INTO campaign.cost_type (id, cost_category_id, label) VALUES (1, 1, 'T');
INSERT INTO campaign.campaign (
    id, program_id, internal_name, label, kind, starts_at, recurrence, time_zone, creation_cap, create_in_advance
)
SELECT
    n, 1, 'c' || n, 'C' || n, 'recurring', %(start)s::timestamptz + n * interval '1 second', 'FREQ=HOURLY',
    'Europe/Paris', 1000000, '0'
FROM generate_series(1, %(campaigns)s) AS n;
INSERT INTO campaign.workflow_template (id, internal_name, label, campaign_id, dag_id, conf)
SELECT n, 't' || n, 'T' || n, n, 'campaignTargeting', '{"everybody": true}'
FROM generate_series(1, %(campaigns)s) AS n;
INSERT INTO campaign.delivery (
    id, internal_name, label, campaign_id, channel, is_template, workflow_template_id, service_id, body_text
)
SELECT n, 'd' || n, 'D' || n, n, 'direct_mail', TRUE, n, 1, repeat('x', 2000)
FROM generate_series(1, %(campaigns)s) AS n;
INSERT INTO campaign.delivery_cost (delivery_id, cost_type_id)
SELECT n, 1 FROM generate_series(1, %(campaigns)s) AS n;
INSERT INTO campaign.approval_policy (id, delivery_id, kind)
SELECT n, n, 'content' FROM generate_series(1, %(campaigns)s) AS n;
INSERT INTO campaign.approval_policy_reviewer (approval_policy_id, staff_id)
SELECT n, 1 FROM generate_series(1, %(campaigns)s) AS n;
SELECT setval(pg_get_serial_sequence('campaign.' || name, 'id'), %(campaigns)s)
FROM unnest(ARRAY['campaign', 'workflow_template', 'delivery', 'approval_policy']) AS name
"""

BY_HAND = """
WITH line AS MATERIALIZED (
    SELECT
        id, campaign_id, starts_at,
        row_number() OVER (PARTITION BY campaign_id ORDER BY starts_at) AS number,
        nextval('campaign.workflow_id_seq') AS workflow_id,
        nextval('campaign.delivery_id_seq') AS delivery_id
    FROM campaign.campaign_schedule
    WHERE workflow_id IS NULL
),

workflow AS (
    INSERT INTO campaign.workflow (
        id, internal_name, label, workflow_template_id, campaign_id, number, dag_id, conf, start_planning_date
    )
    SELECT
        line.workflow_id, concat('w', line.workflow_id), template.label || ' - #' || line.number, template.id,
        line.campaign_id, line.number, template.dag_id, template.conf, line.starts_at
    FROM line
    INNER JOIN campaign.workflow_template AS template ON line.campaign_id = template.campaign_id
),

delivery AS (
    INSERT INTO campaign.delivery (
        id, internal_name, label, campaign_id, channel, workflow_template_id, workflow_id, service_id, body_text
    )
    SELECT
        line.delivery_id, concat('d', line.delivery_id, 'x'), source.label, line.campaign_id, source.channel,
        source.workflow_template_id, line.workflow_id, source.service_id, source.body_text
    FROM line
    INNER JOIN campaign.delivery AS source ON line.campaign_id = source.campaign_id AND source.is_template
),

cost AS (
    INSERT INTO campaign.delivery_cost (delivery_id, cost_type_id, surcharge)
    SELECT line.delivery_id, source.cost_type_id, source.surcharge
    FROM line
    INNER JOIN campaign.delivery_cost AS source ON line.campaign_id = source.delivery_id
)

UPDATE campaign.campaign_schedule AS schedule
SET workflow_id = line.workflow_id
FROM line
WHERE schedule.id = line.id
"""


class Bench:
    """One connection to a filled database, and what a run of operationMgt sends to it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.as_of = START + timedelta(hours=LINES // CAMPAIGNS) - timedelta(minutes=30)

    def step(self, name: str) -> dict[str, Any]:
        """Do one step as the workflow does; the transaction stays open."""
        binds = {
            "as_of": self.as_of, "campaign": None, "full": False, "run_id": "bench", "dag_id": "operationMgt",
            "is_past": False,
        }  # fmt: skip
        statement = (SQL_FOLDER / "operation_mgt" / f"{name}.sql").read_text()
        summary: dict[str, Any] = {}
        for rows in execute_statements(self.connection, statement, binds):
            if len(rows) == 1:
                summary |= rows[0]
        return summary

    def measure(self) -> dict[str, float]:
        """Return medians in milliseconds, by the names that are printed."""
        times: dict[str, list[float]] = {}

        def timed(name: str, work: Callable[[], Any]) -> Any:
            started = time.perf_counter()
            result = work()
            times.setdefault(name, []).append((time.perf_counter() - started) * 1000)
            return result

        for _ in range(ROUNDS):
            planned = timed("plan", lambda: self.step("plan_schedules"))
            assert planned["lines_planned"] == LINES, planned
            self.connection.execute("SAVEPOINT planned")
            timed("by hand", lambda: execute_statements(self.connection, BY_HAND, {}))
            self.connection.execute("ROLLBACK TO SAVEPOINT planned")
            served = timed("serve", lambda: self.step("serve_schedules"))
            assert served["recurring_workflows_created"] == served["deliveries_copied"] == LINES, served
            timed("run, nothing due", lambda: (self.step("plan_schedules"), self.step("serve_schedules")))
            self.connection.rollback()
            self.connection.autocommit = True
            self.connection.execute("VACUUM ANALYZE")
            self.connection.autocommit = False
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
                execute_statements(connection, FILL, {"start": START, "campaigns": CAMPAIGNS})
                connection.commit()
                medians = Bench(connection).measure()
        finally:
            # Nobody is connected but perhaps autovacuum, which FORCE may not end, and DROP without it does.
            server.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    print(f"{LINES:,} lines due at once on {CAMPAIGNS:,} campaigns, median of {ROUNDS} rounds:")
    for name, median in medians.items():
        print(f"  {name:18} {median:8.1f} ms   {median / medians['by hand']:5.2f} x by hand")
    ratio = medians["serve"] / medians["by hand"]
    print(f"serve / by hand: {ratio:.2f} (target 3.00)")
    return 0 if ratio <= 3 and medians["run, nothing due"] < 1000 else 1


if __name__ == "__main__":
    sys.exit(main())
