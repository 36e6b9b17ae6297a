"""Sets of recipients in work tables: their names, their register, the statements that lay them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import psycopg
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from campaign.database import SQL_FOLDER, Connection


class MissingSetError(LookupError):
    """A set that a task builds on is not there (any more)."""


@dataclass(frozen=True, kw_only=True)
class TargetSet:
    """The set of one task of one run."""

    dag_id: str
    run_id: str
    task_id: str

    @property
    def table_name(self) -> str:
        """Name of the work table: a digest, so that no id of a run or task can spoil it or be cut off."""
        identity = "\0".join((self.dag_id, self.run_id, self.task_id)).encode()
        return f"set_{hashlib.sha256(identity).hexdigest()[:32]}"

    @property
    def table(self) -> str:
        """The work table as it is written in a statement."""
        return f"campaign_work.{self.table_name}"


@cache
def _statements() -> Environment:
    return Environment(
        loader=FileSystemLoader(SQL_FOLDER / "targeting"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - SQL, of fixed pieces and names that this package makes
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_statement(name: str, **structure: Any) -> str:
    """Return a statement with the names of its tables filled in.

    :param name: the file in ``include/sql/targeting``.
    """
    return _statements().get_template(name).render(structure)


def lay_set(connection: Connection, target: TargetSet, statement: str, binds: dict[str, Any]) -> int:
    """Make the work table of a set from its one statement, in the open transaction, and register it.

    A task that is tried again lays its set anew. What other tasks read is logged: an unlogged table is there
    and empty after a crash of the server, and the delivery would go to nobody.

    :param statement: creates the table.
    :returns: how many recipients are in it.
    """
    connection.execute("SELECT campaign_work.drop_sets(ARRAY[%s])", [target.table_name])
    connection.execute(
        "INSERT INTO campaign_work.target_set (table_name, dag_id, run_id, task_id) VALUES (%s, %s, %s, %s)",
        [target.table_name, target.dag_id, target.run_id, target.task_id],
    )
    # CREATE TABLE AS says how many rows it wrote: nobody need count them again.
    with psycopg.ClientCursor(connection) as cursor:
        row_count = cursor.execute(statement.encode(), binds).rowcount
    connection.execute(f"ANALYZE {target.table}".encode())
    connection.execute(
        "UPDATE campaign_work.target_set SET row_count = %s WHERE table_name = %s",
        [row_count, target.table_name],
    )
    return row_count


def require_sets(connection: Connection, sets: list[TargetSet]) -> None:
    """Check that sets are there.

    :raises MissingSetError: when the task of one did not run, or the run has dropped its sets already.
    """
    present = connection.execute(
        "SELECT table_name FROM campaign_work.target_set WHERE table_name = ANY (%s)",
        [[one.table_name for one in sets]],
    ).fetchall()
    for one in sets:
        if (one.table_name,) not in present:
            raise MissingSetError(
                f"The set of the task {one.task_id} is not there: it did not run, or the run has ended and "
                f"dropped its sets. Clear the whole run {one.run_id}, or start a new one."
            )
