"""What Airflow registers of this project. Airflow loads this file in each of its processes.

The hooks are imported here, although nothing here uses them: tasks are forked from processes that have
loaded this file, and so need not load the providers again (a second less for each task).
"""

from __future__ import annotations

import airflow.providers.postgres.hooks.postgres
import airflow.providers.smtp.hooks.smtp  # noqa: F401
from airflow.plugins_manager import AirflowPlugin

from campaign import run_listener


class CampaignPlugin(AirflowPlugin):
    """Campaign Workflows."""

    name = "campaign"
    listeners: list[object] = [run_listener]  # noqa: RUF012  (so declared by the base class)
