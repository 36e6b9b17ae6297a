"""A delivery whose approvals a change concerns now, and again at a moment to come, is in the queue once.

Revision ID: 0023_queue
"""

from campaign.migrate import run_sql_folder

revision = "0023_queue"
down_revision = "0022_deliveries"


def upgrade() -> None:
    run_sql_folder(__file__)
