"""Runs the workflows of a house, and counts what its outside got."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag

from tests.mail_server import MailServer
from tests.message_provider import MessageProvider
from tests.sftp_server import SftpServer
from tests.trust.dag_runs import DagRunTable
from tests.trust.world import House
from tests.workflow_runs import Summaries, execute_workflow

# In the order in which one hands to the next.
WORKFLOWS = ("operationMgt", "budgetMgt", "deliveryMgt", "providerMgt", "stockMgt")


class Outside:
    """What came out of the house: mails, requests to the provider of SMS, and files at the routers.

    :ivar mails: accepted by the mail server.
    """

    def __init__(self, house: House, mail_server: MailServer, texters: MessageProvider, sftp: SftpServer) -> None:
        self.house, self.mail_server, self.texters, self.sftp = house, mail_server, texters, sftp

    def mails(self) -> Counter[tuple[str, str]]:
        """Count each mail that arrived, by its recipient and Message-ID."""
        return Counter((to, str(mail["Message-ID"])) for to, mail in self.mail_server.messages)

    def subjects(self) -> Counter[tuple[str, str]]:
        """Count the mails by what two houses have in common: recipient and subject."""
        return Counter((to, str(mail["Subject"])) for to, mail in self.mail_server.messages)

    def texts(self) -> Counter[str]:
        """Count each SMS that was delivered, by its id."""
        return Counter(self.texters.delivered)

    def files(self) -> dict[str, tuple[int, int]]:
        """Return each file that lies outside: its size, and the moment of its last writing."""
        folders = (self.house.inbox, self.house.sftp_root, self.house.files)
        return {
            str(path.relative_to(self.house.folder)): (path.stat().st_size, path.stat().st_mtime_ns)
            for folder in folders
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        }

    def all(self) -> dict[str, Any]:
        """Return all of it, to compare before and after."""
        return {"mails": self.mails(), "texts": self.texts(), "files": self.files()}


class Player:
    """Runs the five workflows in this process.

    :ivar runs: how many were run.
    """

    def __init__(self, house: House, outside: Outside, dag_bag: DagBag, airflow: DagRunTable) -> None:
        self.house, self.outside, self.dag_bag, self.airflow = house, outside, dag_bag, airflow
        self._numbers = itertools.count(1)
        self.runs = 0

    def run(self, dag_id: str, as_of: datetime, **params: Any) -> Summaries:
        """Run a workflow to its end."""
        self.runs += 1
        run_id = params.pop("run_id", None) or f"run {next(self._numbers)}"
        return execute_workflow(self.dag_bag.dags[dag_id], run_id, as_of, **params)

    def run_all_in_peace(self, as_of: datetime) -> None:
        """Do the same as :meth:`run_all`: here nothing disturbs."""
        self.run_all(as_of)

    def run_all(self, as_of: datetime) -> None:
        """Run the five once, and what they started."""
        for dag_id in WORKFLOWS:
            self.run(dag_id, as_of)
            self.airflow.execute_queued(as_of)
