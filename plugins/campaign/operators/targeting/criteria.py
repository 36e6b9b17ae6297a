"""A set of recipients by criteria that stand in the parameters of the run."""

from __future__ import annotations

from typing import Any

from campaign.database import Connection
from campaign.operators.targeting.base import TargetingRun, TargetOperator
from campaign.operators.targeting.recipient_list import require_lists
from campaign.targeting.criteria import parse_criteria
from campaign.targeting.sets import render_statement


class TargetCriteriaOperator(TargetOperator):
    """The recipients that meet all criteria of the run: purchases, columns and attributes, lists.

    Everything that a person wrote is checked, and its values are bound. Purchases after the day of
    ``as_of`` do not count.
    """

    def check(self, connection: Connection, run: TargetingRun) -> None:
        """Refuse a list that does not exist."""
        criteria = parse_criteria(run.parameters)
        require_lists(connection, [*criteria.lists, *criteria.exclude_lists])

    def statement(self, run: TargetingRun, target: str, sources: list[str]) -> tuple[str, dict[str, Any]]:
        """Return the one statement."""
        criteria = parse_criteria(run.parameters)
        statement = render_statement(
            "criteria.sql",
            target=target,
            conditions=criteria.conditions,
            purchase_conditions=criteria.purchase_conditions,
            purchase_join="INNER" if criteria.needs_a_purchase else "LEFT",
            lists=criteria.lists,
            exclude_lists=criteria.exclude_lists,
        )
        binds = {
            "as_of": run.as_of,
            "lists": criteria.lists,
            "exclude_lists": criteria.exclude_lists,
            **criteria.binds,
        }
        return statement, binds
