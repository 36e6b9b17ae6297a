"""Proof of every stock position in every run; the watch over the five, clones, the journal by run.

Revision ID: 0002_watch
"""

from campaign.migrate import run_sql_folder

revision = "0002_watch"
down_revision = "0001_contract"


def upgrade() -> None:
    run_sql_folder(__file__)
