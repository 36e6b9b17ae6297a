"""Files to providers: over real SFTP and into folders, with everything that goes wrong on the way."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import signal
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, ClassVar, Self

import asyncssh
import psycopg
import pytest
from airflow.sdk import DAG
from airflow.sdk.io.store import _STORE_CACHE, ObjectStore
from fsspec.implementations.memory import MemoryFileSystem

from campaign.extraction.file_name import LONGEST_STEM
from campaign.folders import open_folder
from campaign.operators.provider_routing import ProviderRoutingStep
from campaign.statements import read_statement
from campaign.storage import (
    StorageError,
    StorageRefusedError,
    check_file_name,
    put_verified,
)
from campaign.transport import OutgoingFile, Receipt, Transport
from tests.conftest import Workflow
from tests.factories import Factory
from tests.provider_case import AS_OF, ProviderCase
from tests.sftp_server import SftpServer

MINUTE = timedelta(minutes=1)


@pytest.fixture
def case(db: psycopg.Connection[Any], factory: Factory, tmp_path: Path) -> ProviderCase:
    (tmp_path / "outbox").mkdir()
    return ProviderCase(db, factory, tmp_path / "outbox")


@pytest.fixture
def router(tmp_path: Path) -> Path:
    folder = tmp_path / "router"
    folder.mkdir()
    return folder


@pytest.fixture
def server(router: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SftpServer]:
    """Start an SFTP server whose /inbox is the router's folder, and give Airflow the connection to it."""
    monkeypatch.setenv("HOME", str(tmp_path))  # no known_hosts, no keys of whoever runs the tests
    (router / "inbox").mkdir()
    sftp = SftpServer(router)
    sftp.start()
    monkeypatch.setenv("AIRFLOW_CONN_ROUTER_SFTP", sftp.airflow_connection())
    yield sftp
    sftp.close()


SFTP = {"label": "The Printers", "storage_url": "sftp:///inbox", "storage_conn_id": "router_sftp"}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# Over SFTP


def test_file_arrives_over_sftp(case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path) -> None:
    content = b"name\n" + b"Ada\n" * 700_000
    delivery = case.delivery(case.service(provider=SFTP), content)
    summary = run_workflow("providerMgt", AS_OF)["transfer_files"]
    name = f"delivery-{delivery}-1.csv"
    assert files(router / "inbox") == {name: content}
    assert case.jobs("status", "tries", "destination") == [(delivery, "transfer", "done", 1, f"sftp:///inbox/{name}")]
    assert summary == {
        "files_sent": 1, "files_already_there": 0, "bytes_sent": len(content), "files_to_try_again": 0,
        "files_failed": 0, "providers_unreachable": 0, "files_waiting": 0,
    }  # fmt: skip


def test_empty_file_arrives(case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path) -> None:
    case.delivery(case.service(provider=SFTP), b"")
    run_workflow("providerMgt", AS_OF)
    assert list(files(router / "inbox").values()) == [b""]


def test_manifest_stands_beside_the_file(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path
) -> None:
    service = case.service(provider=SFTP, with_manifest=True, internal_name="catalog")
    delivery = case.delivery(service, internal_name="summer")
    run_workflow("providerMgt", AS_OF)
    name = f"delivery-{delivery}-1.csv"
    assert set(files(router / "inbox")) == {name, f"{name}.manifest.json"}
    assert json.loads(files(router / "inbox")[f"{name}.manifest.json"]) == {
        "delivery": "summer",
        "campaign": "loyalty",
        "service": "catalog",
        "file": name,
        "version": 1,
        "rows": 1,
        "bytes": 9,
        "sha256": hashlib.sha256(b"name\nAda\n").hexdigest(),
        "columns": ["name"],
    }


def test_job_cut_off_in_the_middle_is_repeated_without_harm(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path, factory: Factory
) -> None:
    service = case.service(provider=SFTP, with_manifest=True)
    delivery = case.delivery(service)
    [(file_id,)] = case.db.execute("SELECT id FROM campaign.extraction_file").fetchall()
    job = factory.insert(
        "provider_job", delivery_id=delivery, service_id=service, extraction_file_id=file_id,
        kind="transfer", status="running", tries=1,
    )  # fmt: skip
    name = f"delivery-{delivery}-1.csv"
    (router / "inbox" / f".{name}.{job}.part").write_bytes(b"name\nA and more than there will be")
    run_workflow("providerMgt", AS_OF)
    assert set(files(router / "inbox")) == {name, f"{name}.manifest.json"}
    assert files(router / "inbox")[name] == b"name\nAda\n"
    assert case.jobs("status", "tries")[0][2:] == ("done", 2)


