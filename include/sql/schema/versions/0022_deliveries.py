"""What an update of deliveries changes is noted in one pass, by one trigger.

Revision ID: 0022_deliveries
"""

from campaign.migrate import run_sql_folder

revision = "0022_deliveries"
down_revision = "0021_notices"


def upgrade() -> None:
    run_sql_folder(__file__)
