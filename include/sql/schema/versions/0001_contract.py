"""The tables of the contract, as docs/data-model.md names them.

Revision ID: 0001_contract
"""

from campaign.migrate import run_sql_folder

revision = "0001_contract"
down_revision = None


def upgrade() -> None:
    run_sql_folder(__file__)
