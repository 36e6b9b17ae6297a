"""### Stock: Orders and alerts

**What.** Keeps the stock of envelopes, paper and whatever else deliveries use up: receives the orders whose
day has come, records what deliveries consumed, computes where each stock line stands, writes the history of
the day, and tells the person or group in charge when a line falls to its alert level, below zero, or is back.

**When, and why then.** At once when a file is extracted, an online delivery starts, a delivery is canceled or
an order is entered (the database says so), and every hour at five past as a safety net: an order is received,
with its own date, at most an hour after midnight of the instance's zone (setting `time_zone`).

**Reads** `delivery`, `delivery_cost`, `cost_type`, `stock`, `stock_line`, `stock_order`, and the queues
`stock_delivery_queue`, `stock_selection_queue` and `stock_line_queue`, where triggers note what changed.
**Writes** `stock_order.received_at`, `stock_consumption`, `stock_balance` (seen as `stock_position`),
`stock_history`, `notification`, `journal`.

**Rerun.** Safe. An order is received once; a consumption is one line per delivery and stock line, computed,
not added; an alert is told once per change of state. A run for the past writes the history of its day, leaves
the current lines alone and sends nothing. `full` computes and proves everything anew.

**What can fail.** A position that is not the sum of its ledger is an error in the journal with the line's
name, and is put right: find out who writes past the triggers. *Nobody active is in charge* in the journal:
set `assigned_to_id` or `assigned_group_id` of the stock. The mail server is away: `send_notifications` fails,
nothing is lost, the next run sends.
"""

from airflow.sdk import DAG

from campaign.events import workflow_schedule
from campaign.operators.notification import NotificationStep
from campaign.operators.stock_computation import StockComputation
from campaign.workflow_dag import TECHNICAL_WORKFLOW_TAG, TECHNICAL_WORKFLOWS, workflow_defaults

with DAG(
    dag_id="stockMgt",
    dag_display_name=TECHNICAL_WORKFLOWS["stockMgt"],
    description="Orders received, stock consumed, positions, alerts",
    doc_md=__doc__,
    # Every hour at five past.
    schedule=workflow_schedule("stockMgt", "5 * * * *"),
    tags=[TECHNICAL_WORKFLOW_TAG, "stock"],
    **workflow_defaults(),
) as dag:
    receive_orders = StockComputation(
        task_id="receive_orders",
        sql="stock_mgt/receive_orders.sql",
        doc_md="Receives each order whose delivery date has come, as of the beginning of that day.",
    )
    record_consumption = StockComputation(
        task_id="record_consumption",
        sql="stock_mgt/record_consumption.sql",
        doc_md="Records what each extracted or started delivery took from each stock line; canceled, nothing.",
    )
    compute_positions = StockComputation(
        task_id="compute_positions",
        sql="stock_mgt/compute_positions.sql",
        doc_md="Sums the ledger of each changed stock line, and proves that all other positions are their sums.",
    )
    record_history = StockComputation(
        task_id="record_history",
        sql="stock_mgt/record_history.sql",
        doc_md="Writes the positions of the day of this run into the history.",
    )
    alert_lines = StockComputation(
        task_id="alert_lines",
        sql="stock_mgt/alert_lines.sql",
        doc_md="Writes a notice for each stock line that became low or insufficient, or is ok again.",
    )
    send_notifications = NotificationStep(
        task_id="send_notifications",
        doc_md="Sends the notices that this workflow wrote, one mail a person.",
    )

    (receive_orders >> record_consumption >> compute_positions >> record_history >> alert_lines >> send_notifications)
