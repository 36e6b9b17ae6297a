"""### Campaign jobs

**What.** Runs the jobs of campaigns: starts and finishes campaigns, makes a workflow for each delivery that
waits for its target, starts workflows as DAG runs of their own and follows them to the end, and extracts the
files of deliveries that are approved.

**When, and why then.** At once when a delivery is submitted or approved, or the run of a workflow ends (the
database and Airflow say so), and every five minutes as a safety net: what is due by the clock, a start or an
extraction date, is at most five minutes late.

**Reads** `campaign`, `delivery`, `workflow_template`, `delivery_target`, `recipient`, `service`,
`export_format`.
**Writes** `campaign.status`, `workflow`, the status of deliveries that are being targeted or extracted,
`extraction_file` and the file itself (`CAMPAIGN_FILES_URL`), `notification`, `journal`.

**Rerun.** Safe. A workflow is a row with its run id before it is a DAG run, so it is started once; a file is
written under a temporary name and recorded with its checksum after it was renamed, so a run that was killed
leaves no half file, and the next run writes the same one. A run for the past is rehearsed and sends nothing.

**What can fail.** A targeting DAG is missing or paused: it is on the workflow and in the journal, the owner
is told, and the next run tries again. A targeting run fails: its delivery fails with the reason and a link;
mend it, then `campaign.retry_delivery`. A file cannot be made (format, expression, file name): its delivery
fails with what is wrong, the others go on. The storage is away, or `CAMPAIGN_FILES_URL` is not set:
`extract_files` fails, the deliveries stay as they are, and the next run tries again. The mail server is away:
the files are written without it, and the next run sends. A step that fails holds up neither notices nor files,
and marks the run as failed.
"""

from airflow.sdk import DAG

from campaign.events import workflow_schedule
from campaign.operators.extraction import ExtractionStep
from campaign.operators.notification import NotificationStep
from campaign.operators.sql_step import SqlStep
from campaign.operators.workflow_follow import WorkflowFollowStep
from campaign.operators.workflow_start import WorkflowStartStep
from campaign.workflow_dag import TECHNICAL_WORKFLOW_TAG, TECHNICAL_WORKFLOWS, workflow_defaults

with DAG(
    dag_id="operationMgt",
    dag_display_name=TECHNICAL_WORKFLOWS["operationMgt"],
    description="Targeting workflows, file extraction, and the life of campaigns",
    doc_md=__doc__,
    # Every five minutes.
    schedule=workflow_schedule("operationMgt", "*/5 * * * *"),
    tags=[TECHNICAL_WORKFLOW_TAG, "campaigns"],
    **workflow_defaults(),
) as dag:
    plan_schedules = SqlStep(
        task_id="plan_schedules",
        sql="operation_mgt/plan_schedules.sql",
        doc_md="Makes the rules of recurring and periodic campaigns into lines of their schedules, as they come "
        "into view; skips missed starts where the campaign says so.",
    )
    serve_schedules = SqlStep(
        task_id="serve_schedules",
        sql="operation_mgt/serve_schedules.sql",
        doc_md="Serves each schedule line whose time has come: a workflow with its deliveries, or a whole campaign. "
        "The log names what was made.",
    )
    advance_campaigns = SqlStep(
        task_id="advance_campaigns",
        sql="operation_mgt/advance_campaigns.sql",
        doc_md="Starts campaigns at their start, finishes them at their end when nothing of them is "
        "open, and cancels the workflows of what was canceled.",
    )
    follow_workflows = WorkflowFollowStep(
        task_id="follow_workflows",
        doc_md="Records the workflows whose run has ended; a failed one fails its delivery and tells the owner.",
    )
    create_workflows = SqlStep(
        task_id="create_workflows",
        sql="operation_mgt/create_workflows.sql",
        doc_md="Makes a workflow for each delivery that waits for its target, and queues those whose start "
        "is reached: the more severe first, then the older, at most `workflows_at_once` per campaign.",
    )
    start_workflows = WorkflowStartStep(
        task_id="start_workflows",
        doc_md="Starts each queued workflow as the DAG run that its row names; says on it when that is impossible.",
    )
    send_notifications = NotificationStep(
        task_id="send_notifications",
        # What was decided is told, whatever became of the steps before.
        trigger_rule="all_done",
        doc_md="Sends the notices of this run, and those of files that failed in a run that did not end well, "
        "one mail a person. Does not wait for the files.",
    )
    extract_files = ExtractionStep(
        task_id="extract_files",
        # Workflows that cannot start and a mail server that is away hold up no file.
        trigger_rule="all_done",
        doc_md="Writes the file of each approved direct-mail delivery, whole or not at all, with its checksum.",
    )
    send_alerts = NotificationStep(
        task_id="send_alerts",
        doc_md="Tells the owners of files that failed in this run; fails if the mail server is still away.",
    )

    # What was missed is served before a campaign that is at its end is finished.
    plan_schedules >> serve_schedules >> advance_campaigns
    advance_campaigns >> follow_workflows >> create_workflows >> start_workflows
    start_workflows >> send_notifications >> extract_files >> send_alerts
    # A step before the mails that failed makes the whole run fail, whatever the steps after it did.
    start_workflows >> send_alerts
