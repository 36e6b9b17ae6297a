"""Deliveries that a router was given, and the answers that it puts into its folder."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from tests.factories import Factory
from tests.provider_case import AS_OF, ProviderCase

LATER = AS_OF + timedelta(minutes=5)


class ReturnCase(ProviderCase):
    """A service whose router takes files from a folder, and puts its answers into another.

    :param folder: has ``inbox`` and ``answers``.
    """

    def __init__(self, db: psycopg.Connection[Any], factory: Factory, folder: Path) -> None:
        for name in ("outbox", "inbox", "answers"):
            (folder / name).mkdir()
        super().__init__(db, factory, folder / "outbox")
        self.inbox, self.answers = folder / "inbox", folder / "answers"

    def returning(self, **columns: Any) -> int:
        """Insert a service that answers."""
        values = {"returns_url": f"file://{self.answers}", "label": "Letters"}
        provider = {"label": "Nordtryck", "storage_url": f"file://{self.inbox}"}
        return self.service(provider=provider, **(values | columns))

    def handed(self, service_id: int, count: int = 4, seeds: int = 0, **columns: Any) -> tuple[int, list[str]]:
        """Insert a delivery in routing with its target; return its id, and the key of each row, seeds last."""
        content = b"name\n" + b"Ada\n" * (count + seeds)
        values = {"message_count": count, "analysed_at": AS_OF - timedelta(days=1)}
        delivery_id = self.delivery(service_id, content, **(values | columns))
        self.db.execute(
            """
            WITH one AS (
                INSERT INTO campaign.recipient (internal_name)
                SELECT format('r-%%s-%%s', %(delivery)s::bigint, number) FROM generate_series(1, %(rows)s) AS number
                ORDER BY number
                RETURNING id
            ),
            placed AS (SELECT id, row_number() OVER (ORDER BY id) AS place FROM one)
            INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role)
            SELECT %(delivery)s, id, CASE WHEN place <= %(count)s THEN 'main' ELSE 'seed' END FROM placed
            """,
            {"delivery": delivery_id, "rows": count + seeds, "count": count},
        )
        found = self.db.execute(
            "SELECT recipient_id FROM campaign.delivery_target WHERE delivery_id = %s ORDER BY 1", [delivery_id]
        )
        return delivery_id, [f"{delivery_id}-{recipient_id}" for (recipient_id,) in found]

    def answer(self, name: str, content: str | bytes, written_at: datetime = AS_OF) -> Path:
        """Put an answer into the router's folder, as last written at a moment."""
        path = self.answers / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(path, (written_at.timestamp(), written_at.timestamp()))
        return path

    def returns(self, *columns: str) -> list[tuple[Any, ...]]:
        """Return the files that are known: name, status, and the columns asked for."""
        wanted = ", ".join(("file_name", "status", *columns))
        return self.db.execute(f"SELECT {wanted} FROM campaign.provider_return ORDER BY id").fetchall()

    def quantities(self, *columns: str) -> list[tuple[Any, ...]]:
        """Return what is known per delivery."""
        wanted = ", ".join(columns or ("extracted", "accepted", "rejected", "printed", "posted", "state"))
        return self.db.execute(f"SELECT {wanted} FROM campaign.delivery_quantity ORDER BY delivery_id").fetchall()
