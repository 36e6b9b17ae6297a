"""A month of what people and the systems around do to a house, from a seed."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg

from tests.trust.world import BEGIN, CAMPAIGNS, DAY, HOUR, REVIEWERS, STOCK_LINES, House

# When people have been at work, and the workflows run.
HOURS_OF_A_DAY = (7, 12, 18)
# Each service with its channel.
CHANNELS = (("direct_mail", "catalogs"), ("direct_mail", "letters"), ("email", "mails"), ("sms", "texts"))
# Deeds whose moment nothing records: a run for the past sees them as they are now.
UNDATED = ("change_price", "take_back_payment", "enter_real_cost", "change_level", "withdraw_order", "reopen_task")
DEEDS = (
    ("new_delivery", 8),
    ("cancel_delivery", 1),
    ("edit_content", 1),
    ("order", 2),
    ("move_order", 2),
    ("new_task", 2),
    ("finish_task", 2),
    ("issue_invoice", 2),
    ("pay_invoice", 2),
    ("answer_as_router", 3),
    *((name, 1) for name in UNDATED),
)
# Deeds of a script.
SCRIPTED = (*["new_delivery"] * 5, "cancel_latest", "edit_latest", "order", "move_order", "new_task", "finish_task")


def moments(days: int) -> Iterator[datetime]:
    """Return the moments of a month, in order."""
    for day in range(days):
        yield from moments_of(day)


def moments_of(day: int) -> list[datetime]:
    """Return the moments of a day, counted from the first."""
    return [BEGIN + day * DAY + hour * HOUR for hour in HOURS_OF_A_DAY]


class Month:
    """Acts on a house as people and other systems do, each moment something else, the same for the same seed.

    What it picks, it picks by name from what it finds, so that two houses in the same state get the same deeds.

    :param is_dated: leave out deeds whose moment nothing records (:data:`UNDATED`).
    :cvar finishable: which tasks are finished some day.
    :ivar deeds: how often each was done.
    """

    finishable = "true"

    def __init__(self, house: House, seed: int, *, is_dated: bool = False) -> None:
        self.house = house
        self.random = random.Random(seed)  # noqa: S311
        self.is_dated = is_dated
        self.now = BEGIN
        self.number = 0
        self.deeds: Counter[str] = Counter()
        self.unattached: list[tuple[str, str]] = []
        names, weights = zip(*[deed for deed in DEEDS if not (is_dated and deed[0] in UNDATED)], strict=True)
        self._names, self._weights = names, weights

    def act(self, moment: datetime) -> None:
        """Do what is done until a moment."""
        self._be_at(moment)
        self._answer_approvals()
        self._resubmit_what_was_rejected()
        self._look_after_deliveries()
        for name in self.random.choices(self._names, self._weights, k=3):
            getattr(self, name)()
            self.deeds[name] += 1

    def react(self, moment: datetime) -> None:
        """Do what had to wait for the workflows."""
        self._be_at(moment)
        self.attach_invoices()

    def _be_at(self, moment: datetime) -> None:
        self.now = moment
        self.house.at(moment)

    def attach_invoices(self) -> None:
        """Name invoice lines on the expense lines that were not there when the invoice came."""
        waiting, self.unattached = self.unattached, []
        for delivery, line in waiting:
            self._attach_invoice(delivery, line)

    def _new_name(self, kind: str) -> str:
        self.number += 1
        return f"{kind}-{self.number}"

    def _pick(self, query: str) -> str | None:
        names = [name for (name,) in self.house.rows(query)]
        return self.random.choice(names) if names else None

    def _chance(self, *what: Any) -> float:
        return self.random.random()

    def _call(self, function: str, *values: Any) -> None:
        """Call a function of the contract; what it refuses it refuses in both houses."""
        marks = ", ".join(["%s"] * len(values))
        try:
            self.house.db.execute(f"SELECT campaign.{function}({marks})".encode(), values)
        except psycopg.errors.RaiseException as refusal:
            raise AssertionError(f"{function} raised without a code of its own: {refusal}") from refusal
        except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InsufficientPrivilege):
            self.deeds[f"{function} refused"] += 1
        else:
            self.deeds[function] += 1

    def _answer_approvals(self) -> None:
        pending = self.house.rows(
            """
            SELECT approval.id
            FROM campaign.approval
            JOIN campaign.delivery ON approval.delivery_id = delivery.id
            WHERE approval.status = 'pending' ORDER BY delivery.internal_name, approval.kind, approval.round
            """
        )
        for (approval,) in pending:
            chance, reviewer = self.random.random(), self.random.choice(REVIEWERS)
            if chance < 0.9:
                self._call("decide_approval", approval, self.house.ids[reviewer], chance < 0.83, "seen")

    def _resubmit_what_was_rejected(self) -> None:
        rejected = self.house.rows(
            """
            SELECT latest.delivery_id, latest.kind
            FROM (
                SELECT DISTINCT ON (delivery_id, kind) * FROM campaign.approval
                ORDER BY delivery_id, kind, round DESC
            ) AS latest
            JOIN campaign.delivery ON latest.delivery_id = delivery.id
            WHERE latest.status = 'rejected' ORDER BY delivery.internal_name, latest.kind
            """
        )
        for delivery, kind in rejected:
            if self._chance() < 0.7:
                self._call("submit_approval", delivery, kind)

    def _look_after_deliveries(self) -> None:
        waiting = self.house.rows(
            """
            SELECT id, internal_name, status, held_at IS NOT NULL FROM campaign.delivery
            WHERE
                (status IN ('pending_confirmation', 'failed') OR held_at IS NOT NULL
                OR (status = 'being_edited' AND internal_name LIKE 'fair-%%\\_%%'))
                AND campaign_id IN (SELECT id FROM campaign.campaign WHERE NOT is_template)
                AND NOT is_template
            ORDER BY internal_name
            """
        )
        for delivery, _, status, is_held in waiting:
            if is_held:
                self._call("release_delivery", delivery, self.house.ids["olga"])
            elif status == "failed":
                self._call("retry_delivery", delivery)
            elif status == "being_edited":
                self._call("submit_delivery", delivery)
            elif self._chance() < 0.8:
                self._call("confirm_delivery", delivery, self.house.ids["olga"])

    def open(self) -> None:
        """Make a delivery for each service, due at once, so that a few days show all there is."""
        self._be_at(BEGIN)
        for channel, service in CHANNELS:
            self._deliver(channel, service, within_hours=1)

    def new_delivery(self) -> None:
        """Make a delivery, and submit it."""
        channel = self.random.choice(["direct_mail", "direct_mail", "direct_mail", "email", "email", "sms"])
        service = {"email": "mails", "sms": "texts"}.get(channel) or self.random.choice(["catalogs", "letters"])
        self._deliver(channel, service, within_hours=60)

    def _deliver(self, channel: str, service: str, *, within_hours: int) -> str:
        campaign = self.random.choice(CAMPAIGNS)
        name = self._new_name(channel.replace("_", "-"))
        soon = self.now + timedelta(hours=self.random.randrange(within_hours))
        date = "extraction_date" if channel == "direct_mail" else "contact_date"
        costs = [f"set-up {service}"] if channel == "direct_mail" and self.random.random() < 0.4 else []
        self.house.delivery(
            name, *costs, campaign=campaign, channel=channel, service_id=service,
            workflow_template_id=f"{campaign}-targets", requested_quantity=self.random.choice([0, 0, 25]),
            **{date: soon} | ({} if channel == "direct_mail" else self.house.content(name)),
        )  # fmt: skip
        self._call("submit_delivery", self.house.ids[name])
        return name

    def cancel_delivery(self) -> None:
        """Cancel a delivery, wherever it is."""
        name = self._pick(
            "SELECT internal_name FROM campaign.delivery WHERE NOT is_template AND campaign_id IN"
            " (SELECT id FROM campaign.campaign WHERE NOT is_template)"
            " AND status NOT IN ('finished', 'canceled') ORDER BY 1"
        )
        if name:
            self._call("cancel_delivery", self._id("delivery", name), "no longer wanted")

    def edit_content(self) -> None:
        """Edit what an online delivery says, before or after it was approved."""
        name = self._pick(
            "SELECT internal_name FROM campaign.delivery WHERE channel <> 'direct_mail' AND NOT is_template"
            " AND status IN ('targeting_pending', 'target_ready', 'pending_confirmation') ORDER BY 1"
        )
        if name:
            self.house.db.execute(
                "UPDATE campaign.delivery SET body_text = body_text || '!' WHERE internal_name = %s", [name]
            )

    def order(self) -> None:
        """Order units for one of the next days."""
        self.house.add(
            "stock_order", stock_line_id=self.random.choice(STOCK_LINES), ordered_at=self.now,
            delivery_on=(self.now + timedelta(days=self.random.randrange(1, 6))).date(),
            quantity=self.random.randrange(50, 300),
        )  # fmt: skip

    def _pick_order(self) -> int | None:
        orders = self.house.rows(
            "SELECT id FROM campaign.stock_order WHERE delivery_on > %s ORDER BY id", self.now.date()
        )
        return self.random.choice(orders)[0] if orders else None

    def move_order(self) -> None:
        """Put off an order that has not come."""
        if order := self._pick_order():
            self.house.db.execute(
                "UPDATE campaign.stock_order SET delivery_on = delivery_on + 2 WHERE id = %s", [order]
            )

    def withdraw_order(self) -> None:
        """Take back an order that has not come."""
        if order := self._pick_order():
            self.house.db.execute("DELETE FROM campaign.stock_order WHERE id = %s", [order])

    def new_task(self) -> None:
        """Add a task; one in six selects what has no price.

        None does in months that are compared in any order: such a task keeps what it cost when a run saw it last.
        """
        self.house.task(
            self._new_name("task"), "unpriced" if self.random.random() < 0.15 and not self.is_dated else "room",
            campaign_id=self.random.choice(CAMPAIGNS), days_completed=self.random.randrange(1, 4),
            provisional_cost=None if self.is_dated else self.random.choice([None, 250]),
        )  # fmt: skip

    def finish_task(self) -> None:
        """Finish a task."""
        name = self._pick(
            f"SELECT internal_name FROM campaign.task WHERE status = 'scheduled' AND {self.finishable} ORDER BY 1"
        )
        if name:
            self._set("task", name, status="finished", finished_at=self.now)

    def reopen_task(self) -> None:
        """Find that a task is not finished after all."""
        name = self._pick("SELECT internal_name FROM campaign.task WHERE status = 'finished' ORDER BY 1")
        if name:
            self._set("task", name, status="scheduled", finished_at=None)

    def issue_invoice(self) -> None:
        """Enter the invoice for a delivery that was handed over or sent."""
        delivery = self._pick(
            "SELECT internal_name FROM campaign.delivery WHERE status = 'finished' AND NOT EXISTS ("
            "SELECT 1 FROM campaign.invoice_line WHERE label = delivery.internal_name) ORDER BY 1"
        )
        if delivery:
            self._bill_delivery(self._new_name("invoice"), delivery, self.random.randrange(1000, 9000) / 100)

    def _bill_delivery(self, number: str, delivery: str, amount: float) -> None:
        self.house.add("invoice", number=number, provider_id="printers", status="issued")
        self.house.add("invoice_line", invoice_id=number, label=delivery, amount=round(amount, 2))
        self._attach_invoice(delivery, delivery)

    def _attach_invoice(self, delivery: str, line: str) -> None:
        named = self.house.db.execute(
            """
            UPDATE campaign.expense_line SET invoice_line_id = invoice_line.id
            FROM campaign.delivery, campaign.invoice_line
            WHERE
                expense_line.delivery_id = delivery.id AND delivery.internal_name = %s AND invoice_line.label = %s
            """,
            [delivery, line],
        )
        if not named.rowcount:
            self.unattached.append((delivery, line))

    def pay_invoice(self) -> None:
        """Pay an invoice."""
        number = self._pick("SELECT number FROM campaign.invoice WHERE status = 'issued' ORDER BY 1")
        if number:
            self.house.set("invoice", number, status="paid", paid_at=self.now)

    def take_back_payment(self) -> None:
        """Find that an invoice was not paid after all."""
        number = self._pick("SELECT number FROM campaign.invoice WHERE status = 'paid' ORDER BY 1")
        if number:
            self.house.set("invoice", number, status="issued", paid_at=None)

    def answer_as_router(self) -> None:
        """Answer as the printers do: each row accepted, or not; one answer in six cannot be read."""
        delivery = self._pick(
            """
            SELECT delivery.internal_name
            FROM campaign.provider_answer AS answer
            JOIN campaign.delivery ON answer.delivery_id = delivery.id
            JOIN campaign.service ON answer.service_id = service.id
            WHERE service.internal_name = 'catalogs' AND answer.answered_at IS NULL ORDER BY 1
            """
        )
        if delivery:
            is_readable = self.random.random() >= 0.15
            self._answer(delivery, self._new_name("answer"), is_readable=is_readable)

    def _answer(self, delivery: str, name: str, *, is_readable: bool) -> None:
        lines = ["key,status,reason,printed,posted"]
        keys = self.house.rows(
            "SELECT delivery_id || '-' || recipient_id FROM campaign.delivery_target WHERE role <> 'control'"
            " AND delivery_id = %s ORDER BY recipient_id",
            self._id("delivery", delivery),
        )
        for (key,) in keys:
            is_accepted = self._chance(key.partition("-")[2], delivery) < 0.9
            lines.append(f"{key},accepted,,1,1" if is_accepted else f"{key},rejected,no such street,0,0")
        if not is_readable:
            lines.append("nobody,accepted,,1,1")
        path = self.house.answers / f"{name}.csv"
        path.write_text("\n".join([*lines, ""]))
        os.utime(path, (self.now.timestamp(), self.now.timestamp()))

    def change_price(self) -> None:
        """Change what a cost type costs."""
        self.house.set(
            "cost_structure", self.random.choice(["paper catalogs structure", "room structure", "text structure"]),
            amount=self.random.randrange(1, 900) / 10,
        )  # fmt: skip

    def change_level(self) -> None:
        """Change at which level a campaign is charged, or whether it is."""
        self.house.set(
            "campaign", self.random.choice(CAMPAIGNS),
            **self.random.choice([
                {"commitment_level": self.random.choice(["planned", "reserved", "committed"])},
                {"budget_status": self.random.choice(["being_edited", "defined", "carried_out"])},
            ]),
        )  # fmt: skip

    def enter_real_cost(self) -> None:
        """Enter what a delivery really cost."""
        name = self._pick("SELECT internal_name FROM campaign.delivery WHERE status = 'finished' ORDER BY 1")
        if name:
            self._set("delivery", name, real_cost=self.random.randrange(1000, 9000) / 100)

    def _id(self, table: str, name: str) -> int:
        return int(self.house.rows(f"SELECT id FROM campaign.{table} WHERE internal_name = %s", name)[0][0])

    def _set(self, table: str, name: str, **columns: Any) -> None:
        self.house.set(table, self._id(table, name), **columns)


class Script(Month):
    """The same deeds, whatever the workflows have done by then; what answers them is the same whenever they ask.

    So it plays the same in a house in which they run on time, and in one in which they run late.

    :ivar made: the deliveries that were made at the moment before, and were not canceled.
    """

    # Those of campaigns that operationMgt makes are there when it has run.
    finishable = "starts_with(internal_name, 'task-')"

    def __init__(self, house: House, seed: int) -> None:
        super().__init__(house, seed, is_dated=True)
        self.made: list[str] = []
        self._new: list[str] = []

    def act(self, moment: datetime) -> None:
        """Do what is done until a moment."""
        self.react(moment)
        self.made, self._new = self._new, []
        for deed in self.random.choices(SCRIPTED, k=4):
            getattr(self, deed)()
            self.deeds[deed] += 1

    def react(self, moment: datetime) -> None:
        """Answer whatever the workflows asked or did."""
        self._be_at(moment)
        self._answer_approvals()
        self._resubmit_what_was_rejected()
        self._look_after_deliveries()
        self._answer_as_routers()
        self._bill()

    def _chance(self, *what: Any) -> float:
        """Return what only depends on what it is about: of nothing in particular, that it is done."""
        return random.Random(repr(what)).random() if what else 0.0  # noqa: S311

    def _answer_approvals(self) -> None:
        """Answer all: one in six is rejected first."""
        pending = self.house.rows(
            """
            SELECT
                approval.id, delivery.internal_name, approval.kind,
                EXISTS (
                    SELECT FROM campaign.approval AS before
                    WHERE
                        before.delivery_id = approval.delivery_id AND before.kind = approval.kind
                        AND before.status = 'rejected'
                )
            FROM campaign.approval
            JOIN campaign.delivery ON approval.delivery_id = delivery.id
            WHERE approval.status = 'pending' ORDER BY delivery.internal_name, approval.kind
            """
        )
        for approval, delivery, kind, was_rejected in pending:
            approves = was_rejected or self._chance(delivery, kind) > 1 / 6
            self._call("decide_approval", approval, self.house.ids["rita"], approves, "seen")

    def _answer_as_routers(self) -> None:
        """Answer for each file: one answer in six cannot be read first."""
        waiting = self.house.rows(
            """
            SELECT delivery.internal_name
            FROM campaign.provider_answer AS answer
            JOIN campaign.delivery ON answer.delivery_id = delivery.id
            JOIN campaign.service ON answer.service_id = service.id
            WHERE service.internal_name = 'catalogs' AND answer.answered_at IS NULL ORDER BY 1
            """
        )
        for (delivery,) in waiting:
            was_unreadable = f"unreadable {delivery}" in self.house.ids
            is_readable = was_unreadable or self._chance("answer", delivery) > 1 / 6
            self._answer(delivery, f"answer {is_readable} {delivery}", is_readable=is_readable)
            if not is_readable:
                self.house.ids[f"unreadable {delivery}"] = 0

    def _bill(self) -> None:
        """Bill what was handed over or sent, and pay what was billed before."""
        self.house.db.execute(
            "UPDATE campaign.invoice SET status = 'paid', paid_at = %s WHERE status = 'issued'", [self.now]
        )
        finished = self.house.rows(
            """
            SELECT internal_name FROM campaign.delivery
            WHERE status = 'finished' AND internal_name NOT IN (SELECT label FROM campaign.invoice_line) ORDER BY 1
            """
        )
        for (delivery,) in finished:
            self._bill_delivery(f"invoice {delivery}", delivery, self._chance("amount", delivery) * 90 + 10)
        self.attach_invoices()

    def _deliver(self, channel: str, service: str, *, within_hours: int) -> str:
        self._new.append(super()._deliver(channel, service, within_hours=within_hours))
        return self._new[-1]

    def cancel_latest(self) -> None:
        """Cancel the delivery that was made last: it has not left, wherever it is."""
        if self.made:
            self._call("cancel_delivery", self.house.ids[self.made.pop()], "no longer wanted")

    def edit_latest(self) -> None:
        """Edit what the online delivery says that was made last: it has not been started."""
        online = [name for name in self.made if not name.startswith("direct")]
        if online:
            self.house.db.execute(
                "UPDATE campaign.delivery SET body_text = body_text || '!' WHERE internal_name = %s", [online[-1]]
            )
