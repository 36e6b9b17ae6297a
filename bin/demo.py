"""Plays a campaign through on the running stack, and shows each step while it happens.

    bin/env python bin/demo.py [--campaign INTERNAL_NAME]

The five workflows do the work, on Airflow's scheduler. This script does what people would: it submits the
campaign's deliveries and answers the approvals, through the SQL functions that people's tools call. Then it
watches. All that it shows is read from the database, so it can be stopped and started at any time: it goes
on where the campaign stands, and a campaign that is done is only summed up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from embedded.state import PROJECT, State

WORKFLOWS = ("budgetMgt", "stockMgt", "deliveryMgt", "operationMgt", "providerMgt")
POLL_SECONDS = 0.5
SAY_WAITING_AFTER = 15.0
# No step of the sample takes minutes; then something is broken that waiting does not mend.
GIVE_UP_AFTER = 600.0

WAITING_FOR = {
    "being_edited": "a person to submit it",
    "targeting_pending": "operationMgt to run its targeting workflow",
    "target_ready": "deliveryMgt, or the approvals that it asks for (content, target, budget)",
    "extraction_pending": "operationMgt to extract the file",
    "extracting": "operationMgt to finish the file",
    "file_to_approve": "deliveryMgt, or the approval of the file",
    "proof_to_submit": "deliveryMgt to submit the proof",
    "proof_to_validate": "the approval of the proof",
    "routing": "providerMgt: file, mail and post-processing at the provider",
    "finished": "budgetMgt and stockMgt to book it",
}


class DemoError(Exception):
    """The demo cannot go on; the text says why and what to do."""


class Demo:
    """One campaign, watched from submission to the end."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]], campaign: str) -> None:
        self.connection = connection
        self.campaign = campaign
        self.begun = time.monotonic()
        self.last_news = self.begun
        self.last_said = self.begun
        self.statuses: dict[int, str] = {}
        self.journal_seen = self._one("SELECT coalesce(max(id), 0) AS id FROM campaign.journal")["id"]

    def play(self) -> None:
        """Submit what is being edited, answer what is asked, and show what happens until all is done."""
        if self._is_done():
            self._say("All is done already: this campaign was played before. make clean starts over.")
            return
        if self._submit_deliveries() == 0:
            self._say("Resuming where the campaign stands.")
        while True:
            self._show_journal()
            self._show_statuses()
            self._answer_approvals()
            if self._is_done():
                self._show_journal()
                return
            self._say_what_it_waits_for()
            time.sleep(POLL_SECONDS)

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.begun:6.1f} s] {text}", flush=True)
        self.last_said = time.monotonic()

    def _all(self, query: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
        return self.connection.execute(query, parameters).fetchall()

    def _one(self, query: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> dict[str, Any]:
        [row] = self._all(query, parameters)
        return row

    def _deliveries(self) -> list[dict[str, Any]]:
        return self._all(
            """
            SELECT delivery.id, delivery.label, delivery.status, delivery.failure, delivery.finished_at
            FROM campaign.delivery AS delivery
            INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
            WHERE campaign.internal_name = %s AND delivery.channel = 'direct_mail' AND NOT delivery.is_template
            ORDER BY delivery.id
            """,
            [self.campaign],
        )

    def _submit_deliveries(self) -> int:
        submitted = [delivery for delivery in self._deliveries() if delivery["status"] == "being_edited"]
        for delivery in submitted:
            self.connection.execute("SELECT campaign.submit_delivery(%s)", [delivery["id"]])
            self._say(f"The owner submits '{delivery['label']}'.")
        return len(submitted)

    def _show_journal(self) -> None:
        lines = self._all(
            """
            SELECT journal.id, journal.level, journal.source, journal.message
            FROM campaign.journal AS journal
            WHERE journal.id > %s
            ORDER BY journal.id
            """,
            [self.journal_seen],
        )
        for line in lines:
            mark = "" if line["level"] == "info" else f"{line['level'].upper()}: "
            self._say(f"{line['source']:12} {mark}{line['message']}")
            self.journal_seen = line["id"]
            self.last_news = time.monotonic()

    def _show_statuses(self) -> None:
        for delivery in self._deliveries():
            before = self.statuses.get(delivery["id"])
            if delivery["status"] == before:
                continue
            self.statuses[delivery["id"]] = delivery["status"]
            self.last_news = time.monotonic()
            came_from = f"{before.replace('_', ' ')} -> " if before else ""
            self._say(f"'{delivery['label']}': {came_from}{delivery['status'].replace('_', ' ')}")
            if delivery["status"] == "failed":
                raise DemoError(
                    f"'{delivery['label']}' failed: {delivery['failure'] or 'see the journal'}\n"
                    "Mend it, then SELECT campaign.retry_delivery(id), and run make demo again."
                )

    def _answer_approvals(self) -> None:
        """Answer as the first reviewer would; a mail that asks has been written to each of them."""
        waiting = self._all(
            """
            SELECT approval.id, approval.kind, delivery.label, reviewer.staff_id, reviewer.name, approval.warnings
            FROM campaign.approval AS approval
            INNER JOIN campaign.delivery AS delivery ON approval.delivery_id = delivery.id
            INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
            CROSS JOIN LATERAL (
                SELECT staff.id AS staff_id, staff.label AS name
                FROM campaign.approval_reviewer AS named
                INNER JOIN campaign.staff AS staff ON named.staff_id = staff.id
                INNER JOIN campaign.notification AS request
                    ON request.staff_id = staff.id AND request.kind = 'approval_request'
                    AND request.facts ->> 'approval_id' = approval.id::text
                WHERE named.approval_id = approval.id AND request.sent_at IS NOT NULL
                ORDER BY staff.id
                LIMIT 1
            ) AS reviewer
            WHERE campaign.internal_name = %s AND approval.status = 'pending'
            ORDER BY approval.id
            """,
            [self.campaign],
        )
        for approval in waiting:
            for warning in approval["warnings"]:
                self._say(f"{approval['name']} reads a warning: {warning}")
            self._say(f"{approval['name']} has the mail, and approves the {approval['kind']} of '{approval['label']}'.")
            self.connection.execute(
                "SELECT campaign.decide_approval(%s, %s, true, 'Approved in the demo')",
                [approval["id"], approval["staff_id"]],
            )

    def _is_done(self) -> bool:
        deliveries = self._deliveries()
        if not deliveries:
            raise DemoError(f"The campaign '{self.campaign}' has no direct-mail delivery to play.")
        if any(delivery["status"] not in ("finished", "canceled") for delivery in deliveries):
            return False
        unbooked = self._one(
            """
            SELECT
                (
                    SELECT count(*)
                    FROM campaign.delivery AS delivery
                    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
                    INNER JOIN campaign.expense_line AS line ON delivery.id = line.delivery_id
                    LEFT JOIN campaign.cost_line AS spent
                        ON delivery.id = spent.delivery_id AND spent.level IN ('spent', 'invoiced')
                    WHERE campaign.internal_name = %(campaign)s AND spent.id IS NULL AND line.cost_total > 0
                    AND line.budget_id IS NOT NULL AND campaign.budget_status <> 'being_edited'
                ) AS costs,
                (
                    SELECT count(*)
                    FROM campaign.notification AS notification
                    LEFT JOIN campaign.campaign AS campaign ON notification.campaign_id = campaign.id
                    WHERE notification.sent_at IS NULL AND notification.failed_at IS NULL
                    AND coalesce(campaign.internal_name, %(campaign)s) = %(campaign)s
                ) AS mails
            """,
            {"campaign": self.campaign},
        )
        return unbooked == {"costs": 0, "mails": 0}

    def _say_what_it_waits_for(self) -> None:
        now = time.monotonic()
        if now - self.last_news > GIVE_UP_AFTER:
            raise DemoError(
                f"Nothing has happened for {GIVE_UP_AFTER / 60:.0f} minutes. Look for failed runs in the Airflow UI "
                "and in the logs of the state folder; then run make demo again: it goes on from here."
            )
        if now - self.last_said > SAY_WAITING_AFTER:
            for delivery in self._deliveries():
                reason = WAITING_FOR.get(delivery["status"], "its workflow")
                self._say(f"... '{delivery['label']}' waits for {reason}, {now - self.last_news:.0f} s now")

    def summarise(self, state: State) -> None:
        """Print what came out: costs, stock, files at the router, mails, the journal's last lines."""
        self._print_costs()
        self._print_stock()
        self._print_files(state)
        self._print_mails(state)
        self._print_journal()

    def _print_costs(self) -> None:
        _title(f"What the campaign '{self.campaign}' cost")
        lines = self._all(
            """
            SELECT
                budget.label AS budget, budget.currency, cost_line.level,
                coalesce(category.label, '(no category)') AS category, sum(cost_line.amount) AS amount
            FROM campaign.cost_line AS cost_line
            INNER JOIN campaign.campaign AS campaign ON cost_line.campaign_id = campaign.id
            INNER JOIN campaign.budget AS budget ON cost_line.budget_id = budget.id
            LEFT JOIN campaign.expense_category AS category ON cost_line.expense_category_id = category.id
            WHERE campaign.internal_name = %s
            GROUP BY budget.label, budget.currency, cost_line.level, category.label
            ORDER BY budget.label, cost_line.level, category.label
            """,
            [self.campaign],
        )
        for line in lines:
            print(f"  {line['level']:10} {line['category']:20} {line['amount']:>12} {line['currency']}")
        positions = self._all(
            """
            SELECT DISTINCT
                budget.label, budget.currency, position.allocated, position.planned, position.reserved,
                position.committed, position.spent, position.invoiced, position.available
            FROM campaign.budget_position AS position
            INNER JOIN campaign.budget AS budget ON position.budget_id = budget.id
            INNER JOIN campaign.cost_line AS cost_line ON budget.id = cost_line.budget_id
            INNER JOIN campaign.campaign AS campaign ON cost_line.campaign_id = campaign.id
            WHERE campaign.internal_name = %s
            """,
            [self.campaign],
        )
        for position in positions:
            amounts = ", ".join(
                f"{name} {position[name]}"
                for name in ("planned", "reserved", "committed", "spent", "invoiced")
                if position[name]
            )
            print(
                f"  Budget '{position['label']}': allocated {position['allocated']}, {amounts}, "
                f"available {position['available']} {position['currency']}"
            )
        total = self._one("SELECT calculated_cost FROM campaign.campaign WHERE internal_name = %s", [self.campaign])
        print(f"  Calculated cost of the campaign: {total['calculated_cost']}")

    def _print_stock(self) -> None:
        _title("Stock before and after")
        lines = self._all(
            """
            SELECT
                stock_line.label, position.in_stock, position.alert_level, position.on_order, position.state,
                sum(consumption.quantity)::bigint AS consumed
            FROM campaign.stock_consumption AS consumption
            INNER JOIN campaign.campaign AS campaign ON consumption.campaign_id = campaign.id
            INNER JOIN campaign.stock_line AS stock_line ON consumption.stock_line_id = stock_line.id
            INNER JOIN campaign.stock_position AS position ON stock_line.id = position.stock_line_id
            WHERE campaign.internal_name = %s
            GROUP BY stock_line.label, position.in_stock, position.alert_level, position.on_order, position.state
            ORDER BY stock_line.label
            """,
            [self.campaign],
        )
        for line in lines:
            print(
                f"  {line['label']:24} {line['in_stock'] + line['consumed']:>8} - {line['consumed']:>8} "
                f"= {line['in_stock']:>8}  {line['state']} (alert level {line['alert_level']}, "
                f"on order {line['on_order']})"
            )

    def _print_files(self, state: State) -> None:
        _title("Files at the router")
        files = self._all(
            """
            SELECT file.file_name, file.row_count, file.byte_count, file.sha256, provider.label AS provider,
                provider.storage_url
            FROM campaign.extraction_file AS file
            INNER JOIN campaign.delivery AS delivery ON file.delivery_id = delivery.id
            INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
            INNER JOIN campaign.service AS service ON delivery.service_id = service.id
            INNER JOIN campaign.provider AS provider ON service.provider_id = provider.id
            WHERE campaign.internal_name = %s AND file.status = 'current'
            """,
            [self.campaign],
        )
        for file in files:
            print(f"  {file['file_name']} at {file['provider']} ({file['storage_url']})")
            print(f"    {file['row_count']} rows, {file['byte_count']} bytes, SHA-256 {file['sha256']}")
            for found in sorted(state.router.rglob(file["file_name"])):
                print(f"    {found}")

    def _print_mails(self, state: State) -> None:
        _title(f"Mails sent (kept in {state.mail})")
        mails = self._all(
            """
            SELECT notification.subject, count(*) AS count,
                string_agg(notification.recipient_email, ', ' ORDER BY notification.recipient_email) AS recipients
            FROM campaign.notification AS notification
            LEFT JOIN campaign.campaign AS campaign ON notification.campaign_id = campaign.id
            WHERE notification.sent_at IS NOT NULL AND coalesce(campaign.internal_name, %(campaign)s) = %(campaign)s
            GROUP BY notification.subject
            ORDER BY min(notification.sent_at)
            """,
            {"campaign": self.campaign},
        )
        for mail in mails:
            print(f"  {mail['subject']}\n    to {mail['recipients']}")

    def _print_journal(self) -> None:
        _title("The journal's last lines")
        lines = self._all("SELECT at, level, source, message FROM campaign.journal ORDER BY id DESC LIMIT 8")
        for line in reversed(lines):
            print(f"  {line['at']:%H:%M:%S} {line['level']:7} {line['source']:12} {line['message']}")


def _title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def unpause_workflows(state: State) -> None:
    """Unpause the five through Airflow's API, as a person does in the UI; wait until Airflow knows them."""
    ui = f"http://127.0.0.1:{state.ports()['ui']}"
    login = {"username": "admin", "password": state.secrets()["ui_passwords"]["admin"]}
    token = _call("POST", f"{ui}/auth/token", login)["access_token"]
    for dag_id in WORKFLOWS:
        deadline = time.monotonic() + 180
        while True:
            try:
                _call("PATCH", f"{ui}/api/v2/dags/{dag_id}", {"is_paused": False}, token)
                break
            except urllib.error.HTTPError as error:
                if error.code != 404 or time.monotonic() > deadline:
                    raise DemoError(
                        f"Airflow does not know the workflow {dag_id} ({error}). Its import errors are shown at "
                        f"the top of {ui}."
                    ) from error
                time.sleep(1)
    print(f"The five workflows are unpaused: {', '.join(WORKFLOWS)}")


def _call(method: str, url: str, body: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), method=method)
    request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    # The stack listens on this machine: never through a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def main() -> None:
    """Entry of the script."""
    parser = argparse.ArgumentParser(description="Play a campaign through on the running stack.")
    parser.add_argument("--campaign", default="loyalty", help="internal name (default: the sample's)")
    campaign = parser.parse_args().campaign
    state = State.from_environment()
    try:
        if campaign == "loyalty":
            subprocess.run([sys.executable, PROJECT / "include" / "samples" / "load.py"], check=True)
        unpause_workflows(state)
        with psycopg.connect(os.environ["CAMPAIGN_DSN"], autocommit=True, row_factory=dict_row) as connection:
            demo = Demo(connection, campaign)
            demo.play()
            demo.summarise(state)
    except (DemoError, psycopg.Error, urllib.error.URLError, subprocess.CalledProcessError) as error:
        sys.exit(f"\nThe demo stopped: {error}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. make demo goes on from here; make down ends what runs.")
    _title("What is left running")
    print(f"  Airflow UI: http://127.0.0.1:{state.ports()['ui']}")
    print(f"  Login: admin, password {state.secrets()['ui_passwords']['admin']} (more users: bin/stack status)")
    print(f"  State: {state.folder}")
    print("  Stop it: make down.  Start over: make clean.")


if __name__ == "__main__":
    main()
