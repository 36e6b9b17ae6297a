"""What budgetMgt must come to, in plain Python: domain.md read aloud, one element at a time.

Reads only what people enter. Remembers the split of what it has seen finished.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import psycopg
from psycopg.rows import dict_row

Key = tuple[str, int]
Line = tuple[int, int | None, str, Decimal]  # budget, category, level, amount
ZERO = Decimal("0.00")


class ConfigurationError(Exception):
    """The element cannot be calculated."""


def rounded(exact: Fraction, decimals: int) -> Decimal:
    """Round half away from zero; nothing here is negative."""
    scaled = exact * 10**decimals
    whole = scaled.numerator // scaled.denominator
    if scaled - whole >= Fraction(1, 2):
        whole += 1
    return (Decimal(whole) / 10**decimals).quantize(Decimal("0.01"))


def price(  # noqa: C901 (a branch for each row of the table of cost structures)
    structure: dict[str, Any], bands: list[tuple[int, Decimal]], messages: int, days: Decimal
) -> Fraction:
    """Return the exact cost by a structure."""
    amount = Fraction(structure["amount"] or 0)
    if structure["basis"] == "fixed":
        return amount
    if structure["basis"] == "per_day":
        return amount * Fraction(days)
    if messages == 0:
        return Fraction(0)
    if structure["method"] == "linear":
        if structure["whole_batches"]:
            return amount * -(-messages // structure["batch_size"])
        return amount * messages / structure["batch_size"]
    beyond = structure["beyond_amount"]
    if structure["method"] == "graduated":
        total, done = Fraction(0), 0
        for up_to, unit in [*bands, (None, beyond)]:
            count = (messages if up_to is None else min(messages, up_to)) - done
            if count > 0:
                if unit is None:
                    raise ConfigurationError
                total += Fraction(unit) * count
                done += count
        return total
    unit = next((unit for up_to, unit in bands if messages <= up_to), beyond)
    if unit is None:
        raise ConfigurationError
    return Fraction(unit) * (messages if structure["method"] == "linear_by_threshold" else 1)


class Oracle:
    """Knows what every amount must be after a run as of a moment."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self.db = db
        self.frozen: dict[Key, list[tuple[int | None, Decimal]]] = {}
        self.kept: dict[Key, tuple[Decimal, list[Line]]] = {}
        self.cost: dict[Key, Decimal] = {}
        self.lines: dict[Key, list[Line]] = {}

    def table(self, name: str) -> dict[int, dict[str, Any]]:
        with self.db.cursor(row_factory=dict_row) as cursor:
            return {row["id"]: row for row in cursor.execute(f"SELECT * FROM campaign.{name} ORDER BY id")}

    def run(self, as_of: datetime) -> None:
        """Calculate everything as of a moment."""
        self.as_of = as_of
        for name in (
            "budget",
            "plan",
            "program",
            "campaign",
            "delivery",
            "task",
            "delivery_cost",
            "task_cost",
            "cost_breakdown",
            "cost_structure",
            "cost_threshold",
            "cost_type",
            "cost_category",
            "invoice",
            "invoice_line",
            "expense_line",
        ):
            setattr(self, f"_{name}", self.table(name))
        previous, self.cost, self.lines = self.cost, {}, {}
        previous_lines = self.kept
        for kind, rows in (("delivery", self._delivery), ("task", self._task)):
            for row in rows.values():
                key = (kind, row["id"])
                try:
                    self.element(kind, row)
                except ConfigurationError:
                    self.cost[key] = previous.get(key, ZERO)
                    self.lines[key] = previous_lines.get(key, (ZERO, []))[1]
        for row in self._campaign.values():
            self.campaign(row)
        self.upper()
        self.kept = {key: (self.cost.get(key, ZERO), lines) for key, lines in self.lines.items()}

    def past(self, moment: datetime | None, *, is_state: bool) -> bool:
        return is_state and (moment is None or moment <= self.as_of)

    def entered(self, kind: str, row: dict[str, Any], which: str) -> tuple[Decimal | None, dict[int, Decimal]]:
        parts = {
            part["expense_category_id"]: part["amount"]
            for part in self._cost_breakdown.values()
            if part[f"{kind}_id"] == row["id"] and part["kind"] == which
        }
        cost = row[f"{which}_cost"]
        return (sum(parts.values()) if cost is None and parts else cost), parts

    def element(self, kind: str, row: dict[str, Any]) -> None:
        key = (kind, row["id"])
        campaign = self._campaign.get(row["campaign_id"])
        program = self._program[campaign["program_id"] if campaign else row["program_id"]]
        chain = [row, *([campaign] if campaign else []), program]
        budget = next((link["budget_id"] for link in chain if link["budget_id"]), None)
        decimals = 0 if budget and self._budget[budget]["currency"] == "JPY" else 2
        canceled = self.past(row["canceled_at"], is_state=row["status"] == "canceled") or bool(
            campaign and self.past(campaign["canceled_at"], is_state=campaign["status"] == "canceled")
        )
        finished = self.past(row["finished_at"], is_state=row["status"] == "finished")
        if not finished:
            self.frozen.pop(key, None)
        real, real_parts = self.entered(kind, row, "real")
        provisional, provisional_parts = self.entered(kind, row, "provisional")
        analysed = (
            kind == "delivery"
            and row["message_count"] is not None
            and (row["analysed_at"] is not None and row["analysed_at"] <= self.as_of)
        )
        parts: list[tuple[int | None, Decimal]]
        if canceled and not finished:
            total, parts = ZERO, []
        elif finished or analysed:
            parts = self.split(key, row, decimals, finished=finished)
            total = sum((amount for _, amount in parts), ZERO)
        else:
            total = provisional if provisional is not None else ZERO
            parts = self.spread(total, provisional_parts)
        if real is not None:
            total, parts = real, self.spread(real, real_parts)
        self.cost[key] = total
        level = row["commitment_level"] or (campaign["commitment_level"] if campaign else "planned")
        if finished or canceled:
            level = "spent"
        invoice = self.paid_invoice(kind, row)
        if invoice is not None:
            # Only the amount per level and budget is compared for these.
            level, parts = "invoiced", [(None, invoice)]
        charged = budget is not None and (campaign is None or campaign["budget_status"] != "being_edited")
        self.lines[key] = self.as_lines(budget, level, parts) if charged else []

    def paid_invoice(self, kind: str, row: dict[str, Any]) -> Decimal | None:
        for line in self._expense_line.values():
            if line[f"{kind}_id"] == row["id"] and line["invoice_line_id"]:
                invoice_line = self._invoice_line[line["invoice_line_id"]]
                invoice = self._invoice[invoice_line["invoice_id"]]
                if invoice["status"] == "paid" and invoice["paid_at"] <= self.as_of:
                    return invoice_line["amount"]
        return None

    @staticmethod
    def spread(total: Decimal, parts: dict[int, Decimal]) -> list[tuple[int | None, Decimal]]:
        return [*parts.items(), (None, total - sum(parts.values()))]

    @staticmethod
    def as_lines(budget: int, level: str, parts: list[tuple[int | None, Decimal]]) -> list[Line]:
        sums: dict[int | None, Decimal] = defaultdict(lambda: ZERO)
        for category, amount in parts:
            sums[category] += amount
        return [(budget, category, level, amount) for category, amount in sums.items() if amount]

    def split(
        self, key: Key, row: dict[str, Any], decimals: int, *, finished: bool
    ) -> list[tuple[int | None, Decimal]]:
        kind, _ = key
        if key in self.frozen:
            return self.frozen[key]
        table = self._delivery_cost if kind == "delivery" else self._task_cost
        chosen = {
            cost["cost_type_id"]: (cost["surcharge"], cost["expense_category_id"])
            for cost in table.values()
            if cost[f"{kind}_id"] == row["id"]
        }
        for category in self._cost_category.values():
            channel = row["channel"] if kind == "delivery" else "task"
            if category["service_id"] != row["service_id"] or category["channel"] != channel:
                continue
            types = [t for t in self._cost_type.values() if t["cost_category_id"] == category["id"]]
            if not any(t["id"] in chosen for t in types):
                chosen |= {t["id"]: (ZERO, None) for t in types if t["selected_by_default"]}
            if category["selection_required"] and not any(t["id"] in chosen for t in types):
                raise ConfigurationError
        parts = []
        for cost_type, (surcharge, category_id) in chosen.items():
            structure = next((s for s in self._cost_structure.values() if s["cost_type_id"] == cost_type), None)
            if structure is None:
                raise ConfigurationError
            bands = sorted(
                (t["up_to"], t["amount"])
                for t in self._cost_threshold.values()
                if t["cost_structure_id"] == structure["id"]
            )
            exact = price(structure, bands, row.get("message_count") or 0, row.get("days_completed") or Decimal(0))
            parts += [
                (category_id, rounded(exact, decimals)),
                (category_id, rounded(Fraction(surcharge), decimals)),
            ]
        if finished:
            self.frozen[key] = parts
        return parts

    def campaign(self, row: dict[str, Any]) -> None:
        key = ("campaign", row["id"])
        keys = [
            (kind, element["id"])
            for kind, rows in (("delivery", self._delivery), ("task", self._task))
            for element in rows.values()
            if element["campaign_id"] == row["id"]
        ]
        below = sum((self.cost[element] for element in keys), ZERO)
        real, real_parts = self.entered("campaign", row, "real")
        provisional, provisional_parts = self.entered("campaign", row, "provisional")
        canceled = self.past(row["canceled_at"], is_state=row["status"] == "canceled")
        finished = self.past(row["ends_at"], is_state=row["status"] == "finished")
        fixed = row["fixed_cost"] or ZERO
        parts: dict[int, Decimal] = {}
        if real is not None:
            total = real
            parts = {} if keys else real_parts
        elif canceled:
            total = below
        elif row["budget_status"] == "being_edited":
            expected = ZERO
            for kind, element in keys:
                element_row = (self._delivery if kind == "delivery" else self._task)[element]
                gone = self.past(element_row["canceled_at"], is_state=element_row["status"] == "canceled")
                expected += ZERO if gone else self.entered(kind, element_row, "provisional")[0] or ZERO
            total = provisional if provisional is not None else expected
        elif fixed or keys:
            total = fixed + below
        else:
            total = provisional or ZERO
            parts = provisional_parts
        self.cost[key] = total
        budget = row["budget_id"] or self._program[row["program_id"]]["budget_id"]
        level = "spent" if finished or canceled else row["commitment_level"]
        own = self.spread(total - below, parts)
        charged = budget is not None and row["budget_status"] != "being_edited"
        self.lines[key] = self.as_lines(budget, level, own) if charged else []

    def upper(self) -> None:
        for row in self._program.values():
            below = [self.cost["campaign", c["id"]] for c in self._campaign.values() if c["program_id"] == row["id"]]
            below += [self.cost["task", t["id"]] for t in self._task.values() if t["program_id"] == row["id"]]
            self.cost["program", row["id"]] = self.total(row, below)
        for row in self._plan.values():
            below = [self.cost["program", p["id"]] for p in self._program.values() if p["plan_id"] == row["id"]]
            self.cost["plan", row["id"]] = self.total(row, below)

    @staticmethod
    def total(row: dict[str, Any], below: list[Decimal]) -> Decimal:
        if row["real_cost"] is not None:
            return row["real_cost"]
        return sum(below, ZERO) if below else row["provisional_cost"] or ZERO

    def expected(self) -> dict[str, Any]:
        """Return what must stand in the database."""
        positions: dict[tuple[int, str], Decimal] = defaultdict(lambda: ZERO)
        lines = []
        for key, element_lines in self.lines.items():
            for budget, category, level, amount in element_lines:
                positions[budget, level] += amount
                if level != "invoiced":
                    lines.append((*key, budget, category or 0, level, amount))
        return {
            "costs": {key: cost for key, cost in self.cost.items() if cost},
            "positions": {key: amount for key, amount in positions.items() if amount},
            "lines": sorted(lines),
        }

    def actual(self) -> dict[str, Any]:
        """Return what stands in the database."""
        with localcontext():
            costs = {
                (name, row["id"]): row["calculated_cost"]
                for name in ("delivery", "task", "campaign", "program", "plan")
                for row in self.table(name).values()
                if row["calculated_cost"]
            }
        positions, lines = {}, []
        for budget, *amounts in self.db.execute(
            "SELECT budget_id, planned, reserved, committed, spent, invoiced FROM campaign.budget_position"
        ):
            for level, amount in zip(("planned", "reserved", "committed", "spent", "invoiced"), amounts, strict=True):
                if amount:
                    positions[budget, level] = amount
        for line in self.table("cost_line").values():
            if line["level"] == "invoiced":
                continue
            kind = "delivery" if line["delivery_id"] else "task" if line["task_id"] else "campaign"
            lines.append(
                (
                    kind,
                    line["delivery_id"] or line["task_id"] or line["campaign_id"],
                    line["budget_id"],
                    line["expense_category_id"] or 0,
                    line["level"],
                    line["amount"],
                )
            )
        return {"costs": costs, "positions": positions, "lines": sorted(lines)}
