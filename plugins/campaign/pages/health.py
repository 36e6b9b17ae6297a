"""What is wrong with the house, for the head of the first page."""

from __future__ import annotations

from campaign.database import Connection, Row
from campaign.pages.database import select


def read_troubles(connection: Connection) -> list[Row]:
    """Return what is wrong with the house, worst first: rows of ``select_troubles.sql``; none is good news."""
    return select(connection, "select_troubles.sql")
