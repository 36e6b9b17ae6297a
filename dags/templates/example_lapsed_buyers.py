"""### Example: lapsed buyers

**What.** A team's own targeting: good customers of the past (a query on their purchases) who have not bought
for half a year (another query), without those on the list `staff-and-family`, one per household, a tenth
of them as control group. Copy this file, give it another `dag_id`, and change the queries.

**When, and why then.** Whenever a campaign's workflow asks for it (`workflow_template.dag_id`).

**Reads** `recipient`, `purchase`, `recipient_list`. **Writes** the target of the delivery.

**Rerun.** Clear the whole run; it gives the same target.

**What can fail.** The list does not exist: `leave_out` fails and says so; create it, it may be empty.
"""

from airflow.sdk import DAG

from campaign.operators.targeting import (
    DeliveryPreparationOperator,
    TargetCleanupOperator,
    TargetControlGroupOperator,
    TargetDeduplicationOperator,
    TargetExclusionOperator,
    TargetListOperator,
    TargetQueryOperator,
)
from campaign.targeting_dag import TARGETING_TAG, targeting_defaults

with DAG(
    dag_id="exampleLapsedBuyers",
    dag_display_name="Example: lapsed buyers",
    description="A team's own targeting DAG: two queries, a list left out, a control group",
    # Only campaigns start it, or a person.
    schedule=None,
    doc_md=__doc__,
    tags=[TARGETING_TAG, "example"],
    **targeting_defaults(),
) as dag:
    good_customers = TargetQueryOperator(
        task_id="good_customers",
        sql="targeting/examples/good_customers.sql",
        parameters={"least_amount": "100.00"},
        doc_md="Who has spent at least 100.00.",
    )
    recent_buyers = TargetQueryOperator(
        task_id="recent_buyers",
        sql="targeting/examples/recent_buyers.sql",
        parameters={"within": "6 months"},
        doc_md="Who has bought in the last six months.",
    )
    leave_out = TargetListOperator(
        task_id="leave_out",
        lists=["staff-and-family"],
        doc_md="Who is on a list that no offer goes to.",
    )
    lapsed = TargetExclusionOperator(
        task_id="lapsed",
        sources=[good_customers, recent_buyers, leave_out],
        doc_md="The good customers without the recent buyers and the list.",
    )
    one_per_household = TargetDeduplicationOperator(
        task_id="one_per_household",
        source=lapsed,
        key="household",
        doc_md="One person of each last name at an address.",
    )
    control_group = TargetControlGroupOperator(
        task_id="control_group",
        source=one_per_household,
        share="0.1",
        doc_md="A tenth who gets no message; the same people whenever this delivery is targeted.",
    )
    prepare_delivery = DeliveryPreparationOperator(
        task_id="prepare_delivery",
        source=one_per_household,
        control_group=control_group,
        doc_md="Makes the set the target of the delivery.",
    )
    drop_work_tables = TargetCleanupOperator(
        task_id="drop_work_tables",
        doc_md="Drops the run's work tables, however it went.",
    )

    # What the sets are made from already says the order; only the clean-up has to be told.
    prepare_delivery >> drop_work_tables.as_teardown()
