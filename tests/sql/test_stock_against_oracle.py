"""stockMgt against ten lines of Python: random orders, extractions, cancellations and runs, in any order.

What is foreseen and what approvers are warned of is compared too, each with a few lines of its own.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from tests.conftest import Workflow
from tests.factories import Factory
from tests.stock_world import Warehouse

START = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)
# A zone that changes its clocks in the days that are tried, and whose midnight is not that of UTC.
ZONE = ZoneInfo("Europe/Paris")
DAYS = 6
STEPS = 36


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), ZONE)


def end_of(day: date) -> datetime:
    return midnight(day + timedelta(days=1)).astimezone(UTC) - timedelta(seconds=1)


@dataclass
class Ledger:
    """What happened, as the people around the database know it."""

    initial: dict[int, int]
    alert_level: dict[int, int]
    units: dict[int, dict[int, float]] = field(default_factory=dict)
    orders: dict[int, dict[str, Any]] = field(default_factory=dict)
    volumes: dict[int, list[tuple[datetime, int]]] = field(default_factory=dict)
    planned: dict[int, tuple[date, int]] = field(default_factory=dict)

    def position(self, line: int, moment: datetime) -> tuple[int, int, int, int, str]:
        """Return received, consumed, on order, in stock and state of a line at a moment: the oracle."""
        orders = [order for order in self.orders.values() if order["line"] == line]
        due = [order["quantity"] for order in orders if midnight(order["day"]) <= moment]
        received, on_order = sum(due), sum(order["quantity"] for order in orders) - sum(due)
        consumed = 0
        for delivery, volumes in self.volumes.items():
            counts = [count for at, count in volumes if at <= moment]
            consumed += math.ceil(counts[-1] * self.units[delivery].get(line, 0)) if counts else 0
        in_stock = self.initial[line] + received - consumed
        return received, consumed, on_order, in_stock, self.state(line, in_stock)

    def state(self, line: int, in_stock: int) -> str:
        return "insufficient" if in_stock < 0 else "low" if in_stock <= self.alert_level[line] else "ok"

    def need(self, delivery: int, line: int, moment: datetime) -> int:
        """Return what a planned delivery will take of a line, beyond what it took already."""
        counts = [count for at, count in self.volumes[delivery] if at <= moment]
        taken = math.ceil(counts[-1] * self.units[delivery].get(line, 0)) if counts else 0
        return math.ceil(self.planned[delivery][1] * self.units[delivery].get(line, 0)) - taken

    def forecast(self, line: int, moment: datetime) -> tuple[date | None, ...]:
        """Return the day and the delivery for the alert level, and for zero: an oracle too."""
        today = moment.astimezone(ZONE).date()
        arrivals: dict[date, int] = defaultdict(int)
        for order in self.orders.values():
            if order["line"] == line and midnight(order["day"]) > moment:
                arrivals[order["day"]] += order["quantity"]
        moves = [(day, 0, 0, quantity) for day, quantity in arrivals.items()]
        for delivery, (day, _) in self.planned.items():
            if line in self.units[delivery]:
                moves.append((max(day, today), 1, delivery, -self.need(delivery, line, moment)))
        in_stock = self.position(line, moment)[3]
        found: list[Any] = []
        for level in (self.alert_level[line], 0):
            path = [(today, None, in_stock)]
            for day, _, delivery, quantity in sorted(moves):
                path.append((day, delivery or None, path[-1][2] + quantity))
            found += next(((day, delivery) for day, delivery, units in path if units <= level), (None, None))
        return tuple(found)

    def warnings(self, delivery: int, moment: datetime) -> list[str]:
        """Return what an approver of the delivery is told: the third one."""
        positions = {line: self.position(line, moment)[3] for line in self.units[delivery]}
        return [
            f"Stock status 'Line-{list(self.initial).index(line)} (Warehouse (warehouse))' {state} '{in_stock}'"
            for line, in_stock in sorted(positions.items())
            if (state := self.state(line, in_stock)) != "ok"
        ]


class Play:
    """Random events, each done to the database and told to the oracle; time passes between them."""

    def __init__(self, house: Warehouse, run_workflow: Workflow, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311
        self.house = house
        self.run_workflow = run_workflow
        self.now = START
        self.last_run = START - timedelta(days=9)
        self.days_run: set[date] = set()
        self.told: dict[int, list[str]] = {}
        self.state: dict[int, str] = {}
        house.db.execute("UPDATE campaign.setting SET value = to_jsonb(%s::text) WHERE name = 'time_zone'", [ZONE.key])
        self.lines = [house.line(f"line-{number}", 300, 60) for number in range(3)]
        self.units = dict(zip(self.lines, (1, 0.5, 3), strict=True))
        self.cost_types = {line: house.uses(line, units) for line, units in self.units.items()}
        self.ledger = Ledger(dict.fromkeys(self.lines, 300), dict.fromkeys(self.lines, 60))
        self.campaigns = [house.factory.campaign() for _ in range(2)]
        self.online: set[int] = set()

    def play(self) -> None:
        """Do what chance says, then look at everything."""
        for _ in range(STEPS):
            self.now += timedelta(minutes=self.chance.randrange(1, DAYS * 24 * 60 * 2 // STEPS))
            self.chance.choice(
                [
                    self.order,
                    self.move,
                    self.withdraw,
                    self.correct,
                    self.plan,
                    self.extract,
                    self.extract,
                    self.start,
                    self.reselect,
                    self.cancel,
                    self.run,
                    self.run,
                    self.run,
                    self.run_campaign,
                    self.run_past,
                ]
            )()
        self.run()
        self.fill_in()
        self.look()

    def order(self) -> None:
        line, quantity = self.chance.choice(self.lines), self.chance.randrange(1, 200)
        day = (self.now + timedelta(days=self.chance.randrange(-2, 5))).astimezone(ZONE).date()
        # Ordered long ago, so that it is on order at every moment that is looked at.
        order = self.house.order(line, str(day), quantity, ordered_at=START - timedelta(days=99))
        self.ledger.orders[order] = {"line": line, "day": day, "quantity": quantity}

    def move(self) -> None:
        """Move an order that was not received; one that was is refused."""
        if not self.ledger.orders:
            return
        order = self.chance.choice(list(self.ledger.orders))
        day = (self.now + timedelta(days=self.chance.randrange(0, 4))).astimezone(ZONE).date()
        try:
            self.house.db.execute(
                "UPDATE campaign.stock_order SET delivery_on = %s, quantity = quantity + 1 WHERE id = %s",
                [day, order],
            )
        except psycopg.errors.CheckViolation:
            assert self.house.scalar("SELECT received_at FROM campaign.stock_order WHERE id = %s", order)
            return
        self.ledger.orders[order] |= {"day": day, "quantity": self.ledger.orders[order]["quantity"] + 1}

    def withdraw(self) -> None:
        """Delete an order that was not received; one that was is refused."""
        if not self.ledger.orders:
            return
        order = self.chance.choice(list(self.ledger.orders))
        try:
            self.house.db.execute("DELETE FROM campaign.stock_order WHERE id = %s", [order])
        except (psycopg.errors.CheckViolation, psycopg.errors.ForeignKeyViolation):
            assert self.house.rows(
                "SELECT id FROM campaign.stock_order WHERE corrects_id = %s OR (id = %s AND received_at IS NOT NULL)",
                order, order,
            )  # fmt: skip
            return
        del self.ledger.orders[order]

    def correct(self) -> None:
        """Correct an order, with a day of the past or of the future."""
        plain = [key for key, order in self.ledger.orders.items() if "corrects" not in order]
        if not plain:
            return
        order = self.chance.choice(plain)
        left = sum(
            other["quantity"] for key, other in self.ledger.orders.items() if order in (key, other.get("corrects"))
        )
        quantity = self.chance.choice([-1, 1]) * self.chance.randrange(1, 99)
        line = self.ledger.orders[order]["line"]
        day = (self.now + timedelta(days=self.chance.randrange(-2, 3))).astimezone(ZONE).date()
        try:
            correction = self.house.order(
                line, str(day), quantity, corrects_id=order, ordered_at=START - timedelta(days=99)
            )
        except psycopg.errors.CheckViolation:
            assert left + quantity < 0
            return
        self.ledger.orders[correction] = {"line": line, "day": day, "quantity": quantity, "corrects": order}

    def new(self, channel: str, *lines: int) -> int:
        delivery = self.house.delivery(
            *(self.cost_types[line] for line in lines), channel=channel, campaign_id=self.chance.choice(self.campaigns)
        )
        self.ledger.units[delivery] = {line: self.units[line] for line in lines}
        self.ledger.volumes[delivery] = []
        return delivery

    def some_lines(self) -> list[int]:
        return self.chance.sample(self.lines, self.chance.randrange(0, 4))

    def plan(self) -> None:
        """Analyse the target of a delivery, a new one or one whose file was extracted, and fail once on the way."""
        delivery = self.pick_extracted() or self.new("direct_mail", *self.some_lines())
        count = self.chance.randrange(1, 90)
        leaves_at = self.now + timedelta(hours=self.chance.randrange(-50, 200))
        for status, failed_from in (("failed", "extraction_pending"), ("extraction_pending", None)):
            self.house.db.execute(
                "UPDATE campaign.delivery SET status = %s, failed_from = %s, failure = %s, message_count = %s, "
                "extraction_date = %s WHERE id = %s",
                [status, failed_from, failed_from and "No disk", count, leaves_at, delivery],
            )
        self.ledger.planned[delivery] = (leaves_at.astimezone(ZONE).date(), count)

    def pick_extracted(self) -> int | None:
        """Return, now and then, a delivery that was extracted before."""
        extracted = [key for key, volumes in self.ledger.volumes.items() if volumes and volumes[-1][1]]
        extracted = [key for key in extracted if key not in self.online]
        return self.chance.choice(extracted) if extracted and self.chance.random() < 0.4 else None

    def extract(self) -> None:
        """Extract a delivery: one that is planned, one that was extracted before, or a new one."""
        planned = self.chance.choice(list(self.ledger.planned)) if self.ledger.planned else None
        delivery = planned or self.pick_extracted() or self.new("direct_mail", *self.some_lines())
        count = self.ledger.planned.pop(delivery, (None, self.chance.randrange(1, 90)))[1]
        self.house.extract(delivery, count, self.now)
        self.ledger.volumes[delivery].append((self.now, count))
        self.see_warnings(delivery)

    def start(self) -> None:
        """Start an online delivery: from now on it cannot be canceled any more."""
        delivery, count = self.new("email", *self.some_lines()), self.chance.randrange(1, 90)
        self.online.add(delivery)
        self.house.db.execute(
            "UPDATE campaign.delivery SET status = 'in_progress', message_count = %s, started_at = %s WHERE id = %s",
            [count, self.now, delivery],
        )
        self.ledger.volumes[delivery].append((self.now, count))

    def reselect(self) -> None:
        """Select a cost type, or take one away."""
        if not self.ledger.units:
            return
        delivery, line = self.chance.choice(list(self.ledger.units)), self.chance.choice(self.lines)
        if self.ledger.units[delivery].pop(line, None):
            self.house.db.execute("DELETE FROM campaign.delivery_cost WHERE delivery_id = %s AND cost_type_id = %s", [
                delivery, self.cost_types[line],
            ])  # fmt: skip
        else:
            self.house.factory.insert("delivery_cost", delivery_id=delivery, cost_type_id=self.cost_types[line])
            self.ledger.units[delivery][line] = self.units[line]

    def cancel(self) -> None:
        """Cancel a delivery: by mail it takes nothing then; online it had left."""
        open_ones = [key for key, volumes in self.ledger.volumes.items() if volumes and volumes[-1][1]]
        if open_ones:
            delivery = self.chance.choice(open_ones)
            self.house.cancel(delivery, self.now)
            self.ledger.planned.pop(delivery, None)
            if delivery not in self.online:
                self.ledger.volumes[delivery].append((self.now, 0))

    def run(self) -> None:
        """Run as of now, perhaps twice, perhaps in full, perhaps killed after some step before."""
        if self.chance.random() < 0.3:
            self.run_killed()
        self.run_workflow("stockMgt", self.now, full=self.chance.random() < 0.2)
        self.last_run = self.now
        self.days_run.add(self.now.astimezone(ZONE).date())
        for line in self.lines:
            assert self.house.position(line) == self.ledger.position(line, self.now)
            assert self.house.rows(
                "SELECT low_on, delivery_id, empty_on, empty_delivery_id "
                "FROM campaign.stock_forecast_as_of(%s, ARRAY[%s::bigint])",
                self.now, line,
            ) == [self.ledger.forecast(line, self.now)]  # fmt: skip
        self.note_steps()

    def run_campaign(self) -> None:
        """Run for one campaign: what it makes of a line is half the truth, but what it tells is told once."""
        name = self.house.scalar(
            "SELECT internal_name FROM campaign.campaign WHERE id = %s", self.chance.choice(self.campaigns)
        )
        self.run_workflow("stockMgt", self.now, campaign=name, full=self.chance.random() < 0.2)
        self.last_run = self.now
        self.note_steps()

    def note_steps(self) -> None:
        """Note each step between states that people had to be told of, and see that they were."""
        for line in self.lines:
            before, after = self.state.get(line, "ok"), self.house.position(line)[-1]
            rank = ["ok", "low", "insufficient"].index
            if rank(after) > rank(before):
                self.told.setdefault(line, []).append(f"stock_alert {after}")
            elif after == "ok" and before != "ok":
                self.told.setdefault(line, []).append("stock_recovery ok")
            self.state[line] = after
        assert self.notifications() == self.told

    def see_warnings(self, delivery: int) -> None:
        """An approver is told how things are at this moment, whatever stockMgt has done yet."""
        self.house.db.execute("SELECT set_config('campaign.as_of', %s, false)", [self.now.isoformat()])
        assert self.house.scalar("SELECT campaign.stock_warnings(%s)", delivery) == self.ledger.warnings(
            delivery, self.now
        )

    def run_killed(self) -> None:
        """Run as of now up to a trigger that fails in the middle of one step."""
        table = self.chance.choice(
            ["stock_order", "stock_consumption", "stock_balance", "stock_history", "notification"]
        )
        self.house.db.execute(
            f"""
            CREATE FUNCTION campaign.kill() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
            CREATE TRIGGER kill AFTER INSERT OR UPDATE ON campaign.{table}
            FOR EACH ROW EXECUTE FUNCTION campaign.kill()
            """
        )
        try:
            self.run_workflow("stockMgt", self.now)
        except psycopg.OperationalError:
            pass
        finally:
            self.house.db.execute("DROP FUNCTION campaign.kill() CASCADE")

    def run_past(self) -> None:
        """Run as of a moment before the last run: it writes the history of its day and nothing else."""
        moment = self.last_run - timedelta(hours=self.chance.randrange(1, 60))
        self.run_workflow("stockMgt", moment, full=self.chance.random() < 0.2)
        assert self.notifications() == self.told

    def fill_in(self) -> None:
        """Run once as of the end of each day, the days in any order: all agree on what each day was."""
        first = (START - timedelta(days=3)).astimezone(ZONE).date()
        count = (self.now.astimezone(ZONE).date() - first).days
        days = [first + timedelta(days=number) for number in range(count)]
        self.chance.shuffle(days)
        for day in days:
            self.run_workflow("stockMgt", end_of(day))
        expected = {(day, line): self.ledger.position(line, end_of(day)) for day in days for line in self.lines}
        recorded = {
            (day, line): tuple(values)
            for day, line, *values in self.house.rows(
                "SELECT as_of, stock_line_id, received, consumed, on_order, in_stock, state "
                "FROM campaign.stock_history WHERE as_of = ANY(%s)",
                days,
            )
        }
        assert recorded == expected

    def look(self) -> None:
        """The past did not touch the present; nothing was told twice, and no order received twice."""
        for line in self.lines:
            assert self.house.position(line) == self.ledger.position(line, self.now)
        assert self.notifications() == self.told
        assert self.house.journal("error") == []
        received = [message for message in self.house.journal("info") if message.startswith("Order")]
        assert (
            len(received)
            == len(set(received))
            == self.house.scalar("SELECT count(*) FROM campaign.stock_order WHERE received_at IS NOT NULL")
        )
        assert self.house.rows("SELECT * FROM campaign.stock_delivery_queue") == []

    def notifications(self) -> dict[int, list[str]]:
        told: dict[int, list[str]] = {}
        for line, text in self.house.rows(
            """
            SELECT stock_line.id, kind || ' ' || (facts ->> 'state') FROM campaign.notification
            INNER JOIN campaign.stock_line ON stock_line.label = facts ->> 'line' ORDER BY notification.id
            """
        ):
            told.setdefault(line, []).append(text)
        return told


@pytest.mark.parametrize("seed", range(4))
def test_random_sequences(db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, seed: int) -> None:
    Play(Warehouse(db, factory), run_workflow, seed).play()
