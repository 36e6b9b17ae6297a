"""Targeting: 10,000,000 recipients, three queries to a delivery's target, against statements written by hand.

``bin/env python bench/targeting.py`` makes a database of its own beside the campaign database, fills it, measures
and drops it. Rounds are interleaved; the times are medians in seconds.

Both do the same work and must come to the same rows: buyers of 50.00 and more (of as many purchases as recipients),
everybody in three countries, and the members of a list; the union; without the members of another list; one
recipient per e-mail address, the highest score first; then the target of a direct-mail delivery: without opted-out
recipients, incomplete addresses and duplicate addresses, a control group of one in ten, all recorded in
``delivery_target`` and ``delivery_exclusion``.

- *by hand*: one session, the best form known of each statement (unlogged tables made by CREATE TABLE AS and
  analyzed, anti join, DISTINCT ON in the collation "C", salted hash), and one INSERT into ``delivery_target``: the
  same table with the same indexes, because that is where the target must be. Tables are dropped at the end;
- *operators*: the tasks of a targeting DAG, each with its own connection and transaction, checks of parameters, the
  register of work tables, status, counts and journal of the delivery, and the teardown. Starting tasks, which costs
  Airflow a second or two each, is not in it.

Target: operators at most 1.3 times *by hand*.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "plugins"))
os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")

import psycopg  # noqa: E402
from psycopg.conninfo import make_conninfo  # noqa: E402

DATABASE = "campaign_bench_targeting"
RECIPIENTS = int(os.environ.get("BENCH_TARGETS", "10000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)

FILL = """
INSERT INTO campaign.plan (id, internal_name, label) VALUES (1, 'p', 'P');
INSERT INTO campaign.program (id, plan_id, internal_name, label) VALUES (1, 1, 'p', 'P');
INSERT INTO campaign.campaign (id, program_id, internal_name, label) VALUES (1, 1, 'c', 'C');
INSERT INTO campaign.delivery (id, internal_name, label, campaign_id, channel)
VALUES (1, 'letter', 'Letter', 1, 'direct_mail');
-- One in 50 shares an address with another, one in 40 an e-mail address; one in 30 is opted out.
INSERT INTO campaign.recipient (
    id, internal_name, email, first_name, last_name, address1, postal_code, city, country, opt_out_direct_mail,
    attributes
)
SELECT
    n, 'crm-' || n, substr(md5((n - n %% 40 / 39)::text), 1, 16) || '@example.com', 'First' || person %% 977,
    'Last ' || substr(md5(person::text), 1, 9), person %% 997 || ' High Street', lpad((person %% 99991)::text, 5, '0'),
    CASE WHEN n %% 60 <> 7 THEN 'City ' || person %% 700 END,
    (ARRAY['DE', 'FR', 'ES', 'AT', 'CH', 'NL'])[(1 + person %% 6)::integer],
    n %% 30 = 0, jsonb_build_object('score', n * 7919 %% 1000)
FROM (SELECT n, n - n %% 50 / 49 AS person FROM generate_series(1::bigint, %(recipients)s) AS n) AS numbered;
INSERT INTO campaign.purchase (recipient_id, purchased_on, quantity, amount)
SELECT 1 + n * 7919 %% %(recipients)s, date '2024-01-01' + (n %% 900)::int, 1, n * 31 %% 9000 / 100.0
FROM generate_series(1::bigint, %(recipients)s) AS n;
INSERT INTO campaign.recipient_list (id, internal_name, label) VALUES (1, 'newsletter', 'N'), (2, 'stop', 'S');
INSERT INTO campaign.recipient_list_member (recipient_list_id, recipient_id)
SELECT 1, n FROM generate_series(1::bigint, %(recipients)s) AS n WHERE n %% 5 = 1;
INSERT INTO campaign.recipient_list_member (recipient_list_id, recipient_id)
SELECT 2, n FROM generate_series(1::bigint, %(recipients)s) AS n WHERE n %% 10 = 3;
"""

# The team's queries, as the operators get them.
BUYERS = """
SELECT purchase.recipient_id
FROM campaign.purchase
WHERE purchase.purchased_on <= campaign_work.day_of(%(as_of)s::timestamptz)
GROUP BY purchase.recipient_id
HAVING sum(purchase.amount) >= 50
"""
COUNTRIES = "SELECT recipient.id FROM campaign.recipient WHERE recipient.country IN ('DE', 'AT', 'CH')"

BY_HAND = """
CREATE UNLOGGED TABLE by_hand_buyers AS
SELECT purchase.recipient_id
FROM campaign.purchase
WHERE
    purchase.purchased_on <= campaign_work.day_of(%(as_of)s::timestamptz)
    AND NOT EXISTS (
        SELECT 1 FROM campaign.recipient WHERE recipient.id = purchase.recipient_id AND recipient.is_seed
    )
