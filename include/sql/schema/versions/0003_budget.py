"""Costs are written without a check per row, and found by the keys that are used.

Revision ID: 0003_budget
"""

from campaign.migrate import run_sql_folder

revision = "0003_budget"
down_revision = "0002_watch"


def upgrade() -> None:
    run_sql_folder(__file__)
