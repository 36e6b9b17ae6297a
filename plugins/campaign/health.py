"""How the five workflows are, for a person or a monitor: ``python -m campaign.health``.

Prints a short table and exits with 0 when all is well, 1 when something is not, 2 when the database does not
answer. What the database knows is the view ``campaign.house_health``; whether a workflow is paused now, or missing,
is asked of Airflow's command line where it is installed and set up (some seconds; ``--quick`` leaves it out).

The database is named by ``CAMPAIGN_DSN``, a libpq URL.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

import psycopg
from psycopg.rows import dict_row

WELL, TROUBLE, NO_ANSWER = 0, 1, 2
CONNECT_SECONDS = 10
AIRFLOW_SECONDS = 60


def read_health(dsn: str) -> list[dict[str, Any]]:
    """Read what the database knows: per thing its ``label``, ``state``, ``is_well``, ``since`` and ``detail``.

    :raises psycopg.Error: when the database is away, or has no such view yet.
    """
    with psycopg.connect(
        dsn, connect_timeout=CONNECT_SECONDS, application_name="campaign.health", row_factory=dict_row
    ) as connection:
        # A deployment that has a name says so, as its workflows do.
        if "CAMPAIGN_INSTANCE" in os.environ:
            connection.execute("SELECT set_config('campaign.instance', %s, true)", [os.environ["CAMPAIGN_INSTANCE"]])
        connection.execute("SELECT set_config('statement_timeout', '30s', true), set_config('timezone', 'UTC', true)")
        return connection.execute("SELECT * FROM campaign.house_health").fetchall()


def ask_airflow() -> dict[str, bool] | None:
    """Ask Airflow which DAGs there are: per dag_id whether it is paused. None where it cannot be asked."""
    command = [sys.executable, "-m", "airflow", "dags", "list", "--columns", "dag_id,is_paused", "--output", "json"]
    try:
        # The command is ours, and no word of it comes from outside.
        answer = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=AIRFLOW_SECONDS, check=True
        )
        # Airflow may log in front of its answer.
        rows = json.loads(answer.stdout[answer.stdout.index("[{") :])
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return {row["dag_id"]: str(row["is_paused"]).lower() == "true" for row in rows}


def judge(things: list[dict[str, Any]], paused: dict[str, bool] | None) -> list[dict[str, Any]]:
    """Put what Airflow says beside what the database knows: a paused or missing workflow is in trouble now."""
    if paused is None:
        return things
    judged = []
    for thing in things:
        if thing["thing"] == "database":
            judged.append(thing)
        elif thing["thing"] not in paused:
            missing = {"state": "missing", "is_well": False, "detail": "Airflow does not know it: deploy its DAG."}
            judged.append(thing | missing | {"since": None})
        elif paused[thing["thing"]] and thing["state"] != "paused":
            detail = "It is paused: unpause it in the Airflow UI."
            judged.append(thing | {"state": "paused", "is_well": False, "detail": detail, "since": None})
        elif not paused[thing["thing"]] and thing["state"] == "paused":
            judged.append(thing | {"state": "ok", "is_well": True, "detail": None, "since": None})
        else:
            judged.append(thing)
    return sorted(judged, key=lambda thing: bool(thing["is_well"]))


def render(things: list[dict[str, Any]]) -> str:
    """Return the table: a line for each thing, trouble first."""
    rows = [
        (
            thing["thing"],
            thing["state"],
            thing["since"].strftime("since %Y-%m-%d %H:%M UTC") if thing["since"] else "",
            " ".join(filter(None, [thing["detail"], thing["log_url"]])),
        )
        for thing in things
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    )


def main(arguments: list[str] | None = None) -> int:
    """Entry of ``python -m campaign.health``; return the exit code."""
    parser = argparse.ArgumentParser(prog="campaign health", description="How the five technical workflows are.")
    parser.add_argument("--quick", action="store_true", help="ask the database only, not Airflow")
    options = parser.parse_args(arguments)
    dsn = os.environ.get("CAMPAIGN_DSN")
    if not dsn:
        print("CAMPAIGN_DSN is not set: give the libpq URL of the campaign database.", file=sys.stderr)
        return NO_ANSWER
    try:
        things = read_health(dsn)
    except psycopg.Error as error:
        print(f"The campaign database gives no answer: {error}".strip(), file=sys.stderr)
        return NO_ANSWER
    things = judge(things, None if options.quick else ask_airflow())
    print(render(things))
    return WELL if all(thing["is_well"] for thing in things) else TROUBLE


if __name__ == "__main__":
    sys.exit(main())
