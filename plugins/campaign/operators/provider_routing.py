"""Hand the files of deliveries to their providers."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from campaign.database import Connection, Row, execute_statements, workflow_transaction
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.provider_jobs import carrying_out_alone, transfer_timeout
from campaign.provider_lane import ProviderLane
from campaign.run import Run
from campaign.transport import StorageTransport, Transport

if TYPE_CHECKING:
    from airflow.sdk import Context

POLL_SECONDS = 0.05
# After so long a provider with many files leaves the rest to the next run, which is due by then: one that is slow
# must not keep what the others get meanwhile waiting. Each hands over one file a run at least.
ROUND_SECONDS = 300.0


class ProviderRoutingStep(WorkflowStep):
    """Carry out the transfers that are due: each provider's files in order, several providers at once.

    A job is entered as running before its file is handed over, and as done or failed right after, so that a
    run that is killed repeats at most the files it was at. A provider that cannot be reached costs one job
    a try; its others wait as long as that one. One that takes too long is left behind, and the others go on.

    How a file is handed over depends on the scheme of the provider's ``storage_url``: by default it is put
    into a folder (:class:`campaign.transport.StorageTransport`); :class:`campaign.transport.Transport` shows
    how a team adds a transport of its own.

    :param sql: path, below ``include/sql``, of the statement that lists the transfers due. (templated)
    :param transports: import paths of transports, by scheme.
    :param providers_at_once: how many providers are served at the same time.
    """

    template_fields: Sequence[str] = ("sql",)
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "postgresql"}

    def __init__(
        self,
        *,
        sql: str = "provider_mgt/transfer_files.sql",
        transports: dict[str, str] | None = None,
        providers_at_once: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.transports = transports
        self.providers_at_once = providers_at_once

    def perform(self, run: Run, context: Context) -> Summary:
        """Hand over what is due, and record each file as it is."""
        with carrying_out_alone(run):
            with workflow_transaction(run) as connection:
                due, timeout = self._due(connection, run), transfer_timeout(connection)
            round_ends = time.monotonic() + ROUND_SECONDS
            lanes = [
                ProviderLane(partial(self._make_transport, jobs[0]), run, jobs, timeout, round_ends)
                for jobs in _by_provider(job for job in due if job["is_in_this_run"])
            ]
            self._run_lanes(lanes)
        tally = sum((lane.tally for lane in lanes), Counter[str]())
        return _summary(due, tally)

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """List the files that would be handed over, and count them as done for the steps that follow."""
        due = self._due(connection, run)
        in_this_run = [job for job in due if job["is_in_this_run"]]
        for job in in_this_run:
            self.log.info("Would hand %s to %s", job["file_name"], job["provider"])
        connection.execute(
            "UPDATE campaign.provider_job SET status = 'done', done_at = %s WHERE id = ANY (%s)",
            [run.as_of, [job["job_id"] for job in in_this_run]],
        )
        byte_count = sum(job["byte_count"] for job in in_this_run)
        return _summary(due, Counter(files_sent=len(in_this_run), bytes_sent=byte_count))

    def _due(self, connection: Connection, run: Run) -> list[Row]:
        [due] = execute_statements(connection, self.sql, run.binds())
        return due

    def _make_transport(self, job: Row) -> Transport:
        scheme = urlsplit(job["storage_url"] or "").scheme
        named = (self.transports or {}).get(scheme)
        transport: type[Transport] = resolve_name(named) if named else StorageTransport
        return transport(job["storage_url"], job["storage_conn_id"])

    def _run_lanes(self, lanes: list[ProviderLane]) -> None:
        waiting, active = deque(lanes), set[ProviderLane]()
        while waiting or active:
            while waiting and len(active) < self.providers_at_once:
                lane = waiting.popleft()
                lane.start()
                active.add(lane)
            for lane in list(active):
                lane.join(POLL_SECONDS)
                if not lane.is_alive() or lane.leave_behind():
                    active.remove(lane)
        errors = [lane.error for lane in lanes if lane.error is not None]
        if errors:
            # Not of a file but of the campaign database: what was carried out may not be recorded.
            raise errors[0]


def _by_provider(jobs: Any) -> list[list[Row]]:
    """Group jobs, which come in the order of their providers; the provider whose job waits longest comes first."""
    groups = [list(of_one) for _, of_one in groupby(jobs, key=lambda job: job["provider_id"])]
    return sorted(groups, key=lambda of_one: int(of_one[0]["job_id"]))


def _summary(due: list[Row], tally: Counter[str]) -> Summary:
    names = ("files_sent", "files_already_there", "bytes_sent", "files_to_try_again", "files_failed")
    served = sum(tally[name] for name in names if name.startswith("files"))
    return {name: tally[name] for name in (*names, "providers_unreachable")} | {"files_waiting": len(due) - served}
