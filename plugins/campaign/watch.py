"""The watch over the five technical workflows: each of their runs looks after the others.

What is wrong is an incident in the database, told to the supervisors once, closed when the workflow is well
again (``include/sql/schema/functions/house_watch.sql``). ``python -m campaign.health`` looks from outside.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from campaign import dag_runs
from campaign.database import Connection, connect
from campaign.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Context

# Source of the mails to the supervisors: whichever workflow sends next sends them.
SUPERVISION = "supervision"
# A busy house has a run every few seconds: it is looked after once a minute.
LOOK_EVERY = "1 minute"

log = logging.getLogger(__name__)


def look_after_workflows(connection: Connection, run: Run) -> None:
    """Look after the other workflows, unless that has just been done; in a transaction of its own.

    Asks Airflow whether they are paused, as far as it can be asked; the database knows the rest.
    """
    with connection.transaction():
        others = [
            dag_id
            for (dag_id,) in connection.execute(
                """
                WITH looking AS (
                    UPDATE campaign.technical_run AS this
                    SET looked_at = clock_timestamp()
                    WHERE
                        this.dag_id = %(dag_id)s AND this.run_id = %(run_id)s
                        AND NOT EXISTS (
                            SELECT 1
                            FROM campaign.technical_run AS last
                            WHERE last.looked_at > clock_timestamp() - %(every)s::interval
                        )
                    RETURNING 1
                )
                SELECT workflow.dag_id
                FROM campaign.technical_workflow AS workflow, looking
                WHERE workflow.dag_id <> %(dag_id)s
                """,
                {"dag_id": run.dag_id, "run_id": run.run_id, "every": LOOK_EVERY},
            )
        ]
    if not others:
        return
    # This one runs, so it is not paused; or somebody asked for this run by hand, and the others will see.
    paused = {dag_id: dag_runs.is_paused(dag_id) for dag_id in others} | {run.dag_id: False}
    known = {dag_id: is_paused for dag_id, is_paused in paused.items() if is_paused is not None}
    with connection.transaction():
        found = connection.execute("SELECT * FROM campaign.look_after_workflows(%s)", [json.dumps(known)]).fetchone()
    if found and any(found):
        log.warning("The watch opened %d incidents and closed %d: SELECT * FROM campaign.workflow_health", *found)


def record_run_end(dag_id: str, run_id: str, state: str) -> None:
    """Enter how a run of a technical workflow ended.

    :param state: ``success`` or ``failed``.
    """
    with connect(f"{dag_id}.end") as connection, connection.transaction():
        connection.execute("SELECT campaign.record_run_end(%s, %s, %s)", [dag_id, run_id, state])


def tell_of_failure(context: Context) -> None:
    """Tell the supervisors of a task that failed for good, with its log: Airflow's ``on_failure_callback``.

    A rehearsal that failed is told to nobody but the person who asked for it.
    """
    run: Any = None
    try:
        run = Run.from_context(context)
        if run.dry_run:
            return
        with connect(run.application_name) as connection, connection.transaction():
            connection.execute(
                "SELECT campaign.record_task_failure(%s, %s, %s, %s, %s)",
                [run.dag_id, run.run_id, run.task_id, run.as_of, context["ti"].log_url],
            )
    except Exception:
        # The database may be what failed: then the watch, and campaign.health from outside, see it.
        log.warning("The failure of %s could not be recorded", run or context.get("task"), exc_info=True)
