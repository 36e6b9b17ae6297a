"""What the five technical workflows have in common as DAGs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import timezone

from campaign.database import SQL_FOLDER
from campaign.run import workflow_params
from campaign.watch import tell_of_failure

TECHNICAL_WORKFLOWS = {
    "budgetMgt": "Cost calculation",
    "stockMgt": "Stock: Orders and alerts",
    "deliveryMgt": "Jobs on deliveries in campaigns",
    "operationMgt": "Campaign jobs",
    "providerMgt": "Jobs on service providers",
}
TECHNICAL_WORKFLOW_TAG = "technical workflow"


def workflow_defaults() -> dict[str, Any]:
    """Return the arguments that every technical workflow gives to its DAG."""
    return {
        # Long ago: a run for a moment before it would end as a success that did nothing.
        "start_date": datetime(2000, 1, 1, tzinfo=timezone.utc),
        "catchup": False,
        "max_active_runs": 1,
        "params": workflow_params(),
        "template_searchpath": [str(SQL_FOLDER)],
        "render_template_as_native_obj": False,
        "default_args": {
            "owner": "campaign",
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "retry_exponential_backoff": True,
            "execution_timeout": timedelta(hours=6),
            "on_failure_callback": tell_of_failure,
        },
    }
