"""operationMgt: the life of campaigns, and workflows from their creation to their end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from campaign.dag_runs import DagRunError
from tests.conftest import Workflow
from tests.factories import Factory
from tests.snapshots import changed_tables, snapshot

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Airflow:
    """What the workflows see of Airflow: DAGs that exist or not, and runs with their states."""

    def __init__(self) -> None:
        self.runs: dict[str, str] = {}
        self.confs: dict[str, dict[str, Any]] = {}
        self.troubles: dict[str, DagRunError] = {}
        self.started: list[str] = []
        self.stopped: list[str] = []

    def require_runnable_dag(self, dag_id: str) -> None:
        if dag_id in self.troubles and not self.troubles[dag_id].is_final:
            raise self.troubles[dag_id]

    def start_dag_run(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
        if dag_id in self.troubles:
            raise self.troubles[dag_id]
        if run_id in self.runs:
            return False
        self.runs[run_id], self.confs[run_id] = "queued", conf
        self.started.append(run_id.removeprefix("campaign__"))
        return True

    def dag_run_state(self, dag_id: str, run_id: str) -> str:
        if run_id not in self.runs:
            raise DagRunError(f"The state of the run {run_id} cannot be read: not found", is_final=True)
        if self.runs[run_id] == "away":
            raise DagRunError("The API is away")
        return self.runs[run_id]

    def stop_dag_run(self, dag_id: str, run_id: str) -> bool:
        if dag_id in self.troubles:
            raise self.troubles[dag_id]
        if self.runs.get(run_id) not in ("queued", "running"):
            return False
        self.runs[run_id] = "failed"
        self.stopped.append(run_id.removeprefix("campaign__"))
        return True


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    airflow = Airflow()
    monkeypatch.setattr("campaign.operators.workflow_start.start_dag_run", airflow.start_dag_run)
    monkeypatch.setattr("campaign.operators.workflow_start.require_runnable_dag", airflow.require_runnable_dag)
    monkeypatch.setattr("campaign.operators.workflow_follow.dag_run_state", airflow.dag_run_state)
    monkeypatch.setattr("campaign.operators.workflow_follow.require_runnable_dag", airflow.require_runnable_dag)
    monkeypatch.setattr("campaign.operators.workflow_follow.stop_dag_run", airflow.stop_dag_run)
    return airflow


@pytest.fixture
def campaign(factory: Factory) -> int:
    owner = factory.staff(internal_name="olga", email="olga@example.com")
    return factory.campaign(internal_name="loyalty", label="Loyalty", owner_id=owner)


@pytest.fixture
def template(factory: Factory, campaign: int) -> int:
    return factory.insert(
        "workflow_template", internal_name="t", label="T", campaign_id=campaign, dag_id="campaignTargeting",
        conf=Jsonb({"seeds": False}), severity="production",
    )  # fmt: skip


def waiting(factory: Factory, campaign: int, template: int | None, **columns: Any) -> int:
    values = {
        "internal_name": "catalog",
        "label": "Catalog",
        "status": "targeting_pending",
        "submitted_at": NOW - HOUR,
    }
    return factory.delivery(campaign_id=campaign, workflow_template_id=template, **(values | columns))


def rows(db: psycopg.Connection[Any], query: str) -> list[tuple[Any, ...]]:
    return db.execute(query.encode()).fetchall()


WORKFLOWS = "SELECT internal_name, status, failure FROM campaign.workflow ORDER BY id"
DELIVERIES = "SELECT internal_name, status, failed_from FROM campaign.delivery ORDER BY id"
NOTICES = "SELECT kind, recipient_email FROM campaign.notification ORDER BY id"
ERRORS = "SELECT message FROM campaign.journal WHERE level = 'error' ORDER BY id"


def test_campaigns_start_and_finish_by_their_dates(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, airflow: Airflow
) -> None:
    dates = {"starts_at": NOW, "ends_at": NOW + HOUR}
    factory.campaign(internal_name="plain", **dates)
    factory.campaign(internal_name="template", is_template=True, **dates)
    factory.campaign(internal_name="canceled", status="canceled", **dates)
    factory.campaign(internal_name="no-dates")
    factory.campaign(internal_name="no-end", starts_at=NOW)
    done = factory.campaign(internal_name="done", **dates)
    for status in ("being_edited", "finished", "canceled"):
        factory.delivery(campaign_id=done, status=status)
    factory.delivery(campaign_id=done, status="start_pending", is_template=True)
    factory.delivery(campaign_id=factory.campaign(internal_name="delivery", **dates), status="file_to_approve")
    factory.delivery(
        campaign_id=factory.campaign(internal_name="failed", **dates), status="failed", failed_from="routing"
    )
    factory.insert("task", internal_name="t", label="T", campaign_id=factory.campaign(internal_name="task", **dates))
    factory.insert(
        "workflow", internal_name="w", label="W", dag_id="d", automatic_start=False,
        campaign_id=factory.campaign(internal_name="workflow", **dates),
    )  # fmt: skip
    factory.insert("campaign_schedule", campaign_id=factory.campaign(internal_name="line", **dates), starts_at=NOW)
    query = "SELECT internal_name, status FROM campaign.campaign ORDER BY id"
    names = [name for name, _ in rows(db, query)]

    def expect(**statuses: str) -> None:
        assert dict(rows(db, query)) == {
            name: statuses.get(name.replace("-", "_"), statuses["others"]) for name in names
        }

    never = {"template": "being_edited", "canceled": "canceled", "no_dates": "being_edited"}
    run_workflow("operationMgt", NOW - HOUR)
    expect(**never, others="being_edited")
    summary = run_workflow("operationMgt", NOW)["advance_campaigns"]
    assert summary == {"campaigns_started": 8, "workflows_canceled": 0, "campaigns_finished": 0}
    expect(**never, others="started")
    run_workflow("operationMgt", NOW + HOUR)
    expect(**never, plain="finished", done="finished", others="started")
    before = snapshot(db)
    run_workflow("operationMgt", NOW + HOUR)
    assert changed_tables(before, snapshot(db)) == {}
    lines = rows(db, "SELECT message FROM campaign.journal WHERE message LIKE '%finished%' ORDER BY id")
    assert lines == [("Campaign 'Plain' finished.",), ("Campaign 'Done' finished.",)]


def test_workflow_of_a_delivery_is_created_started_and_followed(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    delivery = waiting(factory, campaign, template)
    waiting(factory, campaign, template, internal_name="later", submitted_at=NOW + HOUR)
    waiting(factory, campaign, template, internal_name="copied-only", is_template=True)
    summaries = run_workflow("operationMgt", NOW)
    assert summaries["create_workflows"] == {
        "deliveries_without_template": 0,
        "workflows_corrected": 0,
        "workflows_created": 1,
        "workflows_queued": 1,
        "workflows_waiting": 0,
        "deliveries_submitted": 0,
        "campaigns_crowded": 0,
    }
    assert rows(
        db,
        """
        SELECT workflow.internal_name, label, number, dag_id, severity, status, run_id, queued_at, delivery_id
        FROM campaign.workflow
        """,
    ) == [
        (
            "catalog_targeting_1", "Targeting of Catalog", 1, "campaignTargeting", "production", "running",
            "campaign__catalog_targeting_1", NOW, delivery,
        )
    ]  # fmt: skip
    assert airflow.confs == {
        "campaign__catalog_targeting_1": {
            "seeds": False,
            "workflow": "catalog_targeting_1",
            "delivery": "catalog",
            "as_of": "2026-11-02T09:00:00.000000Z",
        }
    }
    before = snapshot(db)
    run_workflow("operationMgt", NOW)
    airflow.runs["campaign__catalog_targeting_1"] = "running"
    run_workflow("operationMgt", NOW)
    airflow.runs["campaign__catalog_targeting_1"] = "away"
    run_workflow("operationMgt", NOW)
    assert changed_tables(before, snapshot(db)) == {}

    db.execute(
        "UPDATE campaign.delivery SET status = 'target_ready', analysed_at = %s WHERE id = %s",
        [NOW, delivery],
    )
    airflow.runs["campaign__catalog_targeting_1"] = "success"
    assert run_workflow("operationMgt", NOW)["follow_workflows"]["workflows_finished"] == 1
    assert rows(db, WORKFLOWS) == [("catalog_targeting_1", "finished", None)]
    assert rows(db, DELIVERIES)[0] == ("catalog", "target_ready", None)
    assert rows(db, "SELECT finished_at FROM campaign.workflow") == [(NOW,)]
    # Submitted again: a workflow of its own.
    db.execute("UPDATE campaign.delivery SET status = 'targeting_pending' WHERE id = %s", [delivery])
    run_workflow("operationMgt", NOW)
    assert rows(db, "SELECT internal_name, number FROM campaign.workflow ORDER BY id") == [
        ("catalog_targeting_1", 1),
        ("catalog_targeting_2", 2),
    ]
    assert airflow.started == ["catalog_targeting_1", "catalog_targeting_2"]


def test_failed_workflow_fails_its_delivery_and_tells_the_owner_once(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    waiting(factory, campaign, template)
    run_workflow("operationMgt", NOW)
    db.execute("UPDATE campaign.workflow SET failure = 'select_recipients: There is no recipient list x.'")
    airflow.runs["campaign__catalog_targeting_1"] = "failed"
    summary = run_workflow("operationMgt", NOW)["follow_workflows"]
    assert (summary["workflows_failed"], summary["deliveries_failed"]) == (1, 1)
    url = "http://localhost:8080/dags/campaignTargeting/runs/campaign__catalog_targeting_1"
    assert rows(db, "SELECT status, failed_from, failure FROM campaign.delivery") == [
        (
            "failed",
            "targeting_pending",
            "Its targeting workflow catalog_targeting_1 failed: select_recipients: There is no recipient "
            f"list x. See {url}",
        )
    ]
    assert rows(db, "SELECT kind, recipient_email, subject, sent_at IS NOT NULL FROM campaign.notification") == [
        (
            "workflow_failed",
            "olga@example.com",
            "Workflow 'Targeting of Catalog' failed in campaign 'Loyalty'",
            True,
        )
    ]
    [(body,)] = rows(db, "SELECT body_text FROM campaign.notification")
    assert url in body
    assert "There is no recipient list x." in body
    before = snapshot(db)
    run_workflow("operationMgt", NOW + HOUR)
    assert changed_tables(before, snapshot(db)) == {}
    db.execute("SELECT campaign.retry_delivery(id) FROM campaign.delivery")
    run_workflow("operationMgt", NOW + HOUR)
    assert airflow.started == ["catalog_targeting_1", "catalog_targeting_2"]


def test_run_that_ends_well_without_a_target_is_a_failure(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    waiting(factory, campaign, template)
    again = waiting(factory, campaign, template, internal_name="again")
    run_workflow("operationMgt", NOW)
    airflow.runs = dict.fromkeys(airflow.runs, "success")
    db.execute("UPDATE campaign.delivery SET submitted_at = %s WHERE id = %s", [NOW + HOUR, again])
    run_workflow("operationMgt", NOW + HOUR)
    reason = (
        "The run ended well, but did not prepare the target of the delivery: the DAG needs the delivery "
        "preparation as its last operator."
    )
    assert rows(db, WORKFLOWS) == [
        ("catalog_targeting_1", "failed", reason),
        ("again_targeting_1", "finished", None),
        ("again_targeting_2", "running", None),
    ]
    assert rows(db, DELIVERIES) == [
        ("catalog", "failed", "targeting_pending"),
        ("again", "targeting_pending", None),
    ]


def test_missing_or_paused_dag_is_said_once_and_tried_again(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    waiting(factory, campaign, template)
    airflow.troubles["campaignTargeting"] = DagRunError("The DAG campaignTargeting is paused")
    assert run_workflow("operationMgt", NOW)["start_workflows"]["workflows_blocked"] == 1
    assert rows(db, WORKFLOWS) == [("catalog_targeting_1", "queued", "The DAG campaignTargeting is paused")]
    assert rows(db, ERRORS) == [("Workflow catalog_targeting_1 cannot start: The DAG campaignTargeting is paused",)]
    assert rows(db, NOTICES) == [("workflow_blocked", "olga@example.com")]
    before = snapshot(db)
    run_workflow("operationMgt", NOW + HOUR)
    assert changed_tables(before, snapshot(db)) == {}
    airflow.troubles["campaignTargeting"] = DagRunError("There is no DAG campaignTargeting")
    run_workflow("operationMgt", NOW + HOUR)
    assert len(rows(db, ERRORS)) == 2
    del airflow.troubles["campaignTargeting"]
    run_workflow("operationMgt", NOW + HOUR)
    assert rows(db, WORKFLOWS) == [("catalog_targeting_1", "running", None)]
    assert airflow.started == ["catalog_targeting_1"]


def test_run_whose_dag_is_paused_after_its_start_is_said_once_and_followed_to_its_end(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    waiting(factory, campaign, template)
    run_workflow("operationMgt", NOW)
    # Airflow leaves the runs of a paused DAG alone: this one would be running until the end of days.
    airflow.runs["campaign__catalog_targeting_1"] = "running"
    airflow.troubles["campaignTargeting"] = DagRunError("The DAG campaignTargeting is paused")
    run_workflow("operationMgt", NOW + HOUR)
    assert rows(db, WORKFLOWS) == [("catalog_targeting_1", "queued", "The DAG campaignTargeting is paused")]
    assert rows(db, ERRORS) == [("Workflow catalog_targeting_1 cannot go on: The DAG campaignTargeting is paused",)]
    assert rows(db, "SELECT kind, recipient_email, subject, error FROM campaign.notification") == [
        ("workflow_blocked", "olga@example.com", "Workflow 'Targeting of Catalog' cannot go on in campaign 'Loyalty'",
         None)
    ]  # fmt: skip
    before = snapshot(db)
    run_workflow("operationMgt", NOW + HOUR)
    assert changed_tables(before, snapshot(db)) == {}
    del airflow.troubles["campaignTargeting"]
    run_workflow("operationMgt", NOW + HOUR)
    assert rows(db, WORKFLOWS) == [("catalog_targeting_1", "running", None)]
    airflow.runs["campaign__catalog_targeting_1"] = "failed"
    run_workflow("operationMgt", NOW + HOUR)
    assert rows(db, WORKFLOWS) == [("catalog_targeting_1", "failed", "The run failed.")]
    assert airflow.started == ["catalog_targeting_1"]


def test_refused_or_vanished_run_fails_the_workflow(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    waiting(factory, campaign, template)
    waiting(factory, campaign, template, internal_name="second")
    run_workflow("operationMgt", NOW)
    del airflow.runs["campaign__second_targeting_1"]
    airflow.troubles["campaignTargeting"] = DagRunError("half: 'c' is not one of ['a', 'b']", is_final=True)
    waiting(factory, campaign, template, internal_name="third")
    run_workflow("operationMgt", NOW)
    assert rows(db, WORKFLOWS) == [
        ("catalog_targeting_1", "running", None),
        (
            "second_targeting_1",
            "failed",
            "The state of the run campaign__second_targeting_1 cannot be read: not found",
        ),
        ("third_targeting_1", "failed", "half: 'c' is not one of ['a', 'b']"),
    ]
    assert [status for _, status, _ in rows(db, DELIVERIES)] == ["targeting_pending", "failed", "failed"]


def test_delivery_without_workflow_template_fails_with_a_plain_reason(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, airflow: Airflow, campaign: int
) -> None:
    waiting(factory, campaign, None)
    run_workflow("operationMgt", NOW)
    assert rows(db, "SELECT status, failed_from, failure FROM campaign.delivery") == [
        (
            "failed",
            "targeting_pending",
            "It has no workflow template, so nothing can target it. Give it one (workflow_template_id), then "
            "send it back with campaign.retry_delivery.",
        )
    ]
    assert rows(db, NOTICES) == [("targeting_failed", "olga@example.com")]
    before = snapshot(db)
    run_workflow("operationMgt", NOW)
    assert changed_tables(before, snapshot(db)) == {}


def test_workflow_that_could_not_be_started_follows_its_corrected_template(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    delivery = waiting(factory, campaign, template)
    values = {"campaign_id": campaign, "workflow_template_id": template, "status": "queued"}
    factory.insert(
        "workflow", internal_name="blocked", label="B", dag_id="noSuchDag", delivery_id=delivery,
        conf=Jsonb({"old": 1, "workflow": "blocked", "delivery": "catalog"}), run_id="campaign__blocked",
        failure="There is no DAG noSuchDag", **values,
    )  # fmt: skip
    factory.insert(
        "workflow", internal_name="unblocked", label="U", dag_id="campaignTargeting", conf=Jsonb({"old": 1}),
        run_id="campaign__unblocked", delivery_id=delivery, number=9, **values,
    )  # fmt: skip
    db.execute("UPDATE campaign.workflow_template SET conf = %s WHERE id = %s", [Jsonb({"lists": ["vip"]}), template])
    factory.campaign(internal_name="elsewhere")
    elsewhere = run_workflow("operationMgt", NOW, campaign="elsewhere")
    assert elsewhere["create_workflows"]["workflows_corrected"] == 0
    summary = run_workflow("operationMgt", NOW)
    assert summary["create_workflows"]["workflows_corrected"] == 1
    assert rows(db, "SELECT internal_name, dag_id, conf FROM campaign.workflow ORDER BY id") == [
        ("blocked", "campaignTargeting", {"lists": ["vip"], "workflow": "blocked", "delivery": "catalog"}),
        ("unblocked", "campaignTargeting", {"old": 1}),
    ]
    # What a person corrects on the workflow itself stays, although it is not what the template says.
    db.execute(
        """
        UPDATE campaign.workflow SET dag_id = 'exampleTwoOffers', status = 'queued', failure = 'x'
        WHERE internal_name = 'blocked'
        """
    )
    summary = run_workflow("operationMgt", NOW + HOUR)
    assert summary["create_workflows"]["workflows_corrected"] == 0


def test_each_targeting_failure_is_told_once(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    waiting(factory, campaign, None)
    # Sent back with nothing mended: submitted when it was, failed again.
    for count in (1, 2, 3):
        run_workflow("operationMgt", NOW)
        run_workflow("operationMgt", NOW)
        assert rows(db, NOTICES) == [("targeting_failed", "olga@example.com")] * count
        db.execute("SELECT campaign.retry_delivery(id) FROM campaign.delivery")
    # The run of its workflow fails, twice.
    db.execute("UPDATE campaign.delivery SET workflow_template_id = %s", [template])
    for count in (1, 2):
        run_workflow("operationMgt", NOW)
        airflow.runs = dict.fromkeys(airflow.runs, "failed")
        run_workflow("operationMgt", NOW)
        run_workflow("operationMgt", NOW)
        assert rows(db, NOTICES)[3:] == [("workflow_failed", "olga@example.com")] * count
        db.execute("SELECT campaign.retry_delivery(id) FROM campaign.delivery")
    assert rows(db, "SELECT count(*) FROM campaign.notification WHERE sent_at IS NULL") == [(0,)]


def test_queue_goes_by_severity_then_age_and_is_limited_per_campaign(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, airflow: Airflow, campaign: int
) -> None:
    db.execute("UPDATE campaign.setting SET value = '3' WHERE name = 'workflows_at_once'")
    other = factory.campaign(internal_name="other")

    def workflow(
        name: str, severity: str = "normal", age: int = 0, campaign_id: int | None = campaign, **more: Any
    ) -> None:
        factory.insert(
            "workflow", internal_name=name, label=name, campaign_id=campaign_id, dag_id="d",
            severity=severity, starts_at=NOW - age * HOUR, **more,
        )  # fmt: skip

    workflow("n1", age=5)
    workflow("n2", age=9)
    workflow("p1", "production", age=1)
    workflow("c1", "critical")
    workflow("p2", "production", age=2)
    workflow("future", "critical", age=-1)
    workflow("by-hand", "critical", automatic_start=False)
    workflow("o1", campaign_id=other)
    workflow("nobody's", campaign_id=None)
    run_workflow("operationMgt", NOW)
    assert airflow.started == ["c1", "o1", "nobody_s~9", "p2", "p1"]
    run_workflow("operationMgt", NOW)
    assert len(airflow.started) == 5
    airflow.runs["campaign__c1"] = "failed"
    run_workflow("operationMgt", NOW)
    assert airflow.started[5:] == ["n2"]
    airflow.runs |= {"campaign__p1": "success", "campaign__p2": "success"}
    run_workflow("operationMgt", NOW + HOUR)
    assert airflow.started[6:] == ["future", "n1"]
    # A DAG that is missing takes no place from the others.
    airflow.troubles["gone"] = DagRunError("There is no DAG gone")
    for name in ("g1", "g2", "g3"):
        factory.insert(
            "workflow", internal_name=name, label=name, campaign_id=other, dag_id="gone", severity="critical"
        )
    run_workflow("operationMgt", NOW + HOUR)
    for name in ("o2", "o3"):
        workflow(name, campaign_id=other)
    for _ in range(2):
        run_workflow("operationMgt", NOW + HOUR)
    assert airflow.started[8:] == ["o2", "o3"]
    airflow.troubles.clear()
    run_workflow("operationMgt", NOW + HOUR)
    assert len(airflow.started) == 10
    airflow.runs |= {"campaign__o1": "success", "campaign__o2": "success"}
    run_workflow("operationMgt", NOW + HOUR)
    assert airflow.started[10:] == ["g1", "g2"]


def test_canceled_campaign_or_delivery_takes_its_workflows_with_it(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    delivery = waiting(factory, campaign, template)
    waiting(factory, campaign, template, internal_name="stays")
    gone = factory.campaign(internal_name="gone")
    factory.insert("workflow", internal_name="w", label="W", dag_id="d", campaign_id=gone)
    factory.insert(
        "workflow",
        internal_name="f",
        label="F",
        dag_id="d",
        campaign_id=gone,
        status="finished",
        run_id="campaign__f",
    )
    run_workflow("operationMgt", NOW, campaign="loyalty")
    db.execute("SELECT campaign.cancel_delivery(%s, 'no')", [delivery])
    db.execute("UPDATE campaign.campaign SET status = 'canceled' WHERE id = %s", [gone])
    waiting(factory, gone, template, internal_name="never")
    run_workflow("operationMgt", NOW)
    assert rows(db, "SELECT internal_name, status FROM campaign.workflow ORDER BY id") == [
        ("w", "canceled"),
        ("f", "finished"),
        ("catalog_targeting_1", "canceled"),
        ("stays_targeting_1", "running"),
    ]
    assert airflow.started == ["catalog_targeting_1", "stays_targeting_1"]
    airflow.runs = dict.fromkeys(airflow.runs, "failed")
    run_workflow("operationMgt", NOW)
    assert [status for _, status, _ in rows(db, DELIVERIES)] == ["canceled", "failed", "targeting_pending"]


def test_run_of_a_canceled_workflow_is_stopped_and_what_goes_on_is_said_once(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    waiting(factory, campaign, template)
    run_workflow("operationMgt", NOW)
    db.execute("SELECT campaign.cancel_workflow(id, 'wrong list') FROM campaign.workflow")
    airflow.troubles["campaignTargeting"] = DagRunError("The run R cannot be stopped: the API is away.")
    for hour in range(2):
        summary = run_workflow("operationMgt", NOW + hour * HOUR)
    assert summary["follow_workflows"]["runs_stopped"] == 0
    said = "SELECT message FROM campaign.journal WHERE message LIKE '%run%' AND level = 'error' ORDER BY id"
    assert rows(db, said) == [
        ("The canceled workflow catalog_targeting_1 goes on. The run R cannot be stopped: the API is away.",)
    ]
    airflow.troubles.clear()
    assert run_workflow("operationMgt", NOW + 2 * HOUR, dry_run=True)["follow_workflows"]["runs_stopped"] == 1
    assert airflow.stopped == []
    assert run_workflow("operationMgt", NOW + 2 * HOUR)["follow_workflows"]["runs_stopped"] == 1
    assert airflow.stopped == ["catalog_targeting_1"]
    before = snapshot(db)
    run_workflow("operationMgt", NOW + 2 * HOUR)
    assert changed_tables(before, snapshot(db)) == {}
    assert airflow.stopped == ["catalog_targeting_1"]


def test_run_of_a_canceled_workflow_that_is_over_is_not_stopped_nor_rehearsed_to_be(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    waiting(factory, campaign, template)
    run_workflow("operationMgt", NOW)
    db.execute("SELECT campaign.cancel_workflow(id, 'wrong list') FROM campaign.workflow")
    airflow.runs = dict.fromkeys(airflow.runs, "success")
    for dry_run in (True, False):
        summary = run_workflow("operationMgt", NOW + HOUR, dry_run=dry_run)["follow_workflows"]
        assert summary["runs_stopped"] == 0


def test_more_workflows_than_a_person_can_see_is_a_warning_once(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, airflow: Airflow, campaign: int
) -> None:
    for number in range(28):
        factory.insert("workflow", internal_name=f"w{number}", label="W", campaign_id=campaign, dag_id="d")
    run_workflow("operationMgt", NOW)
    warnings = "SELECT message FROM campaign.journal WHERE level = 'warning'"
    assert rows(db, warnings) == []
    factory.insert("workflow", internal_name="w28", label="W", campaign_id=campaign, dag_id="d")
    for _ in range(3):
        run_workflow("operationMgt", NOW)
    assert rows(db, warnings) == [
        (
            "Campaign 'Loyalty' has more than 28 workflows: a person does not see through it any more. "
            "Split it, or raise the setting workflows_shown.",
        )
    ]


def test_dry_run_and_a_run_for_the_past_start_nothing(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    waiting(factory, campaign, template)
    before = snapshot(db)
    summaries = run_workflow("operationMgt", NOW, dry_run=True)
    assert summaries["create_workflows"]["workflows_created"] == 1
    assert summaries["start_workflows"]["workflows_started"] == 1
    assert (changed_tables(before, snapshot(db)), airflow.started) == ({}, [])
    run_workflow("operationMgt", NOW + HOUR, campaign=None)
    assert airflow.started == ["catalog_targeting_1"]
    waiting(factory, campaign, template, internal_name="second")
    before = snapshot(db)
    assert run_workflow("operationMgt", NOW)["start_workflows"]["for_the_past"] is True
    assert (changed_tables(before, snapshot(db)), len(airflow.started)) == ({}, 1)


def test_dry_run_tells_what_ended_and_what_cannot_start(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    for name in ("good", "bad"):
        waiting(factory, campaign, template, internal_name=name)
    run_workflow("operationMgt", NOW)
    db.execute("UPDATE campaign.delivery SET status = 'target_ready' WHERE internal_name = 'good'")
    airflow.runs |= {"campaign__good_targeting_1": "success", "campaign__bad_targeting_1": "failed"}
    waiting(factory, campaign, template, internal_name="third")
    airflow.troubles["campaignTargeting"] = DagRunError("The DAG campaignTargeting is paused.")

    before = snapshot(db)
    told = run_workflow("operationMgt", NOW + HOUR, dry_run=True)
    assert changed_tables(before, snapshot(db)) == {}
    done = run_workflow("operationMgt", NOW + HOUR)
    assert told["follow_workflows"] == {"dry_run": True, **done["follow_workflows"]}
    assert done["follow_workflows"]["workflows_finished"] == done["follow_workflows"]["workflows_failed"] == 1
    assert told["start_workflows"]["workflows_blocked"] == done["start_workflows"]["workflows_blocked"] == 1
    # One mail that a run failed, one that a workflow cannot start; the last step has no more to send.
    for step in ("send_notifications", "send_alerts"):
        assert told[step]["notifications_sent"] == done[step]["notifications_sent"]
    assert done["send_notifications"]["notifications_sent"] == 2


def test_limited_to_a_campaign_touches_no_other(
    db: psycopg.Connection[Any],
    factory: Factory,
    run_workflow: Workflow,
    airflow: Airflow,
    campaign: int,
    template: int,
) -> None:
    waiting(factory, campaign, template)
    other = factory.campaign(internal_name="other", starts_at=NOW - HOUR)
    waiting(factory, other, template, internal_name="elsewhere")
    waiting(factory, other, None, internal_name="bare")
    run_workflow("operationMgt", NOW, campaign="loyalty")
    assert airflow.started == ["catalog_targeting_1"]
    assert rows(db, "SELECT status FROM campaign.campaign WHERE internal_name = 'other'") == [("being_edited",)]
    assert {status for _, status, _ in rows(db, DELIVERIES)} == {"targeting_pending"}


def test_without_an_owner_the_supervisors_are_told(
    db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, airflow: Airflow
) -> None:
    group = factory.insert("staff_group", internal_name="supervisors", label="Supervisors")
    for name, active in (("sue", True), ("sam", True), ("gone", False)):
        member = factory.staff(internal_name=name, active=active)
        factory.insert("staff_group_member", staff_group_id=group, staff_id=member)
    gone = factory.staff(internal_name="left", active=False)
    waiting(factory, factory.campaign(), None)
    waiting(factory, factory.campaign(owner_id=gone), None, internal_name="second")
    run_workflow("operationMgt", NOW)
    assert rows(db, "SELECT recipient_email FROM campaign.notification ORDER BY id") == [
        ("sue@example.com",), ("sam@example.com",), ("sue@example.com",), ("sam@example.com",),
    ]  # fmt: skip


def test_work_tables_of_killed_runs_are_dropped(
    db: psycopg.Connection[Any], dsn: str, factory: Factory, run_workflow: Workflow, airflow: Airflow
) -> None:
    factory.insert("workflow", internal_name="w", label="W", dag_id="d", status="failed", run_id="campaign__w")
    factory.insert("workflow", internal_name="r", label="R", dag_id="d", status="running", run_id="campaign__r")
    airflow.runs["campaign__r"] = "running"
    sets = (
        ("set_failed", "campaign__w", NOW),
        ("set_running", "campaign__r", NOW - 72 * HOUR),
        ("set_manual_old", "manual__1", NOW - 49 * HOUR),
        ("set_manual_new", "manual__2", NOW - 47 * HOUR),
    )
    for table, run_id, created_at in sets:
        db.execute(f"CREATE UNLOGGED TABLE campaign_work.{table} (recipient_id bigint)".encode())
        db.execute(
            "INSERT INTO campaign_work.target_set (table_name, dag_id, run_id, task_id, created_at) "
            "VALUES (%s, 'd', %s, %s, %s)",
            [table, run_id, table, created_at],
        )
    # A set that a run goes on reading keeps nobody waiting; it is dropped when it is free.
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT * FROM campaign_work.set_failed")
        assert run_workflow("operationMgt", NOW)["follow_workflows"]["work_tables_dropped"] == 1
    assert run_workflow("operationMgt", NOW)["follow_workflows"]["work_tables_dropped"] == 1
    assert rows(
        db,
        "SELECT relname FROM pg_class WHERE relnamespace = 'campaign_work'::regnamespace "
        "AND relname LIKE 'set%' ORDER BY 1",
    ) == [("set_manual_new",), ("set_running",)]


def test_nothing_to_do_changes_nothing(db: psycopg.Connection[Any], run_workflow: Workflow, airflow: Airflow) -> None:
    before = snapshot(db)
    run_workflow("operationMgt", NOW)
    assert changed_tables(before, snapshot(db)) == {}


def test_run_ids_are_what_airflow_allows(db: psycopg.Connection[Any]) -> None:
    def run_id(name: str) -> str:
        return str((db.execute("SELECT campaign.workflow_run_id(%s, 7)", [name]).fetchone() or [""])[0])

    assert run_id("summer-catalog_targeting_1") == "campaign__summer-catalog_targeting_1"
    assert run_id("été / 1") == "campaign___t____1~7"
    assert len(run_id("x" * 900)) == 212
