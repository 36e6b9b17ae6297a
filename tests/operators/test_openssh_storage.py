"""Files to a real OpenSSH server that is killed, full, slow, or another one; every file counted and compared."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Workflow
from tests.factories import Factory
from tests.openssh_server import OpenSshServer, make_key, why_not
from tests.provider_case import AS_OF, ProviderCase
from tests.return_case import ReturnCase

MINUTE = timedelta(minutes=1)
STEPS = ("plan_jobs", "transfer_files", "finish_deliveries")
pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenSshServer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ssh", "inbox", "outbox"):
        (tmp_path / name).mkdir()
    server = OpenSshServer(tmp_path / "ssh")
    server.start()
    monkeypatch.setenv("AIRFLOW_CONN_ROUTER_SSH", server.airflow_connection())
    yield server
    server.stop()


@pytest.fixture
def case(db: psycopg.Connection[Any], factory: Factory, tmp_path: Path, server: OpenSshServer) -> ProviderCase:
    return ProviderCase(db, factory, tmp_path / "outbox")


def service(case: ProviderCase, folder: Path, **columns: Any) -> int:
    return case.service(
        provider={"label": "P", "storage_url": f"sftp://{folder}", "storage_conn_id": "router_ssh"}, **columns
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def transfer(run_workflow: Workflow, minute: int = 0) -> dict[str, Any]:
    return run_workflow("providerMgt", AS_OF + minute * MINUTE, steps=STEPS)["transfer_files"]


def test_files_arrive(case: ProviderCase, run_workflow: Workflow, tmp_path: Path) -> None:
    letters = service(case, tmp_path / "inbox")
    contents = {case.delivery(letters, content): content for content in (b"", b"x", os.urandom(5_000_000))}
    assert transfer(run_workflow)["files_sent"] == 3
    assert files(tmp_path / "inbox") == {f"delivery-{delivery}-1.csv": text for delivery, text in contents.items()}


@pytest.mark.parametrize("wrong", ["host key", "user key"])
def test_wrong_keys_are_refused(
    case: ProviderCase, run_workflow: Workflow, server: OpenSshServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, wrong: str,
) -> None:  # fmt: skip
    other = make_key(tmp_path / "ssh" / "other")
    case.delivery(service(case, tmp_path / "inbox"))
    if wrong == "host key":
        # Another machine stands in for the server.
        server.stop()
        server.start(host_key=other)
    else:
        monkeypatch.setenv("AIRFLOW_CONN_ROUTER_SSH", server.airflow_connection(key=other))
    assert transfer(run_workflow)["providers_unreachable"] == 1
    [(_, _, status, error)] = case.jobs("status", "error")
    assert (status, "BadHostKey" in error if wrong == "host key" else "Authentication" in error) == ("pending", True)
    assert files(tmp_path / "inbox") == {}


def test_full_disk(case: ProviderCase, run_workflow: Workflow, server: OpenSshServer, tmp_path: Path) -> None:
    server.stop()
    server.start(file_bytes=300_000)
    letters = service(case, tmp_path / "inbox")
    content = os.urandom(1_000_000)
    large, small = case.delivery(letters, content), case.delivery(letters)
    transfer(run_workflow)
    assert case.jobs() == [(large, "transfer", "pending"), (small, "transfer", "done")]
    assert set(files(tmp_path / "inbox")) == {f"delivery-{small}-1.csv"}
    server.stop()
    server.start()
    transfer(run_workflow, 1)
    assert files(tmp_path / "inbox")[f"delivery-{large}-1.csv"] == content


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_we_may_not_write_to(case: ProviderCase, run_workflow: Workflow, tmp_path: Path) -> None:
    case.delivery(service(case, tmp_path / "inbox"))
    (tmp_path / "inbox").chmod(0o500)
    transfer(run_workflow)
    (tmp_path / "inbox").chmod(0o700)
    [(_, _, status, error)] = case.jobs("status", "error")
    assert (status, "Permission" in error) == ("pending", True)


def test_server_that_hangs_is_left_behind(
    case: ProviderCase, run_workflow: Workflow, server: OpenSshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campaign.provider_lane.MARGIN_SECONDS", 0.5)
    case.db.execute("UPDATE campaign.setting SET value = '\"2 seconds\"' WHERE name = 'transfer_timeout'")
    (tmp_path / "quick").mkdir()
    content = os.urandom(60_000_000)
    slow = case.delivery(service(case, tmp_path / "inbox"), content)
    quick = case.delivery(case.service(provider={"storage_url": f"file://{tmp_path}/quick"}))
    stopped = threading.Event()

    def hang() -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until and not files(tmp_path / "inbox"):
            time.sleep(0.005)
        server.signal_sessions(signal.SIGSTOP)
        stopped.set()

    watcher = threading.Thread(target=hang)
    watcher.start()
    started = time.monotonic()
    transfer(run_workflow)
    assert (time.monotonic() - started < 15, stopped.is_set()) == (True, True)
    watcher.join()
    assert case.jobs() == [(slow, "transfer", "pending"), (quick, "transfer", "done")]
    assert f"delivery-{slow}-1.csv" not in files(tmp_path / "inbox")
    server.stop()
    server.start()
    case.db.execute("UPDATE campaign.setting SET value = '\"5 minutes\"' WHERE name = 'transfer_timeout'")
    transfer(run_workflow, 10)
    assert files(tmp_path / "inbox") == {f"delivery-{slow}-1.csv": content}


@pytest.mark.parametrize("victim", ["server", "task"])
def test_kills_at_random_moments_lose_and_double_nothing(
    case: ProviderCase, run_workflow: Workflow, server: OpenSshServer, tmp_path: Path, victim: str
) -> None:
    case.db.execute("UPDATE campaign.setting SET value = '99' WHERE name = 'job_tries'")
    letters = service(case, tmp_path / "inbox", with_manifest=False)
    contents = {}
    for _ in range(12):
        content = os.urandom(2_000_000)
        contents[f"delivery-{case.delivery(letters, content)}-1.csv"] = content
    chance = random.Random(7)  # noqa: S311
    for round_ in range(8):
        task = multiprocessing.get_context("fork").Process(target=transfer, args=(run_workflow, round_ * 100))
        task.start()
        time.sleep(chance.uniform(0.3, 2.5))
        if victim == "task":
            task.kill()
        else:
            server.stop()
            server.start()
        task.join(60)
        # Whatever has its name is whole.
        found = {name: text for name, text in files(tmp_path / "inbox").items() if not name.startswith(".")}
        assert found.items() <= contents.items()
    transfer(run_workflow, 900)
    transfer(run_workflow, 1000)
    assert files(tmp_path / "inbox") == contents
    assert {status for *_, status in case.jobs()} == {"done"}


def test_answers_are_picked_up(
    db: psycopg.Connection[Any], factory: Factory, tmp_path: Path, run_workflow: Workflow, server: OpenSshServer
) -> None:
    (tmp_path / "returns").mkdir()
    case = ReturnCase(db, factory, tmp_path / "returns")
    number = case.returning(returns_url=f"sftp://{case.answers}", returns_conn_id="router_ssh")
    _, keys = case.handed(number, count=1)
    run_workflow("providerMgt", AS_OF)
    case.answer("ack.csv", f"key,status,posted\n{keys[0]},accepted,1\n")
    (case.answers / "folder.csv").mkdir()
    for minute in (10, 12):
        run_workflow("providerMgt", AS_OF + minute * MINUTE, steps=("take_returns",))
    assert case.returns() == [("ack.csv", "taken")]
