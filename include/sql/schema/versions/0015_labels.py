"""What a delivery is sent as has the labels that its templates may name.

Revision ID: 0015_labels
"""

from campaign.migrate import run_sql_folder

revision = "0015_labels"
down_revision = "0014_stock"


def upgrade() -> None:
    run_sql_folder(__file__)
