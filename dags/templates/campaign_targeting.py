"""### Campaign targeting

**What.** The built-in targeting: finds the recipients who meet the criteria in its parameters (purchases,
columns and attributes, lists), and makes them the target of a delivery, with a control group and seed
addresses. What it cannot say, a DAG of your own can: see `exampleLapsedBuyers` and `exampleTwoOffers`.

**When, and why then.** Whenever a campaign's workflow asks for it: `operationMgt` starts one run for each
delivery that was submitted. By hand, name a delivery that waits for its target.

**Reads** `recipient`, `recipient_list`, `purchase` (up to the day of `as_of`).
**Writes** `delivery_target`, `delivery_exclusion`, the counts and the status of the delivery, `journal`.

**Exclusions**, each counted among those whom the ones before it left: opt-out, no address, duplicate,
control group, quantity limit.

**Rerun.** Clear the whole run. It gives the same target; the run of a workflow that has recorded its target finds
that done, and once the delivery does not wait any more, every other one is refused.

**What can fail.** A parameter is wrong: the first task fails and says which; mend the workflow template, then
`campaign.retry_delivery`. The delivery was canceled, changed or targeted by another run meanwhile: the preparation
fails and changes nothing; nobody who does that waits for it. Whatever happens, the work tables are dropped.
"""

from airflow.sdk import DAG

from campaign.operators.targeting import (
    DeliveryPreparationOperator,
    TargetCleanupOperator,
    TargetCriteriaOperator,
)
from campaign.targeting_dag import TARGETING_TAG, criteria_params, targeting_defaults

defaults = targeting_defaults()

with DAG(
    dag_id="campaignTargeting",
    dag_display_name="Campaign targeting",
    description="Targets for a delivery by criteria: purchases, columns and attributes, lists",
    # Only campaigns start it, or a person.
    schedule=None,
    doc_md=__doc__,
    tags=[TARGETING_TAG],
    **defaults | {"params": criteria_params() | defaults["params"]},
) as dag:
    select_recipients = TargetCriteriaOperator(
        task_id="select_recipients",
        doc_md="Finds the recipients who meet all criteria of the run. One statement; its SQL is in the log.",
    )
    prepare_delivery = DeliveryPreparationOperator(
        task_id="prepare_delivery",
        source=select_recipients,
        doc_md="Judges each of them (main, control group, or why not) and makes them the delivery's target.",
    )
    drop_work_tables = TargetCleanupOperator(
        task_id="drop_work_tables",
        doc_md="Drops the run's work tables, however it went.",
    )

    select_recipients >> prepare_delivery >> drop_work_tables.as_teardown()
