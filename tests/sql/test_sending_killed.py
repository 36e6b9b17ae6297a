"""Senders killed at random moments: every message counted where it arrives, by its Message-ID."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from datetime import timedelta
from itertools import groupby
from multiprocessing.context import ForkServerProcess
from typing import Any

import psycopg
import pytest

from campaign.database import execute_statements
from campaign.statements import read_statement
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.sending_process import send_share
from tests.sql.test_delivery_sending import NOW, messages, ready, setting, status

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["campaign.operators.message_sending", "tests.sending_process"])


def start(dsn: str) -> None:
    """Start what is due, as the workflow does."""
    binds = {"as_of": NOW, "campaign": None, "dag_id": "deliveryMgt", "run_id": "test"}
    with psycopg.connect(dsn) as connection:
        execute_statements(connection, read_statement("delivery_mgt/start_deliveries.sql"), binds)


def plan(dsn: str) -> list[dict[str, Any]]:
    """Return the shares that are to be sent now, as the workflow plans them."""
    binds = {"as_of": NOW, "campaign": None, "dag_id": "deliveryMgt", "run_id": "test"}
    with psycopg.connect(dsn) as connection:
        *_, rows = execute_statements(connection, read_statement("delivery_mgt/plan_batches.sql"), binds)
    return [
        {"batches": [[row["batch_id"], row["per_minute"]] for row in share]}
        for _, share in groupby(rows, key=lambda row: row["worker"])
    ]


def spawn(share: dict[str, Any]) -> ForkServerProcess:
    environment = {name: os.environ[name] for name in ("AIRFLOW_CONN_CAMPAIGN_DB", "AIRFLOW_CONN_SMTP_DEFAULT")}
    process = PROCESSES.Process(target=send_share, args=(environment, share, NOW))
    process.start()
    return process


def wait_until_batches_are_taken(db: psycopg.Connection[Any], count: int) -> None:
    """Wait until each of so many senders has its first batch, and can be asked to end."""
    taken = """
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
    until = time.monotonic() + 30
    while db.execute(taken).fetchone() != (count,):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def delivery(db: psycopg.Connection[Any], factory: Factory, dsn: str) -> int:
    campaign = factory.campaign(owner_id=factory.staff(internal_name="olga"))
    delivery = ready(db, factory, campaign, count=1200)
    db.execute("UPDATE campaign.delivery SET content_checked = true")
    setting(db, "failed_share", 1)
    setting(db, "lines_per_worker", 4)
    start(dsn)
    return delivery


@pytest.mark.parametrize("seed", [1])
def test_no_message_is_sent_twice_whatever_is_killed_when(
    db: psycopg.Connection[Any],
    dsn: str,
    delivery: int,
    run_workflow: Workflow,
    mail_server: MailServer,
    seed: int,
) -> None:
    chance = random.Random(seed)  # noqa: S311  (not for secrets)
    kills = 0
    while (shares := plan(dsn)) and kills < 6:
        senders = [spawn(share) for share in shares]
        before = len(mail_server.messages)
        while len(mail_server.messages) < before + 50 and any(sender.is_alive() for sender in senders):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.15))
        for sender in senders:
            time.sleep(chance.uniform(0, 0.05))
            if sender.is_alive():
                os.kill(sender.pid or 0, signal.SIGKILL)
                kills += 1
            sender.join()
    run_workflow("deliveryMgt", NOW)
    assert kills > 2
    assert status(db, delivery) == "finished"

    arrived = Counter(str(mail["Message-ID"]) for _, mail in mail_server.messages)
    rows = db.execute(
        """
        SELECT format('<%s@example.com>', campaign.message_key(delivery_id, recipient_id)), status, is_unknown
        FROM campaign.delivery_message
        """
    ).fetchall()
    assert len(rows) == 1200
    assert max(arrived.values()) == 1
    unknown = {key for key, _, is_unknown in rows if is_unknown}
    assert {(state, is_unknown) for _, state, is_unknown in rows} <= {("sent", False), ("failed", True)}
    # All that is said to be sent arrived, and nothing else but some of which that is not known.
    assert {key for key, state, _ in rows if state == "sent"} <= set(arrived)
    assert set(arrived) <= {key for key, *_ in rows}
    # At most what was on the lines when their sender was killed.
    assert len(unknown) <= 4 * kills
    print(f"{kills} kills: {len(unknown)} unknown, of which {len(unknown & set(arrived))} arrived")


def test_sender_that_is_asked_to_end_leaves_nothing_unknown(
    db: psycopg.Connection[Any], dsn: str, delivery: int, run_workflow: Workflow, mail_server: MailServer
) -> None:
    is_in_the_middle, are_asked = threading.Event(), threading.Event()

    def hold(mail: Any) -> None:
        """Answer nothing in the middle of the delivery, until the senders were asked to end."""
        if len(mail_server.messages) == 100:
            is_in_the_middle.set()
            are_asked.wait(30)

    mail_server.on_data = hold
    senders = [spawn(share) for share in plan(dsn)]
    assert is_in_the_middle.wait(30)
    wait_until_batches_are_taken(db, len(senders))
    for sender in senders:
        os.kill(sender.pid or 0, signal.SIGTERM)
    are_asked.set()
    for sender in senders:
        sender.join()
        assert sender.exitcode == 0
    sent = len(mail_server.messages)
    # What was on the lines, and no more.
    assert 100 <= sent <= 100 + 4 * len(senders)
    assert messages(db, delivery) == {("sent", None): sent, ("pending", None): 1200 - sent}
    run_workflow("deliveryMgt", NOW + timedelta(minutes=1))
    assert messages(db, delivery) == {("sent", None): 1200}
    assert len({mail["Message-ID"] for _, mail in mail_server.messages}) == len(mail_server.messages) == 1200


def test_two_tasks_with_the_same_share_send_it_once(
    db: psycopg.Connection[Any], dsn: str, delivery: int, mail_server: MailServer
) -> None:
    shares = plan(dsn)
    senders = [spawn(share) for share in [*shares, *shares]]
    for sender in senders:
        sender.join()
    assert messages(db, delivery) == {("sent", None): 1200}
    assert len({mail["Message-ID"] for _, mail in mail_server.messages}) == len(mail_server.messages) == 1200
