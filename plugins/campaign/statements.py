"""The text of SQL files, for steps that run more than one."""

from __future__ import annotations

from functools import cache

from campaign.database import SQL_FOLDER


@cache
def read_statement(path: str) -> str:
    """Return the text of an SQL file.

    :param path: its path below ``include/sql``, like ``operation_mgt/record_workflows.sql``.
    """
    return (SQL_FOLDER / path).read_text(encoding="utf-8")
