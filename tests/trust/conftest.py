"""Houses in which a month is played."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.conftest import own_database
from tests.mail_server import MailServer
from tests.message_provider import MessageProvider
from tests.sftp_server import SftpServer
from tests.trust.dag_runs import TABLE, DagRunTable
from tests.trust.player import Outside, Player
from tests.trust.world import House

OpenHouse = Callable[..., AbstractContextManager[Player]]


@pytest.fixture(scope="session")
def open_house(
    postgres: dict[str, str],
    template_database: str,
    smtp_server: MailServer,
    dag_bag: DagBag,
    tmp_path_factory: pytest.TempPathFactory,
) -> OpenHouse:
    """Return a context manager that builds a house with servers of its own, one at a time.

    ``with open_house(recipients=60, budget_approvals=False) as player`` takes what :class:`House` takes. Its
    folders have the same names in every house, so that two can be compared. ``server=...`` and ``template=...``
    put it on another server than that of the session.
    """
    folder = tmp_path_factory.mktemp("trust") / "house"

    @contextmanager
    def build(
        *, server: dict[str, str] = postgres, template: str = template_database, **choices: Any
    ) -> Iterator[Player]:
        smtp_server.reset()
        with ExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            dsn = stack.enter_context(own_database(server, template, patch))
            db = stack.enter_context(psycopg.connect(dsn, autocommit=True))
            db.execute(TABLE)
            house = House(db, folder, **choices)
            house.make_folders()
            stack.callback(shutil.rmtree, folder)
            texters = MessageProvider()
            stack.callback(texters.close)
            sftp = SftpServer(house.sftp_root)
            stack.callback(sftp.close)
            sftp.start()
            patch.setenv("AIRFLOW_CONN_TEXTERS", texters.airflow_connection())
            patch.setenv("AIRFLOW_CONN_MAILHOUSE", sftp.airflow_connection())
            patch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", smtp_server.airflow_connection())
            patch.setenv("CAMPAIGN_FILES_URL", f"file://{house.files}")
            airflow = DagRunTable(dsn, dag_bag)
            airflow.install(patch)
            house.build()
            yield Player(house, Outside(house, smtp_server, texters, sftp), dag_bag, airflow)

    return build
