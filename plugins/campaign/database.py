"""Connections to the campaign database: named, bounded, and gone when their task is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg
from airflow.providers.postgres.hooks.postgres import PostgresHook
from psycopg.rows import dict_row

from campaign.run import ui_url

if TYPE_CHECKING:
    from campaign.run import Run

CAMPAIGN_CONN_ID = "campaign_db"
SQL_FOLDER = Path(__file__).resolve().parents[2] / "include" / "sql"
DEFAULT_STATEMENT_TIMEOUT = timedelta(hours=1)

Row = dict[str, Any]
Connection = psycopg.Connection[Any]


class UnknownCampaignError(LookupError):
    """The run is limited to a campaign that does not exist."""


@contextmanager
def connect(
    application_name: str,
    statement_timeout: timedelta = DEFAULT_STATEMENT_TIMEOUT,
    connect_timeout: timedelta | None = None,
) -> Iterator[Connection]:
    """Open a connection to the campaign database; it is closed, and what is open rolled back, at the end.

    :param application_name: shown by pg_stat_activity, like ``budgetMgt.calculate_costs``.
    :param statement_timeout: no single statement may run longer.
    :param connect_timeout: give up on a server that does not answer; None leaves it to the connection.
    """
    hook = PostgresHook(postgres_conn_id=CAMPAIGN_CONN_ID)
    if connect_timeout is not None:
        settings = deepcopy(hook.connection)
        settings.extra = json.dumps({"connect_timeout": int(connect_timeout.total_seconds()), **settings.extra_dejson})
        hook = PostgresHook(connection=settings)
    # The hook declares the driver that Airflow falls back to; with psycopg 3 installed this is its connection.
    opened = cast("Connection", hook.get_conn())
    with closing(opened) as connection:
        # Set here, not in the connection's options: options in a connection's extras would win over
        # ours. The connection check ends a query whose task was killed.
        connection.execute(
            """
            SELECT
                set_config('application_name', %s, false),
                set_config('statement_timeout', %s, false),
                set_config('client_connection_check_interval', '2000', false),
                set_config('timezone', 'UTC', false),
                set_config('campaign.ui_url', %s, false),
                set_config('campaign.instance', %s, false)
            """,
            [
                application_name,
                f"{int(statement_timeout.total_seconds() * 1000)}",
                ui_url(),
                os.environ.get("CAMPAIGN_INSTANCE", ""),
            ],
        )
        connection.commit()
        yield connection


@contextmanager
def workflow_transaction(run: Run, statement_timeout: timedelta = DEFAULT_STATEMENT_TIMEOUT) -> Iterator[Connection]:
    """One transaction of one step, under the lock of its workflow; committed unless something raises.

    Two runs of a workflow at once, say a scheduled one and a backfill, take turns step by step.
    """
    with connect(run.application_name, statement_timeout) as connection, connection.transaction():
        lock_workflow(connection, run)
        yield connection


def lock_workflow(connection: Connection, run: Run) -> None:
    """Wait until no other run of this workflow is in a step, and enter the run in the bookkeeping.

    :raises UnknownCampaignError: when the run is limited to a campaign that does not exist.
    """
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('campaign.workflow:' || %s, 0))", [run.dag_id])
    # campaign.moment(): functions that the step calls work as of the run's moment too. The journal knows the run, the
    # triggers the workflow.
    connection.execute(
        """
        SELECT
            set_config('campaign.as_of', %s, true),
            set_config('campaign.dag_id', %s, true),
            set_config('campaign.run_id', %s, true),
            campaign.remember_instance()
        """,
        [run.as_of.isoformat(), run.dag_id, run.run_id],
    )
    campaign_id = None
    if run.campaign is not None:
        found = connection.execute(
            "SELECT id FROM campaign.campaign WHERE internal_name = %s", [run.campaign]
        ).fetchone()
        if found is None:
            raise UnknownCampaignError(f"campaign: there is no campaign with the internal name {run.campaign!r}.")
        campaign_id = found[0]
    connection.execute(
        """
        INSERT INTO campaign.technical_run (dag_id, run_id, as_of, campaign_id, is_full)
        VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (dag_id, run_id) DO UPDATE
        SET as_of = excluded.as_of, campaign_id = excluded.campaign_id, is_full = excluded.is_full
        """,
        [run.dag_id, run.run_id, run.as_of, campaign_id, run.full],
    )


def is_for_the_past(connection: Connection, run: Run) -> bool:
    """Say whether a run of this workflow, in the same scope, has already worked as of a later moment."""
    found = connection.execute(
        """
        SELECT EXISTS (
            SELECT 1
            FROM campaign.technical_run AS later
            INNER JOIN campaign.technical_run AS this
                ON later.dag_id = this.dag_id AND later.as_of > this.as_of
            WHERE
                this.dag_id = %s AND this.run_id = %s
                AND (
                    later.campaign_id IS NULL OR this.campaign_id IS NULL
                    OR later.campaign_id = this.campaign_id
                )
        )
        """,
        [run.dag_id, run.run_id],
    ).fetchone()
    return bool(found and found[0])


def refuse_in_clone(connection: Connection, run: Run) -> str | None:
    """Say why nothing may leave the house from this database, a copy that nobody adopted; None: it may.

    Enters it in the journal once. Every step that has effects asks first
    (:class:`campaign.operators.workflow_step.WorkflowStep`).
    """
    found = connection.execute("SELECT campaign.refuse_in_clone(%s, %s)", [run.dag_id, run.run_id]).fetchone()
    return found[0] if found else None


def execute_statements(connection: Connection, sql: str, binds: dict[str, Any]) -> list[list[Row]]:
    """Run all statements of an SQL file in the open transaction.

    :param sql: one or more statements; values only as named binds.
    :param binds: the values.
    :returns: per statement that returns rows, its rows.
    """
    results = []
    # A client-side cursor binds values into the text itself, so that one file may hold several
    # statements; the server-side protocol takes one at a time.
    with psycopg.ClientCursor(connection, row_factory=dict_row) as cursor:
        cursor.execute(sql.encode(), binds)
        while True:
            if cursor.description:
                results.append(cursor.fetchall())
            if not cursor.nextset():
                return results


def write_journal(
    connection: Connection,
    run: Run,
    level: str,
    message: str,
    *,
    campaign_id: int | None = None,
    delivery_id: int | None = None,
    task_id: int | None = None,
) -> None:
    """Enter a decision, an effect or an error in the journal.

    :param level: ``info``, ``warning`` or ``error``.
    :param message: one plain sentence; it must hold no secret and no personal data.
    """
    connection.execute(
        """
        INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, task_id, message)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        [level, run.dag_id, run.run_id, campaign_id, delivery_id, task_id, message],
    )
