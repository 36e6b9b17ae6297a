"""Deliveries: the statements of a run of deliveryMgt, when 1,000 deliveries are due for something.

``bin/env python bench/delivery.py`` makes databases of their own beside the campaign database, with 10,000 and with
100,000 deliveries, of which in both 1,000 are due: 250 each whose approvals are to be asked for, that are approved
and move on, whose reviewers are to be reminded, and that start, to 10 recipients each. Of the others nine in ten
lie finished, and one in ten is open and waits: for its contact date, or for an answer that is not late
(``BENCH_OPEN_SHARE``: another share of them). Runs as of the day before have looked at these; then come the 1,000.

It prints medians in milliseconds of all statements of the run, by step, for both; each round is rolled back. The last
lines are runs that find nothing due, the last with ``full``: it looks at all that have not left.

Target: ten times the deliveries, with the same 1,000 due, take at most 2 times as long.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
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

DATABASE = "campaign_bench_delivery"
SIZES = (10_000, 100_000)
DUE = 1_000
OPEN_SHARE = float(os.environ.get("BENCH_OPEN_SHARE", "0.1"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
STEPS = (
    "select_unchecked_contents",
    "void_changed_approvals",
    "advance_deliveries",
    "submit_approvals",
    "remind_reviewers",
    "hold_stale_deliveries",
    "start_deliveries",
    "plan_batches",
    "finish_deliveries",
)

FILL = """
INSERT INTO campaign.staff (id, internal_name, label, email) VALUES (1, 's', 'S', 's@example.com');
INSERT INTO campaign.plan (id, internal_name, label) VALUES (1, 'p', 'P');
INSERT INTO campaign.program (id, plan_id, internal_name, label) VALUES (1, 1, 'p', 'P');
INSERT INTO campaign.campaign (id, program_id, internal_name, label, owner_id)
SELECT n, 1, 'c' || n, 'C' || n, 1 FROM generate_series(1, 1000) AS n;
INSERT INTO campaign.approval_policy (campaign_id, kind, reminders)
SELECT id, 'content', ARRAY[interval '1 day'] FROM campaign.campaign;
INSERT INTO campaign.recipient (internal_name, email, first_name)
SELECT 'r' || n, 'r' || n || '@example.net', 'Ada' FROM generate_series(1, 10) AS n;
-- The kinds of deliveries: 0 to 3 are due, 4 lies finished, 5 waits for its date, 6 for an answer.
CREATE TEMP TABLE kind_of AS
SELECT
    n AS id,
    CASE
        WHEN n %% (%(total)s / %(due)s) = 0 THEN n / (%(total)s / %(due)s) %% 4
        WHEN random() >= %(open_share)s THEN 4
        ELSE 5 + n %% 2
    END AS kind
FROM generate_series(1, %(total)s) AS n
"""
DELIVERIES = """
INSERT INTO campaign.delivery (
    id, internal_name, label, campaign_id, channel, status, subject, body_text, content_checked, contact_date,
    submitted_at, analysed_at, confirmed_at, message_count, targeted_count, started_at, finished_at
)
SELECT
    id, 'd' || id, 'D' || id, 1 + id %% 1000, 'email',
    (
        ARRAY[
            'target_ready', 'target_ready', 'target_ready', 'start_pending', 'finished', 'start_pending', 'target_ready'
        ]
    )[kind + 1],
    'Hello', 'Hello', TRUE,
    CASE WHEN kind = 5 THEN timestamptz '2027-01-01' ELSE timestamptz '2026-11-02' END,
    '2026-10-01', '2026-10-02', CASE WHEN kind IN (3, 5) THEN timestamptz '2026-10-03' END, 10, 10,
    CASE WHEN kind = 4 THEN timestamptz '2026-10-04' END, CASE WHEN kind = 4 THEN timestamptz '2026-10-04' END
FROM kind_of
WHERE kind = ANY(%(kinds)s);
INSERT INTO campaign.approval
(delivery_id, kind, round, status, seal, reminders, submitted_at, deadline_at, decided_at, decided_by_id)
SELECT
    id, 'content', 1, CASE WHEN kind IN (2, 6) THEN 'pending' ELSE 'approved' END,
    campaign.approval_seal(id, 'content'), ARRAY[interval '1 day'], '2026-10-31',
    CASE WHEN kind = 2 THEN timestamptz '2026-11-03' ELSE timestamptz '2026-12-01' END,
    CASE WHEN kind NOT IN (2, 6) THEN timestamptz '2026-11-01' END, CASE WHEN kind NOT IN (2, 6) THEN 1 END
