"""The schema is laid once, whoever asks and however often."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from campaign.migrate import migrate

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def empty(postgres: dict[str, str]) -> Iterator[str]:
    """Give an empty database."""
    with psycopg.connect(dbname="postgres", autocommit=True, **postgres) as server:
        server.execute("CREATE DATABASE campaign_empty")
        yield make_conninfo(dbname="campaign_empty", **postgres)
        server.execute("DROP DATABASE campaign_empty WITH (FORCE)")


def test_two_services_that_start_at_once_lay_the_schema_once(empty: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        changed = list(pool.map(migrate, [empty, empty]))
    assert sorted(changed) == [False, True]
    assert migrate(empty) is False
    with psycopg.connect(empty) as connection:
        newest = max(path.stem for path in (PROJECT / "include/sql/schema/versions").glob("*.py"))
        assert connection.execute("SELECT version_num FROM campaign.schema_version").fetchall() == [(newest,)]


def test_views_and_functions_are_laid_anew_when_a_file_changed(empty: str) -> None:
    migrate(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("CREATE OR REPLACE FUNCTION campaign.stale_after() RETURNS interval RETURN interval '0'")
        connection.execute("UPDATE campaign.schema_fingerprint SET fingerprint = 'of other files'")
        assert migrate(empty) is True
        assert connection.execute("SELECT campaign.stale_after()::text").fetchone() == ("24:00:00",)


def test_failure_leaves_nothing_half_laid_and_says_so(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA campaign CREATE TABLE staff (id int)")
    done = run(empty)
    assert done.returncode == 1
    assert "could not be brought up to date; nothing was changed" in done.stderr
    assert "Traceback" not in done.stderr
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT to_regclass('campaign.setting')").fetchone() == (None,)


def test_database_that_is_away_is_said_plainly() -> None:
    done = run("postgresql://nobody@127.0.0.1:1/nothing")
    assert done.returncode == 1
    assert "The campaign database cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def run(dsn: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a service does."""
    environment = os.environ | {"CAMPAIGN_DSN": dsn, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}"}
    command = [sys.executable, "-m", "campaign.migrate"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
