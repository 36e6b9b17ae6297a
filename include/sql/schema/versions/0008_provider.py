"""What routers answer: where it is picked up, what was read, and what it comes to per delivery.

Revision ID: 0008_provider
"""

from campaign.migrate import run_sql_folder

revision = "0008_provider"
down_revision = "0006_sending"


def upgrade() -> None:
    run_sql_folder(__file__)
