"""Sending: messages per second with two workers, against a bare smtplib loop to the same mail server.

``bin/env python bench/sending.py`` makes a database of its own beside the campaign database, a delivery of 20,000
personal mails (subject, text and HTML), and a mail server that takes everything at once, in two processes of its
own. Medians of interleaved rounds, in messages per second:

- *bare loop*: one process, one connection, ``smtplib``: for each recipient the same templates rendered with Jinja,
  an ``EmailMessage`` of the standard library, ``send_message``. It keeps no books and knows nothing afterwards;
- *bare loop, one finished text*: the same without making anything: 4 commands a mail, the same bytes each time;
- *two workers*: two processes of ``MessageSendingStep`` over the batches that ``plan_batches.sql`` plans, from the
  moment that both are ready until both are done: messages read, rendered, sent, and noted before and after.

After each round the server is asked how many mails came, and how many different ones by Message-ID.

Target: two workers at least 3 times *bare loop*. The ratio to *one finished text* is printed too: that loop does
a third of the work, and on two cores it is bound by the turns that it waits for.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import smtplib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from itertools import groupby
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "plugins"))

import psycopg  # noqa: E402
from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: E402
from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: E402

from campaign.database import SQL_FOLDER, execute_statements  # noqa: E402
from campaign.migrate import migrate  # noqa: E402

DATABASE = "campaign_bench_sending"
MESSAGES = int(os.environ.get("BENCH_MESSAGES", "20000"))
BARE_MESSAGES = int(os.environ.get("BENCH_BARE_MESSAGES", "2000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
DELAY = os.environ.get("BENCH_SERVER_DELAY", "0")
WORKERS = 2
NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)

SUBJECT = "{{ recipient.first_name }}, your garden this week"
BODY_TEXT = (
    "Dear {{ recipient.first_name }} {{ recipient.last_name }},\n\n"
    + "the beds want to be dug, and the roses want to be cut. " * 6
    + "\n\n{% if recipient.attributes.tier == 'gold' %}As a gold member you get 20 per cent off.\n{% endif %}"
    + "Yours, The Garden Shop in {{ recipient.city }}\n"
)
BODY_HTML = (
    "<html><body><h1>Dear {{ recipient.first_name }}</h1><p>"
    + "the beds want to be dug, and the roses want to be cut.<br>\n" * 6
    + "</p>{% if recipient.attributes.tier == 'gold' %}<p>As a gold member you get 20 per cent off.</p>{% endif %}"
    + "<p>Yours, The Garden Shop in {{ recipient.city }}</p></body></html>\n"
)

FILL = """
INSERT INTO campaign.plan (id, internal_name, label) VALUES (1, 'p', 'P');
INSERT INTO campaign.program (id, plan_id, internal_name, label) VALUES (1, 1, 'p', 'P');
INSERT INTO campaign.campaign (id, program_id, internal_name, label) VALUES (1, 1, 'c', 'C');
INSERT INTO campaign.recipient (id, internal_name, email, first_name, last_name, city, attributes)
SELECT
    n, 'r' || n, 'recipient' || n || '@example.net', 'Ada' || n, 'Lovelace', 'London',
    CASE WHEN n %% 2 = 0 THEN '{"tier": "gold"}' ELSE '{"tier": "plain"}' END::jsonb
FROM generate_series(1, %(messages)s) AS n;
UPDATE campaign.setting SET value = '"1 hour"' WHERE name = 'sending_slice';
UPDATE campaign.setting SET value = to_jsonb(%(workers)s) WHERE name = 'sending_workers'
"""

START = """
INSERT INTO campaign.delivery
(internal_name, label, campaign_id, channel, status, subject, body_text, body_html, sender, content_checked)
VALUES (
    concat('d', %(round)s), 'D', 1, 'email', 'start_pending', %(subject)s, %(body_text)s, %(body_html)s,
    'Garden Shop <shop@example.com>', TRUE
);
INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role)
SELECT delivery.id, recipient.id, 'main'
FROM campaign.delivery, campaign.recipient
WHERE delivery.internal_name = concat('d', %(round)s)
"""


@contextmanager
def mail_server() -> Iterator[int]:
    """Start the mail server; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, str(PROJECT / "bench" / "_mail_sink.py"), str(port), DELAY]
    sinks = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for sink in sinks:
            assert sink.stdout is not None
            sink.stdout.readline()
        yield port
    finally:
        for sink in sinks:
            sink.kill()
            sink.wait()


