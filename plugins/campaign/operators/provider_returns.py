"""Take the answers of providers: which rows were accepted, what was printed and posted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from campaign.database import Connection, Row, execute_statements, workflow_transaction
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.provider_jobs import carrying_out_alone, transfer_timeout
from campaign.provider_returns import ServiceReturns
from campaign.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Context

COUNTS = ("files_taken", "rows_taken", "files_refused", "files_settling", "folders_unreachable")


class ProviderReturnsStep(WorkflowStep):
    """Read the answers that providers have put into the folders of their services.

    A file is read when it has settled, checked, and taken whole or set aside whole, in a transaction of its
    own: a run that is killed has taken it or has not. What was read is known by name and checksum, and not
    read again; what is wrong with one file, or one folder, stops no other. Nothing in the folders is changed.

    :param sql: path, below ``include/sql``, of the statement that lists the services to look at. (templated)
    :param services_at_once: how many are looked at at the same time.
    """

    template_fields: Sequence[str] = ("sql",)
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "postgresql"}

    def __init__(
        self, *, sql: str = "provider_mgt/select_returns.sql", services_at_once: int = 4, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.services_at_once = services_at_once

    def perform(self, run: Run, context: Context) -> Summary:
        """Take what is there."""
        with carrying_out_alone(run):
            with workflow_transaction(run) as connection:
                services, timeout = self._services(connection, run), transfer_timeout(connection)
            looks = [ServiceReturns(service, run, partial(workflow_transaction, run), timeout) for service in services]
            with ThreadPoolExecutor(self.services_at_once) as pool:
                tallies = list(pool.map(ServiceReturns.take_all, looks))
        return _summary(tallies)

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Do the same in the open transaction; reading a file changes nothing outside."""
        services, timeout = self._services(connection, run), transfer_timeout(connection)

        @contextmanager
        def step() -> Iterator[Connection]:
            with connection.transaction():
                yield connection

        return _summary([ServiceReturns(service, run, step, timeout).take_all() for service in services])

    def _services(self, connection: Connection, run: Run) -> list[Row]:
        [services] = execute_statements(connection, self.sql, run.binds())
        return services


def _summary(tallies: list[Counter[str]]) -> Summary:
    tally = sum(tallies, Counter[str]())
    return {name: tally[name] for name in COUNTS}
