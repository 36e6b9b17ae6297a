"""Runs ``airflow backfill create`` for one moment of several DAGs, in one process: ``DAG_ID MOMENT DAG_ID MOMENT...``.

Importing Airflow takes longer than all of them.
"""

from __future__ import annotations

import sys

from airflow.cli.cli_parser import get_parser

if __name__ == "__main__":
    for dag_id, moment in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        command = ["backfill", "create", "--dag-id", dag_id, "--from-date", moment, "--to-date", moment]
        arguments = get_parser().parse_args(command)
        arguments.func(arguments)
