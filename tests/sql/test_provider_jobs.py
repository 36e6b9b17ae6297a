"""providerMgt: which jobs there are, what order they come in, and what ends them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from campaign import dag_runs
from campaign.folders import ObjectStorageFolder
from campaign.mail import MailServerAwayError
from campaign.migrate import migrate
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.provider_case import AS_OF, ProviderCase
from tests.snapshots import changed_tables, snapshot

MINUTE = timedelta(minutes=1)


@pytest.fixture
def case(db: psycopg.Connection[Any], factory: Factory, tmp_path: Path) -> ProviderCase:
    (tmp_path / "outbox").mkdir()
    (tmp_path / "router").mkdir()
    return ProviderCase(db, factory, tmp_path / "outbox")


@pytest.fixture
def router(tmp_path: Path) -> Path:
    return tmp_path / "router"


class DagRuns:
    """Stands for Airflow's API, which no process of a test speaks to."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], str] = {}
        self.confs: list[dict[str, Any]] = []
        self.error: dag_runs.DagRunError | None = None
        self.stopped: list[tuple[str, str]] = []
        self.paused: set[str] = set()

    def is_paused(self, dag_id: str) -> bool:
        return dag_id in self.paused

    def require(self, dag_id: str) -> None:
        if self.error:
            raise self.error

    def start(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
        self.require(dag_id)
        is_new = (dag_id, run_id) not in self.states
        if is_new:
            self.states[dag_id, run_id] = "queued"
            self.confs.append(conf)
        return is_new

    def state(self, dag_id: str, run_id: str) -> str:
        return self.states[dag_id, run_id]

    def stop(self, dag_id: str, run_id: str) -> bool:
        self.require(dag_id)
        self.stopped.append((dag_id, run_id))
        return True


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> DagRuns:
    fake = DagRuns()
    monkeypatch.setattr(dag_runs, "start_dag_run", fake.start)
    monkeypatch.setattr(dag_runs, "require_runnable_dag", fake.require)
    monkeypatch.setattr(dag_runs, "dag_run_state", fake.state)
    monkeypatch.setattr(dag_runs, "stop_dag_run", fake.stop)
    monkeypatch.setattr(dag_runs, "is_paused", fake.is_paused)
    return fake


def run_again_changes_nothing(run_workflow: Workflow, db: psycopg.Connection[Any], as_of: Any) -> None:
    before = snapshot(db)
    run_workflow("providerMgt", as_of)
    assert changed_tables(before, snapshot(db)) == {}


def test_nothing_to_do(run_workflow: Workflow, db: psycopg.Connection[Any], mail_server: MailServer) -> None:
    before = snapshot(db)
    summaries = run_workflow("providerMgt", AS_OF)
    assert changed_tables(before, snapshot(db)) == {}
    assert {value for summary in summaries.values() for value in summary.values()} == {0}
    assert mail_server.messages == []


def test_file_then_mail_then_post_processing(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer, runs: DagRuns
) -> None:
    service = case.service(
        provider={"label": "The Printers", "storage_url": f"file://{router}"},
        notification_emails=["orders@printers.example", "Orders@Printers.example", "desk@printers.example"],
        post_processing_dag_id="ack",
    )
    delivery = case.delivery(service, label="Summer Catalog")
    run_workflow("providerMgt", AS_OF)

    assert (router / f"delivery-{delivery}-1.csv").read_bytes() == b"name\nAda\n"
    assert [path.name for path in router.iterdir()] == [f"delivery-{delivery}-1.csv"]
    assert case.jobs("status", "tries", "done_at") == [
        (delivery, "transfer", "done", 1, AS_OF),
        (delivery, "notification", "done", 1, AS_OF),
        (delivery, "post_processing", "running", 1, None),
    ]
    # One address that was given twice gets one mail.
    assert sorted(to.lower() for to, _ in mail_server.messages) == [
        "desk@printers.example",
        "orders@printers.example",
    ]
    [(_, mail), _] = mail_server.messages
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert mail["Subject"] == f"Summer Catalog (Loyalty): delivery-{delivery}-1.csv"
    assert "SHA-256        " in text
    assert "Rows           1" in text
    assert f"file://{router}/delivery-{delivery}-1.csv" in text
    [(dag_id, run_id)] = runs.states
    assert (dag_id, run_id.startswith("campaign__job_")) == ("ack", True)
    [conf] = runs.confs
    assert (conf["delivery_id"], conf["file"]["rows"], conf["provider"]) == (delivery, 1, "The Printers")
    assert case.deliveries("status", "finished_at") == [("routing", None)]
    run_again_changes_nothing(run_workflow, case.db, AS_OF + MINUTE)

    runs.states[dag_id, run_id] = "success"
    run_workflow("providerMgt", AS_OF + 2 * MINUTE)
    assert case.deliveries("status", "finished_at") == [("finished", AS_OF + 2 * MINUTE)]
    run_again_changes_nothing(run_workflow, case.db, AS_OF + 3 * MINUTE)
    assert len(mail_server.messages) == 2
    # What was decided and done, and two mails.
    assert [level for level, _ in case.journal()] == ["info"] * (4 + 2)


@pytest.mark.parametrize("has_service", [True, False])
def test_service_without_jobs_ends_at_once(case: ProviderCase, run_workflow: Workflow, has_service: bool) -> None:
    case.delivery(case.service(provider={"email": "hello@studio.example"}) if has_service else None)
    run_workflow("providerMgt", AS_OF)
    assert case.jobs() == []
    assert case.deliveries("status", "finished_at") == [("finished", AS_OF)]


def test_only_the_campaign_that_was_asked_for(case: ProviderCase, factory: Factory, run_workflow: Workflow) -> None:
    case.delivery(case.service())
    case.delivery(case.service(), campaign_id=factory.campaign(internal_name="other"))
    run_workflow("providerMgt", AS_OF, campaign="other")
    assert case.deliveries() == [("routing",), ("finished",)]


def test_delivery_whose_approved_file_changed_waits(
    case: ProviderCase, factory: Factory, run_workflow: Workflow, router: Path
) -> None:
    delivery = case.delivery(case.service(provider={"storage_url": f"file://{router}"}))
    factory.policy("extraction", delivery_id=delivery)
    [(seal,)] = case.db.execute("SELECT campaign.approval_seal(%s, 'extraction')", [delivery]).fetchall()
    factory.insert(
        "approval", delivery_id=delivery, kind="extraction", round=1, status="approved", seal=seal,
        submitted_at=AS_OF, deadline_at=AS_OF, decided_at=AS_OF, decided_by_id=case.owner,
    )  # fmt: skip
    case.extract(delivery, b"name\nEve\n")
    run_workflow("providerMgt", AS_OF)
    assert case.jobs() == []
    assert list(router.iterdir()) == []
    assert [level for level, _ in case.journal()] == ["warning"]
    run_again_changes_nothing(run_workflow, case.db, AS_OF + MINUTE)

    case.extract(delivery, b"name\nAda\n")
    run_workflow("providerMgt", AS_OF + 2 * MINUTE)
    assert case.deliveries() == [("finished",)]


def test_dry_run_rehearses_all_and_leaves_nothing(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer, runs: DagRuns
) -> None:
    service = case.service(
        provider={"storage_url": f"file://{router}"},
        notification_emails=["a@b.example"],
        post_processing_dag_id="ack",
    )
    case.delivery(service)
    before = snapshot(case.db)
    summaries = run_workflow("providerMgt", AS_OF, dry_run=True)
    assert changed_tables(before, snapshot(case.db)) == {}
    assert (list(router.iterdir()), mail_server.messages, runs.states) == ([], [], {})
    assert summaries["plan_jobs"]["jobs_planned"] == 3
    assert summaries["transfer_files"]["files_sent"] == 1
    assert summaries["send_notifications"]["notifications_sent"] == 1
    assert summaries["start_post_processing"]["post_processings_started"] == 1


def test_dry_run_sees_that_a_post_processing_has_ended(
    case: ProviderCase, run_workflow: Workflow, runs: DagRuns
) -> None:
    case.delivery(case.service(post_processing_dag_id="ack"))
    run_workflow("providerMgt", AS_OF)
    runs.states = dict.fromkeys(runs.states, "success")
    case.delivery(case.service(post_processing_dag_id="gone"))
    runs.error = dag_runs.DagRunError("There is no DAG gone.")
    before = snapshot(case.db)
    told = run_workflow("providerMgt", AS_OF + MINUTE, dry_run=True)
    assert changed_tables(before, snapshot(case.db)) == {}
    done = run_workflow("providerMgt", AS_OF + MINUTE)
    for step in ("follow_jobs", "finish_deliveries"):
        assert told[step] == {"dry_run": True, **done[step]}
    assert done["finish_deliveries"]["deliveries_finished"] == 1
    assert told["start_post_processing"]["post_processings_not_started"] == 1
    assert done["start_post_processing"]["post_processings_not_started"] == 1


def test_run_for_the_past_sends_nothing(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer
) -> None:
    run_workflow("providerMgt", AS_OF)
    case.delivery(case.service(provider={"storage_url": f"file://{router}"}))
    before = snapshot(case.db)
    run_workflow("providerMgt", AS_OF - MINUTE, run_id="past")
    assert changed_tables(before, snapshot(case.db)) == {}
    assert list(router.iterdir()) == []


def test_pauses_grow_then_a_person_is_told_once_and_sends_it_back(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer
) -> None:
    missing = router / "not" / "mounted"
    delivery = case.delivery(case.service(provider={"storage_url": f"file://{missing}"}), label="Summer Catalog")
    other = case.delivery(case.service(provider={"storage_url": f"file://{router}"}))
    now = AS_OF
    for number, pause in enumerate((1, 5, 15, 60), start=1):
        run_workflow("providerMgt", now)
        assert case.jobs("status", "tries", "next_try_at")[0][2:] == ("pending", number, now + pause * MINUTE)
        run_workflow("providerMgt", now + (pause - 0.5) * MINUTE)  # too early
        assert case.jobs("status", "tries")[0][2:] == ("pending", number)
        now += pause * MINUTE
    assert case.deliveries() == [("routing",), ("finished",)]
    assert mail_server.messages == []

    run_workflow("providerMgt", now)
    assert case.jobs("status", "tries", "error", "next_try_at") == [
        (delivery, "transfer", "failed", 5, f"There is no folder file://{missing}: make it, or mount its share.", None),
        (other, "transfer", "done", 1, None, None),
    ]
    [(status, failed_from, failure), _] = case.deliveries("status", "failed_from", "failure")
    assert (status, failed_from) == ("failed", "routing")
    assert failure.startswith("The file of 'Summer Catalog' could not be handed to Printers")
    [(to, mail)] = mail_server.messages
    assert (to, mail["Subject"].split(" at ")[0]) == (
        "olga@example.com",
        "Failed: file of Summer Catalog (Loyalty)",
    )
    # One warning for the unchanged problem, however often it was tried, and one error; the last one is the mail.
    assert sorted(level for level, _ in case.journal()) == ["error", "info", "info", "info", "warning"]
    run_again_changes_nothing(run_workflow, case.db, now + MINUTE)

    missing.mkdir(parents=True)
    case.db.execute("SELECT campaign.retry_delivery(%s)", [delivery])
    run_workflow("providerMgt", now + 2 * MINUTE)
    assert case.jobs("status", "tries")[0][2:] == ("done", 6)
    assert case.deliveries() == [("finished",), ("finished",)]
    assert len(mail_server.messages) == 1


def test_pauses_and_tries_are_settings(case: ProviderCase, run_workflow: Workflow, router: Path) -> None:
    case.db.execute("UPDATE campaign.setting SET value = '[\"2 hours\"]' WHERE name = 'job_pauses'")
    case.db.execute("UPDATE campaign.setting SET value = '2' WHERE name = 'job_tries'")
    case.delivery(case.service(provider={"storage_url": f"file://{router}/no"}))
    run_workflow("providerMgt", AS_OF)
    assert case.jobs("status", "next_try_at")[0][2:] == ("pending", AS_OF + timedelta(hours=2))
    run_workflow("providerMgt", AS_OF + timedelta(hours=2))
    assert case.jobs("status")[0][2:] == ("failed",)


def test_job_that_was_done_is_done_again_when_asked(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer
) -> None:
    service = case.service(provider={"storage_url": f"file://{router}"}, notification_emails=["a@b.example"])
    delivery = case.delivery(service)
    run_workflow("providerMgt", AS_OF)
    [(transfer, _), (notification, _)] = case.db.execute(
        "SELECT id, kind FROM campaign.provider_job ORDER BY id"
    ).fetchall()
    (router / f"delivery-{delivery}-1.csv").unlink()  # the router took it, and lost it
    case.db.execute("SELECT campaign.retry_job(%s)", [transfer])
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert (router / f"delivery-{delivery}-1.csv").read_bytes() == b"name\nAda\n"
    assert len(mail_server.messages) == 1

    case.db.execute("SELECT campaign.retry_job(%s)", [notification])
    run_workflow("providerMgt", AS_OF + 2 * MINUTE)
    assert len({mail["Message-ID"] for _, mail in mail_server.messages}) == 2
    assert case.jobs("status", "round") == [
        (delivery, "transfer", "done", 2),
        (delivery, "notification", "done", 2),
    ]
    assert case.deliveries("status", "finished_at") == [("finished", AS_OF)]
    run_again_changes_nothing(run_workflow, case.db, AS_OF + 3 * MINUTE)


@pytest.mark.parametrize(
    ("job", "delivery", "message"),
    [
        ("running", "routing", "is being carried out"),
        ("failed", "canceled", "is canceled"),
        ("canceled", "routing", "is past this file"),
    ],
)
def test_retry_job_refuses(case: ProviderCase, factory: Factory, job: str, delivery: str, message: str) -> None:
    service = case.service()
    delivery_id = case.delivery(service, status=delivery)
    job_id = factory.insert("provider_job", delivery_id=delivery_id, service_id=service, kind="transfer", status=job)
    with pytest.raises(psycopg.Error, match=message):
        case.db.execute("SELECT campaign.retry_job(%s)", [job_id])


def test_retry_job_refuses_an_unknown_job(db: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.Error, match="There is no job 4711"):
        db.execute("SELECT campaign.retry_job(4711)")


def test_mail_that_cannot_be_sent_fails_its_job_and_is_mended_by_the_address(
    case: ProviderCase, run_workflow: Workflow, mail_server: MailServer
) -> None:
    mail_server.on_recipient = lambda address: "550 no such user" if address.startswith("typo") else None
    service = case.service(notification_emails=["good@b.example", "typo@b.example"])
    delivery = case.delivery(service)
    run_workflow("providerMgt", AS_OF)
    [(_, _, status, error)] = case.jobs("status", "error")
    assert (status, error) == ("failed", "typo@b.example: 550 no such user")
    assert case.deliveries() == [("failed",)]
    assert not any("typo@b.example" in message for level, message in case.journal() if level == "info")

    case.db.execute("UPDATE campaign.service SET notification_emails = '{good@b.example,right@b.example}'")
    case.db.execute("SELECT campaign.retry_delivery(%s)", [delivery])
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.deliveries() == [("finished",)]
    # Who had the mail does not get it a second time.
    assert sorted(to for to, _ in mail_server.messages if to != "olga@example.com") == [
        "good@b.example", "right@b.example",
    ]  # fmt: skip


def test_service_whose_group_is_empty_fails_in_plain_words(
    case: ProviderCase, factory: Factory, run_workflow: Workflow
) -> None:
    group = factory.insert("staff_group", internal_name="production", label="Production")
    gone = factory.staff(active=False)
    factory.insert("staff_group_member", staff_group_id=group, staff_id=gone)
    case.delivery(case.service(notification_group_id=group))
    run_workflow("providerMgt", AS_OF)
    assert case.jobs("status", "error")[0][2:] == (
        "failed",
        "The service 'Catalog' has nobody to write to: its group is empty, and it has no address.",
    )


def test_template_of_the_service_is_the_text_of_the_mail(
    case: ProviderCase, run_workflow: Workflow, mail_server: MailServer
) -> None:
    template = "{{ file.rows }} rows of {{ delivery }} for {{ provider }}"
    case.delivery(
        case.service(provider={"label": "P"}, notification_emails=["a@b.example"], notification_template=template),
        label="D",
    )
    run_workflow("providerMgt", AS_OF)
    [(_, mail)] = mail_server.messages
    assert mail.get_content().strip() == "1 rows of D for P"


def test_template_that_leaves_the_sandbox_fails_its_job_only(
    case: ProviderCase, run_workflow: Workflow, mail_server: MailServer
) -> None:
    case.delivery(case.service(notification_emails=["a@b.example"], notification_template="{{ ''.__class__.__mro__ }}"))
    case.delivery(case.service(notification_emails=["c@d.example"]))
    run_workflow("providerMgt", AS_OF)
    assert [status for *_, status in case.jobs()] == ["failed", "done"]
    assert case.deliveries() == [("failed",), ("finished",)]


def test_post_processing_that_fails_is_tried_as_a_new_run(
    case: ProviderCase, run_workflow: Workflow, runs: DagRuns
) -> None:
    case.delivery(case.service(post_processing_dag_id="ack"))
    run_workflow("providerMgt", AS_OF)
    [first] = runs.states
    runs.states[first] = "failed"
    run_workflow("providerMgt", AS_OF + MINUTE)
    [(_, _, status, tries, next_try_at, error)] = case.jobs("status", "tries", "next_try_at", "error")
    assert (status, tries, next_try_at) == ("pending", 1, AS_OF + 2 * MINUTE)
    assert error.startswith("The DAG ack failed: http")
    assert error.endswith(f"/dags/ack/runs/{first[1]}")

    run_workflow("providerMgt", AS_OF + 2 * MINUTE)
    assert len(runs.states) == 2
    second = next(run for run in runs.states if run != first)
    runs.states[second] = "success"
    run_workflow("providerMgt", AS_OF + 3 * MINUTE)
    assert case.deliveries() == [("finished",)]


def test_post_processing_cut_off_before_its_start_keeps_its_run_id(
    case: ProviderCase, run_workflow: Workflow, runs: DagRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.delivery(case.service(post_processing_dag_id="ack"))

    def start_and_die(dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
        runs.start(dag_id, run_id, conf)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dag_runs, "start_dag_run", start_and_die)
        with pytest.raises(KeyboardInterrupt):
            run_workflow("providerMgt", AS_OF)
    assert case.jobs("status", "tries", "run_started_at")[0][2:] == ("running", 1, None)
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.jobs("status", "tries", "run_started_at")[0][2:] == ("running", 1, AS_OF + MINUTE)
    assert len(runs.states) == 1


def test_dag_that_is_paused_is_tried_again_and_one_that_refuses_is_not(
    case: ProviderCase, run_workflow: Workflow, runs: DagRuns
) -> None:
    case.delivery(case.service(post_processing_dag_id="ack"))
    runs.error = dag_runs.DagRunError("The DAG ack is paused: unpause it in the Airflow UI.")
    run_workflow("providerMgt", AS_OF)
    assert case.jobs("status", "error")[0][2:] == (
        "pending",
        "The DAG ack is paused: unpause it in the Airflow UI.",
    )
    runs.error = dag_runs.DagRunError("refused", is_final=True)
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.jobs("status")[0][2:] == ("failed",)


def test_dag_that_is_paused_while_its_run_waits_is_said_once(
    case: ProviderCase, run_workflow: Workflow, runs: DagRuns
) -> None:
    delivery = case.delivery(case.service(post_processing_dag_id="ack"))
    run_workflow("providerMgt", AS_OF)
    runs.paused.add("ack")
    said = "The DAG ack is paused, so its run waits: unpause it in the Airflow UI."
    for minute in (1, 2):
        run_workflow("providerMgt", AS_OF + minute * MINUTE)
        assert case.jobs("status", "error") == [(delivery, "post_processing", "running", said)]
    assert case.journal().count(("warning", said)) == 1
    run_again_changes_nothing(run_workflow, case.db, AS_OF + 2 * MINUTE)
    runs.paused.clear()
    run_workflow("providerMgt", AS_OF + 3 * MINUTE)
    assert case.jobs("status", "error") == [(delivery, "post_processing", "running", None)]


def test_canceled_delivery_stops_its_jobs_and_tells_the_router(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer, runs: DagRuns
) -> None:
    service = case.service(
        provider={"storage_url": f"file://{router}"},
        notification_emails=["a@b.example"],
        post_processing_dag_id="ack",
    )
    told = case.delivery(service, label="Told")
    run_workflow("providerMgt", AS_OF)
    mail_server.reset()
    never_left = case.delivery(service, label="Never left", canceled_at=AS_OF, status="canceled")
    case.db.execute("SELECT set_config('campaign.as_of', %s, false)", [(AS_OF + MINUTE).isoformat()])
    case.db.execute("SELECT campaign.cancel_delivery(%s, 'a mistake')", [told])
    run_workflow("providerMgt", AS_OF + 2 * MINUTE)
    assert case.jobs() == [
        (told, "transfer", "done"), (told, "notification", "done"), (told, "post_processing", "canceled"),
    ]  # fmt: skip
    [(to, mail)] = mail_server.messages
    assert (to, mail["Subject"]) == ("a@b.example", "CANCELED: Told (Loyalty)")
    assert f"delivery-{told}-1.csv" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert never_left
    run_again_changes_nothing(run_workflow, case.db, AS_OF + 3 * MINUTE)


def test_post_processing_of_a_canceled_delivery_is_stopped_once(
    case: ProviderCase, run_workflow: Workflow, runs: DagRuns
) -> None:
    delivery = case.delivery(case.service(post_processing_dag_id="ack"))
    run_workflow("providerMgt", AS_OF)
    [(dag_id, run_id)] = runs.states
    case.db.execute("SELECT set_config('campaign.as_of', %s, false)", [(AS_OF + MINUTE).isoformat()])
    case.db.execute("SELECT campaign.cancel_delivery(%s, 'a mistake')", [delivery])
    runs.error = dag_runs.DagRunError("The API is away.")
    for minute in (2, 3):
        assert run_workflow("providerMgt", AS_OF + minute * MINUTE)["follow_jobs"]["post_processings_stopped"] == 0
    runs.error = None
    told = run_workflow("providerMgt", AS_OF + 4 * MINUTE, dry_run=True)["follow_jobs"]
    assert runs.stopped == []
    done = run_workflow("providerMgt", AS_OF + 4 * MINUTE)["follow_jobs"]
    assert told == {"dry_run": True, **done}
    assert done["post_processings_stopped"] == 1
    run_again_changes_nothing(run_workflow, case.db, AS_OF + 5 * MINUTE)
    assert runs.stopped == [(dag_id, run_id)]
    said = case.db.execute("SELECT level, message FROM campaign.journal WHERE message ~ 'API is away|was stopped'")
    assert said.fetchall() == [
        ("warning", "The API is away."),
        ("info", f"The post-processing was stopped: ack, run {run_id}."),
    ]


def test_post_processing_of_the_old_service_is_stopped_before_that_of_the_new_one_starts(
    case: ProviderCase, run_workflow: Workflow, runs: DagRuns
) -> None:
    delivery = case.delivery(case.service(post_processing_dag_id="old"))
    run_workflow("providerMgt", AS_OF)
    new = case.service(post_processing_dag_id="new")
    case.db.execute("UPDATE campaign.delivery SET service_id = %s WHERE id = %s", [new, delivery])
    for minute in (1, 2, 3):
        run_workflow("providerMgt", AS_OF + minute * MINUTE)
    assert [dag_id for dag_id, _ in runs.states] == ["old", "new"]
    assert [dag_id for dag_id, _ in runs.stopped] == ["old"]


def test_post_processing_is_stopped_although_nobody_recorded_its_start(
    case: ProviderCase, run_workflow: Workflow, runs: DagRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_and_die(dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
        runs.start(dag_id, run_id, conf)
        raise SystemExit

    monkeypatch.setattr(dag_runs, "start_dag_run", start_and_die)
    delivery = case.delivery(case.service(post_processing_dag_id="ack"))
    with pytest.raises(SystemExit):
        run_workflow("providerMgt", AS_OF)
    case.db.execute(
        "UPDATE campaign.delivery SET status = 'canceled', canceled_at = %s WHERE id = %s", [AS_OF, delivery]
    )
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert runs.stopped == list(runs.states)


@pytest.mark.parametrize("provider_email", ["desk@printers.example", None])
def test_provider_without_addresses_is_told_of_a_cancellation_some_way(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer, runs: DagRuns,
    provider_email: str | None,
) -> None:  # fmt: skip
    service = case.service(
        provider={"storage_url": f"file://{router}", "email": provider_email}, post_processing_dag_id="ack"
    )
    delivery = case.delivery(service)
    run_workflow("providerMgt", AS_OF)
    case.db.execute("SELECT set_config('campaign.as_of', %s, false)", [AS_OF.isoformat()])
    case.db.execute("SELECT campaign.cancel_delivery(%s, 'a mistake')", [delivery])
    run_workflow("providerMgt", AS_OF + MINUTE)
    [(to, mail)] = mail_server.messages
    assert to == (provider_email or "olga@example.com")
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert ("please tell them yourself" in text) == (provider_email is None)


def test_file_extracted_again_replaces_the_jobs_of_the_old_one(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer, runs: DagRuns
) -> None:
    service = case.service(
        provider={"storage_url": f"file://{router}"},
        notification_emails=["a@b.example"],
        post_processing_dag_id="ack",
    )
    delivery = case.delivery(service)
    run_workflow("providerMgt", AS_OF)
    case.extract(delivery, b"name\nEve\n")
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.jobs() == [
        (delivery, "transfer", "done"),
        (delivery, "notification", "done"),
        (delivery, "post_processing", "canceled"),
        (delivery, "transfer", "done"),
        (delivery, "notification", "done"),
        (delivery, "post_processing", "running"),
    ]
    assert sorted(path.read_bytes() for path in router.iterdir()) == [b"name\nAda\n", b"name\nEve\n"]
    _, (_, mail) = mail_server.messages
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert f"It replaces delivery-{delivery}-1.csv, which must not be used any more." in text


@pytest.fixture
def without_room_for_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full when the file is there and its manifest is not."""
    opened = ObjectStorageFolder.open

    def refuse(folder: ObjectStorageFolder, name: str, mode: str) -> Any:
        if mode == "wb" and "manifest" in name:
            raise OSError(28, "No space left on device", name)
        return opened(folder, name, mode)

    monkeypatch.setattr(ObjectStorageFolder, "open", refuse)


@pytest.mark.usefixtures("without_room_for_manifests")
def test_router_that_may_have_the_file_is_told_of_the_cancellation(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer
) -> None:
    provider = {"storage_url": f"file://{router}", "email": "desk@printers.example"}
    delivery = case.delivery(case.service(provider=provider, with_manifest=True))
    run_workflow("providerMgt", AS_OF)
    [(_, _, status, destination)] = case.jobs("status", "destination")
    assert (status, [path.name for path in router.iterdir()]) == ("pending", [f"delivery-{delivery}-1.csv"])
    assert destination == f"file://{router}/delivery-{delivery}-1.csv"
    case.db.execute("SELECT set_config('campaign.as_of', %s, false)", [AS_OF.isoformat()])
    case.db.execute("SELECT campaign.cancel_delivery(%s, 'a mistake')", [delivery])
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert [to for to, _ in mail_server.messages] == ["desk@printers.example"]


@pytest.mark.usefixtures("without_room_for_manifests")
def test_mail_names_an_earlier_file_that_may_be_there(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer
) -> None:
    service = case.service(
        provider={"storage_url": f"file://{router}"}, notification_emails=["a@b.example"], with_manifest=True
    )
    delivery = case.delivery(service)
    run_workflow("providerMgt", AS_OF)
    case.extract(delivery, b"name\nEve\n")
    case.db.execute("UPDATE campaign.service SET with_manifest = false")
    run_workflow("providerMgt", AS_OF + MINUTE)
    [(_, mail)] = mail_server.messages
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert f"It replaces delivery-{delivery}-1.csv, which must not be used any more." in text


@pytest.mark.parametrize("trouble", ["away", "taken"])
def test_router_that_never_got_the_file_is_not_told_of_the_cancellation(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer, trouble: str
) -> None:
    """One that was not there, or that has another file of the name, which it must not remove."""
    url = f"file://{router}/gone" if trouble == "away" else f"file://{router}"
    delivery = case.delivery(case.service(provider={"storage_url": url, "email": "desk@printers.example"}))
    (router / f"delivery-{delivery}-1.csv").write_bytes(b"of another")
    run_workflow("providerMgt", AS_OF)
    assert case.jobs("status", "destination")[0][2:] == ("pending" if trouble == "away" else "failed", None)
    mail_server.reset()
    case.db.execute("SELECT set_config('campaign.as_of', %s, false)", [AS_OF.isoformat()])
    case.db.execute("SELECT campaign.cancel_delivery(%s, 'a mistake')", [delivery])
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert mail_server.messages == []


def test_service_changed_before_the_jobs_were_done(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer
) -> None:
    wrong = case.service(provider={"storage_url": f"file://{router}/no"}, notification_emails=["a@b.example"])
    delivery = case.delivery(wrong)
    run_workflow("providerMgt", AS_OF)
    right = case.service(provider={"storage_url": f"file://{router}"})
    case.db.execute("UPDATE campaign.delivery SET service_id = %s", [right])
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.jobs("service_id", "status") == [
        (delivery, "transfer", right, "done"), (delivery, "notification", wrong, "canceled"),
    ]  # fmt: skip
    assert case.deliveries() == [("finished",)]
    assert mail_server.messages == []


def test_overview_says_what_each_job_waits_for(case: ProviderCase, run_workflow: Workflow, router: Path) -> None:
    service = case.service(
        provider={"storage_url": f"file://{router}/no"},
        notification_emails=["a@b.example"],
        post_processing_dag_id="x",
    )
    case.delivery(service)
    run_workflow("providerMgt", AS_OF)
    assert case.db.execute(
        "SELECT kind, status, waits_for FROM campaign.provider_job_overview ORDER BY job_id"
    ).fetchall() == [
        ("transfer", "pending", "its next try"),
        ("notification", "pending", "the transfer before it"),
        ("post_processing", "pending", "the transfer before it"),
    ]


def test_address_that_comes_while_the_mails_are_under_way_is_written_to(
    case: ProviderCase, run_workflow: Workflow, mail_server: MailServer
) -> None:
    mail_server.on_recipient = lambda address: "451 later"
    case.delivery(case.service(notification_emails=["a@b.example"]))
    run_workflow("providerMgt", AS_OF)
    assert case.jobs() == [(1, "notification", "running")]
    case.db.execute("UPDATE campaign.service SET notification_emails = '{a@b.example,new@b.example}'")
    case.db.execute("UPDATE campaign.notification SET next_try_at = NULL")
    mail_server.reset()
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert [to for to, _ in mail_server.messages] == ["a@b.example", "new@b.example"]
    assert case.deliveries() == [("finished",)]


def test_mail_server_that_is_away_loses_nothing(
    case: ProviderCase, run_workflow: Workflow, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.delivery(case.service(notification_emails=["a@b.example"]))
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", "smtp://127.0.0.1:1/?disable_ssl=true&disable_tls=true&retry_limit=0")
        with pytest.raises(MailServerAwayError):
            run_workflow("providerMgt", AS_OF)
    assert case.jobs("status", "tries") == [(1, "notification", "running", 1)]
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.jobs("status", "tries") == [(1, "notification", "done", 1)]
    assert len(mail_server.messages) == 1


def test_steps_after_the_mail_go_on_without_it_and_the_run_still_fails(dag_bag: Any) -> None:
    dag = dag_bag.dags["providerMgt"]
    assert dag.get_task("follow_jobs").trigger_rule == "all_done"
    # A run is what its leaves are: the only one depends on every step that may fail.
    assert [task.task_id for task in dag.leaves] == ["send_alerts"]
    assert dag.get_task("send_alerts").upstream_task_ids == {"notify_providers", "alert_returns"}
    assert dag.get_task("send_alerts").trigger_rule == "all_success"


def test_file_that_arrived_while_its_delivery_was_canceled_is_recorded_and_recalled(
    case: ProviderCase, factory: Factory, run_workflow: Workflow, router: Path, mail_server: MailServer
) -> None:
    service = case.service(provider={"storage_url": f"file://{router}", "email": "desk@printers.example"})
    delivery = case.delivery(service)
    [(file_id,)] = case.db.execute("SELECT id FROM campaign.extraction_file").fetchall()
    job = factory.insert(
        "provider_job", delivery_id=delivery, service_id=service, extraction_file_id=file_id,
        kind="transfer", status="running", tries=1, destination=f"file://{router}/delivery-{delivery}-1.csv",
    )  # fmt: skip
    case.db.execute("SELECT set_config('campaign.as_of', %s, false)", [AS_OF.isoformat()])
    case.db.execute("SELECT campaign.cancel_delivery(%s, 'a mistake')", [delivery])
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.jobs() == [(delivery, "transfer", "canceled")]
    # It was cut off in the middle: the file may be there.
    assert [to for to, _ in mail_server.messages] == ["desk@printers.example"]

    done = "SELECT campaign.complete_provider_job(%s, %s, 'run', 'It is there.', 'file:///there')"
    assert case.db.execute(done, [job, AS_OF + MINUTE]).fetchone() == (True,)
    run_workflow("providerMgt", AS_OF + 2 * MINUTE)
    assert [to for to, _ in mail_server.messages] == ["desk@printers.example"]
    assert case.db.execute(done, [job, AS_OF + MINUTE]).fetchone() == (False,)


def test_transfer_that_kills_its_task_each_time_ends(
    case: ProviderCase, factory: Factory, run_workflow: Workflow, router: Path
) -> None:
    service = case.service(provider={"storage_url": f"file://{router}"})
    delivery = case.delivery(service)
    [(file_id,)] = case.db.execute("SELECT id FROM campaign.extraction_file").fetchall()
    factory.insert(
        "provider_job", delivery_id=delivery, service_id=service, extraction_file_id=file_id,
        kind="transfer", status="running", tries=5,
    )  # fmt: skip
    run_workflow("providerMgt", AS_OF)
    [(_, _, status, error)] = case.jobs("status", "error")
    assert (status, error.startswith("Its tries were all cut off")) == ("failed", True)


@pytest.mark.parametrize("template", [None, "{{ file.rows }} rows"])
def test_proof_of_the_mail_goes_to_its_reviewers_marked(
    case: ProviderCase,
    factory: Factory,
    run_workflow: Workflow,
    mail_server: MailServer,
    template: str | None,
) -> None:
    service = case.service(notification_emails=["a@b.example"], notification_template=template)
    delivery = case.delivery(service, status="proof_to_validate", label="D")
    assert case.db.execute("SELECT campaign.send_router_proof(%s)", [delivery]).fetchone() == (1,)
    reviewer = factory.staff(internal_name="rita")
    approval = factory.insert(
        "approval",
        delivery_id=delivery,
        kind="proof",
        round=1,
        seal="",
        submitted_at=AS_OF,
        deadline_at=AS_OF,
    )
    factory.insert("approval_reviewer", approval_id=approval, staff_id=reviewer)
    case.db.execute("SELECT campaign.send_router_proof(%s)", [delivery])
    case.db.execute("SELECT campaign.send_router_proof(%s, '{X@y.example, x@y.example}')", [delivery])
    run_workflow("providerMgt", AS_OF)
    assert [to.lower() for to, _ in mail_server.messages] == [
        "olga@example.com",
        "rita@example.com",
        "x@y.example",
    ]
    for _, mail in mail_server.messages:
        assert mail["Subject"].startswith("[PROOF] D (Loyalty)")
        assert mail.get_body(("plain",)).get_content().startswith("PROOF: ")  # type: ignore[union-attr]
    assert case.jobs() == []
    run_again_changes_nothing(run_workflow, case.db, AS_OF + MINUTE)


def test_hundred_deliveries_of_one_provider_finish_in_one_run(
    case: ProviderCase, run_workflow: Workflow, router: Path
) -> None:
    service = case.service(provider={"storage_url": f"file://{router}"})
    for _ in range(100):
        case.delivery(service)
    summary = run_workflow("providerMgt", AS_OF)
    assert summary["transfer_files"]["files_sent"] == 100
    assert summary["finish_deliveries"]["deliveries_finished"] == 100


def test_approval_that_was_lost_between_two_tries_stops_the_next(
    case: ProviderCase, factory: Factory, run_workflow: Workflow, router: Path
) -> None:
    delivery = case.delivery(case.service(provider={"storage_url": f"file://{router}/later"}))
    run_workflow("providerMgt", AS_OF)
    (router / "later").mkdir()
    factory.policy("content", delivery_id=delivery)
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.jobs("status", "tries") == [(delivery, "transfer", "pending", 1)]
    assert list((router / "later").iterdir()) == []


def test_job_of_an_old_file_is_never_due(case: ProviderCase, run_workflow: Workflow, router: Path) -> None:
    delivery = case.delivery(case.service(provider={"storage_url": f"file://{router}/no"}))
    run_workflow("providerMgt", AS_OF)
    due = "SELECT count(*) FROM campaign.due_provider_jobs('transfer', %s, NULL)"
    assert case.db.execute(due, [AS_OF + MINUTE]).fetchone() == (1,)
    case.extract(delivery, b"name\nEve\n")
    assert case.db.execute(due, [AS_OF + MINUTE]).fetchone() == (0,)


def test_service_without_jobs_ends_only_while_its_approvals_hold(
    case: ProviderCase, factory: Factory, run_workflow: Workflow
) -> None:
    delivery = case.delivery(case.service())
    policy = factory.policy("content", delivery_id=delivery)
    run_workflow("providerMgt", AS_OF)
    assert case.deliveries() == [("routing",)]
    case.db.execute("UPDATE campaign.approval_policy SET enabled = false WHERE id = %s", [policy])
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.deliveries() == [("finished",)]


def test_mended_template_takes_effect_when_the_delivery_is_sent_back(
    case: ProviderCase, run_workflow: Workflow, mail_server: MailServer
) -> None:
    service = case.service(notification_emails=["a@b.example"], notification_template="{{ no_such.name }}")
    delivery = case.delivery(service, label="D")
    run_workflow("providerMgt", AS_OF)
    assert case.deliveries() == [("failed",)]

    case.db.execute("UPDATE campaign.service SET notification_template = '{{ delivery }} is ready'")
    case.db.execute("SELECT campaign.retry_delivery(%s)", [delivery])
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.jobs("status", "round") == [(delivery, "notification", "done", 1)]
    assert case.deliveries() == [("finished",)]
    [text] = [mail.get_content() for to, mail in mail_server.messages if to == "a@b.example"]
    assert text.strip() == "D is ready"
    run_again_changes_nothing(run_workflow, case.db, AS_OF + 2 * MINUTE)


def test_mail_that_was_tried_keeps_its_text(
    case: ProviderCase, run_workflow: Workflow, mail_server: MailServer
) -> None:
    mail_server.on_recipient = lambda address: "451 later"
    case.delivery(case.service(notification_emails=["a@b.example"], notification_template="old"))
    run_workflow("providerMgt", AS_OF)
    case.db.execute("UPDATE campaign.service SET notification_template = 'new'")
    run_again_changes_nothing(run_workflow, case.db, AS_OF + MINUTE)
    assert case.db.execute("SELECT body_text, tries FROM campaign.notification").fetchall() == [("old", 1)]


@pytest.mark.parametrize("is_switched", [True, False])
def test_recall_names_the_provider_that_has_the_file(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer, runs: DagRuns,
    is_switched: bool,
) -> None:  # fmt: skip
    old = case.service(
        provider={"label": "OLD", "storage_url": f"file://{router}", "email": "old@x.example"},
        post_processing_dag_id="ack",
    )
    new = case.service(provider={"label": "NEW", "email": "new@x.example"}, post_processing_dag_id="ack")
    delivery = case.delivery(old)
    run_workflow("providerMgt", AS_OF)
    case.db.execute("SELECT set_config('campaign.as_of', %s, false)", [AS_OF.isoformat()])
    if is_switched:
        case.db.execute("UPDATE campaign.delivery SET service_id = %s", [new])
        run_workflow("providerMgt", AS_OF + MINUTE)
    case.db.execute("SELECT campaign.cancel_delivery(%s, 'a mistake')", [delivery])
    if not is_switched:
        case.db.execute("UPDATE campaign.delivery SET service_id = NULL")
    other = case.delivery(case.service(notification_emails=["c@b.example"]))
    run_workflow("providerMgt", AS_OF + 2 * MINUTE)
    [mail] = [mail for to, mail in mail_server.messages if to == "old@x.example"]
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert ("OLD" in text, "NEW" in text) == (True, False)
    said = "went to another service" if is_switched else "was canceled"
    assert any(f"{said} after OLD was given its file" in message for _, message in case.journal())
    assert sorted(to for to, _ in mail_server.messages) == ["c@b.example", "old@x.example"]
    assert case.deliveries("id", "status") == [(delivery, "canceled"), (other, "finished")]
    run_again_changes_nothing(run_workflow, case.db, AS_OF + 3 * MINUTE)


def test_jobs_of_a_finished_delivery_without_its_service_are_done_again(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer
) -> None:
    service = case.service(
        provider={"label": "P", "storage_url": f"file://{router}"},
        notification_emails=["a@b.example"],
        notification_template="{{ provider }}: {{ destination }}",
    )
    delivery = case.delivery(service)
    run_workflow("providerMgt", AS_OF)
    mail_server.reset()
    case.db.execute("UPDATE campaign.delivery SET service_id = NULL")
    case.db.execute("SELECT campaign.retry_job(id) FROM campaign.provider_job ORDER BY id")
    other = case.delivery(case.service(notification_emails=["c@b.example"]))
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert case.jobs() == [
        (delivery, "transfer", "done"), (delivery, "notification", "done"), (other, "notification", "done"),
    ]  # fmt: skip
    [text] = [mail.get_content() for to, mail in mail_server.messages if to == "a@b.example"]
    assert text.strip() == f"P: file://{router}/delivery-{delivery}-1.csv"
    assert case.deliveries() == [("finished",), ("finished",)]


def test_failure_of_a_delivery_without_its_service_is_told(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer
) -> None:
    service = case.service(provider={"label": "P", "storage_url": f"file://{router}"})
    case.delivery(service, label="D")
    run_workflow("providerMgt", AS_OF)
    case.db.execute("UPDATE campaign.delivery SET service_id = NULL")
    case.db.execute("UPDATE campaign.provider SET storage_url = storage_url || '/no'")
    case.db.execute("UPDATE campaign.setting SET value = '1' WHERE name = 'job_tries'")
    case.db.execute("SELECT campaign.retry_job(id) FROM campaign.provider_job")
    run_workflow("providerMgt", AS_OF + MINUTE)
    [(_, _, status)] = case.jobs()
    assert status == "failed"
    assert any(message.startswith("The file of 'D' could not be handed to P") for _, message in case.journal())
    assert [to for to, _ in mail_server.messages] == ["olga@example.com"]


def test_new_provider_is_not_told_where_the_old_one_has_the_file(
    case: ProviderCase, run_workflow: Workflow, router: Path, runs: DagRuns
) -> None:
    delivery = case.delivery(case.service(provider={"storage_url": f"file://{router}"}, post_processing_dag_id="ack"))
    run_workflow("providerMgt", AS_OF)
    destination = "SELECT campaign.provider_facts(%s) ->> 'destination'"
    assert case.db.execute(destination, [delivery]).fetchone() == (f"file://{router}/delivery-{delivery}-1.csv",)
    case.db.execute("UPDATE campaign.delivery SET service_id = %s", [case.service()])
    assert case.db.execute(destination, [delivery]).fetchone() == (None,)


def test_migration_keeps_the_views_that_others_laid_over_ours(db: psycopg.Connection[Any], dsn: str) -> None:
    ours = ("provider_job_wanted", "service_address", "provider_job_overview")
    db.execute("CREATE SCHEMA reports")
    for view in ours:
        db.execute(f"CREATE VIEW reports.{view} AS SELECT * FROM campaign.{view}".encode())
    db.execute("UPDATE campaign.schema_fingerprint SET fingerprint = 'old'")
    assert migrate(dsn)
    assert db.execute(
        "SELECT count(*) FROM pg_views WHERE schemaname = 'reports' AND viewname = ANY (%s)", [list(ours)]
    ).fetchone() == (3,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transfer_timeout", '"long"'),
        ("transfer_timeout", "null"),
        ("transfer_timeout", '"-1 minute"'),
        ("job_pauses", '["soon"]'),
        ("job_pauses", "[]"),
        ("job_pauses", '["200000 years"]'),
        ("job_pauses", '"1 minute"'),
        ("job_tries", '"many"'),
        ("job_tries", "0"),
        ("job_tries", "99999999999"),
    ],
)
def test_mistyped_setting_counts_as_not_set(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer, name: str, value: str
) -> None:
    with case.db.transaction():  # as it may have been before such values were refused
        case.db.execute("SET LOCAL session_replication_role = replica")
        case.db.execute("UPDATE campaign.setting SET value = %s::jsonb WHERE name = %s", [value, name])
    case.delivery(case.service(provider={"storage_url": f"file://{router}/no"}))
    case.delivery(case.service(provider={"storage_url": f"file://{router}"}))
    run_workflow("providerMgt", AS_OF)
    pause = timedelta(days=7) if "years" in value else timedelta(minutes=15 if name == "job_pauses" else 1)
    assert case.jobs("status", "next_try_at")[0][2:] == ("pending", AS_OF + pause)
    assert case.deliveries() == [("routing",), ("finished",)]


def test_mail_of_a_canceled_campaign_is_not_sent(
    case: ProviderCase, run_workflow: Workflow, mail_server: MailServer
) -> None:
    delivery = case.delivery(case.service(notification_emails=["a@b.example"]))
    mail_server.on_recipient = lambda address: "451 later"
    run_workflow("providerMgt", AS_OF)
    assert case.jobs() == [(delivery, "notification", "running")]
    case.db.execute("SELECT set_config('campaign.as_of', %s, false)", [AS_OF.isoformat()])
    case.db.execute("UPDATE campaign.campaign SET status = 'canceled'")
    case.db.execute("UPDATE campaign.notification SET next_try_at = NULL")
    mail_server.on_recipient = lambda address: None
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert mail_server.messages == []
    assert case.jobs("status", "done_at") == [(delivery, "notification", "canceled", None)]
    assert case.deliveries() == [("canceled",)]
    run_again_changes_nothing(run_workflow, case.db, AS_OF + 2 * MINUTE)


def test_mail_that_nobody_tried_to_send_says_what_holds_now(
    case: ProviderCase, run_workflow: Workflow, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.delivery(case.service(notification_emails=["a@b.example"], notification_template="old"))
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", "smtp://127.0.0.1:1/?disable_ssl=true&disable_tls=true&retry_limit=0")
        with pytest.raises(MailServerAwayError):
            run_workflow("providerMgt", AS_OF)
        # As if the server had gone away after the text was made.
        case.db.execute("UPDATE campaign.notification SET subject = 's', body_text = 'made', body_html = 'made'")
        before = snapshot(case.db)
        with pytest.raises(MailServerAwayError):
            run_workflow("providerMgt", AS_OF + MINUTE)
        assert changed_tables(before, snapshot(case.db)) == {}
    case.db.execute("UPDATE campaign.service SET notification_template = 'new'")
    run_workflow("providerMgt", AS_OF + 2 * MINUTE)
    [(_, mail)] = mail_server.messages
    assert mail.get_content().strip() == "new"
    assert case.deliveries() == [("finished",)]


def test_mails_that_were_postponed_when_their_job_failed_are_sent_as_mended(
    case: ProviderCase, run_workflow: Workflow, mail_server: MailServer
) -> None:
    mail_server.on_recipient = lambda address: "550 no such user" if address.startswith("typo") else "451 later"
    service = case.service(notification_emails=["a@b.example", "typo@b.example"], notification_template="old")
    delivery = case.delivery(service)
    run_workflow("providerMgt", AS_OF)
    assert case.deliveries() == [("failed",)]
    mail_server.on_recipient = lambda address: None
    case.db.execute("UPDATE campaign.service SET notification_template = 'new', notification_emails = '{a@b.example}'")
    case.db.execute("SELECT campaign.retry_delivery(%s)", [delivery])
    run_workflow("providerMgt", AS_OF + MINUTE)
    assert [mail.get_content().strip() for to, mail in mail_server.messages if to == "a@b.example"] == ["new"]
    assert case.deliveries() == [("finished",)]


def test_old_provider_is_told_when_the_delivery_goes_to_another(
    case: ProviderCase, run_workflow: Workflow, router: Path, mail_server: MailServer, runs: DagRuns
) -> None:
    (router / "old").mkdir(), (router / "new").mkdir()
    old, new = (
        case.service(
            provider={"label": name.upper(), "storage_url": f"file://{router}/{name}", "email": f"{name}@x.example"},
            post_processing_dag_id="missing" if name == "old" else None,
        )
        for name in ("old", "new")
    )  # fmt: skip
    delivery = case.delivery(old, label="D")
    run_workflow("providerMgt", AS_OF)
    assert case.jobs("status") == [(delivery, "transfer", "done"), (delivery, "post_processing", "running")]
    case.db.execute("UPDATE campaign.delivery SET service_id = %s", [new])
    assert run_workflow("providerMgt", AS_OF + MINUTE)["plan_jobs"]["providers_told_of_a_move"] == 1
    [(to, mail)] = mail_server.messages
    assert (to, str(mail["Subject"])) == ("old@x.example", "WITHDRAWN: D (Loyalty)")
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert f"remove the file delivery-{delivery}-1.csv" in text
    assert case.deliveries() == [("finished",)]
    assert [path.name for path in (router / "new").iterdir()] == [f"delivery-{delivery}-1.csv"]
    run_again_changes_nothing(run_workflow, case.db, AS_OF + 3 * MINUTE)
