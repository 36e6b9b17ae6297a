"""Online deliveries are sent: what each is sent as, its batches, and what a message waits for.

Revision ID: 0006_sending
"""

from campaign.migrate import run_sql_folder

revision = "0006_sending"
down_revision = "0005_extract"


def upgrade() -> None:
    run_sql_folder(__file__)
