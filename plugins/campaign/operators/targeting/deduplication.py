"""One recipient of each group that shares a key."""

from __future__ import annotations

from typing import Any

from campaign.operators.targeting.base import Source, TargetingRun, TargetOperator
from campaign.targeting.choice import parse_choice
from campaign.targeting.sets import render_statement

# What two recipients are compared by: without case, spaces and punctuation. Nothing left is no key.
_PLAIN = "nullif(translate(lower({}), E' \\t.,;:\\'\"-/|', ''), '')"
_PLACE = "recipient.address1, recipient.postal_code, recipient.city, recipient.country"
KEYS = {
    "email": "nullif(lower(trim(recipient.email)), '')",
    "phone": "nullif(translate(recipient.phone, ' .-/()', ''), '')",
    "push_token": "nullif(trim(recipient.push_token), '')",
    "address": _PLAIN.format(f"concat_ws('|', recipient.last_name, recipient.first_name, {_PLACE})"),
    "household": _PLAIN.format(f"concat_ws('|', recipient.last_name, {_PLACE})"),
}


class TargetDeduplicationOperator(TargetOperator):
    """One recipient of each group with the same key; who has no key stays.

    :param source: the set: a task, or its task_id.
    :param key: ``email``, ``phone``, ``push_token``, ``address`` (name and address) or ``household``
        (last name and address), compared without case, spaces and punctuation.
    :param keep_first_by: which one is kept: the first by this column of recipient or ``attributes.NAME``,
        then by id.
    :param descending: the last one instead.
    """

    def __init__(
        self,
        *,
        source: Source,
        key: str,
        keep_first_by: str | None = None,
        descending: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(sources=[source], **kwargs)
        if key not in KEYS:
            raise ValueError(f"{self.task_id}: key must be one of {', '.join(KEYS)}.")
        self.key = key
        self.keep_first_by = keep_first_by
        self.descending = descending

    def statement(self, run: TargetingRun, target: str, sources: list[str]) -> tuple[str, dict[str, Any]]:
        """Return the one statement."""
        order = parse_choice("keep_first_by", {"count": 1, "order_by": self.keep_first_by})
        statement = render_statement(
            "deduplication.sql",
            target=target,
            sources=sources,
            key=KEYS[self.key],
            order_by=order.order_expression,
            descending=self.descending,
        )
        return statement, order.binds()
