"""What no workflow could calculate with is refused where it is entered; an incident is of one kind of trouble.

Revision ID: 0019_bounds
"""

from campaign.migrate import run_sql_folder

revision = "0019_bounds"
down_revision = "0015_labels"


def upgrade() -> None:
    run_sql_folder(__file__)
