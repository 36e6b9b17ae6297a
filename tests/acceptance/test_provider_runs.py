"""providerMgt inside Airflow: file over SFTP, mail, a post-processing as its own DAG run, end of the delivery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.utils.state import DagRunState

from tests.conftest import PROJECT
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.provider_case import ProviderCase
from tests.sftp_server import SftpServer

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def airflow_database() -> None:
    """Give Airflow its own database, in the folder of the session."""
    from airflow.utils.db import initdb

    initdb()


def run_provider_mgt(as_of: datetime) -> str:
    """Run the workflow once as Airflow does; return the state it ends in."""
    conf = {"as_of": as_of.isoformat(), "campaign": None, "full": False, "dry_run": False}
    return str(DagBag(PROJECT / "dags").dags["providerMgt"].test(run_conf=conf, logical_date=None).state)


@pytest.mark.usefixtures("airflow_database")
def test_delivery_goes_all_the_way(
    db: psycopg.Connection[Any],
    factory: Factory,
    mail_server: MailServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select, update

    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("outbox", "router/inbox"):
        (tmp_path / folder).mkdir(parents=True)
    server = SftpServer(tmp_path / "router")
    server.start()
    monkeypatch.setenv("AIRFLOW_CONN_ROUTER_SFTP", server.airflow_connection())
    try:
        case = ProviderCase(db, factory, tmp_path / "outbox")
        service = case.service(
            provider={"storage_url": "sftp:///inbox", "storage_conn_id": "router_sftp"},
            notification_emails=["orders@printers.example"],
            post_processing_dag_id="routerAcknowledgement",
        )
        delivery = case.delivery(service)

        assert run_provider_mgt(NOW) == "success"
        assert (tmp_path / "router" / "inbox" / f"delivery-{delivery}-1.csv").read_bytes() == b"name\nAda\n"
        assert [to for to, _ in mail_server.messages] == ["orders@printers.example"]
        assert [status for *_, status in case.jobs()] == ["done", "done", "running"]
        with create_session() as session:
            run = session.scalar(select(DagRun).where(DagRun.dag_id == "routerAcknowledgement"))
            run_id, state, conf = run.run_id, run.state, run.conf
        assert (run_id, state) == (f"campaign__job_{conf['job_id']}_1", "queued")

        # What a scheduler would do with the queued run; a date, or the test would replace that run by its own.
        acknowledgement = DagBag(PROJECT / "dags").dags["routerAcknowledgement"]
        assert acknowledgement.test(run_conf=conf, logical_date=NOW).state == DagRunState.SUCCESS
        with create_session() as session:
            session.execute(update(DagRun).where(DagRun.run_id == run_id).values(state="success"))

        assert run_provider_mgt(NOW + timedelta(minutes=5)) == "success"
        assert case.deliveries("status", "finished_at") == [("finished", NOW + timedelta(minutes=5))]
        assert sum("is whole at" in message for _, message in case.journal()) == 1
        assert len(mail_server.messages) == 1
    finally:
        server.close()
        with create_session() as session:
            for run in session.scalars(select(DagRun)):
                session.delete(run)
