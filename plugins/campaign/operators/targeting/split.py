"""A set of recipients in parts."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from campaign.operators.targeting.base import Source, TargetingRun, TargetOperator
from campaign.targeting.sets import render_statement


class TargetSplitOperator(TargetOperator):
    """Each recipient of a set in one part, at random but reproducible; a later task names a part.

    ``split = TargetSplitOperator(task_id="halves", source=all, shares={"a": 0.5, "b": 0.5})``, then
    ``source=split.part("a")``.

    :param source: the set: a task, or its task_id.
    :param shares: share of each part, together at most 1; who falls into none is left out.
    :param salt: tells apart splits that must not be the same; the delivery's internal name unless given.
    """

    def __init__(self, *, source: Source, shares: dict[str, float], salt: str | None = None, **kwargs: Any) -> None:
        super().__init__(sources=[source], **kwargs)
        if not shares or min(shares.values()) <= 0 or sum(shares.values()) > 1 + 1e-9:
            raise ValueError(f"{self.task_id}: shares must be above zero and together at most 1.")
        if not all(part.isidentifier() for part in shares):
            raise ValueError(f"{self.task_id}: the name of a part must be letters, digits and underscores.")
        self.shares = shares
        self.salt = salt

    def part(self, name: str) -> str:
        """Return a part as the source of another task; the name may be a template."""
        if name not in self.shares and "{{" not in name:
            raise ValueError(f"{self.task_id}: there is no part {name!r}.")
        return f"{self.task_id}/{name}"

    def statement(self, run: TargetingRun, target: str, sources: list[str]) -> tuple[str, dict[str, Any]]:
        """Return the one statement."""
        bounds = list(accumulate(self.shares.values()))
        binds = {
            "parts": list(self.shares),
            "bounds": bounds[:-1],
            "total": bounds[-1],
            "salt": self.salt or f"split:{run.delivery or run.dag_id}",
        }
        return render_statement("split.sql", target=target, sources=sources), binds
