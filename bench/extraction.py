"""Extraction: a file of 5,000,000 recipients, against psql's ``\\copy`` of the same query.

``bin/env python bench/extraction.py`` makes a database of its own beside the campaign database, fills it, measures
and drops it. Each measurement is a process of its own, and psql's turn is between the two of the extraction; rows
per second are medians, and so are the ratios to the psql of the same round:

- *psql*: ``\\copy (QUERY) TO FILE`` of the very query that the extraction sends, start and end of psql included.
  Nothing is counted, hashed, compressed or forced to disk;
- *extraction*: the step ``extract_files`` of ``operationMgt`` from the search for what is due to the last commit:
  the name committed first, rows by COPY into a temporary file, SHA-256, fsync, renamed, the rows compared with the
  target, recorded; plain and with zstd. Importing Airflow, which every task pays once, is not in it;
- *server cursor + csv* and *pandas*: a named cursor with the csv module, ``read_sql`` in chunks with ``to_csv``.
  They are slow, so they write a sample; a row costs them the same however many there are.

Memory is the most that the process ever held (RSS), and of it what the extraction added to a process that has
imported Airflow and writes nothing yet; that of a file with a tenth of the rows shows whether it grows with the file.

Targets: extraction at least 0.9 of psql's rows per second, plain and zstd; less than 200 MB.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "plugins"))

import psycopg  # noqa: E402
from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: E402

DATABASE = "campaign_bench_extraction"
RECIPIENTS = int(os.environ.get("BENCH_RECIPIENTS", "5000000"))
SAMPLE = min(RECIPIENTS, int(os.environ.get("BENCH_SAMPLE", "200000")))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
# Per delivery: its compression, and which part of the recipients is in its target.
DELIVERIES = {"plain": ("none", 1), "zstd": ("zstd", 1), "tenth": ("none", 10)}

FILL = """
INSERT INTO campaign.plan (id, internal_name, label) VALUES (1, 'p', 'P');
INSERT INTO campaign.program (id, plan_id, internal_name, label) VALUES (1, 1, 'p', 'P');
INSERT INTO campaign.campaign (id, program_id, internal_name, label) VALUES (1, 1, 'c', 'C');
INSERT INTO campaign.provider (id, internal_name, label) VALUES (1, 'p', 'P');
INSERT INTO campaign.recipient (
    id, internal_name, email, first_name, last_name, address1, postal_code, city, country, language, attributes
)
SELECT
    n, 'crm-' || n, substr(noise, 1, 9) || '@example.com',
    initcap(translate(substr(noise, 2, 7), '0123456789', 'aeioulnrst')),
    CASE n %% 50
        WHEN 0 THEN 'Smith, "Jr."' ELSE initcap(translate(substr(noise, 9, 9), '0123456789', 'aeioulnrst'))
    END,
    n %% 997 || ' ' || substr(noise, 18, 8) || 'straße', lpad((n * 7 %% 99999)::text, 5, '0'),
    'Sankt Pölten ' || n %% 700, 'AT', 'de', '{"tier": "gold"}'
FROM generate_series(1, %(recipients)s) AS n
CROSS JOIN LATERAL (SELECT md5(n::text)) AS random (noise);
"""
FILL_DELIVERY = """
INSERT INTO campaign.export_format (id, internal_name, label, columns, compression)
VALUES (
    %(id)s, %(name)s, %(name)s,
    '[{"header": "key", "expression": "message.key"},
      {"header": "name", "expression": "recipient.first_name || '' '' || recipient.last_name"},
      {"header": "email", "expression": "recipient.email"},
      {"header": "street", "expression": "recipient.address1"},
      {"header": "place", "expression": "recipient.postal_code || '' '' || recipient.city"},
      {"header": "country", "expression": "recipient.country"},
      {"header": "tier", "expression": "recipient.attributes.tier"},
      {"header": "offer", "expression": "delivery.label"}]',
    %(compression)s
);
INSERT INTO campaign.service (id, internal_name, label, provider_id, export_format_id)
VALUES (%(id)s, %(name)s, %(name)s, 1, %(id)s);
INSERT INTO campaign.delivery (id, internal_name, label, campaign_id, channel, service_id, targeted_count)
VALUES (%(id)s, %(name)s, 'Summer catalogue', 1, 'direct_mail', %(id)s, %(recipients)s / %(divisor)s);
INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role)
SELECT %(id)s, n, 'main' FROM generate_series(1, %(recipients)s / %(divisor)s) AS n;
"""


def connection_settings(dsn: str) -> dict[str, str]:
    """Return the environment in which Airflow's hook reaches the database."""
    parts = conninfo_to_dict(dsn)
    connection = {
        "conn_type": "postgres", "host": parts.get("host"), "port": parts.get("port"), "login": parts.get("user"),
        "password": parts.get("password"), "schema": parts.get("dbname"),
    }  # fmt: skip
    connection["port"] = connection["port"] and int(str(connection["port"]))
    return {"AIRFLOW_CONN_CAMPAIGN_DB": json.dumps({key: value for key, value in connection.items() if value})}


