"""How often a mail of the house is tried, and after which pauses, is a setting.

Revision ID: 0021_notices
"""

from campaign.migrate import run_sql_folder

revision = "0021_notices"
down_revision = "0019_bounds"


def upgrade() -> None:
    run_sql_folder(__file__)
