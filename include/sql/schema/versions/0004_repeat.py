"""Campaigns that repeat: what their lines get, and how far their rules have been made into lines.

Revision ID: 0004_repeat
"""

from campaign.migrate import run_sql_folder

revision = "0004_repeat"
down_revision = "0003_budget"


def upgrade() -> None:
    run_sql_folder(__file__)
