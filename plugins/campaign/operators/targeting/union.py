"""Union of sets of recipients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from campaign.operators.targeting.base import Source, TargetingRun, TargetOperator
from campaign.targeting.sets import render_statement


class TargetUnionOperator(TargetOperator):
    """Everybody who is in any of the sets.

    :param sources: two sets or more: tasks, or their task_ids.
    """

    def __init__(self, *, sources: Sequence[Source], **kwargs: Any) -> None:
        super().__init__(sources=sources, **kwargs)
        if len(self.sources) < 2:
            raise ValueError(f"{self.task_id}: name two sets or more.")

    def statement(self, run: TargetingRun, target: str, sources: list[str]) -> tuple[str, dict[str, Any]]:
        """Return the one statement."""
        return render_statement("union.sql", target=target, sources=sources), {}
