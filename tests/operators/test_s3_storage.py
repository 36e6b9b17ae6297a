"""Files to and from a real S3 server: whole or not at all, once, never over another; and what goes wrong."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import psycopg
import pytest
from airflow.sdk.io.store import _STORE_CACHE
from s3fs import S3FileSystem

from campaign.folders import PART_BYTES, S3Folder, open_folder
from campaign.storage import StorageError, put_verified
from tests.conftest import Workflow
from tests.factories import Factory
from tests.provider_case import AS_OF, ProviderCase
from tests.return_case import ReturnCase
from tests.s3_server import S3Server

MINUTE = timedelta(minutes=1)
S3 = {"label": "The Printers", "storage_url": "s3://router/inbox", "storage_conn_id": "router_s3"}


@pytest.fixture(scope="module")
def running() -> Iterator[S3Server]:
    server = S3Server()
    server.start()
    yield server
    server.kill()


def forget_clients() -> None:
    """Have Airflow read its connections anew, as each task does."""
    _STORE_CACHE.clear()
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def server(running: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Give the test an S3 server with an empty bucket, and Airflow the connection to it."""
    forget_clients()
    client = running.client()
    for bucket in client.list_buckets()["Buckets"]:
        for key in running.files(bucket["Name"]):
            client.delete_object(Bucket=bucket["Name"], Key=key)
        client.delete_bucket(Bucket=bucket["Name"])
    running.make_bucket("router")
    monkeypatch.setenv("AIRFLOW_CONN_ROUTER_S3", running.airflow_connection())
    yield running
    forget_clients()


@pytest.fixture
def case(db: psycopg.Connection[Any], factory: Factory, tmp_path: Path) -> ProviderCase:
    (tmp_path / "outbox").mkdir()
    return ProviderCase(db, factory, tmp_path / "outbox")


def put(content: bytes, name: str = "a.csv", **arguments: Any) -> bool:
    def source() -> AbstractContextManager[IO[bytes]]:
        return io.BytesIO(content)

    with open_folder("s3://router/inbox", "router_s3") as folder:
        return put_verified(
            folder, name, arguments.pop("source", source), byte_count=len(content),
            sha256=hashlib.sha256(content).hexdigest(), temporary_name=f".{name}.part", **arguments,
        )  # fmt: skip


def test_file_and_manifest_arrive_once(case: ProviderCase, run_workflow: Workflow, server: S3Server) -> None:
    delivery = case.delivery(case.service(provider=S3, with_manifest=True))
    summary = run_workflow("providerMgt", AS_OF)["transfer_files"]
    assert (summary["files_sent"], summary["bytes_sent"]) == (1, 9)
    name = f"inbox/delivery-{delivery}-1.csv"
    assert set(server.files("router")) == {name, f"{name}.manifest.json"}
    assert server.files("router")[name] == b"name\nAda\n"
    case.db.execute("UPDATE campaign.provider_job SET status = 'running', done_at = NULL")
    case.db.execute("UPDATE campaign.delivery SET status = 'routing', finished_at = NULL")
    before = server.client().head_object(Bucket="router", Key=name)["LastModified"]
    again = run_workflow("providerMgt", AS_OF + MINUTE)["transfer_files"]
    assert (again["files_sent"], again["files_already_there"]) == (0, 1)
    assert server.client().head_object(Bucket="router", Key=name)["LastModified"] == before


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 12345])
def test_file_of_any_number_of_parts_arrives(server: S3Server, size: int) -> None:
    content = os.urandom(size)
    assert put(content)
    assert server.files("router") == {"inbox/a.csv": content}
    assert not put(content)
    assert server.unfinished_uploads("router") == 0


