"""What targeting DAGs have in common: the built-in one, and those that teams write."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, timezone

from campaign.database import SQL_FOLDER

TARGETING_TAG = "targeting"


def targeting_defaults() -> dict[str, Any]:
    """Return the arguments that a targeting DAG gives to its DAG."""
    return {
        "start_date": datetime(2000, 1, 1, tzinfo=timezone.utc),
        "catchup": False,
        # Campaigns start these DAGs: paused, they would keep deliveries waiting.
        "is_paused_upon_creation": False,
        "params": targeting_params(),
        "template_searchpath": [str(SQL_FOLDER)],
        "default_args": {
            "owner": "campaign",
            "retries": 1,
            "retry_delay": timedelta(seconds=30),
            "execution_timeout": timedelta(hours=6),
        },
    }


def targeting_params() -> dict[str, Param]:
    """Parameters of every targeting DAG. operationMgt fills in the first three."""
    return {
        "delivery": Param(
            None, type=["null", "string"], title="Delivery",
            description_md="Internal name of the delivery to prepare; it must be waiting for its target.",
        ),
        "workflow": Param(
            None, type=["null", "string"], title="Workflow",
            description_md="Internal name of the workflow whose run this is. Leave it empty by hand.",
        ),
        "as_of": Param(
            None, type=["null", "string"], format="date-time", title="As of",
            description_md="Target as of this moment: purchases after its day do not count.",
        ),
        "control_group": Param(
            None, type=["null", "object"], title="Control group",
            description_md='Who gets no message, like `{"share": 0.1}` or `{"count": 100}`; with `"order_by"`'
            " the first in an order instead of a random choice.",
        ),
        "seeds": Param(
            True, type=["null", "boolean"], title="Seed addresses",
            description_md="Add the seed addresses to the target.",
        ),
        "charge_seeds": Param(
            False, type=["null", "boolean"], title="Seed addresses are charged",
            description_md="Count the seed addresses as messages: they cost, and take stock. Otherwise they do not.",
        ),
    }  # fmt: skip


def criteria_params() -> dict[str, Param]:
    """Further parameters of the built-in targeting: its criteria, all of which a recipient must meet."""
    return {
        "everybody": Param(
            None, type=["null", "boolean"], title="Everybody",
            description_md="Target everybody. Without it, purchases, where or lists must choose.",
        ),
        "purchases": Param(
            None, type=["null", "object"], title="Purchases",
            description_md='Like `{"min_count": 3, "min_amount": "75.00", "last_on_or_after": "1998-01-01"}`;'
            " also `max_count`, `max_amount`, `last_before`.",
        ),
        "where": Param(
            None, type=["null", "array"], title="Where",
            description_md='Conditions like `{"column": "country", "op": "=", "value": "US"}` or '
            '`{"attribute": "tier", "op": "in", "value": ["gold", "silver"]}`.',
        ),
        "lists": Param(
            None, type=["null", "array"], title="Lists",
            description_md="Only members of any of these recipient lists.",
        ),
        "exclude_lists": Param(
            None, type=["null", "array"], title="Lists left out",
            description_md="No members of these recipient lists.",
        ),
    }  # fmt: skip
