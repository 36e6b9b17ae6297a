"""Some of a set of recipients."""

from __future__ import annotations

from typing import Any

from campaign.operators.targeting.base import Source, TargetingRun, TargetOperator
from campaign.targeting.choice import parse_choice
from campaign.targeting.sets import render_statement


class TargetSampleOperator(TargetOperator):
    """A share or a number of a set: at random but reproducible, or the first in an order.

    The random order depends on the recipient and a salt: the delivery's internal name unless given. The
    same salt chooses the same people again.

    :param source: the set: a task, or its task_id.
    :param share: from 0 to 1.
    :param count: so many, instead of a share.
    :param order_by: a column of recipient or ``attributes.NAME``, instead of at random.
    :param descending: the order from its end.
    :param salt: tells apart samples that must not be the same people.
    """

    def __init__(
        self,
        *,
        source: Source,
        share: float | str | None = None,
        count: int | None = None,
        order_by: str | None = None,
        descending: bool = False,
        salt: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(sources=[source], **kwargs)
        self.share = share
        self.count = count
        self.order_by = order_by
        self.descending = descending
        self.salt = salt

    def statement(self, run: TargetingRun, target: str, sources: list[str]) -> tuple[str, dict[str, Any]]:
        """Return the one statement."""
        choice = parse_choice(
            self.task_id,
            {
                "share": self.share,
                "count": self.count,
                "order_by": self.order_by,
                "descending": self.descending,
            },
        )
        statement = render_statement(
            "sample.sql",
            target=target,
            sources=sources,
            order_by=choice.order_expression,
            descending=choice.descending,
        )
        return statement, {**choice.binds(), "salt": self.salt_of(run)}

    def salt_of(self, run: TargetingRun) -> str:
        """Return what the random order depends on beside the recipient."""
        return self.salt or f"sample:{run.delivery or run.dag_id}"
