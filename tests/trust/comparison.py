"""Two houses compared: every table of the schema ``campaign``, with names in the place of generated ids."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container
from functools import cache
from typing import Any

import psycopg

# Tables that are left out, each with its reason.
BOOKKEEPING = {
    "technical_run": "says which runs there were: the two houses had other ones",
    "technical_workflow": "what the watch last saw of the workflows",
    "instance": "which database it is",
    "schema_version": "the same by construction",
    "schema_fingerprint": "the same by construction",
    "cost_watermark": "the moment of the last run",
    "budget_history_day": "by which run, as of when, a day was recorded",
    "stock_history_day": "as of when a day was recorded, and a counter",
    "stock_proof": "on which day all positions were last proven",
    "approval_queue": "what the next run looks at; looking more often costs time, and changes nothing",
    "journal": "one line for each change of an amount: compared by what it speaks of, see journal_messages",
    "workflow_incident": "what the watch told",
}
# Columns that are left out of every table that has them.
CLOCK = {
    "id": "generated",
    "created_at": "the time of day at which a row was written",
    "updated_at": "the time of day at which a row was written",
    "run_id": "which run it was",
}
# Columns that are left out of one table.
COLUMNS = {
    ("cost_line", "changed_at"): "the time of day",
    ("cost_total", "computed_at"): "the time of day",
    ("budget_alert", "raised_at"): "as of which run it was raised",
    ("budget_alert", "amount_over"): "how much was charged too much when it was raised",
    ("expense_line", "computed_at"): "the time of day",
    ("expense_line", "frozen_at"): "as of which run it was frozen; with what, is compared",
    ("cost_problem", "first_seen_at"): "as of which run it was seen first",
    ("cost_problem", "told_at"): "as of which run it was told",
    ("notification", "dedupe_key"): "made of ids",
    ("notification", "message_id"): "made of ids",
    ("notification", "sent_at"): "the time of day; whether it was sent is compared",
    ("notification", "body_text"): "rendered from the facts, with links made of ids",
    ("notification", "body_html"): "rendered from the facts, with links made of ids",
    ("delivery_message", "sent_at"): "the time of day; whether it was sent is compared",
    ("delivery_batch", "request_key"): "random",
    ("stock_balance", "revision"): "a counter of changes",
    ("stock_balance", "told_count"): "how often its state changed, as far as runs saw it",
    ("approval", "seal"): "a hash over ids",
}
# Of the facts of a notice: what stood beside its matter when it was written. A workflow that was kept from its work for
# a while writes it later, so that a content is asked for before the target is counted, or the other way round.
# The warnings are compared on the approval, which takes them anew when it is answered.
BESIDE = {"budget", "costs", "cost_total", "targeted_count", "message_count", "exclusions", "warnings"}
# Who stands told of a stock line that runs low, by whichever state it was in when a run saw it.
STOCK_ALERTS = """
    SELECT DISTINCT stock_line.internal_name, notification.recipient_email
    FROM campaign.stock_balance AS balance
    JOIN campaign.stock_line ON balance.stock_line_id = stock_line.id
    JOIN campaign.notification ON notification.facts ->> 'line' = stock_line.label
    WHERE balance.state <> 'ok' AND notification.kind = 'stock_alert' AND notification.sent_at IS NOT NULL ORDER BY 1, 2
"""
# Who stands told of a budget that is charged beyond its allocation.
BUDGET_ALERTS = """
    SELECT DISTINCT budget.internal_name, notification.recipient_email
    FROM campaign.budget_alert AS alert
    JOIN campaign.budget ON alert.budget_id = budget.id
    JOIN campaign.notification ON notification.facts ->> 'budget_name' = budget.internal_name
    WHERE notification.kind = 'budget_overrun' AND notification.sent_at IS NOT NULL ORDER BY 1, 2
