"""### Jobs on deliveries in campaigns

**What.** Asks for the approvals of deliveries, reminds who has to answer, and moves each delivery on when
all that had to be approved is: to extraction (direct mail), to confirmation (online), to its provider. Starts
online deliveries on their contact date, and sends them: e-mail, SMS, push.

**When, and why then.** At once when a delivery or an approval changes (the database says so), and every
five minutes as a safety net: a reminder or a deadline is at most five minutes late. A run sends for as long as
the setting `sending_slice` says; the next one, at once, goes on.

**Reads** `approval_queue` (what changed or has come due; with `full`, all that has not left), `delivery`,
`approval_setting`, `approval`, `expense_line`, `extraction_file`, `recipient`.
**Writes** `approval`, `approval_reviewer`, `delivery.status`, `delivery.held_at`, `delivery_sending`,
`delivery_batch`, `delivery_message`, `notification`, `journal`; mails, SMS and push messages to recipients.

**Rerun.** Safe: a round is asked for once, a notice has a unique key, a delivery moves out of the status it
is in, a message is noted before it leaves and never sent again by itself. A run for the past is rehearsed and
sends nothing.

**What can fail.** The mail server is away: `send_notifications` fails, nothing is lost, the next run sends.
An address is refused: it is on the notification and in the journal, the others go out. `send_messages` fails:
the mail server or a provider does not take messages from us, its log says why; nothing is lost, the next run
sends. Too many messages of a delivery fail: it stops, its owner is told (`docs/deliveries.md`). A delivery waits
and nobody knows why: see `approval` and `journal` for its id; an approval that says *void* had its content,
target, costs or file changed after it was shown. A run with `full` looks at everything again.
"""

from airflow.sdk import DAG

from campaign.events import workflow_schedule
from campaign.operators.batch_plan import BatchPlanStep
from campaign.operators.content_check import ContentCheckStep
from campaign.operators.message_sending import MessageSendingStep
from campaign.operators.notification import NotificationStep
from campaign.operators.sql_step import SqlStep
from campaign.workflow_dag import TECHNICAL_WORKFLOW_TAG, TECHNICAL_WORKFLOWS, workflow_defaults

with DAG(
    dag_id="deliveryMgt",
    dag_display_name=TECHNICAL_WORKFLOWS["deliveryMgt"],
    description="Approvals, reminders, and moving approved deliveries on; sending online deliveries",
    doc_md=__doc__,
    # Every five minutes.
    schedule=workflow_schedule("deliveryMgt", "*/5 * * * *"),
    tags=[TECHNICAL_WORKFLOW_TAG, "deliveries"],
    **workflow_defaults(),
) as dag:
    check_contents = ContentCheckStep(
        task_id="check_contents",
        doc_md="Reads the templates of online deliveries that are new or edited: a fault is told before they leave.",
    )
    void_changed_approvals = SqlStep(
        task_id="void_changed_approvals",
        sql="delivery_mgt/void_changed_approvals.sql",
        doc_md="Voids approvals of what is no longer what was shown, and tells the owner.",
    )
    # Before approvals are asked for: its new status may need others, and what they ask is asked by this very run.
    advance_deliveries = SqlStep(
        task_id="advance_deliveries",
        sql="delivery_mgt/advance_deliveries.sql",
        doc_md="Moves each delivery whose approvals are granted to its next status.",
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
    # After they moved on: in its new status its date may lie too far back.
    hold_stale_deliveries = SqlStep(
        task_id="hold_stale_deliveries",
        sql="delivery_mgt/hold_stale_deliveries.sql",
        doc_md="Holds deliveries whose date passed longer ago than the setting `stale_after`.",
    )
    start_deliveries = SqlStep(
        task_id="start_deliveries",
        sql="delivery_mgt/start_deliveries.sql",
        doc_md="Starts the online deliveries whose contact date is reached: their target becomes messages.",
    )
    send_notifications = NotificationStep(
        task_id="send_notifications",
        doc_md="Sends the notices that this workflow wrote, one mail a person.",
    )
    plan_batches = BatchPlanStep(
        task_id="plan_batches",
        # SMS and push do not wait for a mail server.
        trigger_rule="all_done",
        doc_md="Shares the messages that are due among the tasks that send; settles what a killed one left.",
    )
    send_messages = MessageSendingStep.partial(
        task_id="send_messages",
        doc_md="Sends one share of the messages; skipped when there is nothing to send.",
    ).expand(share=plan_batches.output)
    finish_deliveries = SqlStep(
        task_id="finish_deliveries",
        sql="delivery_mgt/finish_deliveries.sql",
        trigger_rule="all_done",
        doc_md="Finishes the deliveries of which every message is sent or failed for good.",
    )
    send_alerts = NotificationStep(
        task_id="send_alerts",
        trigger_rule="none_failed",
        doc_md="Tells the owners of deliveries that stopped while they were sent.",
    )

    check_contents >> void_changed_approvals >> advance_deliveries >> submit_approvals >> remind_reviewers
    remind_reviewers >> hold_stale_deliveries >> start_deliveries >> send_notifications >> plan_batches
    send_messages >> finish_deliveries >> send_alerts
    # A step before that failed makes the whole run fail, whatever the steps after it did.
    [send_notifications, send_messages] >> send_alerts
