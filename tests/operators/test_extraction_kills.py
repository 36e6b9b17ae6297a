"""Extraction in a process that dies, or whose disk or folder does: a whole file or none, and nothing left lying."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from campaign.extraction import stream
from campaign.operators import extraction
from campaign.operators.extraction import ExtractionStep, StorageError
from campaign.run import Run
from tests.conftest import Workflow
from tests.factories import Factory

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
ROWS = 150_000
NAME = "catalog_20261102.csv.zst"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "files"
    monkeypatch.setenv("CAMPAIGN_FILES_URL", f"file://{folder}")
    return folder


@pytest.fixture
def delivery(db: psycopg.Connection[Any], factory: Factory) -> int:
    """Insert a delivery whose file takes a while, and does not shrink to nothing."""
    columns = [{"header": name, "expression": f"recipient.{name}"} for name in ("internal_name", "address1")]
    service = factory.insert(
        "service",
        internal_name="print",
        label="Print",
        provider_id=factory.insert("provider", internal_name="p", label="P"),
        export_format_id=factory.insert(
            "export_format", internal_name="f", label="F", columns=Jsonb(columns), compression="zstd"
        ),
    )
    delivery = factory.delivery(internal_name="catalog", status="extraction_pending", service_id=service)
    db.execute(
        """
        WITH person AS (
            INSERT INTO campaign.recipient (internal_name, address1)
            SELECT 'r' || number, md5(number::text) || sha256(number::text::bytea)::text
            FROM generate_series(1, %s) AS number
            RETURNING id
        )

        INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role)
        SELECT %s, id, 'main' FROM person
        """,
        [ROWS, delivery],
    )
    return delivery


def start_extraction(before: Callable[[], Any] = lambda: None) -> BaseProcess:
    """Extract in a process of its own, forked as Airflow's executor forks its tasks."""

    def extract() -> None:
        before()
        code = 1
        try:
            run = Run(dag_id="operationMgt", run_id="child", task_id="extract_files", as_of=NOW)
            ExtractionStep(task_id="extract_files").perform(run, {})  # type: ignore[typeddict-item]
            code = 0
        except StorageError:
            code = 3
        finally:
            os._exit(code)

    process = multiprocessing.get_context("fork").Process(target=extract)
    process.start()
    return process


def end_of(process: BaseProcess) -> int | None:
    process.join(60)
    return process.exitcode


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def visible(files: Path) -> list[str]:
    return sorted(path.name for path in files.iterdir() if not path.name.startswith(".")) if files.exists() else []


