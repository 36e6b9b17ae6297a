"""operationMgt inside Airflow: real DAG runs, through the Task SDK's supervisor."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag
from psycopg.types.json import Jsonb
from sqlalchemy import select, update

from tests.factories import Factory

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
PARAMS = {"as_of": NOW.isoformat(), "campaign": None, "full": False, "dry_run": False}


@pytest.fixture(scope="module")
def airflow_database() -> None:
    """Give Airflow its own database, in the folder of the session."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def session(airflow_database: None) -> Iterator[Any]:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        yield session
        for run in session.scalars(select(DagRun)):
            session.delete(run)


def run_operation_mgt() -> str:
    """Run the workflow once as Airflow does; return the state it ends in."""
    import tests.conftest

    bag = DagBag(tests.conftest.PROJECT / "dags")
    return str(bag.dags["operationMgt"].test(run_conf=PARAMS, logical_date=None).state)


def workflows(db: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return db.execute("SELECT internal_name, status, failure FROM campaign.workflow ORDER BY id").fetchall()


def test_workflows_become_dag_runs_and_are_followed(
    db: psycopg.Connection[Any], factory: Factory, session: Any, mail_server: Any
) -> None:
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun

    owner = factory.staff(internal_name="olga")
    campaign = factory.campaign(owner_id=owner)
    for name, dag_id, conf in (
        ("good", "campaignTargeting", {"everybody": True}),
        ("missing", "noSuchDag", {}),
        ("refused", "exampleTwoOffers", {"half": "c"}),
    ):
        template = factory.insert(
            "workflow_template",
            internal_name=name,
            label=name,
            campaign_id=campaign,
            dag_id=dag_id,
            conf=Jsonb(conf),
        )
        factory.delivery(
            internal_name=name,
            campaign_id=campaign,
            status="targeting_pending",
            workflow_template_id=template,
        )

    assert run_operation_mgt() == "success"
    statuses = {name: (status, failure) for name, status, failure in workflows(db)}
    assert statuses["good_targeting_1"] == ("running", None)
    status, failure = statuses["missing_targeting_1"]
    assert status == "queued"
    assert "The DAG noSuchDag cannot run, deploy it or correct the dag_id" in failure
    status, failure = statuses["refused_targeting_1"]
    assert status == "failed"
    assert failure == (
        "The run campaign__refused_targeting_1 of the DAG exampleTwoOffers was refused: Invalid input for "
        "param half: 'c' is not one of ['a', 'b']"
    )
    run = session.scalar(select(DagRun).where(DagRun.dag_id == "campaignTargeting"))
    assert (run.run_id, run.state, run.conf["delivery"]) == ("campaign__good_targeting_1", "queued", "good")

    # Whatever is repeated, the run is there once; a paused DAG is said.
    db.execute("UPDATE campaign.workflow SET status = 'queued' WHERE internal_name = 'good_targeting_1'")
    db.execute(
        "UPDATE campaign.workflow SET dag_id = 'exampleLapsedBuyers' WHERE internal_name = 'missing_targeting_1'"
    )
    session.execute(update(DagModel).where(DagModel.dag_id == "exampleLapsedBuyers").values(is_paused=True))
    session.commit()
    assert run_operation_mgt() == "success"
    assert workflows(db)[:2] == [
        ("good_targeting_1", "running", None),
        (
            "missing_targeting_1",
            "queued",
            "The DAG exampleLapsedBuyers is paused: unpause it in the Airflow UI.",
        ),
    ]
    runs = session.scalars(select(DagRun.run_id).where(DagRun.dag_id == "campaignTargeting")).all()
    assert runs == ["campaign__good_targeting_1"]

    # So is one that is paused when its run is under way; the run goes on when it is not any more.
    pausing = update(DagModel).where(DagModel.dag_id == "campaignTargeting")
    for is_paused, expected in (
        (True, ("queued", "The DAG campaignTargeting is paused: unpause it in the Airflow UI.")),
        (False, ("running", None)),
    ):
        session.execute(pausing.values(is_paused=is_paused))
        session.commit()
        assert run_operation_mgt() == "success"
        assert workflows(db)[0][1:] == expected
    assert session.scalars(select(DagRun.run_id).where(DagRun.dag_id == "campaignTargeting")).all() == runs

    # Its end is seen.
    session.execute(update(DagRun).where(DagRun.run_id == "campaign__good_targeting_1").values(state="failed"))
    session.commit()
    assert run_operation_mgt() == "success"
    assert workflows(db)[0] == ("good_targeting_1", "failed", "The run failed.")
    assert db.execute("SELECT status FROM campaign.delivery WHERE internal_name = 'good'").fetchone() == ("failed",)

    # A run that somebody deleted is a failure, not a wait without end.
    db.execute(
        "UPDATE campaign.workflow SET status = 'running', failure = NULL WHERE internal_name = 'refused_targeting_1'"
    )
    assert run_operation_mgt() == "success"
    assert workflows(db)[2][1] == "failed"
    assert "The state of the run campaign__refused_targeting_1" in workflows(db)[2][2]
