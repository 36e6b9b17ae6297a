"""### Cost calculation

**What.** Calculates what each delivery and task costs, split by cost structure; charges the budgets with it at
its level; totals it on campaigns, programs and plans; records where each budget stood on the day; and tells
the owner of a budget that is charged beyond its allocation. `docs/cost-calculation.md` has the rules.

**When, and why then.** At once when something changes that costs, or a provider answers (the database says so), and
every fifteen minutes as a safety net: what was due at a moment (a finish, a payment) is charged at most that much
later.

**Reads** `delivery`, `task`, `campaign`, `program`, `plan`, what is selected and entered for them,
`cost_structure`, `cost_threshold`, `invoice`, `provider_answer`, and the queue of changes `cost_change`.
**Writes** `expense_line`, `expense_item`, `cost_line`, the `calculated_cost` of all levels, `cost_total`,
`budget_charge`, `budget_history`, `budget_alert`, `cost_problem`, `notification`, `journal`; where a real cost
follows from a provider's answer and no person entered one, `derived_real_cost` and `delivery.real_cost`.

**Rerun.** Safe: only what differs is written, an alert is raised once per crossing. A run for the past writes
the history of its day and nothing else. `dry_run` lists the lines that would change, the largest
difference first, and the totals per budget. `full` calculates all anew; with nothing changed it writes nothing.

**What can fail.** An element that cannot be calculated (a cost type without a structure, more messages than
the last threshold, a required choice that is missing) keeps what it had: it is in `cost_problem` and in the
journal until it is mended, and its budget's owner is told; the others are calculated. `check_totals`
reports a total that is not the sum of what is below it, see the view `total_difference`: run with `full`. The
mail server is away: `send_notifications` fails, nothing is lost, the next run sends.
"""

from airflow.sdk import DAG

from campaign.events import workflow_schedule
from campaign.operators.cost_aggregation import CostAggregation, CostBelow, CostLevel, LevelAbove
from campaign.operators.cost_history import CostHistory
from campaign.operators.notification import NotificationStep
from campaign.operators.sql_step import SqlStep
from campaign.workflow_dag import TECHNICAL_WORKFLOW_TAG, TECHNICAL_WORKFLOWS, workflow_defaults

with DAG(
    dag_id="budgetMgt",
    dag_display_name=TECHNICAL_WORKFLOWS["budgetMgt"],
    description="Costs of deliveries, tasks, campaigns, programs and plans, charged to their budgets",
    doc_md=__doc__,
    # Every fifteen minutes.
    schedule=workflow_schedule("budgetMgt", "*/15 * * * *"),
    tags=[TECHNICAL_WORKFLOW_TAG, "costs"],
    **workflow_defaults(),
) as dag:
    calculate_costs = CostAggregation(
        task_id="calculate_costs",
        sources=(
            "budget_mgt/take_changes.sql",
            "budget_mgt/state_elements.sql",
            "budget_mgt/price_elements.sql",
            "budget_mgt/report_problems.sql",
            "budget_mgt/derive_real_costs.sql",
            "budget_mgt/write_expenses.sql",
            "budget_mgt/journal_costs.sql",
            "budget_mgt/write_items.sql",
            "budget_mgt/total_campaigns.sql",
            "budget_mgt/state_charges.sql",
            "budget_mgt/charge_budgets.sql",
            "budget_mgt/sum_charges.sql",
        ),
        chunk_sql="budget_mgt/plan_chunks.sql",
        levels=(
            CostLevel(
                name="program",
                table="campaign.program",
                below=(
                    CostBelow(table="campaign.campaign", column="program_id", condition="NOT below.is_template"),
                    CostBelow(table="campaign.task", column="program_id"),
                ),
                above=LevelAbove(name="plan", column="plan_id"),
            ),
            CostLevel(
                name="plan",
                table="campaign.plan",
                below=(CostBelow(table="campaign.program", column="plan_id"),),
            ),
        ),
        doc_md="Calculates what changed, charges the budgets, and totals all levels, in one transaction.",
    )
    check_totals = SqlStep(
        task_id="check_totals",
        sql="budget_mgt/check_totals.sql",
        computes_the_past=True,
        doc_md="Proves that every total is the sum of what is below it; what differs is in the journal.",
    )
    record_history = CostHistory(
        task_id="record_history",
        position_sql="budget_mgt/budget_position.sql",
        record_sql="budget_mgt/record_history.sql",
        doc_md="Records where each budget stood on the day. For a past day, calculated as of then.",
    )
    alert_budgets = SqlStep(
        task_id="alert_budgets",
        sql="budget_mgt/alert_budgets.sql",
        computes_the_past=True,
        doc_md="Writes the alerts on budgets that are overrun, do not add up, or have costs that fail.",
    )
    send_notifications = NotificationStep(
        task_id="send_notifications",
        doc_md="Sends the alerts, one mail a person.",
    )

    calculate_costs >> check_totals >> record_history >> alert_budgets >> send_notifications