def test_task_killed_in_the_middle_of_a_file(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path
) -> None:
    content = b"name\n" + b"Ada\n" * 1_000_000
    delivery = case.delivery(case.service(provider=SFTP), content)
    server.seconds_a_write = 0.02
    task = multiprocessing.get_context("fork").Process(target=run_workflow, args=("providerMgt", AS_OF))
    task.start()
    until = time.monotonic() + 30
    while server.writes < 10 and time.monotonic() < until:
        time.sleep(0.01)
    assert task.pid is not None
    os.kill(task.pid, signal.SIGKILL)
    task.join()
    assert case.jobs("status", "tries") == [(delivery, "transfer", "running", 1)]
    assert f"delivery-{delivery}-1.csv" not in files(router / "inbox")

    server.seconds_a_write = 0
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert files(router / "inbox") == {f"delivery-{delivery}-1.csv": content}
    assert case.jobs("status", "tries") == [(delivery, "transfer", "done", 2)]
    assert case.deliveries() == [("finished",)]


def test_file_that_was_there_is_not_sent_again(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path
) -> None:
    delivery = case.delivery(case.service(provider=SFTP))
    path = router / "inbox" / f"delivery-{delivery}-1.csv"
    path.write_bytes(b"name\nAda\n")
    before = path.stat()
    summary = run_workflow("providerMgt", AS_OF)["transfer_files"]
    assert (summary["files_sent"], summary["files_already_there"]) == (0, 1)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert server.writes == 0


@pytest.mark.parametrize("content", [b"name\nEve\n", b"another length"])
def test_file_of_another_delivery_is_never_overwritten(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path, content: bytes
) -> None:
    delivery = case.delivery(case.service(provider=SFTP))
    path = router / "inbox" / f"delivery-{delivery}-1.csv"
    path.write_bytes(content)
    run_workflow("providerMgt", AS_OF)
    assert files(router / "inbox") == {path.name: content}
    assert case.jobs("status", "error")[0][2:] == (
        "failed", f"There is another file of the name sftp:///inbox/{path.name}: it is not overwritten.",
    )  # fmt: skip


def test_server_that_is_away_costs_one_job_a_try_and_comes_back(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path
) -> None:
    service = case.service(provider=SFTP)
    for _ in range(3):
        case.delivery(service)
    server.stop()
    summary = run_workflow("providerMgt", AS_OF)["transfer_files"]
    assert (summary["providers_unreachable"], summary["files_to_try_again"], summary["files_waiting"]) == (
        1,
        1,
        2,
    )
    assert case.jobs("status", "tries")[0][2:] == ("pending", 1)
    [(_, _, error), *_] = case.jobs("error")
    assert error.startswith("sftp:///inbox cannot be reached: ")
    server.start()
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert len(files(router / "inbox")) == 3
    assert case.deliveries() == [("finished",)] * 3


def test_server_that_goes_away_in_the_middle_costs_one_job_a_try(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path
) -> None:
    service = case.service(provider=SFTP)
    contents = {f"delivery-{case.delivery(service, text)}-1.csv": text for text in (os.urandom(2_000_000), b"x", b"y")}
    server.stop_after_writes = 5
    summary = run_workflow("providerMgt", AS_OF)["transfer_files"]
    assert (summary["providers_unreachable"], summary["files_waiting"]) == (1, 2)
    assert case.jobs("status", "tries", "next_try_at") == [
        (1, "transfer", "pending", 1, AS_OF + MINUTE),
        (2, "transfer", "pending", 0, AS_OF + MINUTE),
        (3, "transfer", "pending", 0, AS_OF + MINUTE),
    ]
    server.stop_after_writes = None
    server.start()
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert files(router / "inbox") == contents


def test_router_that_takes_files_at_once_gets_each_once(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path
) -> None:
    server.taken = {}
    delivery = case.delivery(case.service(provider=SFTP, with_manifest=True))
    run_workflow("providerMgt", AS_OF)
    assert case.jobs() == [(delivery, "transfer", "done")]
    name = f"delivery-{delivery}-1.csv"
    assert (server.taken[name], set(server.taken)) == (b"name\nAda\n", {name, f"{name}.manifest.json"})
    assert files(router / "inbox") == {}


