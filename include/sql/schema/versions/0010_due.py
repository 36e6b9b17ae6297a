"""What deliveryMgt looks at is what changed or has come due, however much waits.

Revision ID: 0010_due
"""

from campaign.migrate import run_sql_folder

revision = "0010_due"
down_revision = "0008_provider"


def upgrade() -> None:
    run_sql_folder(__file__)