def query_of(dsn: str, delivery: str, limit: int | None = None) -> str:
    """Return the query of a delivery's rows, as the extraction makes it."""
    from campaign.extraction.preview import layout_of, load_facts

    with psycopg.connect(dsn) as connection:
        delivery_id = list(DELIVERIES).index(delivery) + 1
        return layout_of(load_facts(connection, delivery_id)).query(delivery_id, limit).as_string(connection)


def extract(_: Path) -> dict[str, Any]:
    """Run the step of ``operationMgt``; in a child process, which has imported everything before."""
    from campaign.operators.extraction import ExtractionStep
    from campaign.run import Run

    step = ExtractionStep(task_id="extract_files")
    run = Run(dag_id="operationMgt", run_id="bench", task_id="extract_files", as_of=NOON)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    counts = step.perform(run, {})
    seconds = time.perf_counter() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": seconds, "rows": counts["rows_extracted"], "grown_mb": grown / 1024}


def copy_with_psql(file: Path) -> dict[str, Any]:
    """Let psql write the file."""
    dsn = os.environ["BENCH_DSN"]
    psql = shutil.which("psql") or sys.exit("psql is not on the PATH.")
    command = f"\\copy ({query_of(dsn, 'plain')}) TO '{file}' (FORMAT csv, HEADER false)"
    started = time.perf_counter()
    # The server stands next to it: psql's own sources of settings would only cost time.
    done = subprocess.run([psql, "-X", "-q", "-c", command, dsn], check=True, capture_output=True, text=True)
    return {"seconds": time.perf_counter() - started, "rows": RECIPIENTS, "said": done.stderr}


def write_with_csv(file: Path) -> dict[str, Any]:
    """Write a sample from a server-side cursor with the csv module."""
    query = query_of(os.environ["BENCH_DSN"], "plain", SAMPLE)
    started = time.perf_counter()
    with psycopg.connect(os.environ["BENCH_DSN"]) as connection, file.open("w", newline="") as opened:
        cursor = connection.cursor("bench")
        cursor.itersize = 10_000
        csv.writer(opened, lineterminator="\n").writerows(cursor.execute(query.encode()))
    return {"seconds": time.perf_counter() - started, "rows": SAMPLE}


def write_with_pandas(file: Path) -> dict[str, Any]:
    """Write a sample from chunks of pandas."""
    import pandas as pd
    import sqlalchemy

    query = query_of(os.environ["BENCH_DSN"], "plain", SAMPLE)
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(os.environ["BENCH_DSN"]))
    started = time.perf_counter()
    with engine.connect().execution_options(stream_results=True) as connection:
        for chunk in pd.read_sql(sqlalchemy.text(query), connection, chunksize=50_000):
            chunk.to_csv(file, mode="a", index=False, header=False)
    return {"seconds": time.perf_counter() - started, "rows": SAMPLE}


CHILDREN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "extraction": extract,
    "psql": copy_with_psql,
    "server cursor + csv": write_with_csv,
    "pandas": write_with_pandas,
}


