"""New expense lines are noted by who writes them, not by triggers that keep a copy of each row.

Revision ID: 0028_lines
"""

from campaign.migrate import run_sql_folder

revision = "0028_lines"
down_revision = "0027_edits"


def upgrade() -> None:
    run_sql_folder(__file__)