def test_file_whose_manifest_has_no_place_is_not_handed_over(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path
) -> None:
    delivery = case.delivery(case.service(provider=SFTP, with_manifest=True))
    manifest = router / "inbox" / f"delivery-{delivery}-1.csv.manifest.json"
    manifest.write_bytes(b"{}")
    run_workflow("providerMgt", AS_OF)
    assert case.jobs("status", "error") == [
        (
            delivery, "transfer", "failed",
            f"There is another file of the name sftp:///inbox/{manifest.name}: it is not overwritten.",
        )
    ]  # fmt: skip
    assert files(router / "inbox") == {manifest.name: b"{}"}


def test_connection_that_breaks_in_the_middle(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path
) -> None:
    delivery = case.delivery(case.service(provider=SFTP), b"name\n" + b"Ada\n" * 500_000)
    server.drop_after_writes = 20
    run_workflow("providerMgt", AS_OF)
    assert f"delivery-{delivery}-1.csv" not in files(router / "inbox")
    assert case.jobs("status", "tries")[0][2:] == ("pending", 1)
    server.drop_after_writes = None
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert files(router / "inbox") == {f"delivery-{delivery}-1.csv": b"name\n" + b"Ada\n" * 500_000}


def test_full_disk_leaves_nothing_behind_and_others_go_on(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path
) -> None:
    service = case.service(provider=SFTP)
    large = case.delivery(service, b"name\n" + b"Ada\n" * 100_000)
    small = case.delivery(service)
    server.free_bytes = 100_000
    run_workflow("providerMgt", AS_OF)
    assert set(files(router / "inbox")) <= {f"delivery-{small}-1.csv"}
    assert case.jobs("status")[0] == (large, "transfer", "pending")
    server.free_bytes = None
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert set(files(router / "inbox")) == {f"delivery-{large}-1.csv", f"delivery-{small}-1.csv"}


@pytest.mark.parametrize("trouble", ["read-only", "missing"])
def test_folder_that_takes_nothing_is_said_and_mended(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path, trouble: str
) -> None:
    delivery = case.delivery(case.service(provider=SFTP))
    name = f"delivery-{delivery}-1.csv"
    server.is_read_only = trouble == "read-only"
    if trouble == "missing":
        (router / "inbox").rmdir()
    run_workflow("providerMgt", AS_OF)
    assert case.jobs("status", "error")[0][2:] == (
        "pending",
        f"{name} could not be written to sftp:///inbox: PermissionError: [Errno 13] Permission denied"
        if trouble == "read-only"
        else "There is no folder sftp:///inbox on the server: have it made.",
    )
    server.is_read_only = False
    (router / "inbox").mkdir(exist_ok=True)
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert files(router / "inbox") == {name: b"name\nAda\n"}


@pytest.mark.parametrize("wrong", ["password", "host key"])
def test_wrong_secret_or_wrong_server_is_said(
    case: ProviderCase,
    run_workflow: Workflow,
    server: SftpServer,
    router: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
) -> None:
    case.delivery(case.service(provider=SFTP))
    other = asyncssh.generate_private_key("ssh-ed25519")
    arguments: dict[str, Any] = {"password": "wrong"} if wrong == "password" else {"key": other}
    monkeypatch.setenv("AIRFLOW_CONN_ROUTER_SFTP", server.airflow_connection(**arguments))
    run_workflow("providerMgt", AS_OF)
    assert files(router / "inbox") == {}
    [(_, _, status, error)] = case.jobs("status", "error")
    assert (status, "Authentication" in error or "Host key" in error) == ("pending", True)


def test_slow_server_is_left_behind_and_others_go_on(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, router: Path, tmp_path: Path
) -> None:
    case.db.execute("UPDATE campaign.setting SET value = '\"1 second\"' WHERE name = 'transfer_timeout'")
    (tmp_path / "quick").mkdir()
    slow = case.delivery(case.service(provider=SFTP), b"name\n" + b"Ada\n" * 2_000_000)
    quick = case.delivery(case.service(provider={"storage_url": f"file://{tmp_path}/quick"}))
    server.seconds_a_write = 0.1
    started = time.monotonic()
    run_workflow("providerMgt", AS_OF)
    assert time.monotonic() - started < 20
    assert case.jobs("status", "error") == [
        (slow, "transfer", "pending", "It took longer than the setting transfer_timeout allows."),
        (quick, "transfer", "done", None),
    ]