def count_mails(port: int) -> dict[str, float]:
    """Ask all processes of the server what came; the kernel chooses which one answers, so ask often."""
    reports: dict[int, dict[str, float]] = {}
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", port)) as line, line.makefile("rb") as answers:
            answers.readline()
            line.sendall(b"GET /\r\n")
            report = json.loads(answers.readline())
            reports[report["process"]] = report
        if len(reports) == 2:
            break
    return {name: sum(report[name] for report in reports.values()) for name in ("messages", "different", "cpu_seconds")}


def bare_loop(port: int) -> float:
    """Send mails as one writes it down first; return messages per second."""
    sandbox = ImmutableSandboxedEnvironment()
    templates = [sandbox.from_string(text) for text in (SUBJECT, BODY_TEXT, BODY_HTML)]
    started = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", port) as client:
        for number in range(BARE_MESSAGES):
            attributes = {"tier": "gold" if number % 2 == 0 else "plain"}
            person = {
                "first_name": f"Ada{number}", "last_name": "Lovelace", "city": "London", "attributes": attributes,
            }  # fmt: skip
            subject, text, html = (template.render(recipient=person) for template in templates)
            mail = EmailMessage(policy=SMTP)
            mail["From"] = "Garden Shop <shop@example.com>"
            mail["To"] = f"recipient{number}@example.net"
            mail["Subject"] = subject
            mail["Date"] = format_datetime(datetime.now(UTC))
            mail["Message-ID"] = f"<{number}.{started}@example.com>"
            mail.set_content(text)
            mail.add_alternative(html, subtype="html")
            client.send_message(mail)
        return BARE_MESSAGES / (time.perf_counter() - started)


def finished_text_loop(port: int) -> float:
    """Send one finished text again and again; return messages per second."""
    text = b"From: shop@example.com\r\nMessage-ID: <same@example.com>\r\n\r\n" + b"x" * 76 + b"\r\n" * 20
    started = time.perf_counter()
    with smtplib.SMTP("127.0.0.1", port) as client:
        for number in range(BARE_MESSAGES):
            client.sendmail("shop@example.com", [f"recipient{number}@example.net"], text)
        return BARE_MESSAGES / (time.perf_counter() - started)


def work(environment: dict[str, str], share: dict[str, Any], ready: Any, cpu_seconds: Any) -> None:
    """Be one task: wait until all are ready, then send a share."""
    os.environ |= environment
    from airflow.sdk import BaseHook

    from campaign.operators.message_sending import MessageSendingStep
    from campaign.run import Run

    BaseHook.get_connection("campaign_db")
    step = MessageSendingStep(task_id="send_messages", share=share)
    run = Run(dag_id="deliveryMgt", run_id="bench", task_id="send_messages", as_of=NOON)
    ready.wait()
    before = time.process_time()
    step.perform(run, {})  # type: ignore[typeddict-item]
    with cpu_seconds.get_lock():
        cpu_seconds.value += time.process_time() - before


