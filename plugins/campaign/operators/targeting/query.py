"""A set of recipients by a query of the team."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from campaign.operators.targeting.base import TargetingRun, TargetOperator
from campaign.targeting.sets import render_statement


class TargetQueryOperator(TargetOperator):
    """The recipients whose ids a query returns in its first column.

    The query may use ``%(as_of)s::timestamptz``, ``%(delivery)s::text`` and the values of ``parameters``;
    a literal % is doubled. Seed addresses are left out.

    :param sql: a SELECT, or an ``.sql`` file below ``include/sql``. (templated)
    :param parameters: values for its binds. (templated)
    """

    template_fields: Sequence[str] = ("sources", "sql", "parameters")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "postgresql", "parameters": "json"}

    def __init__(self, *, sql: str, parameters: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.parameters = parameters

    def statement(self, run: TargetingRun, target: str, sources: list[str]) -> tuple[str, dict[str, Any]]:
        """Return the one statement."""
        query = self.sql.strip().removesuffix(";")
        binds = {"as_of": run.as_of, "delivery": run.delivery, **(self.parameters or {})}
        return render_statement("query.sql", target=target, query=query), binds