@pytest.mark.parametrize(
    ("provider", "error"),
    [
        ({"storage_url": "sftp:///inbox"}, "needs a storage_conn_id"),
        (
            {"storage_url": "sftp://elsewhere.example/inbox", "storage_conn_id": "router_sftp"},
            "names another host",
        ),
        ({"storage_url": "sftp:///inbox/../..", "storage_conn_id": "router_sftp"}, "without '..'"),
        ({"storage_url": "file:///tmp/../etc"}, "without '..'"),
    ],
)
def test_storage_that_cannot_be_used_fails_at_once(
    case: ProviderCase, run_workflow: Workflow, server: SftpServer, provider: dict[str, str], error: str
) -> None:
    service = case.service(provider=provider)
    case.delivery(service)
    case.delivery(service)
    run_workflow("providerMgt", AS_OF)
    assert [(status, error in said) for _, _, status, said in case.jobs("status", "error")] == [("failed", True)] * 2


# Into a folder


@pytest.mark.parametrize("name", ["../evil", "a/b", "/etc/cron.d/x", "..", ".hidden", "a\\b", "a\nb", "a*", ""])
def test_file_name_never_leaves_the_folder(name: str) -> None:
    with pytest.raises(StorageRefusedError, match="cannot be used"):
        check_file_name(name)


@pytest.mark.parametrize("name", ["summer-catalog_20261101.csv", "Été (2).csv.gz", "a", "x" * 200])
def test_plain_file_names_may_be_used(name: str) -> None:
    check_file_name(name)


def test_longest_name_that_an_extraction_gives_has_room_for_its_manifest(
    case: ProviderCase, run_workflow: Workflow, router: Path
) -> None:
    name = "x" * LONGEST_STEM + "_v999.csv.zst"
    service = case.service(provider={"storage_url": f"file://{router}"}, with_manifest=True)
    case.extract(case.delivery(service), b"name\nEve\n", name)
    run_workflow("providerMgt", AS_OF)
    assert set(files(router)) == {name, f"{name}.manifest.json"}


def test_file_with_a_bad_name_is_refused_in_its_job(case: ProviderCase, run_workflow: Workflow, router: Path) -> None:
    delivery = case.delivery(case.service(provider={"storage_url": f"file://{router}"}))
    case.db.execute("UPDATE campaign.extraction_file SET file_name = '../evil.csv'")
    run_workflow("providerMgt", AS_OF)
    assert case.jobs("status") == [(delivery, "transfer", "failed")]
    assert not (router.parent / "evil.csv").exists()


@pytest.mark.parametrize(("change", "words"), [("damaged", "not the one that was approved"), ("gone", "file is gone")])
def test_our_own_file_must_be_the_one_that_was_approved(
    case: ProviderCase, run_workflow: Workflow, router: Path, change: str, words: str
) -> None:
    case.delivery(case.service(provider={"storage_url": f"file://{router}"}))
    [path] = case.outbox.iterdir()
    path.write_bytes(b"name\nEve\n") if change == "damaged" else path.unlink()
    run_workflow("providerMgt", AS_OF)
    assert files(router) == {}
    [(_, _, status, error)] = case.jobs("status", "error")
    assert (status, words in error) == ("failed", True)


def test_folder_of_our_files_that_is_away_costs_a_try_and_comes_back(
    case: ProviderCase, run_workflow: Workflow, router: Path
) -> None:
    case.delivery(case.service(provider={"storage_url": f"file://{router}"}))
    away = case.outbox.rename(case.outbox.with_name("away"))
    run_workflow("providerMgt", AS_OF)
    [(*_, status, error)] = case.jobs("status", "error")
    assert (status, error) == (
        "pending", f"The folder of our own files is away (file://{case.outbox}): mount its share.",
    )  # fmt: skip
    away.rename(case.outbox)
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.deliveries() == [("finished",)]


def test_delivery_without_a_file_fails_in_plain_words(case: ProviderCase, run_workflow: Workflow, router: Path) -> None:
    case.delivery(case.service(provider={"storage_url": f"file://{router}"}))
    case.db.execute("DELETE FROM campaign.extraction_file")
    run_workflow("providerMgt", AS_OF)
    assert case.jobs("status", "error")[0][2:] == (
        "failed", "The delivery has no extraction file: extract it first.",
    )  # fmt: skip


