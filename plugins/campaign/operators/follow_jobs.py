"""See what became of the jobs that others carry out: the mail server, and the DAGs of post-processings."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import quote

from campaign import dag_runs
from campaign.database import Connection, Row, connect, execute_statements, workflow_transaction, write_journal
from campaign.operators.sql_step import SqlStep
from campaign.operators.workflow_step import Summary
from campaign.provider_jobs import complete_job, fail_job
from campaign.run import Run, ui_url
from campaign.statements import read_statement

if TYPE_CHECKING:
    from airflow.sdk import Context


class FollowJobsStep(SqlStep):
    """Close the jobs that are done: by its SQL file those whose mails are sent, then the post-processings.

    The failure of a DAG run is a failed try of its job, with the address of the run in the UI. The run of a job
    that was canceled is stopped.
    """

    def perform(self, run: Run, context: Context) -> Summary:
        """Look at the mails, then at the DAG runs."""
        with workflow_transaction(run) as connection:
            summary = super().rehearse(connection, run, context)
        with connect(run.application_name) as connection:
            summary |= self._follow_all(connection, run)
            stopped = sum(self._stop(connection, run, job) for job in self._canceled(connection, run))
            return summary | {"post_processings_stopped": stopped}

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Look at the mails as if they had been sent, and at the DAG runs, which changes nothing there."""
        connection.execute(
            """
            UPDATE campaign.notification AS notification
            SET sent_at = %s
            FROM campaign.provider_job AS job
            WHERE
                notification.provider_job_id = job.id AND job.kind = 'notification' AND job.status = 'running'
                AND notification.sent_at IS NULL AND notification.failed_at IS NULL
            """,
            [run.as_of],
        )
        summary = super().rehearse(connection, run, context) | self._follow_all(connection, run)
        return summary | {"post_processings_stopped": len(self._canceled(connection, run))}

    def _follow_all(self, connection: Connection, run: Run) -> Summary:
        with connection.transaction():
            [under_way] = execute_statements(
                connection, read_statement("provider_mgt/select_post_processings.sql"), run.binds()
            )
        tally = Counter(self._follow(connection, run, job) for job in under_way)
        self._say_what_waits(connection, run, under_way)
        return {f"post_processings_{outcome}": tally[outcome] for outcome in ("done", "failed", "under_way")}

    def _follow(self, connection: Connection, run: Run, job: Row) -> str:
        try:
            state = dag_runs.dag_run_state(job["dag_id"], job["run_id"])
        except dag_runs.DagRunError as error:
            self.log.warning("Job %s: %s", job["job_id"], error)
            if not error.is_final:
                return "under_way"
            fail_job(connection, run, job["job_id"], str(error))
            return "failed"
        if state == "success":
            complete_job(
                connection,
                run,
                job["job_id"],
                f"The post-processing is done: {job['dag_id']}, run {job['run_id']}.",
            )
            return "done"
        if state == "failed":
            url = f"{ui_url()}/dags/{job['dag_id']}/runs/{quote(job['run_id'])}"
            fail_job(connection, run, job["job_id"], f"The DAG {job['dag_id']} failed: {url}")
            return "failed"
        return "under_way"

    def _say_what_waits(self, connection: Connection, run: Run, under_way: list[Row]) -> None:
        """Say, once, that a run waits because its DAG was paused since; it goes on by itself."""
        is_paused = {dag_id: dag_runs.is_paused(dag_id) for dag_id in {job["dag_id"] for job in under_way}}
        for job in under_way:
            waits = f"The DAG {job['dag_id']} is paused, so its run waits: unpause it in the Airflow UI."
            if bool(is_paused[job["dag_id"]]) == (job["error"] == waits):
                continue
            error = waits if is_paused[job["dag_id"]] else None
            with connection.transaction():
                is_under_way = connection.execute(
                    "UPDATE campaign.provider_job SET error = %s WHERE id = %s AND status = 'running'",
                    [error, job["job_id"]],
                ).rowcount
                if is_under_way and error is not None:
                    write_journal(
                        connection,
                        run,
                        "warning",
                        error,
                        campaign_id=job["campaign_id"],
                        delivery_id=job["delivery_id"],
                    )

    def _canceled(self, connection: Connection, run: Run) -> list[Row]:
        with connection.transaction():
            statement = read_statement("provider_mgt/select_canceled_post_processings.sql")
            return execute_statements(connection, statement, run.binds())[0]

    def _stop(self, connection: Connection, run: Run, job: Row) -> bool:
        """Stop the run of a canceled job, and say so; one that goes on is tried again, and told once."""
        try:
            was_going_on = dag_runs.stop_dag_run(job["dag_id"], job["run_id"])
        except dag_runs.DagRunError as error:
            self.log.warning("Job %s was canceled, and goes on: %s", job["job_id"], error)
            outcome, level, is_stopped = str(error), "warning", False
        else:
            what = "was stopped" if was_going_on else "had ended before it could be stopped, or never began"
            outcome = f"The post-processing {what}: {job['dag_id']}, run {job['run_id']}."
            level, is_stopped = "info", True
        if outcome != job["error"]:
            with connection.transaction():
                connection.execute(
                    """
                    UPDATE campaign.provider_job
                    SET error = %s, run_started_at = CASE WHEN NOT %s THEN run_started_at END
                    WHERE id = %s
                    """,
                    [outcome, is_stopped, job["job_id"]],
                )
                write_journal(
                    connection, run, level, outcome, campaign_id=job["campaign_id"], delivery_id=job["delivery_id"]
                )
        return is_stopped
