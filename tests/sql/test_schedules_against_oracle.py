"""A month of clock, moved hour by hour with outages, against dateutil and thirty lines of Python."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from dateutil.rrule import rrulestr
from psycopg.types.json import Jsonb

from campaign.database import execute_statements
from campaign.statements import read_statement
from tests.conftest import Workflow
from tests.factories import Factory

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Both zones change their clocks in the month that is tried.
BEGIN = datetime(2026, 10, 12, 0, 0, tzinfo=UTC)
HOURS = 31 * 24
STEPS = ("plan_schedules", "serve_schedules", "advance_campaigns", "create_workflows")


@dataclass
class Oracle:
    """What ought to become of the lines of one campaign."""

    kind: str
    starts: list[datetime]
    advance: timedelta
    missed_starts: str
    cap: int
    made: list[datetime] = field(default_factory=list)
    started: set[datetime] = field(default_factory=set)
    skipped: set[datetime] = field(default_factory=set)
    last_run: datetime | None = None

    def run(self, now: datetime) -> None:
        """One run: miss, serve at most as many as the cap says, start what is due."""
        due = [start for start in self.starts if start <= now and start not in self.skipped]
        waiting = [
            start
            for start in due
            if start not in self.made
            or (self.kind == "recurring" and start not in self.started and start > (self.last_run or BEGIN - DAY))
        ]
        if self.missed_starts != "run_all":
            for start in waiting:
                if start < now - HOUR and (self.missed_starts == "skip" or start < max(due)):
                    self.skipped.add(start)
        to_serve = [
            start
            for start in self.starts
            if start <= now + self.advance and start not in self.made and start not in self.skipped
        ]
        self.made += to_serve[: self.cap]
        self.started |= {start for start in self.made if start <= now and start not in self.skipped}
        self.last_run = now


def local_starts(rule: str, zone: str, first: datetime, end: datetime) -> set[datetime]:
    """Return the starts of a rule until an end, by dateutil in local time."""
    naive = first.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    found = rrulestr(rule, dtstart=naive).replace(until=end.replace(tzinfo=None) + 2 * DAY)
    moments = {moment.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for moment in found}
    return {moment for moment in moments if moment <= end}


RULES = [
    ("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "Europe/Paris"),
    ("FREQ=DAILY;BYHOUR=1,13;BYMINUTE=30", "America/New_York"),
    ("FREQ=WEEKLY;BYDAY=MO,TH", "Europe/Paris"),
    ("FREQ=MONTHLY;BYDAY=-1FR", "America/New_York"),
    ("FREQ=HOURLY;INTERVAL=7", "Europe/Paris"),
    ("FREQ=DAILY;INTERVAL=3", "UTC"),
]


class World:
    """Campaigns in the database, and what ought to become of them."""

    def __init__(self, db: psycopg.Connection[Any], factory: Factory, chance: random.Random) -> None:
        self.db, self.oracles = db, {}
        end = BEGIN + HOURS * HOUR + 30 * DAY
        db.execute("UPDATE campaign.setting SET value = '1000' WHERE name = 'workflows_at_once'")
        program = factory.program()
        for number in range(18):
            kind = "periodic" if number % 3 == 2 else "recurring"
            missed_starts = ("run_all", "latest", "skip")[number // 6]
            rule, zone = RULES[number % 6]
            first = BEGIN + timedelta(minutes=chance.randrange(0, 10 * 24 * 60))
            advance = chance.choice([0 * DAY, 5 * HOUR, DAY, 4 * DAY]) if kind == "recurring" else 0 * DAY
            cap = chance.choice([2, 100])
            ends_at = chance.choice([None, first + timedelta(hours=chance.randrange(100, 700))])
            campaign = factory.campaign(
                internal_name=f"c{number}", program_id=program, kind=kind, is_template=kind == "periodic",
                starts_at=first, recurrence=rule, time_zone=zone, missed_starts=missed_starts,
                create_in_advance=advance, creation_cap=cap, ends_at=ends_at, duration="2 days",
            )  # fmt: skip
            template = factory.insert(
                "workflow_template", internal_name=f"t{number}", label=f"T{number}", campaign_id=campaign,
                dag_id="campaignTargeting", conf=Jsonb({}),
            )  # fmt: skip
            factory.delivery(
                internal_name=f"d{number}", campaign_id=campaign, is_template=True, workflow_template_id=template
            )
            starts = local_starts(rule, zone, first, ends_at or end)
            for _ in range(3):
                entered = BEGIN + timedelta(minutes=chance.randrange(0, HOURS * 60))
                factory.insert("campaign_schedule", campaign_id=campaign, starts_at=entered)
                if ends_at is None or entered <= ends_at:
                    starts.add(entered)
            self.oracles[campaign] = Oracle(kind, sorted(starts), advance, missed_starts, cap)

    def check(self) -> None:
        """Compare all lines with the oracle."""
        found: dict[int, dict[str, Any]] = {
            campaign: {"made": [], "started": set(), "skipped": set()} for campaign in self.oracles
        }
        lines = self.db.execute(
            """
            SELECT
                line.campaign_id, line.starts_at, line.skipped_at IS NOT NULL, line.created_campaign_id,
                workflow.number, workflow.label, workflow.status
            FROM campaign.campaign_schedule AS line
            LEFT JOIN campaign.workflow ON line.workflow_id = workflow.id
            ORDER BY coalesce(workflow.number, line.created_campaign_id), line.starts_at
            """
        ).fetchall()
        for campaign, start, is_skipped, created, number, label, status in lines:
            mine = found[campaign]
            if number is not None or created is not None:
                mine["made"].append(start)
                if number is not None:
                    assert (number, label.rpartition(" - #")[2]) == (len(mine["made"]), str(number))
            if is_skipped:
                mine["skipped"].add(start)
                assert status in (None, "canceled")
            elif created is not None or status == "queued":
                mine["started"].add(start)
        for campaign, oracle in self.oracles.items():
            expected = {"made": oracle.made, "started": oracle.started, "skipped": oracle.skipped}
            assert found[campaign] == expected, (campaign, oracle.kind, oracle.missed_starts)


@pytest.mark.parametrize("seed", [1, 2])
def test_month_of_clock_with_outages_and_kills(
    db: psycopg.Connection[Any], dsn: str, factory: Factory, run_workflow: Workflow, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    world = World(db, factory, chance)

    def run(now: datetime, name: str, killed_at: str | None = None) -> None:
        """Do the steps as a run does, each in its transaction under the lock; a killed one rolls back."""
        with psycopg.connect(dsn) as connection:
            for step in STEPS:
                connection.execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended('campaign.workflow:operationMgt', 0)),"
                    " set_config('campaign.as_of', %s, true)", [now.isoformat()],
                )  # fmt: skip
                connection.execute(
                    "INSERT INTO campaign.technical_run (dag_id, run_id, as_of) VALUES ('operationMgt', %s, %s)"
                    " ON CONFLICT DO NOTHING", [name, now],
                )  # fmt: skip
                binds = {
                    "as_of": now, "campaign": None, "full": False, "run_id": name, "dag_id": "operationMgt",
                    "is_past": False,
                }  # fmt: skip
                execute_statements(connection, read_statement(f"operation_mgt/{step}.sql"), binds)
                if step == killed_at:
                    connection.rollback()
                    return
                connection.commit()

    now, number = BEGIN - DAY, 0
    while now < BEGIN + HOURS * HOUR:
        now += HOUR if chance.random() < 0.93 else chance.randrange(2, 60) * HOUR
        number += 1
        how = chance.random()
        if how < 0.1:
            # Killed in the middle, and taken up again: the same run, as Airflow's retry does it.
            run(now, f"run {number}", killed_at=chance.choice(STEPS))
            run(now, f"run {number}")
        elif how < 0.2:
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda name, moment=now: run(moment, name), [f"run {number}", f"backfill {number}"]))
        else:
            run(now, f"run {number}")
        for oracle in world.oracles.values():
            # What is above the cap is served by a second run, where there is one.
            oracle.run(now)
            if 0.1 <= how < 0.2:
                oracle.run(now)
        if number % 20 == 0:
            world.check()
    world.check()
    made = sum(len(oracle.made) for oracle in world.oracles.values())
    skipped = sum(len(oracle.skipped) for oracle in world.oracles.values())
    assert made > 300
    assert skipped > 20
