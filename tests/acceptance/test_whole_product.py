"""The product as the README starts it: a state folder of its own, the scheduler, real mail and SFTP."""

from __future__ import annotations

import csv
import email
import email.policy
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest

from campaign.workflow_dag import TECHNICAL_WORKFLOWS
from tests.snapshots import changed_tables, snapshot

PROJECT = Path(__file__).resolve().parents[2]
AS_OF = {"as_of": "2026-11-01T00:00:00Z"}


class Stack:
    """A state folder, and commands in its environment."""

    def __init__(self, state: Path) -> None:
        self.state = state
        # What the test session set for itself must not reach the stack: what is set outside wins.
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "CAMPAIGN")) and name != "PYTHONWARNINGS"
        } | {"CAMPAIGN_STATE_DIR": str(state)}

    def run(self, *command: str, seconds: int = 600) -> str:
        """Run a command; return what it printed, and fail with it."""
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout

    def env(self, *command: str, seconds: int = 600) -> str:
        """Run a command by bin/env."""
        return self.run(str(PROJECT / "bin" / "env"), *command, seconds=seconds)

    def connect(self) -> psycopg.Connection[Any]:
        """Connect to the campaign database."""
        dsn = self.env("printenv", "CAMPAIGN_DSN").strip().splitlines()[-1]
        return psycopg.connect(dsn, autocommit=True)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give a new state folder whose path has a space; end what was started in it."""
    stack = Stack(tmp_path_factory.mktemp("a state") / "with a space")
    yield stack
    stack.run(str(PROJECT / "bin" / "stack"), "clean")


@pytest.fixture(scope="module")
def empty_runs(stack: Stack) -> dict[str, str]:
    """Run each workflow by ``airflow dags test`` on the empty database, twice over."""
    with stack.connect() as connection:
        before = snapshot(connection)
        printed = {
            dag_id: stack.env("airflow", "dags", "test", dag_id, "-c", json.dumps(AS_OF))
            for dag_id in TECHNICAL_WORKFLOWS
        }
        # As of when they worked, and for which day, the runs say whatever they find.
        assert changed_tables(before, snapshot(connection)).keys() == {"cost_watermark", "budget_history_day"}
    return printed


@pytest.mark.parametrize("dag_id", TECHNICAL_WORKFLOWS)
def test_workflow_on_an_empty_database_ends_well_and_changes_nothing(empty_runs: dict[str, str], dag_id: str) -> None:
    assert "state=success" in empty_runs[dag_id]


@pytest.fixture(scope="module")
def demo(stack: Stack, empty_runs: dict[str, str]) -> str:
    """Play the sample, as ``make demo`` does; return what it printed."""
    stack.run(str(PROJECT / "bin" / "stack"), "up")
    return stack.env("python", str(PROJECT / "bin" / "demo.py"), seconds=900)


def mails(stack: Stack) -> list[email.message.EmailMessage]:
    return [
        email.message_from_bytes(path.read_bytes(), policy=email.policy.default)  # type: ignore[misc]
        for path in sorted((stack.state / "mail").glob("*.eml"))
    ]


def test_demo_shows_what_it_waits_for_and_what_came_out(demo: str) -> None:
    for heading in ("cost", "Stock before and after", "Files at the router", "Mails sent", "journal's last lines"):
        assert heading in demo
    assert "Airflow UI: http://127.0.0.1:" in demo
    assert "ERROR" not in demo


def test_target_is_what_pandas_finds_in_the_file(stack: Stack, demo: str) -> None:
    source = PROJECT / "include/samples/cdnow/CDNOW_master.txt"
    columns = ["customer", "day", "count", "amount"]
    purchases = pd.read_csv(source, sep=r"\s+", header=0, names=columns, dtype=str)
    purchases["cents"] = purchases["amount"].map(lambda text: int(Decimal(text) * 100))
    people = purchases.groupby("customer").agg(lines=("day", "size"), cents=("cents", "sum"), last=("day", "max"))
    loyal = people[(people["lines"] >= 3) & (people["cents"] >= 75_00) & (people["last"] >= "19980101")]
    with stack.connect() as connection:
        [delivery] = connection.execute("SELECT id, targeted_count, message_count FROM campaign.delivery").fetchall()
        roles = dict(
            connection.execute(
                "SELECT role, count(*) FROM campaign.delivery_target WHERE delivery_id = %s GROUP BY role",
                [delivery[0]],
            ).fetchall()
        )
        excluded = dict(
            connection.execute(
                "SELECT reason, count FROM campaign.delivery_exclusion WHERE delivery_id = %s", [delivery[0]]
            ).fetchall()
        )
    assert delivery[1] == len(loyal) == 4048
    assert delivery[2] == roles["main"] == len(loyal) - sum(excluded.values())
    assert roles["control"] == excluded["control_group"]
    assert roles["control"] == pytest.approx(0.1 * (roles["main"] + roles["control"]), abs=1)
    assert min(excluded["opt_out"], excluded["no_address"], excluded["duplicate"]) > 0


def test_file_at_the_router_is_the_one_that_was_approved(stack: Stack, demo: str) -> None:
    with stack.connect() as connection:
        [(name, rows, size, digest)] = connection.execute(
            "SELECT file_name, row_count, byte_count, sha256 FROM campaign.extraction_file"
        ).fetchall()
        [(messages, seeds)] = connection.execute(
            """
            SELECT
                count(*) FILTER (WHERE target.role = 'main'), count(*) FILTER (WHERE target.role = 'seed')
            FROM campaign.delivery_target AS target
            """
        ).fetchall()
    [found] = (stack.state / "router").rglob(name)
    content = found.read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
    records = list(csv.reader(content.decode("utf-8").splitlines()))
    assert len(records) - 1 == rows == messages + seeds
    assert not [path for path in (stack.state / "router").rglob("*") if path.is_file() and path.suffix == ".part"]


def test_each_mail_was_sent_once(stack: Stack, demo: str) -> None:
    with stack.connect() as connection:
        wanted = Counter(
            message_id for (message_id,) in connection.execute("SELECT message_id FROM campaign.notification")
        )
        [(unsent,)] = connection.execute("SELECT count(*) FROM campaign.notification WHERE sent_at IS NULL").fetchall()
    assert unsent == 0
    assert Counter(str(mail["Message-ID"]) for mail in mails(stack)) == wanted
    assert max(wanted.values()) == 1


def test_costs_are_spent_and_add_up_from_the_split_to_the_plan(stack: Stack, demo: str) -> None:
    with stack.connect() as connection:
        [(items, cost_total, calculated)] = connection.execute(
            """
            SELECT sum(item.amount), max(line.cost_total), max(delivery.calculated_cost)
            FROM campaign.delivery AS delivery
            INNER JOIN campaign.expense_line AS line ON delivery.id = line.delivery_id
            INNER JOIN campaign.expense_item AS item ON line.id = item.expense_line_id
            """
        ).fetchall()
        levels = dict(
            connection.execute(
                """
                SELECT level, sum(amount) FROM campaign.cost_line WHERE delivery_id IS NOT NULL GROUP BY level
                """
            ).fetchall()
        )
        [(campaign, program, plan)] = connection.execute(
            """
            SELECT campaign.calculated_cost, program.calculated_cost, plan.calculated_cost
            FROM campaign.campaign AS campaign
            INNER JOIN campaign.program AS program ON campaign.program_id = program.id
            INNER JOIN campaign.plan AS plan ON program.plan_id = plan.id
            """
        ).fetchall()
        [(charged,)] = connection.execute("SELECT sum(amount) FROM campaign.cost_line").fetchall()
        [(position,)] = connection.execute(
            """
            SELECT planned + reserved + committed + spent + invoiced
            FROM campaign.budget_position AS position
            INNER JOIN campaign.budget AS budget ON position.budget_id = budget.id
            WHERE budget.internal_name = 'direct-mail'
            """
        ).fetchall()
    assert items == cost_total == calculated > 0
    assert levels == {"spent": cost_total}
    assert campaign == program == plan == charged == position


def test_stock_was_consumed_and_the_line_at_its_alert_level_was_told(stack: Stack, demo: str) -> None:
    with stack.connect() as connection:
        messages = connection.execute("SELECT message_count FROM campaign.delivery").fetchone()
        positions = connection.execute(
            """
            SELECT line.internal_name, position.consumed, position.state
            FROM campaign.stock_position AS position
            INNER JOIN campaign.stock_line AS line ON position.stock_line_id = line.id
            WHERE position.consumed > 0 ORDER BY position.consumed
            """
        ).fetchall()
        alerts = connection.execute(
            "SELECT count(DISTINCT kind) FROM campaign.notification WHERE source = 'stockMgt'"
        ).fetchone()
    assert messages is not None
    assert [(consumed, state) for _, consumed, state in positions] == [
        (messages[0], "low"),
        (4 * messages[0], "ok"),
    ]
    assert alerts == (1,)


def test_second_demo_plays_nothing_and_changes_nothing(stack: Stack, demo: str) -> None:
    with stack.connect() as connection:
        tables = ("delivery", "approval", "notification", "extraction_file", "provider_job", "cost_line", "workflow")
        before = snapshot(connection)
        printed = stack.env("python", str(PROJECT / "bin" / "demo.py"), seconds=300)
        after = snapshot(connection)
    assert "All is done already" in printed
    assert changed_tables({name: before[name] for name in tables}, after) == {}


def test_readme_example_becomes_a_file_at_its_printer(stack: Stack, demo: str, tmp_path: Path) -> None:
    """A team's own campaign, loaded through SQL only; only the folder of the printer is put elsewhere."""
    readme = (PROJECT / "README.md").read_text()
    example = next(block for block in re.findall(r"```sql\n(.*?)```", readme, re.DOTALL) if block.startswith("BEGIN;"))
    example = example.replace("file:///tmp/nordtryck", f"file://{tmp_path}/nordtryck")
    (tmp_path / "nordtryck").mkdir()
    with stack.connect() as connection:
        connection.execute(example.encode())
        stack.env("python", str(PROJECT / "bin" / "demo.py"), "--campaign", "seeds", seconds=900)
        [(file_name, rows, spent)] = connection.execute(
            """
            SELECT file.file_name, file.row_count, charged.amount
            FROM campaign.extraction_file AS file
            INNER JOIN campaign.delivery AS delivery ON file.delivery_id = delivery.id
            INNER JOIN campaign.cost_line AS charged
                ON delivery.id = charged.delivery_id AND charged.level = 'spent'
            WHERE delivery.internal_name = 'seed-letter'
            """
        ).fetchall()
    with (tmp_path / "nordtryck" / file_name).open(newline="") as file:
        records = list(csv.DictReader(file, delimiter=";"))
    # One in ten of 50 is the control group; each of the others costs 2.40.
    assert (len(records), rows, spent) == (45, 45, Decimal("108.00"))
    assert records[0]["place"] == "111 22 Stockholm"


def test_scripts_of_the_stack_are_run_by_this_python() -> None:
    """The stack finds its own virtual environment: the one that runs the tests."""
    assert Path(sys.prefix).resolve() == (PROJECT / ".venv").resolve()
