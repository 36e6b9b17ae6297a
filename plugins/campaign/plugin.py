"""What Airflow registers of this project. Airflow loads this file in each of its processes.

The hooks are imported here, although nothing here uses them: tasks are forked from processes that have
loaded this file, and so need not load the providers again (a second less for each task).
"""

from __future__ import annotations

from typing import Any

import airflow.providers.postgres.hooks.postgres
import airflow.providers.smtp.hooks.smtp  # noqa: F401
from airflow.plugins_manager import AirflowPlugin

from campaign import run_listener
from campaign.run import PAGES_PREFIX


class CampaignPlugin(AirflowPlugin):
    """Campaign Workflows."""

    name = "campaign"
    listeners: list[object] = [run_listener]  # noqa: RUF012  (so declared by the base class)
    # Without a slash at its front the address is below Airflow's own, wherever a proxy put that.
    external_views: list[dict[str, Any]] = [  # noqa: RUF012
        {
            "name": "Approvals",
            "href": f"{PAGES_PREFIX[1:]}/",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "approvals",
            "icon": f"{PAGES_PREFIX[1:]}/static/icon-light.svg",
            "icon_dark_mode": f"{PAGES_PREFIX[1:]}/static/icon-dark.svg",
        }
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # the base class has a plain list
        """The pages; their code is loaded in the API server only."""
        from campaign.pages.app import app

        return [{"name": "campaign", "app": app, "url_prefix": PAGES_PREFIX}]
