"""How many of a set are chosen, and in which order: samples and control groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from campaign.targeting import TargetingParameterError
from campaign.targeting.criteria import BOOLEAN_COLUMNS, TEXT_COLUMNS
from campaign.targeting.values import decimal, storable, whole_number

KEYS = ("share", "count", "order_by", "descending")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A share or a number of a set; at random but reproducible, or the first in an order.

    :param share: from 0 to 1, rounded to a whole number of recipients.
    :param count: so many; with fewer in the set, all of them.
    :param order_by: a column of recipient, or ``attributes.NAME``; None is the random order.
    :param descending: the order from its end.
    """

    share: Decimal | None = None
    count: int | None = None
    order_by: str | None = None
    descending: bool = False

    @property
    def order_expression(self) -> str | None:
        """The order as SQL; the name of an attribute is the bind ``order_attribute``."""
        if self.order_by is None:
            return None
        if self.order_by.startswith("attributes."):
            # A null in an attribute is as missing as no attribute: last.
            return "nullif(recipient.attributes -> %(order_attribute)s::text, 'null')"
        collation = "" if self.order_by in BOOLEAN_COLUMNS or self.order_by == "id" else ' COLLATE "C"'
        return f"recipient.{self.order_by}{collation}"

    def binds(self) -> dict[str, Any]:
        """Values of the statement that chooses."""
        attribute = (self.order_by or "").removeprefix("attributes.")
        return {"share": self.share, "count": self.count, "order_attribute": attribute}


def parse_choice(key: str, value: Mapping[str, Any]) -> Choice:
    """Check a choice as it stands in the parameters of a run, like ``{"share": 0.1}``.

    :raises TargetingParameterError: when it has the wrong form.
    """
    example = f'{key}: must be {{"share": 0.1}} or {{"count": 100}}, and may have an "order_by".'
    if not isinstance(value, Mapping) or not set(value) <= set(KEYS):
        raise TargetingParameterError(example)
    share, count, order_by = value.get("share"), value.get("count"), value.get("order_by")
    if (share is None) == (count is None):
        raise TargetingParameterError(example)
    if share is not None:
        share = decimal(f"{key}.share", share)
        if not 0 <= share <= 1:
            raise TargetingParameterError(f"{key}.share: {share} must be from 0 to 1.")
    if count is not None:
        count = whole_number(f"{key}.count", count)
    if order_by is not None and not _is_order(order_by):
        raise TargetingParameterError(
            f"{key}.order_by: {order_by!r} must be a column of recipient, or attributes.NAME."
        )
    descending = value.get("descending") or False
    if not isinstance(descending, bool):
        raise TargetingParameterError(f"{key}.descending: {descending!r} must be true or false.")
    return Choice(share=share, count=count, order_by=order_by, descending=descending)


def _is_order(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    storable("order_by", name)
    return name in ("id", *TEXT_COLUMNS, *BOOLEAN_COLUMNS) or (
        name.startswith("attributes.") and len(name) > len("attributes.")
    )
