"""Rows for tests: each function inserts one row with what the contract demands, and returns its id."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg
from psycopg import sql

_numbers = itertools.count(1)


class Factory:
    """Inserts rows into the schema ``campaign``; what a test does not name gets a plain value.

    ``factory.delivery(campaign_id=1, channel="email")`` returns the id of the new row.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def insert(self, table: str, **columns: Any) -> int:
        """Insert one row of any table; return its id, or 0 where a table has none."""
        statement = sql.SQL("INSERT INTO campaign.{} ({}) VALUES ({}) RETURNING *").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(sql.Placeholder() * len(columns)),
        )
        cursor = self.connection.execute(statement, list(columns.values()))
        assert cursor.description is not None
        row = dict(zip([column.name for column in cursor.description], cursor.fetchone() or (), strict=True))
        return int(row.get("id", 0))

    def _named(self, table: str, columns: dict[str, Any]) -> int:
        name = columns.setdefault("internal_name", f"{table}-{next(_numbers)}")
        columns.setdefault("label", name.replace("-", " ").capitalize())
        return self.insert(table, **columns)

    def staff(self, **columns: Any) -> int:
        """Insert a member of staff."""
        columns.setdefault("internal_name", f"staff-{next(_numbers)}")
        columns.setdefault("email", f"{columns['internal_name']}@example.com")
        return self._named("staff", columns)

    def budget(self, **columns: Any) -> int:
        """Insert a budget of 10,000."""
        columns.setdefault("allocated", 10_000)
        return self._named("budget", columns)

    def program(self, **columns: Any) -> int:
        """Insert a program, in a plan of its own unless one is named."""
        if "plan_id" not in columns:
            columns["plan_id"] = self._named("plan", {})
        return self._named("program", columns)

    def campaign(self, **columns: Any) -> int:
        """Insert a campaign, in a program of its own unless one is named."""
        if "program_id" not in columns:
            columns["program_id"] = self.program()
        return self._named("campaign", columns)

    def delivery(self, **columns: Any) -> int:
        """Insert a direct-mail delivery, in a campaign of its own unless one is named."""
        if "campaign_id" not in columns:
            columns["campaign_id"] = self.campaign()
        columns.setdefault("channel", "direct_mail")
        return self._named("delivery", columns)

    def policy(self, kind: str, *, staff: tuple[int, ...] = (), groups: tuple[int, ...] = (), **columns: Any) -> int:
        """Insert an approval policy with its reviewers."""
        policy = self.insert("approval_policy", kind=kind, **columns)
        for staff_id in staff:
            self.insert("approval_policy_reviewer", approval_policy_id=policy, staff_id=staff_id)
        for group_id in groups:
            self.insert("approval_policy_reviewer", approval_policy_id=policy, staff_group_id=group_id)
        return policy

    def recipient(self, **columns: Any) -> int:
        """Insert a recipient."""
        columns.setdefault("internal_name", f"recipient-{next(_numbers)}")
        return self.insert("recipient", **columns)