def send_with_workers(
    connection: psycopg.Connection[Any], environment: dict[str, str], number: int
) -> dict[str, float]:
    """Start a delivery, and send it with two workers; return messages per second and where the time went."""
    texts = {"subject": SUBJECT, "body_text": BODY_TEXT, "body_html": BODY_HTML}
    binds = {"as_of": NOON, "campaign": None, "dag_id": "deliveryMgt", "run_id": "bench"}
    execute_statements(connection, START, texts | {"round": number})
    started = time.perf_counter()
    execute_statements(connection, (SQL_FOLDER / "delivery_mgt" / "start_deliveries.sql").read_text(), binds)
    connection.commit()
    start_seconds = time.perf_counter() - started
    *_, rows = execute_statements(connection, (SQL_FOLDER / "delivery_mgt" / "plan_batches.sql").read_text(), binds)
    connection.commit()
    shares = [
        {"batches": [[row["batch_id"], row["per_minute"]] for row in share]}
        for _, share in groupby(rows, key=lambda row: row["worker"])
    ]
    processes = multiprocessing.get_context("spawn")
    ready, cpu_seconds = processes.Barrier(len(shares) + 1), processes.Value("d", 0.0)
    workers = [processes.Process(target=work, args=(environment, share, ready, cpu_seconds)) for share in shares]
    for worker in workers:
        worker.start()
    ready.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, worker.exitcode
    seconds = time.perf_counter() - started
    left = connection.execute("SELECT count(*) FROM campaign.delivery_message WHERE status <> 'sent'").fetchone()
    connection.commit()
    assert left == (0,), left
    return {
        "messages a second": MESSAGES / seconds,
        "CPU of a worker a message, µs": cpu_seconds.value / MESSAGES * 1e6,
        "messages written a second at the start": MESSAGES / start_seconds,
    }


def measure(connection: psycopg.Connection[Any], environment: dict[str, str], port: int) -> dict[str, list[float]]:
    """Return the figures of all rounds, by the names that are printed."""
    figures: dict[str, list[float]] = {}
    execute_statements(connection, FILL, {"messages": MESSAGES, "workers": WORKERS})
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE")
    connection.autocommit = False
    for number in range(ROUNDS):
        figures.setdefault("bare loop", []).append(bare_loop(port))
        figures.setdefault("bare loop, one finished text", []).append(finished_text_loop(port))
        before = count_mails(port)
        for name, value in send_with_workers(connection, environment, number).items():
            figures.setdefault(name, []).append(value)
        after = count_mails(port)
        came = after["messages"] - before["messages"]
        assert came == MESSAGES, f"{came} mails came, not {MESSAGES}"
        assert after["different"] - before["different"] == MESSAGES, "some mails came twice"
        figures.setdefault("CPU of the server a message, µs", []).append(
            (after["cpu_seconds"] - before["cpu_seconds"]) / MESSAGES * 1e6
        )
    return figures


def main() -> int:
    """Measure, print, and say by the exit code whether the target is met."""
    dsn = os.environ.get("CAMPAIGN_DSN")
    if not dsn:
        sys.exit("CAMPAIGN_DSN is not set: run it with bin/env.")
    with psycopg.connect(dsn, autocommit=True) as server, mail_server() as port:
        server.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        server.execute(f"CREATE DATABASE {DATABASE}")
        try:
            bench_dsn = make_conninfo(dsn, dbname=DATABASE)
            migrate(bench_dsn)
            parts = conninfo_to_dict(bench_dsn)
            database = {
                "conn_type": "postgres", "host": parts["host"], "login": parts.get("user"),
                "password": parts.get("password"), "port": parts.get("port"), "schema": DATABASE,
            }  # fmt: skip
            plain = {"disable_ssl": True, "disable_tls": True, "retry_limit": 0, "from_email": "a@example.com"}
            mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": plain}
            environment = {
                "AIRFLOW_CONN_CAMPAIGN_DB": json.dumps(database), "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(mail),
            }  # fmt: skip
            with closing(psycopg.connect(bench_dsn)) as connection:
                figures = measure(connection, environment, port)
        finally:
            server.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    medians = {name: statistics.median(values) for name, values in figures.items()}
    print(f"{MESSAGES:,} mails, {WORKERS} workers, server answers after {DELAY} s, medians of {ROUNDS} rounds:")
    for name, median in medians.items():
        print(f"  {name:40} {median:10,.0f}")
    ratio = medians["messages a second"] / medians["bare loop"]
    strict = medians["messages a second"] / medians["bare loop, one finished text"]
    print(f"two workers / bare loop: {ratio:.2f} (target 3); / one finished text: {strict:.2f}")
    return 0 if ratio >= 3 else 1


if __name__ == "__main__":
    sys.exit(main())
