"""A set of recipients by lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from campaign.database import Connection
from campaign.operators.targeting.base import TargetingRun, TargetOperator
from campaign.targeting import TargetingParameterError
from campaign.targeting.sets import render_statement


class TargetListOperator(TargetOperator):
    """The members of any of the recipient lists.

    :param lists: internal names of the lists. (templated)
    """

    template_fields: Sequence[str] = ("sources", "lists")

    def __init__(self, *, lists: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lists = lists

    def check(self, connection: Connection, run: TargetingRun) -> None:
        """Refuse a list that does not exist: it would be an empty one, in silence."""
        require_lists(connection, list(self.lists))

    def statement(self, run: TargetingRun, target: str, sources: list[str]) -> tuple[str, dict[str, Any]]:
        """Return the one statement."""
        statement = render_statement("list.sql", target=target, is_several=len(self.lists) > 1)
        return statement, {"lists": list(self.lists)}


def require_lists(connection: Connection, lists: list[str]) -> None:
    """Check that recipient lists exist.

    :raises TargetingParameterError: when one does not.
    """
    missing = connection.execute(
        """
        SELECT string_agg(wanted.name, ', ')
        FROM unnest(%s::text[]) AS wanted (name)
        WHERE NOT EXISTS (
            SELECT 1 FROM campaign.recipient_list WHERE recipient_list.internal_name = wanted.name
        )
        """,
        [lists],
    ).fetchone()
    if missing and missing[0]:
        raise TargetingParameterError(f"There is no recipient list {missing[0]}.")
