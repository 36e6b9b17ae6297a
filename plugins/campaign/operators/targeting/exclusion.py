"""Exclusion of sets of recipients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from campaign.operators.targeting.base import Source, TargetingRun, TargetOperator
from campaign.targeting.sets import render_statement


class TargetExclusionOperator(TargetOperator):
    """Everybody who is in the first set and in none of the others.

    :param sources: two sets or more: tasks, or their task_ids.
    """

    def __init__(self, *, sources: Sequence[Source], **kwargs: Any) -> None:
        super().__init__(sources=sources, **kwargs)
        if len(self.sources) < 2:
            raise ValueError(f"{self.task_id}: name two sets or more.")

    def statement(self, run: TargetingRun, target: str, sources: list[str]) -> tuple[str, dict[str, Any]]:
        """Return the one statement."""
        return render_statement("exclusion.sql", target=target, sources=sources), {}
