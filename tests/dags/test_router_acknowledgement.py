"""routerAcknowledgement: it looks at the file itself, and says what it saw once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag

from campaign.storage import StorageError
from tests.factories import Factory
from tests.provider_case import ProviderCase


@pytest.fixture
def delivered(
    db: psycopg.Connection[Any], factory: Factory, tmp_path: Path
) -> tuple[ProviderCase, Path, dict[str, Any]]:
    """Return a case whose file is at the router, with the file and the conf of the post-processing."""
    (tmp_path / "outbox").mkdir()
    (tmp_path / "router").mkdir()
    case = ProviderCase(db, factory, tmp_path / "outbox")
    service = case.service(provider={"label": "P", "storage_url": f"file://{tmp_path}/router"})
    delivery = case.delivery(service)
    job = factory.insert("provider_job", delivery_id=delivery, service_id=service, kind="post_processing")
    [(facts,)] = db.execute("SELECT campaign.provider_facts(%s)", [delivery]).fetchall()
    path = tmp_path / "router" / f"delivery-{delivery}-1.csv"
    path.write_bytes(b"name\nAda\n")
    return case, path, facts | {"job_id": job}


@pytest.fixture
def acknowledge(dag_bag: DagBag, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs both tasks with a conf."""
    dag = dag_bag.dags["routerAcknowledgement"]
    check, record = (dag.get_task(name).python_callable for name in ("check_file", "record_acknowledgement"))

    def run(conf: dict[str, Any]) -> None:
        context = {"run_id": "campaign__job_1_1", "dag_run": SimpleNamespace(conf=conf)}
        monkeypatch.setitem(check.__globals__, "get_current_context", lambda: context)
        record(check())

    return run


def test_can_be_started_at_once(dag_bag: DagBag) -> None:
    dag = dag_bag.dags["routerAcknowledgement"]
    assert (dag.schedule, dag.is_paused_upon_creation) == (None, False)


def test_whole_file_is_entered_in_the_journal_once(delivered: Any, acknowledge: Any) -> None:
    case, path, conf = delivered
    acknowledge(conf)
    acknowledge(conf)
    assert case.journal() == [
        (
            "info",
            f"file://{path} is whole at P: 9 bytes, SHA-256 {conf['file']['sha256']} (job {conf['job_id']}).",
        )
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "is not there any more"), (b"name\nEve\n", "is not the file that was approved")],
)
def test_missing_or_other_file_fails(delivered: Any, acknowledge: Any, content: bytes | None, words: str) -> None:
    case, path, conf = delivered
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(StorageError, match=words):
        acknowledge(conf)
    assert case.journal() == []
