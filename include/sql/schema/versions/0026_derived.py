"""Real costs that follow from what providers answered are derived by budgetMgt.

Revision ID: 0026_derived
"""

from campaign.migrate import run_sql_folder

revision = "0026_derived"
down_revision = "0024_charges"


def upgrade() -> None:
    run_sql_folder(__file__)
