"""The whole content of a campaign database, to compare before and after."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

# Bookkeeping of runs: says that a run was there, in which database, whatever it did; and what the watch last saw of
# the workflows (paused, listening), which changes with the clock and not with the run.
BOOKKEEPING = {
    "technical_run", "instance", "schema_version", "schema_fingerprint", "technical_workflow",
}  # fmt: skip


def snapshot(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Return all rows of all tables of the schema ``campaign``, each as text, in order."""
    tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'campaign'::regnamespace AND relkind = 'r' ORDER BY 1"
    ).fetchall()
    content = {}
    for (table,) in tables:
        if table not in BOOKKEEPING:
            query = sql.SQL("SELECT row::text FROM campaign.{} AS row ORDER BY 1").format(sql.Identifier(table))
            content[table] = [text for (text,) in connection.execute(query)]
    return content


def changed_tables(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, tuple[Any, Any]]:
    """Return, per table that differs, the rows that went and the rows that came."""
    return {
        table: (sorted(set(before[table]) - set(after[table])), sorted(set(after[table]) - set(before[table])))
        for table in before
        if before[table] != after[table]
    }
