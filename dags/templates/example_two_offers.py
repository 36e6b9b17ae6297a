"""### Example: two offers

**What.** A team's own targeting for a test of two offers: everybody on the list `newsletter` or of the tier
*gold* who can be mailed in English is split in halves by a salt, and this delivery gets the half that its
workflow template names (`"half": "a"` or `"half": "b"` in its conf). Two deliveries, each with a
workflow template of its own, never share a recipient, because both split by the same salt.

**When, and why then.** Whenever a campaign's workflow asks for it.

**Reads** `recipient`, `recipient_list`. **Writes** the target of the delivery.

**Rerun.** Clear the whole run; it gives the same half.

**What can fail.** `half` is neither a nor b: Airflow refuses to start the run, and the workflow says so.
"""

from airflow.sdk import DAG, Param

from campaign.operators.targeting import (
    DeliveryPreparationOperator,
    TargetCleanupOperator,
    TargetIntersectionOperator,
    TargetListOperator,
    TargetQueryOperator,
    TargetSplitOperator,
    TargetUnionOperator,
)
from campaign.targeting_dag import TARGETING_TAG, targeting_defaults

defaults = targeting_defaults()

with DAG(
    dag_id="exampleTwoOffers",
    dag_display_name="Example: two offers",
    description="A team's own targeting DAG: a union, an intersection, and one half of a split",
    # Only campaigns start it, or a person.
    schedule=None,
    doc_md=__doc__,
    tags=[TARGETING_TAG, "example"],
    **defaults | {"params": {"half": Param("a", enum=["a", "b"], title="Half")} | defaults["params"]},
) as dag:
    subscribers = TargetListOperator(
        task_id="subscribers", lists=["newsletter"], doc_md="Who is on the list of the newsletter."
    )
    gold = TargetQueryOperator(
        task_id="gold",
        sql="SELECT id FROM campaign.recipient WHERE attributes ->> 'tier' = 'gold'",
        doc_md="Who is in the tier gold.",
    )
    english = TargetQueryOperator(
        task_id="english",
        sql="SELECT id FROM campaign.recipient WHERE language = 'en'",
        doc_md="Whose language is English.",
    )
    anybody = TargetUnionOperator(
        task_id="anybody", sources=[subscribers, gold], doc_md="Subscribers and gold customers."
    )
    mailable = TargetIntersectionOperator(
        task_id="mailable", sources=[anybody, english], doc_md="Those of them who read English."
    )
    halves = TargetSplitOperator(
        task_id="halves",
        source=mailable,
        shares={"a": 0.5, "b": 0.5},
        salt="two offers",
        doc_md="Each in one half, by a hash of the recipient.",
    )
    prepare_delivery = DeliveryPreparationOperator(
        task_id="prepare_delivery",
        source=halves.part("{{ params.half }}"),
        doc_md="Makes the half that the run's parameter names the target of the delivery.",
    )
    drop_work_tables = TargetCleanupOperator(
        task_id="drop_work_tables", doc_md="Drops the run's work tables, however it went."
    )

    # What the sets are made from already says the order; only the clean-up has to be told.
    prepare_delivery >> drop_work_tables.as_teardown()
