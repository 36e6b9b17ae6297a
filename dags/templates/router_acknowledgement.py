"""### Acknowledgement of the router: an example of a post-processing

**What.** Checks the file of a delivery where the router takes it from: that it is there, whole, and the one
that was approved, by its size and SHA-256; and enters that in the journal.

**When.** Started by `providerMgt` when the file and the e-mail have arrived, for services whose
`post_processing_dag_id` is `routerAcknowledgement`. Its conf holds what `campaign.provider_facts` says of the
delivery (file, provider, campaign, ...) and the id of the job.

**Rerun.** Safe: it only reads, and enters a line for a job once.

**What can fail.** The router took the file away already, or something damaged it: the run fails, and with it
the job, which is tried again. Copy this file to write a post-processing of your own: any DAG that can be
triggered with a conf will do, and its failure is the job's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

with DAG(
    dag_id="routerAcknowledgement",
    dag_display_name="Acknowledgement of the router",
    description="Checks the file at the router's storage and enters it in the journal",
    doc_md=__doc__,
    schedule=None,
    is_paused_upon_creation=False,
    params={
        "job_id": Param(type="integer", title="Job", description_md="`provider_job.id`"),
        "delivery_id": Param(type="integer", title="Delivery", description_md="`delivery.id`"),
    },
    tags=["post-processing", "example"],
    default_args={"owner": "campaign", "retries": 1, "retry_delay": timedelta(seconds=10)},
) as dag:

    @task(doc_md="Compares the file at the router's storage with the one that was approved.")
    def check_file() -> dict[str, Any]:
        """Read the file where the router takes it from.

        :raises StorageError: when it is not there, or is another one.
        """
        from campaign.folders import open_folder
        from campaign.storage import StorageError

        facts = get_current_context()["dag_run"].conf
        file = facts["file"]
        with open_folder(facts["storage_url"], facts["storage_conn_id"]) as folder:
            found = {"url": folder.url_of(file["name"]), "bytes": folder.size(file["name"])}
            if found["bytes"] is None:
                raise StorageError(f"{found['url']} is not there any more.")
            found["sha256"] = folder.digest(file["name"])
        if (found["bytes"], found["sha256"]) != (file["bytes"], file["sha256"]):
            raise StorageError(f"{found['url']} is not the file that was approved: {found}, not {file}.")
        return found

    @task(doc_md="Enters the acknowledgement in the journal, once for a job.")
    def record_acknowledgement(found: dict[str, Any]) -> None:
        """Write the line."""
        from campaign.database import connect, execute_statements
        from campaign.statements import read_statement

        context = get_current_context()
        facts = context["dag_run"].conf
        binds = {
            "job_id": facts["job_id"],
            "run_id": context["run_id"],
            "message": f"{found['url']} is whole at {facts['provider']}: {found['bytes']} bytes, "
            f"SHA-256 {found['sha256']} (job {facts['job_id']}).",
        }
        with connect("routerAcknowledgement.record_acknowledgement") as connection, connection.transaction():
            execute_statements(connection, read_statement("templates/record_acknowledgement.sql"), binds)

    record_acknowledgement(check_file())
