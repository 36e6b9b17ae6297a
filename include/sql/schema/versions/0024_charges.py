"""The sums of budgets are kept like the lines that they sum: without a check of each key of each row.

Revision ID: 0024_charges
"""

from campaign.migrate import run_sql_folder

revision = "0024_charges"
down_revision = "0023_queue"


def upgrade() -> None:
    run_sql_folder(__file__)