def test_file_that_arrives_damaged_is_not_given_its_name(router: Path) -> None:
    content = b"name\nAda\n"
    with open_folder(f"file://{router}", None) as folder:
        original = folder.open

        def open_damaging(name: str, mode: str) -> Any:
            if mode == "wb":
                (router / name).write_bytes(b"name\nEve\n")
                return io.BytesIO()
            return original(name, mode)

        folder.open = open_damaging  # type: ignore[method-assign]
        with pytest.raises(StorageError, match="did not arrive"):
            put_verified(
                folder, "a.csv", lambda: io.BytesIO(content), byte_count=len(content),
                sha256=hashlib.sha256(content).hexdigest(), temporary_name=".a.csv.1.part",
            )  # fmt: skip
    assert files(router) == {}


def test_other_file_that_comes_in_between_is_not_overwritten(router: Path) -> None:
    content = b"name\nAda\n"

    def source() -> io.BytesIO:
        # Behind the look whether the name is taken.
        (router / "a.csv").write_bytes(b"of another")
        return io.BytesIO(content)

    with (
        open_folder(f"file://{router}", None) as folder,
        pytest.raises(StorageRefusedError, match="another file of the name"),
    ):
        put_verified(
            folder, "a.csv", source, byte_count=len(content),
            sha256=hashlib.sha256(content).hexdigest(), temporary_name=".a.csv.1.part",
        )  # fmt: skip
    assert files(router) == {"a.csv": b"of another"}


def test_limit_of_a_provider_and_the_rest_in_the_next_run(
    case: ProviderCase, run_workflow: Workflow, router: Path
) -> None:
    service = case.service(provider={"storage_url": f"file://{router}", "transfers_per_run": 2})
    for _ in range(5):
        case.delivery(service)
    counts = []
    for minute in range(4):
        summary = run_workflow("providerMgt", AS_OF + minute * MINUTE)["transfer_files"]
        counts.append((summary["files_sent"], summary["files_waiting"]))
    assert counts == [(2, 3), (2, 1), (1, 0), (0, 0)]


