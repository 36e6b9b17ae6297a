"""The database against docs/data-model.md, table by table and column by column; and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.factories import Factory

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "data-model.md"


def contract_columns() -> dict[str, list[str]]:
    """Read the tables and their columns from the page."""
    tables: dict[str, list[str]] = {}
    text = CONTRACT.read_text().split("\n## People", 1)[1].split("\n## Functions", 1)[0]
    bullets = re.split(r"\n- ", re.sub(r"\n  +", " ", text))[1:]
    for bullet in bullets:
        entries = re.split(r" · ", re.sub(r"\n## .*", "", bullet))
        for entry in entries:
            head = re.match(r"`(\w+)`\^?(?: \((?:in|view)\))?(?: \^)?: (.*)", entry.strip(), re.DOTALL)
            if head is None:
                continue
            columns = head[2]
            previous = None
            while previous != columns:
                previous = columns
                columns = re.sub(r"\([^()]*\)", "", columns)
            columns = re.split(r"[;.:]", columns)[0].removesuffix(" owner_may_confirm")
            tables[head[1]] = [
                word
                for part in re.split(r",| or | and ", columns)
                if re.fullmatch(r"[a-z][a-z0-9_]*", word := part.strip().rstrip("^")) and word not in {"neither", "the"}
            ]
    return tables


COLUMNS = contract_columns()


def test_the_page_is_read_whole() -> None:
    assert len(COLUMNS) > 45
    assert COLUMNS["staff"][:3] == ["internal_name", "label", "email"]
    assert COLUMNS["delivery"][-1] == "held_at"
    assert COLUMNS["task"].count("program_id") == 1


@pytest.mark.parametrize("table", COLUMNS)
def test_table_has_the_columns_of_the_contract(db: psycopg.Connection[Any], table: str) -> None:
    found = {
        name
        for (name,) in db.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            [f"campaign.{table}"],
        )
    }
    assert [column for column in COLUMNS[table] if column not in found] == []


def test_program_has_the_columns_of_plan(db: psycopg.Connection[Any]) -> None:
    columns = {
        table: {
            name
            for (name,) in db.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0", [table]
            )
        }
        for table in ("campaign.plan", "campaign.program")
    }
    assert columns["campaign.program"] - columns["campaign.plan"] == {"plan_id"}


@pytest.mark.parametrize(
    "signature",
    [
        "submit_delivery(bigint)",
        "submit_approval(bigint, text)",
        "decide_approval(bigint, bigint, boolean, text)",
        "confirm_delivery(bigint, bigint)",
        "cancel_delivery(bigint, text)",
        "release_delivery(bigint, bigint)",
        "retry_delivery(bigint)",
        "retry_delivery(bigint, bigint)",
    ],
)
def test_function_of_the_contract_exists(db: psycopg.Connection[Any], signature: str) -> None:
    db.execute("SELECT %s::regprocedure", [f"campaign.{signature}"])


def test_types_are_those_of_the_conventions(db: psycopg.Connection[Any]) -> None:
    """Times are timestamptz, entered and computed amounts numeric(18,2), unit amounts numeric(18,5)."""
    wrong = db.execute(
        """
        SELECT class.relname, attribute.attname, format_type(attribute.atttypid, attribute.atttypmod)
        FROM pg_attribute AS attribute
        INNER JOIN pg_class AS class ON attribute.attrelid = class.oid
        WHERE
            class.relnamespace = 'campaign'::regnamespace AND class.relkind = 'r' AND attribute.attnum > 0
            AND (
                (attribute.attname LIKE '%\\_at' AND attribute.atttypid <> 'timestamptz'::regtype)
                OR (attribute.attname LIKE '%\\_on' AND attribute.atttypid <> 'date'::regtype)
                OR (attribute.attname LIKE '%\\_id' AND attribute.atttypid NOT IN ('bigint'::regtype, 'text'::regtype))
                OR (
                    (attribute.attname LIKE '%\\_cost' OR attribute.attname = 'surcharge')
                    AND format_type(attribute.atttypid, attribute.atttypmod) <> 'numeric(18,2)'
                )
            )
        """
    ).fetchall()
    assert wrong == []
    units = db.execute(
        """
        SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod)
        FROM pg_attribute
        WHERE attrelid IN ('campaign.cost_structure'::regclass, 'campaign.cost_threshold'::regclass)
        AND attname LIKE '%amount'
        ORDER BY 1, 2
        """
    ).fetchall()
    assert units == [
        ("campaign.cost_structure", "amount", "numeric(18,5)"),
        ("campaign.cost_structure", "beyond_amount", "numeric(18,5)"),
        ("campaign.cost_threshold", "amount", "numeric(18,5)"),
    ]


def test_every_constraint_speaks_plainly(db: psycopg.Connection[Any]) -> None:
    """PostgreSQL prints the name of the constraint that refuses a row: it must read as a sentence."""
    unreadable = db.execute(
        """
        SELECT constraint_.conrelid::regclass::text, constraint_.conname
        FROM pg_constraint AS constraint_
        INNER JOIN pg_class AS class ON constraint_.conrelid = class.oid
        WHERE
            class.relnamespace = 'campaign'::regnamespace
            AND constraint_.contype IN ('c', 'f', 'u', 'x')
            AND constraint_.conname NOT LIKE '% %'
        """
    ).fetchall()
    assert unreadable == []


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        ("stock_order", {"quantity": 0, "delivery_on": "2026-11-01"}, "the quantity of a stock_order"),
        ("cost_threshold", {"up_to": 0, "amount": 1}, "the up_to of a threshold must be above zero"),
        ("cost_threshold", {"up_to": 10, "amount": -1}, "the amount of a threshold must not be negative"),
        ("delivery", {"campaign_id": None}, "campaign_id"),
        ("delivery", {"channel": "pigeon"}, "a delivery's channel is direct_mail, email, sms or push"),
        ("delivery", {"status": "lost"}, "the status of a delivery is not one of those"),
        ("delivery", {"campaign_id": 999_999}, "a delivery belongs to a campaign"),
        ("delivery", {"requested_quantity": -1}, "requested_quantity must not be negative"),
        ("delivery_cost", {"surcharge": -1}, "the surcharge on a delivery must not be negative"),
        ("campaign", {"kind": "eternal"}, "the kind of a campaign must be unique, recurring or periodic"),
        ("campaign", {"time_zone": "Mars/Olympus"}, "time_zone must be a name of the tz database"),
        ("campaign", {"recurrence": "every day"}, "recurrence must be an RFC 5545 rule"),
        ("task", {"campaign_id": None, "program_id": None}, "a task belongs to a campaign or to a program"),
        ("budget", {"currency": "Euro"}, "currency must be an ISO 4217 code like EUR"),
        ("budget", {"currency": "KWD"}, "amounts have 2 decimals"),
        ("budget", {"allocated": -1}, "the allocated amount must not be negative"),
        ("staff", {"email": "nobody"}, "the email of staff must be one address"),
        ("export_format", {"columns": "[]"}, "columns must be a list of"),
        ("export_format", {"columns": '[{"header": 1, "expression": "x"}]'}, "columns must be a list of"),
        ("cost_structure", {"basis": "per_message", "method": None}, "per_message, and only that, has a method"),
        ("cost_structure", {"basis": "fixed", "amount": None}, "amount is needed unless"),
        ("delivery", {"status": "failed", "failed_from": "banana"}, "failed_from must be a status"),
        ("provider", {"storage_url": "sftp://joe:secret@host/x"}, "storage_url must hold no password"),
        ("provider", {"storage_url": "inbox"}, "storage_url must be a URL"),
        ("approval_policy", {"deadline": "11 years"}, "must not be above ten years"),
        ("invoice", {"status": "paid"}, "paid_at is set when, and only when, the invoice is paid"),
        # One of these would stop a workflow for everybody.
        ("delivery", {"contact_date": "infinity"}, "the dates of a delivery must be in the years 1 to 9999"),
        ("delivery", {"extraction_date": "-infinity"}, "the dates of a delivery must be in the years 1 to 9999"),
        ("delivery", {"real_cost": 10**13}, "the costs of a delivery must be below 10 trillion"),
        ("delivery", {"requested_quantity": 10**12}, "the counts of a delivery must be below a trillion"),
        ("delivery_cost", {"surcharge": 10**13}, "the surcharge on a delivery must be below 10 trillion"),
        ("campaign", {"starts_at": "20000-01-01"}, "the dates of a campaign must be in the years 1 to 9999"),
        ("campaign", {"create_in_advance": "11 years"}, "create_in_advance must be at most 10 years"),
        ("campaign", {"duration": "101 years"}, "the duration of a campaign must be at most 100 years"),
        ("campaign_schedule", {"starts_at": "infinity"}, "a schedule line must start in the years 1 to 9999"),
        ("task", {"real_cost": 10**13}, "the costs of a task must be below 10 trillion"),
        ("budget", {"allocated": 10**13}, "the allocated amount must be below 10 trillion"),
    ],
)
def test_wrong_row_is_refused_with_a_plain_message(
    db: psycopg.Connection[Any], factory: Factory, table: str, columns: dict[str, Any], message: str
) -> None:
    campaign = factory.campaign()
    delivery = factory.delivery(campaign_id=campaign)
    provider = factory.insert("provider", internal_name="printers", label="Printers")
    service = factory.insert("service", internal_name="catalog", label="Catalog", provider_id=provider)
    category = factory.insert("cost_category", service_id=service, label="Print", channel="direct_mail")
    kind = factory.insert("cost_type", cost_category_id=category, label="Catalog")
    other = factory.insert("cost_type", cost_category_id=category, label="Card")
    structure = factory.insert("cost_structure", cost_type_id=kind, basis="fixed", amount=1)
    stock = factory.insert("stock", internal_name="warehouse", label="Warehouse")
    line = factory.insert("stock_line", stock_id=stock, internal_name="paper", label="Paper")
    named = {"internal_name": "x", "label": "X"}
    valid: dict[str, dict[str, Any]] = {
        "stock_order": {"stock_line_id": line},
        "cost_threshold": {"cost_structure_id": structure},
        "cost_structure": {"cost_type_id": other, "amount": 1},
        "delivery": named | {"campaign_id": campaign, "channel": "email"},
        "delivery_cost": {"delivery_id": delivery, "cost_type_id": kind},
        "campaign": named | {"program_id": factory.program()},
        "campaign_schedule": {"campaign_id": campaign},
        "task": named | {"campaign_id": campaign},
        "budget": named,
        "staff": named,
        "provider": named,
        "approval_policy": {"campaign_id": campaign, "kind": "content"},
        "export_format": named,
        "invoice": {"number": "1", "provider_id": provider},
    }
    with pytest.raises(psycopg.errors.IntegrityError, match=re.escape(message)):
        factory.insert(table, **(valid[table] | columns))


def test_budget_linked_to_itself_is_refused_at_any_depth(db: psycopg.Connection[Any], factory: Factory) -> None:
    top = factory.budget()
    middle = factory.budget(parent_id=top)
    bottom = factory.budget(parent_id=middle)
    with pytest.raises(psycopg.errors.IntegrityError, match="a budget must not be linked to itself"):
        db.execute("UPDATE campaign.budget SET parent_id = id WHERE id = %s", [top])
    with pytest.raises(psycopg.Error, match="the links would go round"):
        db.execute("UPDATE campaign.budget SET parent_id = %s WHERE id = %s", [bottom, top])


def test_updated_at_follows_edits(db: psycopg.Connection[Any], factory: Factory) -> None:
    campaign = factory.campaign()
    db.execute("UPDATE campaign.campaign SET updated_at = '2020-01-01', label = 'New' WHERE id = %s", [campaign])
    row = db.execute("SELECT updated_at > now() - interval '1 minute' FROM campaign.campaign").fetchone()
    assert row == (True,)
