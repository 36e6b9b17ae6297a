"""### Jobs on deliveries in campaigns

**What.** Asks for the approvals of deliveries, reminds who has to answer, and moves each delivery on when
all that had to be approved is: to extraction (direct mail), to confirmation (online), to its provider.

**When, and why then.** At once when a delivery or an approval changes (the database says so), and every
five minutes as a safety net: a reminder or a deadline is at most five minutes late.

**Reads** `delivery`, `approval_setting`, `approval`, `expense_line`, `extraction_file`.
**Writes** `approval`, `approval_reviewer`, `delivery.status`, `delivery.held_at`, `notification`, `journal`.

**Rerun.** Safe: a round is asked for once, a notice has a unique key, a delivery moves out of the status it
is in. A run for the past is rehearsed and sends nothing.

**What can fail.** The mail server is away: `send_notifications` fails, nothing is lost, the next run sends.
An address is refused: it is on the notification and in the journal, the others go out. A delivery waits
and nobody knows why: see `approval` and `journal` for its id; an approval that says *void* had its content,
target, costs or file changed after it was shown.
"""

from airflow.sdk import DAG

from campaign.events import workflow_schedule
from campaign.operators.notification import NotificationStep
from campaign.operators.sql_step import SqlStep
from campaign.workflow_dag import TECHNICAL_WORKFLOW_TAG, TECHNICAL_WORKFLOWS, workflow_defaults

with DAG(
    dag_id="deliveryMgt",
    dag_display_name=TECHNICAL_WORKFLOWS["deliveryMgt"],
    description="Approvals, reminders, and moving approved deliveries on",
    doc_md=__doc__,
    # Every five minutes.
    schedule=workflow_schedule("deliveryMgt", "*/5 * * * *"),
    tags=[TECHNICAL_WORKFLOW_TAG, "deliveries"],
    **workflow_defaults(),
) as dag:
    void_changed_approvals = SqlStep(
        task_id="void_changed_approvals",
        sql="delivery_mgt/void_changed_approvals.sql",
        doc_md="Voids approvals of what is no longer what was shown, and tells the owner.",
    )
    submit_approvals = SqlStep(
        task_id="submit_approvals",
        sql="delivery_mgt/submit_approvals.sql",
        doc_md="Opens the approvals that can be asked for now, and writes the notices to the reviewers.",
    )
    remind_reviewers = SqlStep(
        task_id="remind_reviewers",
        sql="delivery_mgt/remind_reviewers.sql",
        doc_md="Writes the reminders that are due, and tells the owner of an approval that is late.",
    )
    hold_stale_deliveries = SqlStep(
        task_id="hold_stale_deliveries",
        sql="delivery_mgt/hold_stale_deliveries.sql",
        doc_md="Holds deliveries whose date passed longer ago than the setting `stale_after`.",
    )
    advance_deliveries = SqlStep(
        task_id="advance_deliveries",
        sql="delivery_mgt/advance_deliveries.sql",
        doc_md="Moves each delivery whose approvals are granted to its next status.",
    )
    send_notifications = NotificationStep(
        task_id="send_notifications",
        doc_md="Sends the notices that this workflow wrote, one mail a person.",
    )

    (
        void_changed_approvals
        >> submit_approvals
        >> remind_reviewers
        >> hold_stale_deliveries
        >> advance_deliveries
        >> send_notifications
    )
