"""Runs the workflows of a house in processes that are killed, while what is around them goes away and comes back."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psycopg

from tests.trust.player import WORKFLOWS, Player
from tests.trust.postgres_server import PostgresServer
from tests.trust.task_process import Order, work

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.trust.task_process", "tests.sending_process"])
# Airflow tries a task this often before it fails.
TRIES = 3
# Nothing takes as long as that: what does is stuck.
PATIENCE_SECONDS = 120.0
# Who starts DAG runs of others.
STARTERS = ("operationMgt", "providerMgt")
Report = tuple[str, str, Any]


class KillingPlayer:
    """Plays a house as :class:`Player` does, but each run in a process that may be killed.

    Where a process dies is chosen: at one of the moments at which it touches the database, a socket or a file, or
    after some time. A task whose process died or that raised is tried again, :data:`TRIES` times in all; then it has
    failed, the tasks after it do what their trigger rules say, and whoever plays runs the workflow again, as a
    schedule does.

    :param server: the PostgreSQL of the house.
    :param seed: decides who is killed when, and what goes away.
    :ivar counts: what was done: runs, processes, kills, and each outage.
    :ivar kills: how often a run of each workflow was killed; None: what the workflows started.
    """

    def __init__(self, player: Player, server: PostgresServer, seed: int) -> None:
        self.player, self.server = player, server
        self.house, self.outside = player.house, player.outside
        self.dsn = self.house.db.info.dsn
        self.random = random.Random(seed)  # noqa: S311
        self.counts: Counter[str] = Counter()
        self.kills: Counter[str | None] = Counter()
        self._outages: list[str] = []
        self._is_at_peace = False
        # How often a run of a workflow touched the outside at most.
        self._touches: Counter[str | None] = Counter()

    def run_all(self, as_of: datetime) -> None:
        """Run the five once, and what they started; sometimes something is away meanwhile."""
        with self._outage():
            for dag_id in WORKFLOWS:
                self.run(dag_id, as_of)
                if dag_id in STARTERS:
                    self.run(None, as_of)

    def has_killed(self, wanted: int) -> bool:
        """Return whether there were so many kills, of each workflow and of the server, and everything was away."""
        return (
            self.counts["kills"] >= wanted
            and self.kills.keys() >= set(WORKFLOWS)
            and self.counts["servers killed"] >= 1
            and all(self.counts[f"{name} away"] for name in OUTAGES)
        )

    def run_all_in_peace(self, as_of: datetime) -> None:
        """Run the five once, and what they started, and kill nobody."""
        self._is_at_peace = True
        self.run_all(as_of)
        self._is_at_peace = False

    def run(self, dag_id: str | None, as_of: datetime) -> None:
        """Run a workflow to its end, or what the workflows started (None)."""
        self.counts["runs"] += 1
        order = Order(dag_id=dag_id, run_id=f"run {self.counts['runs']}", as_of=as_of)
        tries: Counter[str] = Counter()
        while True:
            order.dies_at = self._choose_moment(dag_id)
            task_id, state, said = self._process(order)
            if state == "done":
                self._touches[dag_id] = max(self._touches[dag_id], said)
                return
            tries[task_id] += 1
            if dag_id is not None and tries[task_id] >= TRIES:
                order.states[task_id] = "failed"
                self.counts["tasks failed"] += 1

    def _choose_moment(self, dag_id: str | None) -> int | None:
        if self._is_at_peace or self.random.random() < 0.1:
            return None
        # A run that finds nothing to do touches little.
        return self.random.randint(1, self.random.choice([40, 120, max(self._touches[dag_id], 40)]))

    def _process(self, order: Order) -> Report:
        """Let a process do an order; return the last that it reported, or at which task it was killed."""
        kills_server = not self._is_at_peace and self.random.random() < 0.02
        kills_some_time = kills_server or (not self._is_at_peace and self.random.random() < 0.2)
        ends_at = time.monotonic() + self.random.uniform(0.02, 0.6) if kills_some_time else None
        ours, theirs = PROCESSES.Pipe(duplex=False)
        environment = {
            name: value for name, value in os.environ.items() if name.startswith(("AIRFLOW_CONN_", "CAMPAIGN_"))
        }
        process = PROCESSES.Process(target=work, args=(theirs, environment, order))
        process.start()
        theirs.close()
        self.counts["processes"] += 1
        report: Report = ("", "", None)
        started = time.monotonic()
        while True:
            assert time.monotonic() < started + PATIENCE_SECONDS, f"{order} is stuck after {report}"
            if ends_at is not None and time.monotonic() > ends_at:
                ends_at = None
                if kills_server:
                    self._kill_server(order.as_of)
                else:
                    self._kill(process)
            try:
                if not ours.poll(0.01):
                    continue
                report = ours.recv()
            except EOFError:
                break
            task_id, state, returned = report
            if state not in ("done", "raised"):
                order.states[task_id] = state
                if returned is not None:
                    order.shares[task_id] = returned
        process.join()
        ours.close()
        if process.exitcode == -signal.SIGKILL:
            self.counts["kills"] += 1
            self.kills[order.dag_id] += 1
            self._wait_for_the_session()
            return self._next_task(order), "killed", None
        assert report[1] in ("done", "raised"), f"{order} ended with {process.exitcode} after {report}"
        return report

    def _next_task(self, order: Order) -> str:
        """Return the task at which a process died: the first one that has no state."""
        if order.dag_id is None:
            return ""
        tasks = self.player.dag_bag.dags[order.dag_id].topological_sort()
        return str(next((task.task_id for task in tasks if task.task_id not in order.states), ""))

    @staticmethod
    def _kill(process: ForkServerProcess) -> None:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGKILL)

    def _kill_server(self, as_of: datetime) -> None:
        self.counts["servers killed"] += 1
        self.server.kill()
        self.server.start()
        self.house.db.close()
        self.house.db = psycopg.connect(self.dsn, autocommit=True)
        self.house.at(as_of)

    def _wait_for_the_session(self) -> None:
        """Wait until the database has noticed that a process is gone, as it does within two seconds."""
        ends = time.monotonic() + PATIENCE_SECONDS
        query = """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
        """
        while self.house.db.execute(query).fetchone() != (0,):
            assert time.monotonic() < ends, "a session of a killed process does not end"
            time.sleep(0.01)

    @contextmanager
    def _outage(self) -> Iterator[None]:
        """Let something be away, now and then."""
        if self._is_at_peace or self.random.random() < 0.5:
            yield
            return
        # One after the other, so that nothing is away twice before all were.
        self._outages = self._outages or self.random.sample(list(OUTAGES), len(OUTAGES))
        name = self._outages.pop()
        self.counts[f"{name} away"] += 1
        with OUTAGES[name](self):
            yield


@contextmanager
def _mail_server_away(player: KillingPlayer) -> Iterator[None]:
    player.outside.mail_server.stop()
    yield
    player.outside.mail_server.start()


@contextmanager
def _mail_server_drops_lines(player: KillingPlayer) -> Iterator[None]:
    """It takes a mail, and closes the line without a word: every third one."""
    mails = iter(range(1_000_000))
    player.outside.mail_server.on_data = lambda mail: "drop" if next(mails) % 3 == 2 else None
    yield
    player.outside.mail_server.on_data = lambda mail: None


@contextmanager
def _router_away(player: KillingPlayer) -> Iterator[None]:
    player.outside.sftp.stop()
    yield
    player.outside.sftp.start()


@contextmanager
def _router_full(player: KillingPlayer) -> Iterator[None]:
    player.outside.sftp.free_bytes = 100
    yield
    player.outside.sftp.free_bytes = None


@contextmanager
def _texters_do_not_answer(player: KillingPlayer) -> Iterator[None]:
    """They take a request, and close the line without a word."""
    player.outside.texters.answer = lambda body: (0, {})
    yield
    player.outside.texters.answer = lambda body: (200, {})


def _folder_away(name: str) -> Callable[[KillingPlayer], Any]:
    @contextmanager
    def away(player: KillingPlayer) -> Iterator[None]:
        folder: Path = getattr(player.house, name)
        elsewhere = folder.with_name(f"{folder.name} away")
        folder.rename(elsewhere)
        # Nothing can be made in its place, as where a share is not mounted.
        folder.write_text("away")
        yield
        folder.unlink()
        elsewhere.rename(folder)

    return away


OUTAGES: dict[str, Callable[[KillingPlayer], Any]] = {
    "the mail server": _mail_server_away,
    "the mail server's lines": _mail_server_drops_lines,
    "the router's server": _router_away,
    "the router's disk": _router_full,
    "the router's folder": _folder_away("inbox"),
    "the folder of our files": _folder_away("files"),
    "the texters' answers": _texters_do_not_answer,
}
