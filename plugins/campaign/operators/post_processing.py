"""Start the post-processing of deliveries: a DAG run each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign import dag_runs
from campaign.database import Connection, connect, workflow_transaction
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.provider_jobs import carrying_out_alone, claim_job, fail_job
from campaign.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Context


class PostProcessingStep(WorkflowStep):
    """Start the DAG of the service for each delivery whose file and e-mail have arrived.

    The run gets the delivery's facts as its conf, and a run id made from the job and its try, so that a
    repeated start finds the run that is there. Nothing waits here: ``follow_jobs`` of a later run looks what
    became of it.
    """

    def perform(self, run: Run, context: Context) -> Summary:
        """Start the runs that are due."""
        started = failed = 0
        with carrying_out_alone(run):
            with workflow_transaction(run) as connection:
                due = self._due(connection, run)
            with connect(run.application_name) as connection:
                for job_id in due:
                    claim = claim_job(connection, run, "post_processing", job_id)
                    if claim is None:
                        continue
                    try:
                        dag_runs.start_dag_run(claim["dag_id"], claim["run_id"], {**claim["facts"], "job_id": job_id})
                    except dag_runs.DagRunError as error:
                        self._fail(connection, run, job_id, error)
                        failed += 1
                        continue
                    with connection.transaction():
                        connection.execute(
                            """
                            UPDATE campaign.provider_job SET run_started_at = %s
                            WHERE id = %s AND status = 'running'
                            """,
                            [run.as_of, job_id],
                        )
                    self.log.info("Started %s of %s", claim["run_id"], claim["dag_id"])
                    started += 1
        return {"post_processings_started": started, "post_processings_not_started": failed}

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """List the jobs whose DAG would be started; one that cannot be is a failed try."""
        started = failed = 0
        for job_id in self._due(connection, run):
            claim = claim_job(connection, run, "post_processing", job_id)
            if claim is None:
                continue
            try:
                dag_runs.require_runnable_dag(claim["dag_id"])
            except dag_runs.DagRunError as error:
                self._fail(connection, run, job_id, error)
                failed += 1
            else:
                self.log.info("Would start %s of %s", claim["run_id"], claim["dag_id"])
                started += 1
        return {"post_processings_started": started, "post_processings_not_started": failed}

    def _fail(self, connection: Connection, run: Run, job_id: int, error: dag_runs.DagRunError) -> None:
        self.log.warning("Job %s: %s", job_id, error)
        fail_job(connection, run, job_id, str(error), for_good=error.is_final)

    def _due(self, connection: Connection, run: Run) -> list[int]:
        rows = connection.execute(
            "SELECT due.id FROM campaign.due_provider_jobs('post_processing', %s, %s) AS due ORDER BY due.id",
            [run.as_of, run.campaign],
        )
        return [job_id for (job_id,) in rows]
