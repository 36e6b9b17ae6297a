"""Providers, services and deliveries in routing, for tests of providerMgt."""

from __future__ import annotations

import hashlib
import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from tests.factories import Factory

AS_OF = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
_numbers = itertools.count(1)


class ProviderCase:
    """One campaign with its owner; providers, services and deliveries as a test asks for them.

    :param outbox: the folder where the extraction puts its files.
    """

    def __init__(self, db: psycopg.Connection[Any], factory: Factory, outbox: Path) -> None:
        self.db, self.factory, self.outbox = db, factory, outbox
        self.owner = factory.staff(internal_name="olga", email="olga@example.com")
        self.campaign = factory.campaign(internal_name="loyalty", label="Loyalty", owner_id=self.owner)
        self.format = factory.insert(
            "export_format",
            internal_name="csv",
            label="CSV",
            columns=json.dumps([{"header": "name", "expression": "recipient.first_name"}]),
        )

    def service(self, *, provider: dict[str, Any] | None = None, **columns: Any) -> int:
        """Insert a service with a provider of its own."""
        number = next(_numbers)
        provider_id = self.factory.insert(
            "provider",
            **({"internal_name": f"provider-{number}", "label": f"Printers {number}"} | (provider or {})),
        )
        values = {"internal_name": f"service-{number}", "label": "Catalog", "export_format_id": self.format}
        return self.factory.insert("service", provider_id=provider_id, **(values | columns))

    def delivery(self, service_id: int | None, content: bytes = b"name\nAda\n", **columns: Any) -> int:
        """Insert a delivery in routing, with its extraction file."""
        number = next(_numbers)
        values = {
            "internal_name": f"delivery-{number}",
            "label": f"Catalog {number}",
            "campaign_id": self.campaign,
            "status": "routing",
            "service_id": service_id,
            "contact_date": AS_OF,
        }
        delivery_id = self.factory.delivery(**(values | columns))
        self.extract(delivery_id, content)
        return delivery_id

    def extract(self, delivery_id: int, content: bytes, file_name: str | None = None) -> str:
        """Put a new version of the extraction file of a delivery into the outbox; return its name."""
        [(version,)] = self.db.execute(
            "SELECT coalesce(max(version), 0) + 1 FROM campaign.extraction_file WHERE delivery_id = %s",
            [delivery_id],
        ).fetchall()
        self.db.execute(
            "UPDATE campaign.extraction_file SET status = 'superseded' WHERE delivery_id = %s", [delivery_id]
        )
        name = file_name or f"delivery-{delivery_id}-{version}.csv"
        path = self.outbox / f"{delivery_id}-{version}"
        path.write_bytes(content)
        self.factory.insert(
            "extraction_file",
            delivery_id=delivery_id,
            version=version,
            file_name=name,
            url=f"file://{path}",
            row_count=max(content.count(b"\n") - 1, 0),
            byte_count=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        return name

    def jobs(self, *columns: str) -> list[tuple[Any, ...]]:
        """Return all jobs: delivery, kind, and the columns asked for (status unless said)."""
        wanted = ", ".join(columns or ("status",))
        return self.db.execute(f"SELECT delivery_id, kind, {wanted} FROM campaign.provider_job ORDER BY id").fetchall()

    def deliveries(self, *columns: str) -> list[tuple[Any, ...]]:
        """Return all deliveries: status, or the columns asked for."""
        wanted = ", ".join(columns or ("status",))
        return self.db.execute(f"SELECT {wanted} FROM campaign.delivery ORDER BY id").fetchall()

    def journal(self) -> list[tuple[str, str]]:
        """Return the level and message of every line of the journal."""
        return self.db.execute("SELECT level, message FROM campaign.journal ORDER BY id").fetchall()
