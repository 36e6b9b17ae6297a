"""News from the database: what happened there starts the workflow that has to look.

A statement that leaves work for a workflow notifies the PostgreSQL channel ``campaign_event`` with the
workflow's dag_id (``include/sql/schema/triggers/``). One trigger per workflow listens in Airflow's
triggerer and turns the news into an event of the workflow's asset. News is a hint to look, never the
list of what to do: what is missed, the clock catches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from airflow.sdk import Asset, AssetOrTimeSchedule, AssetWatcher, BaseHook, Connection, CronTriggerTimetable
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from psycopg.conninfo import make_conninfo

CHANNEL = "campaign_event"
# News comes in bursts (a thousand deliveries approved by one script): one run looks at all of it.
SETTLE_SECONDS = 1.0
RECONNECT_SECONDS = 10.0


class CampaignEventTrigger(BaseEventTrigger):
    """Fires when the database has news for a workflow.

    :param dag_id: the workflow to listen for.
    :param conn_id: connection of the campaign database.
    """

    def __init__(self, dag_id: str, conn_id: str = "campaign_db") -> None:
        super().__init__()
        self.dag_id = dag_id
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow needs to build this trigger anew."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"dag_id": self.dag_id, "conn_id": self.conn_id},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each burst of news; reconnect when the database was away."""
        while True:
            try:
                async for event in self._listen():
                    yield event
            except psycopg.OperationalError as error:
                self.log.warning("The campaign database is away, trying again: %s", error)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> AsyncIterator[TriggerEvent]:
        conninfo = _conninfo(await BaseHook.aget_connection(self.conn_id))
        connection = await psycopg.AsyncConnection.connect(
            conninfo, autocommit=True, application_name=f"{self.dag_id}.listen"
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            # What happened while nobody listened: look once.
            yield TriggerEvent({"dag_id": self.dag_id, "news": "connected"})
            while True:
                heard = {notice.payload async for notice in connection.notifies(stop_after=1)}
                # What follows within the moment is part of the same burst.
                heard |= {notice.payload async for notice in connection.notifies(timeout=SETTLE_SECONDS)}
                if self.dag_id in heard:
                    yield TriggerEvent({"dag_id": self.dag_id, "news": "work"})


def announce(*dag_ids: str, conn_id: str = "campaign_db") -> None:
    """Send news to workflows, from outside a transaction of theirs.

    :raises psycopg.OperationalError: when the database is away.
    """
    conninfo = _conninfo(BaseHook.get_connection(conn_id))
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=5) as connection:
        for dag_id in dag_ids:
            connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, dag_id])


def _conninfo(connection: Connection) -> str:
    """Return the libpq form of an Airflow connection, with what its extras say of encryption and the line."""
    extras = {
        name: value
        for name, value in connection.extra_dejson.items()
        if name.startswith(("ssl", "keepalives", "tcp_", "target_session_attrs", "options", "channel_binding"))
    }
    return make_conninfo(
        host=connection.host or None,
        port=connection.port or None,
        user=connection.login or None,
        password=connection.password or None,
        dbname=connection.schema or None,
        # A listener whose line was cut somewhere on the way would wait for ever without these.
        **{"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, **extras},
    )


def workflow_asset(dag_id: str) -> Asset:
    """Return the asset that stands for work waiting for a technical workflow."""
    return Asset(
        name=f"work for {dag_id}",
        uri=f"campaign://work/{dag_id}",
        watchers=[AssetWatcher(name=f"{dag_id}_news", trigger=CampaignEventTrigger(dag_id=dag_id))],
    )


def workflow_schedule(dag_id: str, cron: str) -> AssetOrTimeSchedule:
    """Return the schedule of a technical workflow: at once when there is news, and by the clock.

    :param cron: the safety net, a cron expression in UTC.
    """
    return AssetOrTimeSchedule(timetable=CronTriggerTimetable(cron, timezone="UTC"), assets=[workflow_asset(dag_id)])
