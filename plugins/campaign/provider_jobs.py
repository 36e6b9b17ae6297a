"""What the steps of providerMgt write about a job while they carry it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from campaign.database import Connection, Row, connect, execute_statements
from campaign.run import Run
from campaign.statements import read_statement


@contextmanager
def carrying_out_alone(run: Run) -> Iterator[None]:
    """Be the only process that carries out jobs in this step; another one waits.

    The lock belongs to the session, so that a killed process leaves none behind.
    """
    with connect(run.application_name) as connection:
        connection.execute(
            "SELECT pg_advisory_lock(hashtextextended('campaign.carrying_out:' || %s, 0))",
            [run.application_name],
        )
        connection.commit()
        yield


def claim_job(connection: Connection, run: Run, kind: str, job_id: int) -> Row | None:
    """Enter that a job is being carried out, and commit; return what it needs, or None if it is not due."""
    statement = read_statement("provider_mgt/claim_job.sql")
    with connection.transaction():
        [rows] = execute_statements(connection, statement, run.binds() | {"kind": kind, "job_id": job_id})
    return rows[0] if rows else None


def complete_job(connection: Connection, run: Run, job_id: int, message: str, destination: str | None = None) -> bool:
    """Enter that a job is done, and commit; return False when it was no longer running."""
    return bool(
        _call(
            connection,
            "SELECT campaign.complete_provider_job(%s, %s, %s, %s, %s)",
            [job_id, run.as_of, run.run_id, message, destination],
        )
    )


def fail_job(connection: Connection, run: Run, job_id: int, reason: str, *, for_good: bool = False) -> str | None:
    """Enter that a try of a job failed, and commit.

    :param for_good: whether trying again cannot help.
    :returns: ``pending`` when it is tried again, ``failed`` when a person has to look, None when it was no
        longer running.
    """
    status: str | None = _call(
        connection,
        "SELECT campaign.fail_provider_job(%s, %s, %s, %s, %s)",
        [job_id, reason, run.as_of, run.run_id, for_good],
    )
    return status


def enter_destination(connection: Connection, job_id: int, destination: str | None) -> None:
    """Enter where the provider may have the file from now on, and commit: who cancels it has to tell them."""
    with connection.transaction():
        connection.execute("UPDATE campaign.provider_job SET destination = %s WHERE id = %s", [destination, job_id])


def postpone_with(connection: Connection, job_id: int) -> None:
    """Let the other files for the provider of a job that could not be reached wait as long as that job does.

    So its pauses grow as a whole, and an outage uses up the tries of one job, not of each in its turn.
    """
    with connection.transaction():
        connection.execute(
            """
            UPDATE campaign.provider_job AS other
            SET next_try_at = tried.next_try_at
            FROM campaign.provider_job AS tried
            INNER JOIN campaign.service AS service ON tried.service_id = service.id
            INNER JOIN campaign.service AS sibling ON service.provider_id = sibling.provider_id
            WHERE
                tried.id = %s
                AND other.service_id = sibling.id
                AND other.kind = 'transfer'
                AND other.status = 'pending'
                AND coalesce(other.next_try_at, '-infinity') < tried.next_try_at
            """,
            [job_id],
        )


def transfer_timeout(connection: Connection) -> float:
    """Return the setting transfer_timeout in seconds; half an hour unless it is set to a positive duration."""
    found = connection.execute(
        """
        SELECT extract(EPOCH FROM (setting.value #>> '{}')::interval)
        FROM campaign.setting AS setting
        WHERE
            setting.name = 'transfer_timeout'
            AND CASE
                WHEN pg_input_is_valid(setting.value #>> '{}', 'interval')
                    THEN (setting.value #>> '{}')::interval > interval '0'
            END
        """
    ).fetchone()
    return float(found[0]) if found else 1800.0


def _call(connection: Connection, sql: str, values: list[Any]) -> Any:
    with connection.transaction():
        found = connection.execute(sql.encode(), values).fetchone()
    return found[0] if found else None
