"""The first rows of a delivery's file, for people who approve it."""

from __future__ import annotations

from typing import Any

from campaign.database import Connection, execute_statements
from campaign.extraction import ExtractionError
from campaign.extraction.layout import Layout, parse_layout
from campaign.statements import read_statement


def load_facts(connection: Connection, delivery_id: int) -> dict[str, Any]:
    """Return what a delivery's file is made from: one row of ``select_extraction_facts.sql``."""
    statement = read_statement("operation_mgt/select_extraction_facts.sql")
    return execute_statements(connection, statement, {"delivery_id": delivery_id})[0][0]


def layout_of(row: dict[str, Any]) -> Layout:
    """Return the layout of a delivery's file.

    :param row: from :func:`load_facts`.
    :raises ExtractionError: when the delivery has no service or the service no usable export format.
    """
    if row["service_label"] is None:
        raise ExtractionError("The delivery has no service: choose the one that prints it (service_id).")
    if row["export_format"] is None:
        raise ExtractionError(
            f"The service {row['service_label']!r} has no export format: give it one (export_format_id)."
        )
    return parse_layout(row["export_format"], row["facts"])


def preview_file(connection: Connection, delivery_id: int, limit: int = 10) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the first rows of a delivery's file, as its target stands now.

    A file of fixed width has one value a row: its line.

    :raises ExtractionError: when the file could not be made either.
    """
    layout = layout_of(load_facts(connection, delivery_id))
    headings = [layout.header().rstrip("\n")] if layout.is_fixed_width else [heading for heading, *_ in layout.columns]
    rows = connection.execute(layout.query(delivery_id, limit)).fetchall()
    return headings, [["" if value is None else str(value) for value in row] for row in rows]
