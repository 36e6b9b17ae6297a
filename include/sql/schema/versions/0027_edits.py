"""Whether a row was edited is seen by the row itself, not asked of the session row by row.

Revision ID: 0027_edits
"""

from campaign.migrate import run_sql_folder

revision = "0027_edits"
down_revision = "0026_derived"


def upgrade() -> None:
    run_sql_folder(__file__)
