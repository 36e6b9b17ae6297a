"""What is wrong with the house, for the head of the first page."""

from __future__ import annotations

from campaign.database import Connection, Row
from campaign.pages.database import select


def read_troubles(connection: Connection) -> list[Row]:
    """Return what is wrong with the house, worst first: rows of ``select_troubles.sql``; none is good news.

    A database without the view has nobody who watches, and so no such news.
    """
    found = connection.execute("SELECT to_regclass('campaign.house_health') IS NOT NULL").fetchone()
    return select(connection, "select_troubles.sql") if found and found[0] else []
