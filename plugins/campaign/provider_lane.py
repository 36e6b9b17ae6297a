"""The files of one provider, handed over one after the other, beside those of other providers."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from threading import Thread

import psycopg

from campaign.database import Connection, Row, connect
from campaign.provider_jobs import claim_job, complete_job, enter_destination, fail_job, postpone_with
from campaign.run import Run
from campaign.storage import TOOK_TOO_LONG, StorageRefusedError, describe
from campaign.transport import OutgoingFile, Transport

log = logging.getLogger(__name__)

# What a transport that hangs gets beyond its deadline, to notice by itself and say more about it.
MARGIN_SECONDS = 5.0
CUT_OFF = "Its tries were all cut off in the middle: something kills the task while it hands over this file."


class ProviderLane(Thread):
    """Carries out the transfers of one provider. A daemon: one that hangs must not keep the task alive.

    :param make_transport: makes what hands the files over.
    :param jobs: rows of ``transfer_files.sql``, of one provider.
    :param timeout: seconds that one file may take.
    :param round_ends: reading of ``time.monotonic()`` after which no file but the first is begun.
    """

    def __init__(
        self,
        make_transport: Callable[[], Transport],
        run: Run,
        jobs: list[Row],
        timeout: float,
        round_ends: float = math.inf,
    ) -> None:
        super().__init__(name=f"{run.application_name} {jobs[0]['provider']}", daemon=True)
        self.tally: Counter[str] = Counter()
        self.error: BaseException | None = None
        self._make_transport = make_transport
        self._workflow_run = run
        self._jobs = jobs
        self._timeout = timeout
        self._round_ends = round_ends
        # The job at hand, and the reading of time.monotonic() by which it has to be done.
        self._at_hand: tuple[int, float] | None = None
        self._is_left_behind = False
        self._stack = ExitStack()
        self._transport: Transport | None = None
        # A job whose try failed on the connection that is open.
        self._failed_job: int | None = None

    def run(self) -> None:
        """Serve the jobs; what goes wrong with the campaign database is kept for who waits for the thread."""
        try:
            with connect(self._workflow_run.application_name) as connection:
                self._serve_all(connection)
        except BaseException as error:
            self.error = error

    def leave_behind(self) -> bool:
        """Give up on a file that takes too long, if it does; return whether it was given up."""
        at_hand = self._at_hand
        if at_hand is None or time.monotonic() < at_hand[1] + min(MARGIN_SECONDS, self._timeout):
            return False
        self._is_left_behind = True
        with connect(self._workflow_run.application_name) as connection:
            self._count(fail_job(connection, self._workflow_run, at_hand[0], TOOK_TOO_LONG))
        log.warning("%s does not answer, and is left behind", self._jobs[0]["provider"])
        return True

    def _serve_all(self, connection: Connection) -> None:
        with self._stack:
            for job in self._jobs:
                if self._is_left_behind or (job is not self._jobs[0] and time.monotonic() > self._round_ends):
                    return
                deadline = time.monotonic() + self._timeout
                self._at_hand = (job["job_id"], deadline)
                try:
                    if not self._serve(connection, job, deadline):
                        return
                finally:
                    self._at_hand = None

    def _serve(self, connection: Connection, job: Row, deadline: float) -> bool:
        """Carry out one job; return False when the provider is away, so that the others are not tried."""
        if self._failed_job is not None:
            # Whatever a try failed of: a provider that does not let us in again is away.
            if not self._open_again():
                return self._give_up(connection, self._failed_job)
            self._failed_job = None
        claim = claim_job(connection, self._workflow_run, "transfer", job["job_id"])
        if claim is None:  # canceled, or held, since it was listed
            return True
        try:
            if claim["is_beyond_its_tries"]:
                raise StorageRefusedError(CUT_OFF)
            self._transport = self._transport or self._stack.enter_context(self._make_transport())
            self._deliver(connection, self._transport, job, claim, deadline)
        except psycopg.Error:
            raise
        except StorageRefusedError as error:
            self._fail(connection, job, error, for_good=True)
        except Exception as error:
            self._fail(connection, job, error)
            if self._transport is None:
                return self._give_up(connection, job["job_id"])
            self._failed_job = job["job_id"]
        return True

    def _open_again(self) -> bool:
        """Open the connection anew; return whether that worked."""
        with suppress(Exception):  # it is broken
            self._stack.close()
        try:
            self._transport = self._stack.enter_context(self._make_transport())
        except Exception as error:
            log.warning("%s: %s", self._jobs[0]["provider"], describe(error))
            return False
        return True

    def _give_up(self, connection: Connection, job_id: int) -> bool:
        """Let the files of a provider that is away wait with the one that was tried."""
        self.tally["providers_unreachable"] += 1
        postpone_with(connection, job_id)
        return False

    def _deliver(self, connection: Connection, transport: Transport, job: Row, claim: Row, deadline: float) -> None:
        facts = claim["facts"]
        if facts["file"] is None:
            raise StorageRefusedError("The delivery has no extraction file: extract it first.")
        file = OutgoingFile.from_facts(job["job_id"], facts)
        # From here on the provider may have it, whatever becomes of this try.
        place = claim["destination"] or f"{job['storage_url'].rstrip('/')}/{file.name}"
        enter_destination(connection, job["job_id"], place)
        try:
            receipt = transport.deliver(file, deadline)
        except StorageRefusedError:
            enter_destination(connection, job["job_id"], claim["destination"])
            raise
        complete_job(
            connection,
            self._workflow_run,
            job["job_id"],
            f"{file.name} ({facts['file']['rows']} rows, {file.byte_count} bytes, SHA-256 {file.sha256}) "
            f"{'was already' if receipt.was_there else 'is'} with {job['provider']}: {receipt.destination}",
            receipt.destination,
        )
        self.tally["files_already_there" if receipt.was_there else "files_sent"] += 1
        self.tally["bytes_sent"] += 0 if receipt.was_there else file.byte_count

    def _fail(self, connection: Connection, job: Row, error: Exception, *, for_good: bool = False) -> None:
        reason = describe(error)
        log.warning("%s to %s: %s", job["file_name"], job["provider"], reason)
        self._count(fail_job(connection, self._workflow_run, job["job_id"], reason, for_good=for_good))

    def _count(self, status: str | None) -> None:
        if status is not None:
            self.tally["files_failed" if status == "failed" else "files_to_try_again"] += 1