@pytest.mark.parametrize("size", [9, PART_BYTES + 1])
def test_other_file_of_the_name_is_not_overwritten_even_when_it_comes_in_between(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    client = server.client()

    def source() -> AbstractContextManager[IO[bytes]]:
        # Behind the look whether the name is taken.
        client.put_object(Bucket="router", Key="inbox/a.csv", Body=b"of another")
        return io.BytesIO(b"x" * size)

    with pytest.raises(StorageError):
        put(b"x" * size, source=source)
    assert server.files("router") == {"inbox/a.csv": b"of another"}
    assert server.unfinished_uploads("router") == 0
    with pytest.raises(StorageError, match="another file of the name"):
        put(b"x" * size)


def test_our_file_that_changed_never_appears(server: S3Server) -> None:
    with pytest.raises(StorageError, match="not the one that was approved"):
        put(b"x" * (PART_BYTES + 5), source=lambda: io.BytesIO(b"y" * (PART_BYTES + 5)))
    assert (server.files("router"), server.unfinished_uploads("router")) == ({}, 0)


def test_file_that_takes_too_long_never_appears(server: S3Server) -> None:
    with pytest.raises(StorageError, match="transfer_timeout"):
        put(os.urandom(PART_BYTES * 2), deadline=time.monotonic() + 0.01)
    assert (server.files("router"), server.unfinished_uploads("router")) == ({}, 0)


def test_bucket_that_is_missing_is_said_and_made(case: ProviderCase, run_workflow: Workflow, server: S3Server) -> None:
    case.delivery(case.service(provider=S3 | {"storage_url": "s3://letters/inbox"}))
    summary = run_workflow("providerMgt", AS_OF)["transfer_files"]
    assert (summary["providers_unreachable"], summary["files_to_try_again"]) == (1, 1)
    [(_, _, error)] = case.jobs("error")
    assert error == "There is no bucket 'letters' (s3://letters/inbox): have it made."
    server.make_bucket("letters")
    assert run_workflow("providerMgt", AS_OF + MINUTE)["transfer_files"]["files_sent"] == 1


def test_wrong_credentials_are_said(
    case: ProviderCase, run_workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = S3Server(free_actions=1)
    strict.start()
    try:
        forget_clients()
        strict.make_bucket("router")
        monkeypatch.setenv("AIRFLOW_CONN_ROUTER_S3", strict.airflow_connection())
        case.delivery(case.service(provider=S3))
        summary = run_workflow("providerMgt", AS_OF)["transfer_files"]
        assert (summary["providers_unreachable"], summary["files_to_try_again"]) == (1, 1)
        [(_, _, error)] = case.jobs("error")
        assert error.startswith("s3://router/inbox cannot be reached: PermissionError")
        assert "right" not in error
    finally:
        strict.kill()
        forget_clients()


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_server_that_fails_in_the_middle_of_a_file(
    case: ProviderCase, run_workflow: Workflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    server = S3Server()
    server.start()
    try:
        forget_clients()
        server.make_bucket("router")
        monkeypatch.setenv("AIRFLOW_CONN_ROUTER_S3", server.airflow_connection(read_timeout=2))
        case.db.execute("UPDATE campaign.setting SET value = '\"3 seconds\"' WHERE name = 'transfer_timeout'")
        content = os.urandom(PART_BYTES * 3 + 7)
        delivery = case.delivery(case.service(provider=S3), content)
        (tmp_path / "quick").mkdir()
        case.delivery(case.service(provider={"storage_url": f"file://{tmp_path}/quick"}))

        def fail_when_it_is_at_it() -> None:
            until = time.monotonic() + 30
            while time.monotonic() < until and not server.unfinished_uploads("router"):
                time.sleep(0.02)
            server.signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)

        watcher = threading.Thread(target=fail_when_it_is_at_it)
        watcher.start()
        started = time.monotonic()
        run_workflow("providerMgt", AS_OF)
        assert time.monotonic() - started < 60
        watcher.join()
        assert [status for *_, status in case.jobs()] == ["pending", "done"]
        if how == "killed":
            server.kill()
            server.start()
            server.make_bucket("router")
        else:
            server.signal(signal.SIGCONT)
            assert server.files("router") == {}
        case.db.execute("UPDATE campaign.setting SET value = '\"5 minutes\"' WHERE name = 'transfer_timeout'")
        monkeypatch.setenv("AIRFLOW_CONN_ROUTER_S3", server.airflow_connection())
        forget_clients()
        for later in (10, 20, 40):
            # A run that still finds the hanging try at work leaves the job to the next one.
            run_workflow("providerMgt", AS_OF + later * MINUTE)
            if {status for *_, status in case.jobs()} == {"done"}:
                break
        assert [error for *_, error in case.jobs("error")] == [None, None]
        assert server.files("router") == {f"inbox/delivery-{delivery}-1.csv": content}
        assert [status for *_, status in case.jobs()] == ["done", "done"]
    finally:
        server.kill()
        forget_clients()


def test_server_that_goes_away_costs_one_job_a_try(
    case: ProviderCase, run_workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = S3Server()
    server.start()
    try:
        forget_clients()
        server.make_bucket("router")
        monkeypatch.setenv("AIRFLOW_CONN_ROUTER_S3", server.airflow_connection(read_timeout=2))
        service = case.service(provider=S3)
        for content in (os.urandom(PART_BYTES * 3), b"x", b"y"):
            case.delivery(service, content)
        created = S3Folder.create

        @contextmanager
        def create(folder: S3Folder, name: str) -> Iterator[IO[bytes]]:
            with created(folder, name) as file:
                server.signal(signal.SIGKILL)
                yield file

        monkeypatch.setattr(S3Folder, "create", create)
        summary = run_workflow("providerMgt", AS_OF)["transfer_files"]
        assert (summary["providers_unreachable"], summary["files_waiting"]) == (1, 2)
        assert [tries for *_, tries in case.jobs("tries")] == [1, 0, 0]
    finally:
        server.kill()
        forget_clients()


def test_router_that_takes_a_file_at_once_has_it(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    created = S3Folder.create
    taken = []

    @contextmanager
    def create(folder: S3Folder, name: str) -> Iterator[IO[bytes]]:
        with created(folder, name) as file:
            yield file
        taken.append(server.files("router"))
        server.client().delete_object(Bucket="router", Key=f"inbox/{name}")

    monkeypatch.setattr(S3Folder, "create", create)
    assert put(b"name\nAda\n")
    assert taken == [{"inbox/a.csv": b"name\nAda\n"}]


def test_task_that_is_killed_leaves_no_parts_behind(
    case: ProviderCase, run_workflow: Workflow, server: S3Server
) -> None:
    content = os.urandom(PART_BYTES * 6)
    delivery = case.delivery(case.service(provider=S3), content)
    task = multiprocessing.get_context("fork").Process(target=run_workflow, args=("providerMgt", AS_OF))
    task.start()
    until = time.monotonic() + 30
    while time.monotonic() < until and not server.unfinished_uploads("router"):
        time.sleep(0.01)
    task.kill()
    task.join()
    assert (server.files("router"), server.unfinished_uploads("router")) == ({}, 1)
    forget_clients()
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert server.files("router") == {f"inbox/delivery-{delivery}-1.csv": content}
    assert server.unfinished_uploads("router") == 0


def test_answer_is_picked_up_at_once(
    db: psycopg.Connection[Any], factory: Factory, tmp_path: Path, run_workflow: Workflow, server: S3Server
) -> None:
    case = ReturnCase(db, factory, tmp_path)
    _, keys = case.handed(case.returning(returns_url="s3://router/answers", returns_conn_id="router_s3"), count=2)
    assert run_workflow("providerMgt", AS_OF)["take_returns"]["folders_unreachable"] == 0
    rows = "".join(f"{key},accepted,1\n" for key in keys)
    server.client().put_object(Bucket="router", Key="answers/ack.csv", Body=f"key,status,posted\n{rows}".encode())
    server.client().put_object(Bucket="router", Key="answers/deeper/ack.csv", Body=b"")
    assert run_workflow("providerMgt", AS_OF + MINUTE)["take_returns"]["files_taken"] == 1
    assert case.quantities() == [(2, 2, 0, None, 2, "agrees")]
    assert set(run_workflow("providerMgt", AS_OF + 2 * MINUTE)["take_returns"].values()) == {0}


class Endless(io.RawIOBase):
    """So many bytes, made as they are read."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.block = bytes(range(256)) * 4096

    def read(self, size: int = -1) -> bytes:
        read = self.block[: min(size, self.left, len(self.block))]
        self.left -= len(read)
        return read


def test_memory_does_not_grow_with_the_file(server: S3Server) -> None:
    size = 300 << 20
    digest, source = hashlib.sha256(), Endless(size)
    while chunk := source.read(1 << 20):
        digest.update(chunk)
    put(b"warm", "warm.csv")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_folder("s3://router/inbox", "router_s3") as folder:
        put_verified(
            folder, "large.csv", lambda: Endless(size), byte_count=size, sha256=digest.hexdigest(),
            temporary_name=".large.csv.part",
        )  # fmt: skip
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < 12 * PART_BYTES < size
