"""No change of what deliveries consume is missed, however late it commits; no single row stops stockMgt.

Revision ID: 0014_stock
"""

from campaign.migrate import run_sql_folder

revision = "0014_stock"
down_revision = "0013_costs"


def upgrade() -> None:
    run_sql_folder(__file__)