"""
# A number that follows one of these words in a text is an id.
ID_IN_TEXT = re.compile(
    r"((?:[Oo]rder|notification|[Jj]ob|approval|file|_job_|job_|/approvals/|/deliveries/|invoice line)[ _]?)\d+"
)


class Names:
    """Replaces the ids of a database by what their rows are called."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self.db = db
        self.row = cache(self._row)

    @cache  # noqa: B019 (as long as the comparison)
    def references(self, table: str) -> dict[str, str]:
        """Return, per column of a table that names a row of another, that table."""
        found = self.db.execute(
            """
            SELECT attribute.attname, target.relname
            FROM pg_constraint AS key
            JOIN pg_class AS target ON key.confrelid = target.oid
            JOIN pg_attribute AS attribute ON key.conrelid = attribute.attrelid AND attribute.attnum = ANY (key.conkey)
            WHERE key.contype = 'f' AND key.conrelid = ('campaign.' || quote_ident(%s))::regclass
            """,
            [table],
        ).fetchall()
        by_name = {f"{name}_id": name for name in self.tables()}
        columns = {
            column for (column,) in self.db.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = ('campaign.' || quote_ident(%s))::regclass", [table]
            )
        }  # fmt: skip
        return {column: name for column, name in by_name.items() if column in columns} | dict(found)

    @cache  # noqa: B019
    def tables(self) -> list[str]:
        """Return the tables of the schema."""
        found = self.db.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'campaign'::regnamespace AND relkind = 'r' ORDER BY 1"
        )
        return [name for (name,) in found]

    def content(self, table: str) -> list[str]:
        """Return the rows of a table as texts without ids and times of day, in order."""
        rows = self.db.execute(f"SELECT to_jsonb(row) FROM campaign.{table} AS row".encode()).fetchall()
        return sorted(json.dumps(self._named(table, row), sort_keys=True) for (row,) in rows)

    def _named(self, table: str, row: dict[str, Any]) -> dict[str, Any]:
        references = self.references(table)
        named = {}
        for column, value in row.items():
            if column in references:
                named[column] = None if value is None else self.row(references[column], value)
            elif column in ("element_id",):
                named[column] = self.row(row.get("level") or row["element"], value)
            elif column in ("first_recipient_id", "last_recipient_id"):
                named[column] = self.row("recipient", value)
            elif column not in CLOCK and (table, column) not in COLUMNS:
                named[column] = _without_ids(value)
        if table in ("notification", "delivery_message"):
            named["is_sent"] = row["sent_at"] is not None
        return named

    def _row(self, table: str, row_id: int) -> str | dict[str, Any]:
        """Return the name of a row: its internal name, its number, or all that it says."""
        found = self.db.execute(
            f"SELECT to_jsonb(row) FROM campaign.{table} AS row WHERE id = %s".encode(), [row_id]
        ).fetchone()
        if found is None:
            return f"no {table}"
        row = found[0]
        for column in ("internal_name", "number"):
            if column in row:
                return str(row[column])
        return self._named(table, row)


def _without_ids(value: Any) -> Any:
    """Return a value without the ids that stand in its texts and objects."""
    if isinstance(value, str):
        return ID_IN_TEXT.sub(r"\1#", value)
    if isinstance(value, list):
        return [_without_ids(one) for one in value]
    if isinstance(value, dict):
        return {key: _without_ids(one) for key, one in value.items() if key != "id" and not key.endswith("_id")}
    return value


def content(db: psycopg.Connection[Any], *, without: frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """Return the whole database by names, bookkeeping aside.

    :param without: more tables to leave out.
    """
    names = Names(db)
    return {table: names.content(table) for table in names.tables() if table not in BOOKKEEPING.keys() | without}


def open_alerts(db: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return of which stock lines and budgets who stands told that there is something wrong."""
    return [alert for query in (STOCK_ALERTS, BUDGET_ALERTS) for alert in db.execute(query).fetchall()]


def notices(rows: list[str], sources: Container[str], *, without: Container[str]) -> Counter[str]:
    """Count the notices of some workflows.

    :param rows: of the table ``notification``, from :func:`content`.
    :param without: facts that are left out.
    """
    found = map(json.loads, rows)
    return Counter(json.dumps(without_facts(row, without), sort_keys=True) for row in found if row["source"] in sources)


def without_facts(row: dict[str, Any], names: Container[str]) -> dict[str, Any]:
    """Return a row of a notice without some of its facts."""
    return row | {"facts": {name: fact for name, fact in row["facts"].items() if name not in names}}


def journal_messages(db: psycopg.Connection[Any]) -> Counter[tuple[str, str, str]]:
    """Count the lines of the journal, without what people changed by hand (source, level, message)."""
    rows = db.execute("SELECT source, level, message FROM campaign.journal WHERE source <> 'edit'").fetchall()
    return Counter((source, level, _without_ids(message)) for source, level, message in rows)


def differences(one: dict[str, list[str]], other: dict[str, list[str]]) -> dict[str, tuple[list[str], list[str]]]:
    """Return per table the rows that only one of two houses has."""
    found = {}
    for table in one.keys() | other.keys():
        only_one = Counter(one.get(table, [])) - Counter(other.get(table, []))
        only_other = Counter(other.get(table, [])) - Counter(one.get(table, []))
        if only_one or only_other:
            found[table] = (sorted(only_one.elements()), sorted(only_other.elements()))
    return found


def describe(different: dict[str, tuple[list[str], list[str]]]) -> str:
    """Say what differs, a few rows of each table."""
    return "\n".join(
        f"{table}: {len(one)} and {len(other)} rows, like\n  " + "\n  ".join([*one[:2], "---", *other[:2]])
        for table, (one, other) in different.items()
    )
