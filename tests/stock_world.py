"""A small warehouse for tests: a stock with lines, cost types that use them, and what deliveries do."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

import psycopg

from tests.factories import Factory


class Warehouse:
    """One provider with one service; a cost type per use of a stock line.

    :ivar stock: id of the stock 'Warehouse' (warehouse), in the charge of the staff member ``keeper``.
    """

    def __init__(self, db: psycopg.Connection[Any], factory: Factory) -> None:
        self.db = db
        self.factory = factory
        self.keeper = factory.staff(internal_name="keeper", label="Kim Keeper", email="kim@example.com")
        provider = factory.insert("provider", internal_name="printers", label="The Printers Inc.")
        service = factory.insert("service", provider_id=provider, internal_name="catalog", label="Catalog")
        self.category = factory.insert("cost_category", service_id=service, label="Material", channel="direct_mail")
        self.stock = factory.insert("stock", internal_name="warehouse", label="Warehouse", assigned_to_id=self.keeper)

    numbers = itertools.count(1)

    def line(self, name: str, initial: int = 1000, alert_level: int = 100) -> int:
        """Add a stock line; its label is its name with a capital."""
        return self.factory.insert(
            "stock_line", stock_id=self.stock, internal_name=name, label=name.capitalize(),
            initial_quantity=initial, alert_level=alert_level,
        )  # fmt: skip

    def uses(self, line: int | None, units: float = 1, label: str | None = None) -> int:
        """Add a cost type that takes so many units of a line per message."""
        return self.factory.insert(
            "cost_type", cost_category_id=self.category, stock_line_id=line, units_per_message=units,
            label=label or f"Cost type {next(self.numbers)}",
        )  # fmt: skip

    def delivery(self, *cost_types: int, **columns: Any) -> int:
        """Add a delivery that selects these cost types."""
        delivery = self.factory.delivery(**columns)
        for cost_type in cost_types:
            self.factory.insert("delivery_cost", delivery_id=delivery, cost_type_id=cost_type)
        return delivery

    def extract(self, delivery: int, count: int, moment: datetime) -> None:
        """Do to the row what operationMgt does when it extracted the file."""
        self.db.execute(
            """
            UPDATE campaign.delivery SET status = 'file_to_approve', message_count = %s, extracted_at = %s
            WHERE id = %s
            """,
            [count, moment, delivery],
        )

    def cancel(self, delivery: int, moment: datetime | None) -> None:
        """Cancel the delivery."""
        self.db.execute(
            "UPDATE campaign.delivery SET status = 'canceled', canceled_at = %s WHERE id = %s",
            [moment, delivery],
        )

    def order(self, line: int, day: str, quantity: int, **columns: Any) -> int:
        """Order so many units for a day."""
        return self.factory.insert("stock_order", stock_line_id=line, delivery_on=day, quantity=quantity, **columns)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.db.execute(query, values).fetchall()

    def scalar(self, query: str, *values: Any) -> Any:
        return self.rows(query, *values)[0][0]

    def position(self, line: int) -> tuple[Any, ...]:
        """Return received, consumed, on order, in stock and state of a line."""
        [row] = self.rows(
            """
            SELECT received, consumed, on_order, in_stock, state
            FROM campaign.stock_position WHERE stock_line_id = %s
            """,
            line,
        )
        return row

    def consumption(self) -> list[tuple[Any, ...]]:
        """Return delivery, line, messages, quantity and moment of all consumption lines."""
        return self.rows(
            """
            SELECT delivery_id, stock_line_id, message_count, quantity, consumed_at
            FROM campaign.stock_consumption ORDER BY delivery_id, stock_line_id
            """
        )

    def history(self) -> list[tuple[Any, ...]]:
        """Return day, line, received, consumed, on order, in stock and state of the whole history."""
        return self.rows(
            """
            SELECT as_of::text, stock_line_id, received, consumed, on_order, in_stock, state
            FROM campaign.stock_history ORDER BY as_of, stock_line_id
            """
        )

    def told(self) -> list[tuple[Any, ...]]:
        """Return kind, recipient, line and state of all notifications, in order."""
        return self.rows(
            """
            SELECT kind, recipient_email, facts ->> 'line', facts ->> 'state'
            FROM campaign.notification WHERE source = 'stockMgt' ORDER BY id
            """
        )

    def journal(self, level: str) -> list[str]:
        """Return the messages of a level that stockMgt wrote."""
        return [
            message
            for (message,) in self.rows(
                "SELECT message FROM campaign.journal WHERE source = 'stockMgt' AND level = %s ORDER BY id",
                level,
            )
        ]