FROM kind_of
WHERE kind = ANY(%(kinds)s) AND kind <> 0;
INSERT INTO campaign.approval_reviewer (approval_id, staff_id)
SELECT approval.id, 1 FROM campaign.approval INNER JOIN kind_of ON approval.delivery_id = kind_of.id
WHERE kind_of.kind = ANY(%(kinds)s);
INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role)
SELECT kind_of.id, recipient.id, 'main' FROM kind_of, campaign.recipient WHERE kind = 3 AND kind = ANY(%(kinds)s)
"""


def run(
    connection: psycopg.Connection[Any], as_of: datetime = NOON, *, full: bool = False
) -> tuple[dict[str, float], dict[str, Any]]:
    """Do the statements of a run in the open transaction; return milliseconds by step, and the run's counts."""
    times, summary = {}, {}
    binds = {
        "as_of": as_of,
        "campaign": None,
        "full": full,
        "run_id": "bench",
        "dag_id": "deliveryMgt",
        "is_past": False,
    }
    # A session of a workflow says so, and is no edit by hand.
    connection.execute("SELECT set_config('campaign.instance', 'bench', true)")
    for step in STEPS:
        text = (SQL_FOLDER / "delivery_mgt" / f"{step}.sql").read_text()
        started = time.perf_counter()
        for rows in execute_statements(connection, text, binds):
            if step not in ("select_unchecked_contents", "plan_batches"):
                summary |= rows[0]
        times[step] = (time.perf_counter() - started) * 1000
    return times, summary


def vacuum(connection: psycopg.Connection[Any]) -> None:
    """Do what autovacuum would have done by then."""
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE")
    connection.autocommit = False


def rounds(connection: psycopg.Connection[Any], due: int, *, full: bool = False) -> dict[str, float]:
    """Return medians in milliseconds by step of runs that are rolled back, of which the first does not count."""
    measured = []
    for _ in range(ROUNDS + 1):
        times, summary = run(connection, full=full)
        connection.rollback()
        counts = [
            summary[name]
            for name in ("approvals_submitted", "deliveries_advanced", "reminders_written", "deliveries_started")
        ]
        assert counts == [due // 4] * 4, summary
        measured.append(times)
    return {step: statistics.median(times[step] for times in measured[1:]) for step in STEPS}


def measure(dsn: str, total: int) -> list[dict[str, float]]:
    """Return medians by step, with so many deliveries: with 1,000 due, then with none, then of a full run with none."""
    migrate(dsn)
    with closing(psycopg.connect(dsn)) as connection:
        binds = {"total": total, "due": DUE, "open_share": OPEN_SHARE}
        execute_statements(connection, FILL, binds)
        execute_statements(connection, DELIVERIES, {"kinds": [4, 5, 6]})
        vacuum(connection)
        # The runs before: what waits has been looked at.
        for _ in range(2):
            run(connection, NOON - timedelta(days=1))
            connection.commit()
        vacuum(connection)
        idle, whole = rounds(connection, 0), rounds(connection, 0, full=True)
        execute_statements(connection, DELIVERIES, {"kinds": [0, 1, 2, 3]})
        vacuum(connection)
        return [rounds(connection, DUE), idle, whole]


def main() -> int:
    """Measure, print, and say by the exit code whether the target is met."""
    dsn = os.environ.get("CAMPAIGN_DSN")
    if not dsn:
        sys.exit("CAMPAIGN_DSN is not set: run it with bin/env.")
    medians = {}
    with psycopg.connect(dsn, autocommit=True) as server:
        for total in SIZES:
            server.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
            server.execute(f"CREATE DATABASE {DATABASE}")
            try:
                medians[total] = measure(make_conninfo(dsn, dbname=DATABASE), total)
            finally:
                server.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    print(f"{DUE:,} deliveries due, {OPEN_SHARE:.0%} of the others open, median of {ROUNDS} rounds, ms:")
    print(f"  {'':28}" + "".join(f"{f'{total:,} in all':>18}" for total in SIZES))
    for step in STEPS:
        print(f"  {step:28}" + "".join(f"{medians[total][0][step]:18.1f}" for total in SIZES))
    for place, what in enumerate(("the run", "a run with nothing due", "the same with full")):
        sums = "".join(f"{sum(medians[total][place].values()):18.1f}" for total in SIZES)
        print(f"  {what:28}{sums}")
    whole = [sum(medians[total][0].values()) for total in SIZES]
    print(f"ten times the deliveries / the same 1,000 due: {whole[1] / whole[0]:.2f} (target 2)")
    return 0 if whole[1] <= 2 * whole[0] else 1


if __name__ == "__main__":
    sys.exit(main())
