"""### Jobs on service providers

**What.** Once the file of a delivery is approved: puts it into its provider's storage, writes to the router,
starts the post-processing of the service, and finishes the delivery when all of that is done. A service
that asks for none of these ends at once.

**When, and why then.** At once when a delivery is handed to routing, canceled or sent back (the database
says so) and when a post-processing ends; and every five minutes as a safety net, which is also when failed
tries are tried again (after 1, 5, 15 and 60 minutes: the setting `job_pauses`).

**Reads** `delivery`, `service`, `provider`, `extraction_file`, approvals (`delivery_is_cleared`).
**Writes** `provider_job`, `notification`, `journal`, `delivery.status`; files at the providers'
storages; DAG runs; `provider_return`, `provider_answer` and `provider_alert` (docs/providers.md, 'Returns'). What the
answers cost is calculated by `budgetMgt`.

**Rerun.** Safe: there is one job per delivery, kind and file, entered as running before it is carried out. A
file that is there is not sent again, a mail keeps its Message-ID, a DAG run its run id. A run for the past
is rehearsed and sends nothing.

**What can fail.** An answer is wrong: it is set aside whole, with its error, and others go on. A provider is
away, full, or does not let us in: the job says so and is tried again; other providers go on. After `job_tries`
tries, or at once where trying cannot help (another file has the name, our own file changed), the job and its
delivery are *failed* and the owner is told. Mend the cause, then call `campaign.retry_delivery(delivery)`, or
`campaign.retry_job(job)` for one job. What waits for what is in the view `campaign.provider_job_overview`. The
mail server is away: `send_notifications` fails, the steps after it go on without it, and the run is marked
failed; the next run sends.
"""

from airflow.sdk import DAG

from campaign.events import workflow_schedule
from campaign.operators.follow_jobs import FollowJobsStep
from campaign.operators.notification import NotificationStep
from campaign.operators.post_processing import PostProcessingStep
from campaign.operators.provider_returns import ProviderReturnsStep
from campaign.operators.provider_routing import ProviderRoutingStep
from campaign.operators.sql_step import SqlStep
from campaign.workflow_dag import TECHNICAL_WORKFLOW_TAG, TECHNICAL_WORKFLOWS, workflow_defaults

with DAG(
    dag_id="providerMgt",
    dag_display_name=TECHNICAL_WORKFLOWS["providerMgt"],
    description="Files, mail and post-processing at service providers",
    doc_md=__doc__,
    # Every five minutes.
    schedule=workflow_schedule("providerMgt", "*/5 * * * *"),
    tags=[TECHNICAL_WORKFLOW_TAG, "providers"],
    **workflow_defaults(),
) as dag:
    plan_jobs = SqlStep(
        task_id="plan_jobs",
        sql="provider_mgt/plan_jobs.sql",
        doc_md="Plans the jobs that deliveries in routing ask for, stops those of canceled deliveries and "
        "old files, and tells routers of deliveries canceled after they got the file.",
    )
    transfer_files = ProviderRoutingStep(
        task_id="transfer_files",
        doc_md="Puts files into the providers' storages, verified; several providers at once.",
    )
    notify_providers = SqlStep(
        task_id="notify_providers",
        sql="provider_mgt/notify_providers.sql",
        doc_md="Writes the e-mails to the routers whose file is there.",
    )
    send_notifications = NotificationStep(
        task_id="send_notifications",
        doc_md="Sends the e-mails to the routers.",
    )
    follow_jobs = FollowJobsStep(
        task_id="follow_jobs",
        sql="provider_mgt/follow_jobs.sql",
        # A mail server that is away holds up its own mails only.
        trigger_rule="all_done",
        doc_md="Closes the jobs whose e-mails are sent, and those whose post-processing has ended.",
    )
    start_post_processing = PostProcessingStep(
        task_id="start_post_processing",
        doc_md="Starts the DAG of the service where file and e-mail have arrived. Waits for nothing.",
    )
    finish_deliveries = SqlStep(
        task_id="finish_deliveries",
        sql="provider_mgt/finish_deliveries.sql",
        doc_md="Finishes the deliveries whose jobs are all done.",
    )
    expect_returns = SqlStep(
        task_id="expect_returns",
        sql="provider_mgt/expect_returns.sql",
        doc_md="Enters what each provider was given, and until when its answer is expected.",
    )
    take_returns = ProviderReturnsStep(
        task_id="take_returns",
        doc_md="Reads the answers of providers from their folders: each is taken whole, or set aside whole.",
    )
    alert_returns = SqlStep(
        task_id="alert_returns",
        sql="provider_mgt/alert_returns.sql",
        doc_md="Alerts, once, to answers that are late and quantities that differ.",
    )
    send_alerts = NotificationStep(
        task_id="send_alerts",
        doc_md="Tells the owners what went wrong in this run; fails if the mail server is still away.",
    )

    plan_jobs >> transfer_files >> notify_providers >> send_notifications >> follow_jobs
    follow_jobs >> start_post_processing >> finish_deliveries >> expect_returns
    expect_returns >> take_returns >> alert_returns >> send_alerts
    # A step before the mails that failed makes the whole run fail, whatever the steps after it did.
    notify_providers >> send_alerts
