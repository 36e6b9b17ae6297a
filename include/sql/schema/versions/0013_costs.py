"""The cost of a campaign is written where its row stands.

Revision ID: 0013_costs
"""

from campaign.migrate import run_sql_folder

revision = "0013_costs"
down_revision = "0010_due"


def upgrade() -> None:
    run_sql_folder(__file__)
