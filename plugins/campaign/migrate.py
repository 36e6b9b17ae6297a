"""Brings the schema ``campaign`` of a database up to date: ``python -m campaign.migrate``.

Tables move forward by Alembic revisions (``include/sql/schema/versions``), each a folder of plain SQL.
Functions, triggers and views are what their files say now: they are laid anew whenever a file changed.
All happens in one transaction under a lock, so several services may start at once.

The database is named by ``CAMPAIGN_DSN``, a libpq URL.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import psycopg
from alembic import command, op
from alembic.config import Config
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

SCHEMA_FOLDER = Path(__file__).resolve().parents[2] / "include" / "sql" / "schema"
REPLACEABLE_FOLDERS = ("functions", "views", "triggers")


def run_sql_folder(revision_file: str) -> None:
    """Run the SQL files beside an Alembic revision, in the order of their names.

    :param revision_file: ``__file__`` of the revision; its SQL is in the folder of the same name.
    """
    driver_connection = _driver_connection(op.get_bind())
    for sql_file in sorted(Path(revision_file).with_suffix("").glob("*.sql")):
        driver_connection.execute(sql_file.read_bytes())


def migrate(dsn: str) -> bool:
    """Bring the database up to date.

    :param dsn: libpq URL or key-value string of the database.
    :returns: whether anything had to be done.
    """
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(dsn, application_name="campaign.migrate"),
        poolclass=NullPool,
    )
    with engine.begin() as transaction:
        connection = _driver_connection(transaction)
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('campaign.migrate', 0))")
        connection.execute("CREATE SCHEMA IF NOT EXISTS campaign")
        connection.execute("CREATE TABLE IF NOT EXISTS campaign.schema_fingerprint (fingerprint text NOT NULL)")
        wanted = _fingerprint()
        if connection.execute("SELECT fingerprint FROM campaign.schema_fingerprint").fetchall() == [(wanted,)]:
            return False
        _upgrade_tables(transaction)
        # Functions come before the views that they read.
        connection.execute("SET LOCAL check_function_bodies = off")
        for folder in REPLACEABLE_FOLDERS:
            for sql_file in sorted((SCHEMA_FOLDER / folder).glob("*.sql")):
                connection.execute(sql_file.read_bytes())
        connection.execute("DELETE FROM campaign.schema_fingerprint")
        connection.execute("INSERT INTO campaign.schema_fingerprint VALUES (%s)", [wanted])
    return True


def _driver_connection(connection: Connection) -> psycopg.Connection[tuple[Any, ...]]:
    """Return psycopg's own connection, which takes a file of many statements as it is."""
    driver_connection = connection.connection.driver_connection
    if not isinstance(driver_connection, psycopg.Connection):
        raise TypeError(f"Not a connection of psycopg: {driver_connection!r}")
    return driver_connection


def _upgrade_tables(transaction: Connection) -> None:
    """Run the Alembic revisions that are missing, inside the transaction."""
    config = Config()
    config.set_main_option("script_location", str(SCHEMA_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = transaction
    command.upgrade(config, "head")


def _fingerprint() -> str:
    """Digest of every file that says what the schema is."""
    digest = hashlib.sha256()
    for path in sorted(SCHEMA_FOLDER.rglob("*")):
        if path.suffix in {".sql", ".py"}:
            digest.update(str(path.relative_to(SCHEMA_FOLDER)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Entry of ``python -m campaign.migrate``."""
    dsn = os.environ.get("CAMPAIGN_DSN")
    if not dsn:
        sys.exit("CAMPAIGN_DSN is not set: give the libpq URL of the campaign database, or use bin/env.")
    try:
        changed = migrate(dsn)
    except (psycopg.OperationalError, OperationalError) as error:
        sys.exit(f"The campaign database cannot be reached: {getattr(error, 'orig', error)}".strip())
    except psycopg.Error as error:
        sys.exit(f"The campaign schema could not be brought up to date; nothing was changed: {error}".strip())
    print("campaign schema: brought up to date" if changed else "campaign schema: up to date")


if __name__ == "__main__":
    main()