def on_record(db: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return db.execute(
        "SELECT version, file_name, row_count, byte_count, sha256, status FROM campaign.extraction_file ORDER BY id"
    ).fetchall()


def require_whole(db: psycopg.Connection[Any], files: Path) -> None:
    """Check that there is one file, whole, as it is on record, and nothing beside it."""
    assert [path.name for path in files.iterdir()] == [NAME]
    raw = (files / NAME).read_bytes()
    assert on_record(db) == [(1, NAME, ROWS, len(raw), hashlib.sha256(raw).hexdigest(), "current")]
    assert db.execute("SELECT status FROM campaign.delivery").fetchall() == [("file_to_approve",)]
    assert db.execute("SELECT * FROM campaign.extraction_attempt").fetchall() == []


def later(function: Any, *, times: int) -> Callable[..., Any]:
    """Do as the function, and die at its so many-th call."""
    calls = [0]

    def counted(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == times:
            die()
        return function(*arguments, **more)

    return counted


# Where the process dies, and whether the file is in its place by then.
MOMENTS: dict[str, tuple[Any, str, Callable[[Any], Any], bool]] = {
    "before the first byte": (extraction, "write_rows", lambda _: die, False),
    "amid the rows": (stream._HashingFile, "write", lambda whole: later(whole, times=7), False),
    "with all rows written": (extraction, "sync_to_disk", lambda _: die, False),
    "before the file has its name": (extraction, "put_in_place", lambda _: die, False),
    "before it is recorded": (ExtractionStep, "_record", lambda _: die, True),
    "before the record is committed": (
        ExtractionStep,
        "_record",
        lambda whole: lambda *arguments: (whole(*arguments), die()),
        True,
    ),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_process_leaves_a_whole_file_or_none_and_the_next_run_completes(
    db: psycopg.Connection[Any],
    files: Path,
    delivery: int,
    run_workflow: Workflow,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    place, name, deadly, is_in_place = MOMENTS[moment]
    with monkeypatch.context() as patched:
        patched.setattr(place, name, deadly(getattr(place, name)))
        assert end_of(start_extraction()) == -signal.SIGKILL
    assert visible(files) == ([NAME] if is_in_place else [])
    assert on_record(db) == []
    assert db.execute("SELECT status FROM campaign.delivery").fetchall() == [("extracting",)]
    digest = hashlib.sha256((files / NAME).read_bytes()).hexdigest() if is_in_place else None
    # Another day, so that the default name would be another: the file is taken up under its own.
    run_workflow("operationMgt", NOW + timedelta(days=1))
    require_whole(db, files)
    assert digest in (None, on_record(db)[0][4])


def test_kills_at_random_moments(
    db: psycopg.Connection[Any], files: Path, delivery: int, run_workflow: Workflow
) -> None:
    whole = start_extraction()
    started = time.monotonic()
    assert end_of(whole) == 0
    takes = time.monotonic() - started
    require_whole(db, files)
    sha256 = on_record(db)[0][4]
    for number in range(6):
        db.execute("DELETE FROM campaign.extraction_file")
        db.execute("UPDATE campaign.delivery SET status = 'extraction_pending'")
        shutil.rmtree(files)
        process = start_extraction()
        time.sleep(random.Random(number).uniform(0, takes))  # noqa: S311 (moments, not secrets)
        process.kill()
        end_of(process)
        # What is visible is whole, and what is on record is visible.
        for name in visible(files):
            assert hashlib.sha256((files / name).read_bytes()).hexdigest() == sha256
        assert len(on_record(db)) <= len(visible(files)) <= 1
        run_workflow("operationMgt", NOW)
        require_whole(db, files)


def test_a_delivery_canceled_after_the_kill_leaves_no_file(
    db: psycopg.Connection[Any],
    files: Path,
    delivery: int,
    run_workflow: Workflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(extraction, "put_in_place", die)
        assert end_of(start_extraction()) == -signal.SIGKILL
    assert [path.name for path in files.iterdir()] == [f".{NAME}.part"]
    db.execute("SELECT campaign.cancel_delivery(%s, 'too late')", [delivery])
    run_workflow("operationMgt", NOW)
    assert list(files.iterdir()) == []
    assert db.execute("SELECT * FROM campaign.extraction_attempt").fetchall() == []


def test_a_full_disk_leaves_nothing_and_the_next_run_completes(
    db: psycopg.Connection[Any], files: Path, delivery: int, run_workflow: Workflow
) -> None:
    limited = start_extraction(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)))
    assert end_of(limited) == 3
    assert list(files.iterdir()) == []
    assert (on_record(db), db.execute("SELECT status FROM campaign.delivery").fetchall()) == ([], [("extracting",)])
    run_workflow("operationMgt", NOW + timedelta(days=1))
    require_whole(db, files)


def test_a_folder_that_goes_away_amid_the_rows_is_no_file_and_the_next_run_completes(
    db: psycopg.Connection[Any],
    files: Path,
    delivery: int,
    run_workflow: Workflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = extraction.sync_to_disk
    with monkeypatch.context() as patched:
        patched.setattr(extraction, "sync_to_disk", lambda file: (shutil.rmtree(files), whole(file)))
        assert end_of(start_extraction()) == 3
    assert (files.exists(), on_record(db)) == (False, [])
    run_workflow("operationMgt", NOW + timedelta(days=1))
    require_whole(db, files)


def test_a_folder_in_the_place_of_the_file_is_left_alone_and_the_file_comes_when_it_is_gone(
    db: psycopg.Connection[Any], files: Path, delivery: int, run_workflow: Workflow
) -> None:
    (files / NAME).mkdir(parents=True)
    with pytest.raises(StorageError, match="Is a directory"):
        run_workflow("operationMgt", NOW)
    assert ([path.name for path in files.iterdir()], list((files / NAME).iterdir()), on_record(db)) == ([NAME], [], [])
    (files / NAME).rmdir()
    run_workflow("operationMgt", NOW + timedelta(days=1))
    require_whole(db, files)
