"""Seeds of a target, and names of files whatever their capitals, are found by an index.

Revision ID: 0005_extract
"""

from campaign.migrate import run_sql_folder

revision = "0005_extract"
down_revision = "0004_repeat"


def upgrade() -> None:
    run_sql_folder(__file__)