GROUP BY purchase.recipient_id
HAVING sum(purchase.amount) >= 50;
CREATE UNLOGGED TABLE by_hand_countries AS
SELECT recipient.id AS recipient_id FROM campaign.recipient
WHERE recipient.country IN ('DE', 'AT', 'CH') AND NOT recipient.is_seed;
CREATE UNLOGGED TABLE by_hand_list AS
SELECT member.recipient_id
FROM campaign.recipient_list_member AS member
INNER JOIN campaign.recipient_list ON member.recipient_list_id = recipient_list.id
WHERE
    recipient_list.internal_name = 'newsletter'
    AND NOT EXISTS (SELECT 1 FROM campaign.recipient WHERE recipient.id = member.recipient_id AND recipient.is_seed);
ANALYZE by_hand_buyers, by_hand_countries, by_hand_list;
CREATE UNLOGGED TABLE by_hand_union AS
SELECT recipient_id FROM by_hand_buyers
UNION SELECT recipient_id FROM by_hand_countries
UNION SELECT recipient_id FROM by_hand_list;
CREATE UNLOGGED TABLE by_hand_stop AS
SELECT member.recipient_id
FROM campaign.recipient_list_member AS member
INNER JOIN campaign.recipient_list ON member.recipient_list_id = recipient_list.id
WHERE
    recipient_list.internal_name = 'stop'
    AND NOT EXISTS (SELECT 1 FROM campaign.recipient WHERE recipient.id = member.recipient_id AND recipient.is_seed);
ANALYZE by_hand_union, by_hand_stop;
CREATE UNLOGGED TABLE by_hand_rest AS
SELECT everybody.recipient_id FROM by_hand_union AS everybody
WHERE NOT EXISTS (SELECT 1 FROM by_hand_stop AS stop WHERE stop.recipient_id = everybody.recipient_id);
ANALYZE by_hand_rest;
CREATE UNLOGGED TABLE by_hand_distinct AS
SELECT DISTINCT ON (lower(trim(recipient.email)) COLLATE "C") recipient.id AS recipient_id
FROM by_hand_rest INNER JOIN campaign.recipient ON by_hand_rest.recipient_id = recipient.id
ORDER BY
    lower(trim(recipient.email)) COLLATE "C", recipient.attributes -> 'score' DESC NULLS LAST, recipient.id;
ANALYZE by_hand_distinct;
CREATE UNLOGGED TABLE by_hand_addressed AS
SELECT
    recipient.id AS recipient_id,
    recipient.opt_out_direct_mail AS is_opted_out,
    trim(recipient.last_name) <> '' AND trim(recipient.address1) <> ''
    AND trim(recipient.postal_code) <> '' AND coalesce(trim(recipient.city), '') <> '' AS is_reachable,
    translate(
        lower(
            concat_ws(
                '|', recipient.last_name, coalesce(recipient.first_name, ''), recipient.address1,
                recipient.postal_code, recipient.city, coalesce(recipient.country, '')
            )
        ), E' \\t.,;:\\'"-/', ''
    ) AS address
