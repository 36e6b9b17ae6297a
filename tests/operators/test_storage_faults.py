"""Many files to an SFTP and an S3 server at once, through all that can happen, by a script from a seed.

Whatever happens: what has its name is whole; and when all is well again, each file is there, once, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Workflow
from tests.factories import Factory
from tests.faulty_line import FaultyLine
from tests.operators.test_s3_storage import forget_clients
from tests.provider_case import AS_OF, ProviderCase
from tests.s3_server import S3Server
from tests.sftp_server import PASSWORD, SftpServer

SEED = 20261102
FAULTS = ("away", "slow", "full", "wrong secret", "cut", "cut", "cut", "task killed", "task killed")
FILES = 6
PART_BYTES = 5 << 20  # the smallest that S3 knows
FULL = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Servers:
    """Both servers, behind lines that fail, and what lies there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.sftp, self.s3 = SftpServer(folder), S3Server()
        self.sftp.start()
        self.s3.start()
        self.s3.make_bucket("router")
        self.sftp_line, self.s3_line = FaultyLine(self.sftp.port), FaultyLine(self.s3.port)

    def connect(self, secret: str) -> None:
        """Give Airflow the connections to them, through the lines."""
        sftp = json.loads(self.sftp.airflow_connection(password=secret)) | {"port": self.sftp_line.port}
        s3 = json.loads(self.s3.airflow_connection(read_timeout=5))
        s3["extra"]["endpoint_url"] = f"http://127.0.0.1:{self.s3_line.port}"
        self.monkeypatch.setenv("AIRFLOW_CONN_ROUTER_SFTP", json.dumps(sftp))
        self.monkeypatch.setenv("AIRFLOW_CONN_ROUTER_S3", json.dumps(s3))

    def break_down(self, fault: str, chance: random.Random) -> None:
        """Let something be wrong with both."""
        lines = (self.sftp_line, self.s3_line)
        match fault:
            case "away":
                for line in lines:
                    line.is_down = True
            case "cut":
                for line in lines:
                    line.cut_after_bytes = chance.randrange(10_000, 4_000_000)
            case "slow":
                for line in lines:
                    line.seconds_a_piece = chance.uniform(0.0001, 0.002)
            case "full":
                self.sftp.free_bytes = chance.randrange(2_000_000)
                self.s3_line.answer = FULL
            case "wrong secret":
                self.connect("wrong")

    def mend(self) -> None:
        """Let nothing be wrong any more."""
        for line in (self.sftp_line, self.s3_line):
            line.heal()
        self.sftp.free_bytes = None
        self.connect(PASSWORD)

    def files(self) -> dict[str, str]:
        """Return the checksum of each file that has its name, by that of its server and its own."""
        there = {f"sftp/{path.name}": path.read_bytes() for path in (self.folder / "inbox").iterdir()}
        there |= {f"s3/{key.removeprefix('inbox/')}": content for key, content in self.s3.files("router").items()}
        return {name: digest(content) for name, content in there.items() if "/." not in name}

    def leftovers(self) -> tuple[list[str], int]:
        """Return what tries left behind: temporary files, and uploads that were not finished."""
        hidden = [path.name for path in (self.folder / "inbox").iterdir() if path.name.startswith(".")]
        return hidden, self.s3.unfinished_uploads("router")

    def close(self) -> None:
        """Stop both."""
        self.sftp_line.close()
        self.s3_line.close()
        self.sftp.close()
        self.s3.kill()
        forget_clients()


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("campaign.folders.PART_BYTES", PART_BYTES)
    (tmp_path / "router" / "inbox").mkdir(parents=True)
    both = Servers(tmp_path / "router", monkeypatch)
    yield both
    both.close()


def transfer(run_workflow: Workflow, round_: int) -> None:
    forget_clients()
    run_workflow("providerMgt", AS_OF + timedelta(hours=2 * round_), steps=("plan_jobs", "transfer_files"))


def transfer_killed(run_workflow: Workflow, round_: int, seconds: float) -> None:
    task = multiprocessing.get_context("fork").Process(target=transfer, args=(run_workflow, round_))
    task.start()
    task.join(seconds)
    task.kill()
    task.join()


def test_every_file_arrives_once_and_whole_whatever_happens(
    db: psycopg.Connection[Any], factory: Factory, tmp_path: Path, servers: Servers, run_workflow: Workflow
) -> None:
    chance = random.Random(SEED)  # noqa: S311
    (tmp_path / "outbox").mkdir()
    case = ProviderCase(db, factory, tmp_path / "outbox")
    db.execute("UPDATE campaign.setting SET value = '99' WHERE name = 'job_tries'")
    expected = {}
    for scheme, url in {"sftp": "sftp:///inbox", "s3": "s3://router/inbox"}.items():
        provider = {"label": scheme, "storage_url": url, "storage_conn_id": f"router_{scheme}", "transfers_per_run": 2}
        service = case.service(provider=provider, with_manifest=False)
        for _ in range(FILES):
            content = chance.randbytes(chance.choice([0, 1, 40_000, 700_000, PART_BYTES, PART_BYTES + 1_300_000]))
            expected[f"{scheme}/delivery-{case.delivery(service, content)}-1.csv"] = digest(content)

    for round_, fault in enumerate(chance.sample(FAULTS, len(FAULTS))):
        servers.mend()
        servers.break_down(fault, chance)
        if fault == "task killed":
            transfer_killed(run_workflow, round_, chance.uniform(0.1, 1.0))
        else:
            transfer(run_workflow, round_)
        assert servers.files().items() <= expected.items(), fault
    servers.mend()
    for round_ in range(len(FAULTS), len(FAULTS) + FILES):
        transfer(run_workflow, round_)
    assert servers.files() == expected
    assert servers.leftovers() == ([], 0)
    assert {status for *_, status in case.jobs()} == {"done"}