class Bench:
    """A filled database, a folder for files, and the processes that write them."""

    def __init__(self, dsn: str, connection: psycopg.Connection[Any], folder: Path) -> None:
        self.connection = connection
        self.folder = folder
        self.environment = {
            **os.environ, **connection_settings(dsn), "BENCH_DSN": dsn, "CAMPAIGN_FILES_URL": f"file://{folder}",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        }  # fmt: skip

    def fill(self) -> None:
        """Make recipients, and deliveries that wait for nothing yet."""
        from campaign.database import execute_statements

        execute_statements(self.connection, FILL, {"recipients": RECIPIENTS})
        for number, (name, (compression, divisor)) in enumerate(DELIVERIES.items(), start=1):
            values = {"id": number, "name": name, "compression": compression, "divisor": divisor}
            execute_statements(self.connection, FILL_DELIVERY, {**values, "recipients": RECIPIENTS})
        self.connection.commit()
        self.connection.autocommit = True
        self.connection.execute("VACUUM ANALYZE")

    def child(self, name: str, file: str = "peer.csv") -> dict[str, Any]:
        """Run one measurement in a process of its own; the file of a peer is removed again."""
        path = self.folder / file
        done = subprocess.run(
            [sys.executable, __file__, "--child", name, str(path)],
            env=self.environment, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        measured = json.loads(done.stdout.splitlines()[-1])
        if path.exists():
            measured["size"] = path.stat().st_size
            path.unlink()
        return dict(measured)

    def extract(self, delivery: str) -> dict[str, Any]:
        """Let one delivery be extracted, and compare what is recorded with what lies there."""
        self.connection.execute(
            "UPDATE campaign.delivery SET status = 'extraction_pending' WHERE internal_name = %s", [delivery]
        )
        measured = self.child("extraction")
        row = self.connection.execute(
            "SELECT file_name, row_count, byte_count, sha256 FROM campaign.extraction_file ORDER BY id DESC LIMIT 1"
        ).fetchone()
        assert row is not None
        [path] = self.folder.iterdir()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        assert (path.name, measured["rows"], path.stat().st_size, digest) == row, (path, measured, row)
        path.unlink()
        return measured | {"size": row[2]}

    def measure(self) -> dict[str, list[dict[str, Any]]]:
        """Return the measurements of each way to write the file."""
        found: dict[str, list[dict[str, Any]]] = {}

        def note(name: str, measured: dict[str, Any]) -> None:
            found.setdefault(name, []).append(measured)

        note("extraction, tenth", self.extract("tenth"))
        for _ in range(ROUNDS):
            note("extraction, plain", self.extract("plain"))
            note("psql", self.child("psql"))
            note("extraction, zstd", self.extract("zstd"))
        for peer in ("server cursor + csv", "pandas"):
            note(peer, self.child(peer))
        return found


def run_child(name: str, file: str) -> None:
    """Do one measurement, and print it as JSON."""
    measured = CHILDREN[name](Path(file))
    measured["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(measured))


def main() -> int:
    """Measure, print, and say by the exit code whether the targets are met."""
    from campaign.migrate import migrate

    dsn = os.environ.get("CAMPAIGN_DSN")
    if not dsn:
        sys.exit("CAMPAIGN_DSN is not set: run it with bin/env.")
    with psycopg.connect(dsn, autocommit=True) as server, tempfile.TemporaryDirectory() as folder:
        server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {DATABASE}")
        try:
            bench_dsn = make_conninfo(dsn, dbname=DATABASE)
            migrate(bench_dsn)
            with closing(psycopg.connect(bench_dsn)) as connection:
                bench = Bench(bench_dsn, connection, Path(folder))
                bench.fill()
                found = bench.measure()
        finally:
            # Nobody is connected but perhaps autovacuum, which FORCE may not end, and DROP without it does.
            server.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    return report(found)


def report(found: dict[str, list[dict[str, Any]]]) -> int:
    """Print the medians, and return 1 when a target is missed."""
    psql = [one["rows"] / one["seconds"] for one in found["psql"]]
    ratios = {}
    small = found.pop("extraction, tenth")[0]
    print(f"{RECIPIENTS:,} recipients, median of {ROUNDS} rounds; the last two: once, a sample of {SAMPLE:,}:")
    for name, measured in found.items():
        speeds = [one["rows"] / one["seconds"] for one in measured]
        paired = psql if len(speeds) == ROUNDS else [statistics.median(psql)]
        ratios[name] = statistics.median(own / theirs for own, theirs in zip(speeds, paired, strict=True))
        memory = f"{max(one['peak_mb'] for one in measured):4.0f} MB of memory" if name != "psql" else ""
        if "grown_mb" in measured[0]:
            memory += f", {max(one['grown_mb'] for one in measured):.0f} for the file"
        print(
            f"  {name:20} {statistics.median(speeds):10,.0f} rows/s   {ratios[name]:5.2f} of psql   "
            f"{measured[0]['size'] / 1e6:6.1f} MB   {memory}"
        )
    print(f"  a file of a tenth of the rows: {small['peak_mb']:.0f} MB of memory, {small['grown_mb']:.0f} for the file")
    ratio = min(ratios["extraction, plain"], ratios["extraction, zstd"])
    memory_mb = max(one["peak_mb"] for name in ("plain", "zstd") for one in found[f"extraction, {name}"])
    print(f"extraction / psql: {ratio:.2f} (target 0.90); memory {memory_mb:.0f} MB (target 200)")
    return 0 if ratio >= 0.9 and memory_mb < 200 else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_child(*sys.argv[2:])
    else:
        sys.exit(main())
