"""The watch over the five: trouble is told to the supervisors once, and its end recorded."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from campaign import dag_runs, health, run_listener, watch
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer

NOW = datetime.now(UTC)
FIVE = ["budgetMgt", "deliveryMgt", "operationMgt", "providerMgt", "stockMgt"]


class House:
    """A house whose five workflows have all just run well; two supervisors, one of them gone."""

    def __init__(self, db: psycopg.Connection[Any], factory: Factory) -> None:
        self.db = db
        group = factory.insert("staff_group", internal_name="supervisors", label="Supervisors")
        sam = factory.staff(internal_name="sam", label="Sam", email="sam@example.com")
        gone = factory.staff(internal_name="gone", email="gone@example.com", active=False)
        for member in (sam, gone):
            factory.insert("staff_group_member", staff_group_id=group, staff_id=member)
        for dag_id in FIVE:
            self.ran(dag_id, ago=timedelta(minutes=2))

    def ran(self, dag_id: str, *, ago: timedelta, state: str | None = "success", **columns: Any) -> None:
        """Enter a run of a workflow that started so long ago."""
        started = NOW - ago
        values = {
            "dag_id": dag_id, "run_id": f"scheduled__{started.isoformat()}", "as_of": started, "started_at": started,
            "finished_at": started + timedelta(seconds=5) if state else None, "state": state, **columns,
        }  # fmt: skip
        names = ", ".join(values)
        self.db.execute(
            f"INSERT INTO campaign.technical_run ({names}) VALUES ({', '.join(['%s'] * len(values))})",
            list(values.values()),
        )

    def forget(self, *dag_ids: str) -> None:
        self.db.execute("DELETE FROM campaign.technical_run WHERE dag_id = ANY(%s)", [list(dag_ids)])

    def look(self, **paused: bool) -> tuple[int, int]:
        """Look after the five; return how many incidents were opened and closed."""
        found = self.db.execute(
            "SELECT * FROM campaign.look_after_workflows(%s)", [psycopg.types.json.Jsonb(paused)]
        ).fetchone()
        assert found is not None
        return found

    def states(self) -> dict[str, str]:
        """Return the workflows that are not well."""
        return dict(self.db.execute("SELECT dag_id, state FROM campaign.workflow_health WHERE NOT is_well").fetchall())

    def told(self) -> list[tuple[str, str, str]]:
        return self.db.execute(
            """
            SELECT recipient_email, facts ->> 'dag_id', facts ->> 'trouble'
            FROM campaign.notification WHERE source = 'supervision' ORDER BY id
            """
        ).fetchall()

    def journal(self) -> list[str]:
        return [
            message
            for (message,) in self.db.execute(
                "SELECT message FROM campaign.journal WHERE source = 'supervision' ORDER BY id"
            )
        ]


@pytest.fixture
def house(db: psycopg.Connection[Any], factory: Factory) -> House:
    return House(db, factory)


def test_all_well_tells_nobody(house: House) -> None:
    assert house.look() == (0, 0)
    assert house.states() == {}
    assert house.told() == []


def test_paused_is_told_once_and_its_end_is_recorded(house: House) -> None:
    assert house.look(stockMgt=True, budgetMgt=False) == (1, 0)
    assert house.look(stockMgt=True) == (0, 0)
    assert house.look() == (0, 0), "nobody could ask Airflow this time"
    assert house.states() == {"stockMgt": "paused"}
    assert house.told() == [("sam@example.com", "stockMgt", "paused")]
    assert house.look(stockMgt=False) == (0, 1)
    assert house.states() == {}
    assert house.look(stockMgt=True) == (1, 0), "it has been well: it is told again"
    assert len(house.told()) == 2
    [began, ended, again] = house.journal()
    assert began == again == "The workflow stockMgt is paused. It is paused: unpause it in the Airflow UI."
    assert ended.startswith("The workflow stockMgt is well again; it was paused since ")


def test_a_house_that_is_not_in_operation_yet_tells_what_fails_only(house: House) -> None:
    house.db.execute("UPDATE campaign.technical_run SET run_id = 'manual__' || dag_id")
    assert house.look(stockMgt=True) == (0, 0)
    assert house.states() == {"stockMgt": "paused"}
    house.ran("budgetMgt", ago=timedelta(seconds=1), run_id="manual__2", state="failed")
    assert house.look() == (1, 0)


def test_failing_until_a_run_ends_well(house: House) -> None:
    house.ran("providerMgt", ago=timedelta(minutes=1), state="failed", failed_task_id="plan_jobs", log_url="http://log")
    assert house.look() == (1, 0)
    house.ran("providerMgt", ago=timedelta(seconds=30), state="failed")
    assert house.look() == (0, 0)
    house.ran("providerMgt", ago=timedelta(seconds=20), state=None)
    assert house.look() == (0, 0), "a run that is under way proves nothing yet"
    house.ran("providerMgt", ago=timedelta(seconds=10))
    assert house.look() == (0, 1)
    assert house.told() == [("sam@example.com", "providerMgt", "failing")]


def test_stuck(house: House) -> None:
    house.forget("budgetMgt")
    house.ran("budgetMgt", ago=timedelta(minutes=90), state=None)
    assert house.look() == (0, 0)
    house.forget("budgetMgt")
    house.ran("budgetMgt", ago=timedelta(minutes=125), state=None)
    assert house.states() == {"budgetMgt": "stuck"}
    assert house.look() == (1, 0)


@pytest.mark.parametrize("last", [None, timedelta(minutes=90)])
def test_overdue_while_others_run(house: House, last: timedelta | None) -> None:
    house.forget("deliveryMgt")
    if last:
        house.ran("deliveryMgt", ago=last)
    assert house.states() == {"deliveryMgt": "overdue"}
    assert house.look() == (0, 0), "the others have only just begun to run again"
    house.ran("operationMgt", ago=timedelta(minutes=120))
    house.ran("operationMgt", ago=timedelta(minutes=20))
    assert house.look() == (1, 0)
    assert house.look() == (0, 0)
    assert house.told() == [("sam@example.com", "deliveryMgt", "overdue")]
    house.ran("deliveryMgt", ago=timedelta(seconds=1))
    assert house.look() == (0, 1)


def test_runs_of_one_campaign_and_for_the_past_prove_nothing(house: House, factory: Factory) -> None:
    house.forget("deliveryMgt")
    house.ran("deliveryMgt", ago=timedelta(minutes=1), campaign_id=factory.campaign())
    house.ran("deliveryMgt", ago=timedelta(minutes=2), as_of=NOW - timedelta(days=1))
    assert house.states() == {"deliveryMgt": "overdue"}


def test_nobody_listens_any_more(house: House, dsn: str) -> None:
    with psycopg.connect(dsn, application_name="stockMgt.listen"):
        house.look()
    while house.db.execute("SELECT FROM pg_stat_activity WHERE application_name = 'stockMgt.listen'").fetchall():
        time.sleep(0.05)
    house.look()
    assert house.states() == {}, "a connection may be made anew"
    house.db.execute("UPDATE campaign.technical_workflow SET deaf_since = deaf_since - interval '11 minutes'")
    assert house.states() == {"stockMgt": "deaf"}
    assert house.look() == (1, 0)
    with psycopg.connect(dsn, application_name="stockMgt.listen"):
        assert house.look() == (0, 1)


def test_nobody_to_tell_is_in_the_journal(house: House) -> None:
    house.db.execute("DELETE FROM campaign.staff_group_member")
    assert house.look(stockMgt=True) == (1, 0)
    assert house.journal()[0].endswith("Nobody active is in the staff group supervisors, so nobody was told.")


def test_two_at_once_open_one_incident(house: House, dsn: str) -> None:
    with psycopg.connect(dsn) as other:
        first = other.execute("SELECT * FROM campaign.look_after_workflows('{\"stockMgt\": true}')").fetchone()
        assert house.look(stockMgt=True) == (0, 0), "the other is looking"
        other.commit()
    assert first == (1, 0)
    assert house.look(stockMgt=True) == (0, 0)
    assert len(house.told()) == 1


def test_the_next_run_of_any_workflow_sees_it_and_sends_the_mail(
    house: House, run_workflow: Workflow, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dag_runs, "is_paused", {"stockMgt": True}.get)
    for _ in range(2):
        run_workflow("deliveryMgt", datetime.now(UTC))
    [(recipient, mail)] = mail_server.messages
    assert recipient == "sam@example.com"
    assert mail["Subject"] == "Workflow 'Stock: Orders and alerts' (stockMgt) is paused"
    assert "It is paused: unpause it in the Airflow UI." in mail.get_body(("plain",)).get_content()
    assert mail.get_body(("html",)) is not None


def test_a_rehearsal_looks_after_nobody(house: House, run_workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_runs, "is_paused", {"stockMgt": True}.get)
    run_workflow("deliveryMgt", datetime.now(UTC), dry_run=True)
    assert house.told() == []


class TestFailureOfATask:
    def context(self, **params: Any) -> Any:
        return {
            "dag": SimpleNamespace(dag_id="stockMgt"),
            "task": SimpleNamespace(task_id="receive_orders"),
            "ti": SimpleNamespace(log_url="http://localhost:8080/dags/stockMgt/log"),
            "run_id": "scheduled__1",
            "dag_run": SimpleNamespace(
                run_type="scheduled", data_interval_end=None, logical_date=None, run_after=datetime.now(UTC)
            ),
            "params": params,
        }

    def test_it_is_told_with_its_log(
        self, house: House, dsn: str, run_workflow: Workflow, mail_server: MailServer
    ) -> None:
        watch.tell_of_failure(self.context())
        watch.tell_of_failure(self.context())
        assert house.states() == {"stockMgt": "failing"}
        run_workflow("providerMgt", datetime.now(UTC))
        [(_, mail)] = mail_server.messages
        assert mail["Subject"] == "Workflow 'Stock: Orders and alerts' (stockMgt) is failing"
        text = mail.get_body(("plain",)).get_content()
        assert "Its step receive_orders failed." in text
        assert "The log: http://localhost:8080/dags/stockMgt/log" in text
        # Airflow repeats the run, and it ends well.
        run_listener.on_dag_run_success(SimpleNamespace(dag_id="stockMgt", run_id="scheduled__1"), "")
        assert house.look() == (0, 1)
        assert house.states() == {}

    def test_it_is_told_whatever_else_is_wrong(self, house: House) -> None:
        house.look(stockMgt=True)
        watch.tell_of_failure(self.context())
        assert [trouble for *_, trouble in house.told()] == ["paused", "failing"]
        assert house.look(stockMgt=False) == (0, 1)
        assert house.states() == {"stockMgt": "failing"}
        assert house.journal()[-1].startswith("The workflow stockMgt is failing now; it was paused since ")
        watch.tell_of_failure(self.context())
        assert house.look() == (0, 0)
        assert len(house.told()) == 2, "each is told once"
        run_listener.on_dag_run_success(SimpleNamespace(dag_id="stockMgt", run_id="scheduled__1"), "")
        assert house.look() == (0, 1)

    def test_a_failed_rehearsal_alarms_nobody(self, house: House) -> None:
        watch.tell_of_failure(self.context(dry_run=True))
        assert house.told() == []

    def test_a_database_that_is_away_is_only_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_CAMPAIGN_DB", "postgres://nobody@127.0.0.1:1/nothing")
        watch.tell_of_failure(self.context())
        assert "could not be recorded" in caplog.text


def test_every_task_of_the_five_tells_of_its_failure(dag_bag: Any) -> None:
    for dag_id in FIVE:
        for task in dag_bag.dags[dag_id].tasks:
            assert watch.tell_of_failure in task.on_failure_callback, f"{dag_id}.{task.task_id}"


class TestHealth:
    @pytest.fixture(autouse=True)
    def airflow(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
        """Answer as Airflow's command line would: nothing is paused."""
        answer = dict.fromkeys(FIVE, False)
        monkeypatch.setattr(health, "ask_airflow", lambda: answer)
        return answer

    def test_well(self, house: House, capsys: pytest.CaptureFixture[str]) -> None:
        assert health.main([]) == 0
        assert capsys.readouterr().out.split() == [
            "database", "ok", *(word for dag_id in FIVE for word in (dag_id, "ok")),
        ]  # fmt: skip

    def test_trouble_comes_first_and_says_what_to_do(
        self, house: House, airflow: dict[str, bool], capsys: pytest.CaptureFixture[str]
    ) -> None:
        airflow["stockMgt"] = True
        del airflow["providerMgt"]
        house.forget("budgetMgt")
        assert health.main([]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[:2] for line in lines[:3]] == [
            ["budgetMgt", "overdue"], ["providerMgt", "missing"], ["stockMgt", "paused"],
        ]  # fmt: skip
        assert "unpause it in the Airflow UI" in lines[2]

    def test_unpaused_since_it_was_seen(self, house: House) -> None:
        house.look(stockMgt=True)
        assert health.main(["--quick"]) == 1
        assert health.main([]) == 0

    def test_database_that_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CAMPAIGN_DSN", "postgresql://nobody@127.0.0.1:1/nothing")
        assert health.main([]) == 2
        monkeypatch.delenv("CAMPAIGN_DSN")
        assert health.main([]) == 2
