"""The campaign database as the pages use it: short connections, short statements, plain errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
from airflow.sdk.exceptions import AirflowNotFoundException

from campaign.database import Connection, Row, connect, execute_statements
from campaign.pages.errors import PageError
from campaign.statements import read_statement

# A person waits in front of the page.
CONNECT_TIMEOUT = timedelta(seconds=5)
STATEMENT_TIMEOUT = timedelta(seconds=10)
LOCK_TIMEOUT = timedelta(seconds=5)
# What the functions of the schema say no with, to a person, and the status that says so in HTTP.
REFUSAL_STATUS: dict[type[psycopg.Error], int] = {
    psycopg.errors.ObjectNotInPrerequisiteState: 409,
    psycopg.errors.InsufficientPrivilege: 403,
    psycopg.errors.NoDataFound: 404,
}
REFUSALS = tuple(REFUSAL_STATUS)


@contextmanager
def reading() -> Iterator[Connection]:
    """Open a connection that cannot change anything: what a GET uses."""
    with _connected() as connection:
        connection.read_only = True
        yield connection


@contextmanager
def writing() -> Iterator[Connection]:
    """Open a connection that may; committed unless something raises."""
    with _connected() as connection, connection.transaction():
        milliseconds = int(LOCK_TIMEOUT.total_seconds() * 1000)
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [str(milliseconds)])
        yield connection


def select(connection: Connection, statement: str, **binds: Any) -> list[Row]:
    """Return the rows of a statement.

    :param statement: name of its file below ``include/sql/pages``.
    """
    return execute_statements(connection, read_statement(f"pages/{statement}"), binds)[0]


@contextmanager
def _connected() -> Iterator[Connection]:
    try:
        with connect("campaign.pages", STATEMENT_TIMEOUT, CONNECT_TIMEOUT) as connection:
            yield connection
    except REFUSALS:
        raise  # some are operational errors to the driver
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
        raise PageError(
            503,
            "The database is busy",
            "It did not answer in time, and nothing was changed. Try again in a minute.",
        ) from error
    except psycopg.OperationalError as error:
        raise PageError(
            503,
            "The campaign database does not answer",
            "Nothing was changed. Try again in a few minutes; if it stays so, tell those who run Airflow that "
            "the database behind the connection campaign_db cannot be reached from the API server.",
        ) from error
    except AirflowNotFoundException as error:
        raise PageError(
            503,
            "There is no connection to the campaign database",
            "Those who run Airflow must define the connection campaign_db for the API server.",
        ) from error
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedColumn) as error:
        raise PageError(
            503,
            "The campaign database is not up to date",
            "Those who run Airflow must bring its schema up to date: python -m campaign.migrate.",
        ) from error