FROM by_hand_distinct INNER JOIN campaign.recipient ON by_hand_distinct.recipient_id = recipient.id;
ANALYZE by_hand_addressed;
CREATE UNLOGGED TABLE by_hand_first AS
SELECT DISTINCT ON (address COLLATE "C") recipient_id
FROM by_hand_addressed
WHERE NOT is_opted_out AND is_reachable
ORDER BY address COLLATE "C", recipient_id;
ANALYZE by_hand_first;
CREATE UNLOGGED TABLE by_hand_control AS
SELECT recipient_id FROM by_hand_first
ORDER BY hashint8extended(recipient_id, hashtextextended('control:letter', 0)), recipient_id
LIMIT (SELECT round(0.1 * count(*)) FROM by_hand_first);
ANALYZE by_hand_control;
INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role)
SELECT 1, by_hand_first.recipient_id, CASE WHEN by_hand_control.recipient_id IS NULL THEN 'main' ELSE 'control' END
FROM by_hand_first
LEFT JOIN by_hand_control ON by_hand_first.recipient_id = by_hand_control.recipient_id
ORDER BY by_hand_first.recipient_id;
INSERT INTO campaign.delivery_exclusion (delivery_id, reason, count)
SELECT 1, reason, count FROM (
    SELECT 'opt_out' AS reason, count(*) FROM by_hand_addressed WHERE is_opted_out
    UNION ALL SELECT 'no_address', count(*) FROM by_hand_addressed WHERE NOT is_opted_out AND NOT is_reachable
    UNION ALL
    SELECT 'duplicate', count(*) - (SELECT count(*) FROM by_hand_first)
    FROM by_hand_addressed WHERE NOT is_opted_out AND is_reachable
    UNION ALL SELECT 'control_group', count(*) FROM by_hand_control
) AS excluded;
DROP TABLE by_hand_buyers, by_hand_countries, by_hand_list, by_hand_union, by_hand_stop, by_hand_rest;
DROP TABLE by_hand_distinct, by_hand_addressed, by_hand_first, by_hand_control
"""


def targeting_dag() -> Any:
    """Return the DAG that does it."""
    from airflow.sdk import DAG

    from campaign.operators.targeting import (
        DeliveryPreparationOperator,
        TargetCleanupOperator,
        TargetDeduplicationOperator,
        TargetExclusionOperator,
        TargetListOperator,
        TargetQueryOperator,
        TargetUnionOperator,
    )

    with DAG(dag_id="benchTargeting", schedule=None) as dag:
        found = [
            TargetQueryOperator(task_id="buyers", sql=BUYERS),
            TargetQueryOperator(task_id="countries", sql=COUNTRIES),
            TargetListOperator(task_id="newsletter", lists=["newsletter"]),
        ]
        everybody = TargetUnionOperator(task_id="everybody", sources=found)
        stop = TargetListOperator(task_id="stop", lists=["stop"])
        rest = TargetExclusionOperator(task_id="rest", sources=[everybody, stop])
        distinct = TargetDeduplicationOperator(
            task_id="distinct", source=rest, key="email", keep_first_by="attributes.score", descending=True
        )
        prepared = DeliveryPreparationOperator(task_id="prepare", source=distinct)
        prepared >> TargetCleanupOperator(task_id="clean")
    return dag


class Bench:
    """A filled database, and the two ways to a target."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.dag = targeting_dag()
        self.steps: dict[str, list[float]] = {}

    def fill(self) -> None:
        """Make recipients, purchases and lists."""
        self._execute(FILL, recipients=RECIPIENTS)
        self.connection.autocommit = True
        self.connection.execute("VACUUM ANALYZE")

    def _execute(self, statements: str, **values: Any) -> None:
        from campaign.database import execute_statements

        execute_statements(self.connection, statements, values)
        self.connection.commit()

    def by_hand(self) -> None:
        """Run the statements one after the other, on one connection."""
        for number, statement in enumerate(BY_HAND.split(";\n")):
            with self.timed(f"by hand {number}"):
                self._execute(statement, as_of=NOON)

    def operators(self) -> None:
        """Run the tasks one after the other, as Airflow would."""
        params = {"delivery": "letter", "as_of": NOON.isoformat(), "control_group": {"share": "0.1"}}
        dag_run = SimpleNamespace(logical_date=None, run_after=NOON, run_id="bench")
        for task in self.dag.topological_sort():
            prepared: Any = task.prepare_for_execution()
            with self.timed(task.task_id):
                prepared.execute(
                    {"dag": self.dag, "task": task, "run_id": "bench", "dag_run": dag_run, "params": params}
                )

    def timed(self, name: str) -> Any:
        """Note how long a step takes."""
        bench, started = self, time.perf_counter()

        class Clock:
            def __enter__(self) -> None: ...

            def __exit__(self, *_: object) -> None:
                bench.steps.setdefault(name, []).append(time.perf_counter() - started)

        return Clock()

    def reset(self) -> None:
        """Let the delivery wait for a target that it does not have."""
        self.connection.execute("TRUNCATE campaign.delivery_target, campaign.delivery_exclusion")
        self.connection.execute("UPDATE campaign.delivery SET status = 'targeting_pending'")
        # What was written before is on disk when a way begins, if we may.
        with suppress(psycopg.errors.InsufficientPrivilege):
            self.connection.execute("CHECKPOINT")

    def result(self) -> Any:
        """Return what tells two targets apart: per role a digest of its members, and the exclusions."""
        return self.connection.execute(
            """
            SELECT role, count(*), sum(hashint8extended(recipient_id, 0)) FROM campaign.delivery_target GROUP BY role
            UNION ALL
            SELECT reason, count, NULL FROM campaign.delivery_exclusion
            ORDER BY 1
            """
        ).fetchall()

    def measure(self) -> dict[str, float]:
        """Return the medians in seconds."""
        times: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            results = []
            for name, work in (("by hand", self.by_hand), ("operators", self.operators)):
                self.reset()
                started = time.perf_counter()
                work()
                times.setdefault(name, []).append(time.perf_counter() - started)
                results.append(self.result())
            assert results[0] == results[1], results
        print(f"  target: {', '.join(f'{name} {count:,}' for name, count, _ in results[0])}")
        return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    """Measure, print, and say by the exit code whether the target is met."""
    from bench.extraction import connection_settings
    from campaign.migrate import migrate

    dsn = os.environ.get("CAMPAIGN_DSN")
    if not dsn:
        sys.exit("CAMPAIGN_DSN is not set: run it with bin/env.")
    with psycopg.connect(dsn, autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {DATABASE}")
        try:
            bench_dsn = make_conninfo(dsn, dbname=DATABASE)
            os.environ |= connection_settings(bench_dsn)
            migrate(bench_dsn)
            with closing(psycopg.connect(bench_dsn)) as connection:
                bench = Bench(connection)
                bench.fill()
                print(f"{RECIPIENTS:,} recipients and as many purchases, median of {ROUNDS} rounds:")
                medians = bench.measure()
        finally:
            # Nobody is connected but perhaps autovacuum, which FORCE may not end, and DROP without it does.
            server.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    for name, median in medians.items():
        print(f"  {name:12} {median:6.1f} s   {median / medians['by hand']:5.2f} x by hand")
    steps = [name for name in bench.steps if not name.startswith("by hand")]
    print("  of it " + ", ".join(f"{name} {statistics.median(bench.steps[name]):.1f}" for name in steps))
    ratio = medians["operators"] / medians["by hand"]
    print(f"operators / by hand: {ratio:.2f} (target 1.30)")
    return 0 if ratio <= 1.3 else 1


if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))
    sys.exit(main())
