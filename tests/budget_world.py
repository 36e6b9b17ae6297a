"""A small world of campaigns for the tests of budgetMgt: rows in by name, rows out by name."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg


def moment(text: str) -> datetime:
    """Return a moment of November 2026: ``"05 12:00"`` is the fifth at noon, UTC."""
    return datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


class World:
    """Writes rows as the systems around would, and reads what came out."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self.db = db
        self.ids: dict[str, int] = {}

    def add(self, table: str, **columns: Any) -> int:
        """Insert a row; columns named ``x_id`` may be given by the internal name of what they refer to."""
        values = self._resolved(columns)
        query = psycopg.sql.SQL("INSERT INTO campaign.{} ({}) VALUES ({}) RETURNING id").format(
            psycopg.sql.Identifier(table),
            psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, values)),
            psycopg.sql.SQL(", ").join(psycopg.sql.Placeholder() * len(values)),
        )
        row = self.db.execute(query, list(values.values())).fetchone()
        assert row
        name = columns.get("internal_name") or columns.get("label") or columns.get("number")
        if name:
            self.ids[name] = row[0]
        return row[0]

    def _resolved(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Replace names by ids, but for what Airflow knows by names: connections and DAGs."""
        return {
            column: self.ids[value]
            if column.endswith("_id") and isinstance(value, str) and not column.endswith(("conn_id", "dag_id"))
            else value
            for column, value in columns.items()
        }

    def named(self, table: str, name: str, **columns: Any) -> int:
        """Insert a row whose internal name is also its label."""
        return self.add(table, internal_name=name, label=name, **columns)

    def set(self, table: str, name: str | int, **columns: Any) -> None:
        """Update a row."""
        values = self._resolved(columns)
        query = psycopg.sql.SQL("UPDATE campaign.{} SET {} WHERE id = %s").format(
            psycopg.sql.Identifier(table),
            psycopg.sql.SQL(", ").join(
                psycopg.sql.SQL("{} = %s").format(psycopg.sql.Identifier(column)) for column in values
            ),
        )
        changed = self.db.execute(query, [*values.values(), self.ids[name] if isinstance(name, str) else name])
        assert changed.rowcount == 1

    def frame(self, **campaign: Any) -> None:
        """Add a budget of 10,000, a plan, a program, a defined campaign, a provider and two services."""
        self.named("staff", "vera", email="vera@example.com")
        self.named("budget", "marketing", allocated=10000, owner_id="vera")
        self.named("plan", "plan")
        self.named("program", "program", plan_id="plan", budget_id="marketing")
        self.named(
            "campaign",
            "loyalty",
            program_id="program",
            **{"budget_status": "defined", "owner_id": "vera"} | campaign,
        )
        self.named("provider", "printers")
        self.named("service", "print", provider_id="printers")
        self.named("service", "rooms", provider_id="printers")
        for category in ("paper", "postage"):
            self.named("expense_category", category)

    def cost_type(
        self,
        label: str,
        *,
        service: str = "print",
        category: str | None = None,
        channel: str = "email",
        thresholds: tuple[tuple[int, str], ...] = (),
        selected_by_default: bool = False,
        selection_required: bool = False,
        **structure: Any,
    ) -> int:
        """Add a cost type, in a category of its own unless one is named, with its structure if given."""
        category = category or f"{label} category"
        if category not in self.ids:
            self.add(
                "cost_category",
                label=category,
                service_id=service,
                channel=channel,
                selection_required=selection_required,
            )
        self.add("cost_type", label=label, cost_category_id=category, selected_by_default=selected_by_default)
        if structure:
            structure_id = self.add("cost_structure", cost_type_id=label, **structure)
            self.ids[f"{label} structure"] = structure_id
            for up_to, amount in thresholds:
                self.add("cost_threshold", cost_structure_id=structure_id, up_to=up_to, amount=amount)
        return self.ids[label]

    def delivery(self, name: str, *costs: str, campaign: str = "loyalty", **columns: Any) -> int:
        """Add an e-mail delivery of the service 'print' that selects cost types."""
        self.named("delivery", name, campaign_id=campaign, **{"channel": "email", "service_id": "print"} | columns)
        for cost_type in costs:
            self.add("delivery_cost", delivery_id=name, cost_type_id=cost_type)
        return self.ids[name]

    def analysed(self, name: str, *costs: str, messages: int, at: datetime, **columns: Any) -> int:
        """Add a delivery that is analysed."""
        return self.delivery(
            name, *costs, **{"message_count": messages, "analysed_at": at, "status": "target_ready"} | columns
        )

    def task(self, name: str, *costs: str, **columns: Any) -> int:
        """Add a task of the campaign, or of a program, that selects cost types."""
        if "program_id" not in columns:
            columns = {"campaign_id": "loyalty"} | columns
        self.named("task", name, **{"service_id": "rooms"} | columns)
        for cost_type in costs:
            self.add("task_cost", task_id=name, cost_type_id=cost_type)
        return self.ids[name]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.db.execute(query, values).fetchall()

    def cost(self, table: str, name: str) -> Decimal | None:
        """Return the calculated cost of a row."""
        ((cost,),) = self.rows(f"SELECT calculated_cost FROM campaign.{table} WHERE internal_name = %s", name)
        return cost

    def position(self, budget: str = "marketing") -> dict[str, Decimal]:
        """Return the amounts of a budget that are not zero."""
        names = ("planned", "reserved", "committed", "spent", "invoiced")
        (row,) = self.rows(
            f"SELECT {', '.join(names)} FROM campaign.budget_position WHERE budget_id = %s", self.ids[budget]
        )
        return {name: amount for name, amount in zip(names, row, strict=True) if amount}

    def lines(self) -> list[tuple[Any, ...]]:
        """Return the cost lines: element, budget, category, level, amount."""
        return self.rows(
            """
            SELECT coalesce(d.internal_name, t.internal_name, c.internal_name), b.internal_name,
                e.internal_name, l.level, l.amount
            FROM campaign.cost_line l JOIN campaign.budget b ON b.id = l.budget_id
            LEFT JOIN campaign.delivery d ON d.id = l.delivery_id
            LEFT JOIN campaign.task t ON t.id = l.task_id
            LEFT JOIN campaign.campaign c ON c.id = l.campaign_id
            LEFT JOIN campaign.expense_category e ON e.id = l.expense_category_id
            ORDER BY 1, 2, 3, 4
            """
        )

    def items(self, delivery: str) -> list[tuple[Any, ...]]:
        """Return the split of a delivery: structure's cost type, kind, quantity, amount, explanation."""
        return self.rows(
            """
            SELECT y.label, i.kind, i.quantity, i.amount, i.explanation
            FROM campaign.expense_item i JOIN campaign.expense_line l ON l.id = i.expense_line_id
            JOIN campaign.cost_structure s ON s.id = i.cost_structure_id
            JOIN campaign.cost_type y ON y.id = s.cost_type_id
            LEFT JOIN campaign.delivery d ON d.id = l.delivery_id
            LEFT JOIN campaign.task t ON t.id = l.task_id
            WHERE coalesce(d.internal_name, t.internal_name) = %s ORDER BY 1, 2
            """,
            delivery,
        )

    def differences(self) -> list[tuple[Any, ...]]:
        """Return the totals that are not the sum of what is below them."""
        return self.rows("SELECT * FROM campaign.total_difference")

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all that budgetMgt writes, to compare two runs; without ids of runs."""
        return {
            table: self.rows(f"SELECT to_jsonb(t) - 'updated_at' FROM campaign.{table} t ORDER BY 1::text")
            for table in (
                "expense_line",
                "expense_item",
                "cost_line",
                "cost_total",
                "budget_charge",
                "budget_history",
                "budget_alert",
                "cost_problem",
                "delivery",
                "task",
                "campaign",
                "program",
                "plan",
                "notification",
                "journal",
                "cost_watermark",
                "budget_history_day",
                "cost_change",
            )
        }