def test_thousand_files_with_limits_and_failing_providers_among_them(
    case: ProviderCase, run_workflow: Workflow, tmp_path: Path
) -> None:
    """Of each provider the oldest first, as many as it takes; one that is away costs one try a run at most."""
    limits = {"a": 40, "b": 7, "c": None, "away": 10, "full": 5}
    services = {}
    for name, limit in limits.items():
        if name != "away":
            (tmp_path / name).mkdir()
        provider = {"storage_url": f"file://{tmp_path}/{name}", "label": name, "transfers_per_run": limit}
        services[name] = case.service(provider=provider)
    names = list(limits)
    waiting: dict[str, list[int]] = {name: [] for name in names}
    sent: dict[int, bytes] = {}
    for number in range(1000):
        name = names[number % 5]
        content = f"name\nNr {number}\n".encode()
        delivery = case.delivery(services[name], content)
        waiting[name].append(delivery)
        sent[delivery] = content
    for delivery in waiting["full"]:  # another file has each name
        (tmp_path / "full" / f"delivery-{delivery}-1.csv").write_bytes(b"of another")
    arrived: dict[str, list[int]] = {name: [] for name in names}
    pauses = []
    for run in range(6):
        run_workflow("providerMgt", AS_OF + run * 5 * MINUTE, steps=("plan_jobs", "transfer_files"))
        for name in ("a", "b", "c"):
            limit = limits[name] or 1000
            arrived[name] += waiting[name][:limit]
            del waiting[name][:limit]
        expected = {f"delivery-{delivery}-1.csv": sent[delivery] for name in "abc" for delivery in arrived[name]}
        found = {key: value for name in "abc" for key, value in files(tmp_path / name).items()}
        assert found == expected
        pauses.append(
            case.db.execute(
                """
                SELECT sum(job.tries), count(*) FILTER (WHERE job.next_try_at > %s), max(job.next_try_at) - %s
                FROM campaign.provider_job AS job WHERE job.service_id = %s
                """,
                [AS_OF + run * 5 * MINUTE, AS_OF + run * 5 * MINUTE, services["away"]],
            ).fetchone()
        )
    # Tried at 0, 5 and 10 minutes, then after fifteen: all 200 of the provider wait with the one that was tried.
    minutes = [(int(tries), count, pause // MINUTE) for tries, count, pause in pauses]  # type: ignore[misc]
    assert minutes == [(1, 200, 1), (2, 200, 5), (3, 200, 15), (3, 200, 10), (3, 200, 5), (4, 200, 60)]
    failed = case.db.execute(
        "SELECT count(*) FROM campaign.provider_job WHERE service_id = %s AND status = 'failed'", [services["full"]]
    ).fetchone()
    assert failed == (30,)
    assert set(files(tmp_path / "full").values()) == {b"of another"}


def test_slow_provider_leaves_the_rest_to_the_next_run(
    case: ProviderCase, run_workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campaign.operators.provider_routing.ROUND_SECONDS", 0.0)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        service = case.service(provider={"storage_url": f"file://{tmp_path}/{name}"})
        for _ in range(3):
            case.delivery(service)
    for count in (1, 2, 3):
        run_workflow("providerMgt", AS_OF + count * MINUTE, steps=("plan_jobs", "transfer_files"))
        assert [len(files(tmp_path / name)) for name in ("one", "two")] == [count, count]


# A team's own transport


class PrinterApi(Transport):
    """An example of a team's own: the printers' order system, which knows orders by their checksum."""

    orders: ClassVar[dict[str, bytes]] = {}
    opened: ClassVar[list[tuple[str, str | None]]] = []

    def __enter__(self) -> Self:
        self.opened.append((self.url, self.conn_id))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.opened.append(("closed", None))

    def deliver(self, file: OutgoingFile, deadline: float) -> Receipt:
        order = f"{self.url}/{file.sha256}"
        if file.sha256 in self.orders:
            return Receipt(order, was_there=True)
        with file.open() as content:
            read = content.read()
        if read.startswith(b"bad"):
            raise StorageError("The printers answered 503.")
        self.orders[file.sha256] = read
        return Receipt(order)


def transfer(**arguments: Any) -> dict[str, Any]:
    """Run the step once, as a task of providerMgt."""
    with DAG("providerMgt", schedule=None) as dag:
        step = ProviderRoutingStep(
            task_id="transfer_files", sql=read_statement("provider_mgt/transfer_files.sql"), **arguments
        )
    context: Any = {
        "dag": dag,
        "task": step,
        "run_id": "test",
        "params": {},
        "dag_run": SimpleNamespace(run_type="manual", data_interval_end=None, logical_date=None, run_after=AS_OF),
    }
    return step.execute(context)


def plan(case: ProviderCase) -> None:
    """Enter the jobs that the deliveries ask for."""
    case.db.execute(
        """
        INSERT INTO campaign.provider_job (delivery_id, service_id, extraction_file_id, kind)
        SELECT delivery_id, service_id, extraction_file_id, kind FROM campaign.provider_job_wanted
        ORDER BY delivery_id
        """
    )


def test_transport_of_a_team(case: ProviderCase) -> None:
    PrinterApi.orders.clear()
    PrinterApi.opened.clear()
    service = case.service(provider={"storage_url": "printer-api://orders", "storage_conn_id": "printers_api"})
    good, bad = case.delivery(service), case.delivery(service, b"bad\n")
    plan(case)
    transfer(transports={"printer-api": f"{__name__}.PrinterApi"})
    digest = hashlib.sha256(b"name\nAda\n").hexdigest()
    assert PrinterApi.orders == {digest: b"name\nAda\n"}
    assert PrinterApi.opened == [("printer-api://orders", "printers_api"), ("closed", None)]
    assert case.jobs("status", "error", "destination") == [
        (good, "transfer", "done", None, f"printer-api://orders/{digest}"),
        # Who knows what became of it: its cancellation is told.
        (bad, "transfer", "pending", "The printers answered 503.", f"printer-api://orders/delivery-{bad}-1.csv"),
    ]


class Printers(BaseHTTPRequestHandler):
    """The printers' order system, for the example in the documentation."""

    orders: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        self.answer(200 if self.path in self.orders else 404)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if is_known := self.headers["Authorization"] == "Bearer right":
            self.orders[self.path] = content
        self.answer(201 if is_known else 401)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_transport_of_the_documentation_works_when_it_is_copied(
    case: ProviderCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = str(Transport.__doc__).split("# plugins/printers/api.py\n")[1].split("# dags/provider_mgt.py")[0]
    (tmp_path / "plugins" / "printers").mkdir(parents=True)
    (tmp_path / "plugins" / "printers" / "api.py").write_text(textwrap.dedent(example))
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    Printers.orders.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Printers) as server:
        threading.Thread(target=server.serve_forever).start()
        connection = {"conn_type": "http", "schema": "http", "host": "127.0.0.1", "port": server.server_port}
        service = case.service(provider={"storage_url": "printer-api://orders", "storage_conn_id": "printers_api"})
        delivery = case.delivery(service)
        plan(case)
        counts = []
        for password in ("wrong", "right", "right"):
            monkeypatch.setenv("AIRFLOW_CONN_PRINTERS_API", json.dumps(connection | {"password": password}))
            case.db.execute("UPDATE campaign.provider_job SET status = 'pending', next_try_at = NULL, done_at = NULL")
            summary = transfer(transports={"printer-api": "printers.api.PrinterApi"})
            counts.append([summary[name] for name in ("files_to_try_again", "files_sent", "files_already_there")])
        server.shutdown()
    assert counts == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert Printers.orders == {"/orders/1": b"name\nAda\n"}
    url = f"http://127.0.0.1:{server.server_port}/orders/1"
    assert case.jobs("status", "tries", "destination") == [(delivery, "transfer", "done", 3, url)]


class HangingApi(PrinterApi):
    """One that neither answers nor notices its deadline."""

    released = threading.Event()

    def deliver(self, file: OutgoingFile, deadline: float) -> Receipt:
        self.released.wait(60)
        return super().deliver(file, deadline)


def test_transport_that_hangs_is_left_behind(case: ProviderCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campaign.provider_lane.MARGIN_SECONDS", 0.5)
    case.db.execute("UPDATE campaign.setting SET value = '\"1 second\"' WHERE name = 'transfer_timeout'")
    HangingApi.orders.clear()
    HangingApi.released.clear()
    service = case.service(provider={"storage_url": "hanging://orders"})
    case.delivery(service)
    case.delivery(service)
    case.delivery(case.service(provider={"storage_url": "printer-api://orders"}))
    plan(case)
    started = time.monotonic()
    transports = {"printer-api": f"{__name__}.PrinterApi", "hanging": f"{__name__}.HangingApi"}
    summary = transfer(transports=transports, providers_at_once=1)
    assert time.monotonic() - started < 10
    assert (summary["files_sent"], summary["files_to_try_again"], summary["files_waiting"]) == (1, 1, 1)
    assert [status for *_, status in case.jobs()] == ["pending", "pending", "done"]

    # What it does when nobody waits for it any more changes nothing, and it takes no other file.
    [lane] = [thread for thread in threading.enumerate() if "Printers" in thread.name]
    HangingApi.released.set()
    lane.join(10)
    assert case.jobs("status", "tries") == [
        (1, "transfer", "pending", 1), (2, "transfer", "pending", 0), (3, "transfer", "done", 1),
    ]  # fmt: skip


def test_transport_that_does_not_exist_is_the_failure_of_its_jobs_only(case: ProviderCase, router: Path) -> None:
    case.delivery(case.service(provider={"storage_url": "printer-api://orders"}))
    case.delivery(case.service(provider={"storage_url": f"file://{router}"}))
    plan(case)
    transfer(transports={"printer-api": "no.such.Module"})
    assert case.jobs("status", "error") == [
        (1, "transfer", "pending", "ModuleNotFoundError: No module named 'no'"),
        (2, "transfer", "done", None),
    ]


def test_object_store_without_renaming(case: ProviderCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store as S3 is one: a file is renamed by copying it and removing the old one."""
    store = MemoryFileSystem()
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    monkeypatch.setitem(_STORE_CACHE, "memory", ObjectStore(protocol="memory", conn_id=None, fs=store))
    service = case.service(provider={"storage_url": "memory:///inbox"}, with_manifest=True)
    delivery = case.delivery(service)
    store.pipe("/inbox/other.csv", b"of another")
    plan(case)
    assert transfer()["files_sent"] == 1
    name = f"/inbox/delivery-{delivery}-1.csv"
    assert sorted(store.find("/inbox")) == [name, f"{name}.manifest.json", "/inbox/other.csv"]
    assert store.cat(name) == b"name\nAda\n"
