"""What stands for Airflow's API where no scheduler runs: DAG runs are rows of a table, for every process to see."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import psycopg
from airflow.dag_processing.dagbag import DagBag
from psycopg.types.json import Jsonb

from campaign import dag_runs
from campaign.operators import workflow_follow, workflow_start
from tests.targeting import execute

TABLE = """
CREATE TABLE public.dag_run (
    number bigint GENERATED ALWAYS AS IDENTITY, dag_id text, run_id text, conf jsonb, state text DEFAULT 'queued',
    PRIMARY KEY (dag_id, run_id)
)
"""


class DagRunTable:
    """Starts, follows and stops DAG runs as :mod:`campaign.dag_runs` does; the runs are rows beside the schema.

    :param dsn: of the campaign database.
    :param dag_bag: the DAGs that there are.
    """

    def __init__(self, dsn: str, dag_bag: DagBag) -> None:
        self.dsn, self.dag_bag = dsn, dag_bag

    def install(self, patch: Any) -> None:
        """Put this in the place of Airflow's API.

        :param patch: a :class:`pytest.MonkeyPatch`, or what else has ``setattr(target, name, value)``.
        """
        for name in ("start_dag_run", "require_runnable_dag", "dag_run_state", "stop_dag_run"):
            for module in (dag_runs, workflow_start, workflow_follow):
                if hasattr(module, name):
                    patch.setattr(module, name, getattr(self, name))

    def start_dag_run(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> bool:
        """Queue a run; one of that id is queued once."""
        self.require_runnable_dag(dag_id)
        return bool(
            self._change(
                "INSERT INTO public.dag_run (dag_id, run_id, conf) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                [dag_id, run_id, Jsonb(conf)],
            )
        )

    def require_runnable_dag(self, dag_id: str) -> None:
        """Refuse a DAG that does not exist."""
        if dag_id not in self.dag_bag.dags:
            raise dag_runs.DagRunError(f"The DAG {dag_id} cannot run, deploy it or correct the dag_id.")

    def dag_run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        with psycopg.connect(self.dsn, autocommit=True) as db:
            row = db.execute(
                "SELECT state FROM public.dag_run WHERE dag_id = %s AND run_id = %s", [dag_id, run_id]
            ).fetchone()
        if row is None:
            raise dag_runs.DagRunError(f"There is no run {run_id} of the DAG {dag_id}.", is_final=True)
        return str(row[0])

    def stop_dag_run(self, dag_id: str, run_id: str) -> bool:
        """End a run that has not ended."""
        return bool(
            self._change(
                "UPDATE public.dag_run SET state = 'failed' WHERE dag_id = %s AND run_id = %s AND state = 'queued'",
                [dag_id, run_id],
            )
        )

    def execute_queued(self, as_of: datetime) -> int:
        """Execute the runs that are queued, oldest first; return how many.

        Tasks of a DAG that are no operators of ours (post-processing) count as done.
        """
        with psycopg.connect(self.dsn, autocommit=True) as db:
            queued = db.execute(
                "SELECT dag_id, run_id, conf FROM public.dag_run WHERE state = 'queued' ORDER BY number"
            ).fetchall()
            for dag_id, run_id, conf in queued:
                state = self._execute(dag_id, run_id, conf, as_of)
                db.execute("UPDATE public.dag_run SET state = %s WHERE run_id = %s", [state, run_id])
        return len(queued)

    def _execute(self, dag_id: str, run_id: str, conf: dict[str, Any], as_of: datetime) -> str:
        dag = self.dag_bag.dags[dag_id]
        params = {name: param.value for name, param in dag.params.items()} | conf
        dag_run = SimpleNamespace(data_interval_end=None, logical_date=None, run_after=as_of, run_id=run_id)
        state = "success"
        for task in sorted(dag.topological_sort(), key=lambda task: task.is_teardown):
            if "targeting" in dag.tags and (state == "success" or task.is_teardown):
                try:
                    execute(dag, task, run_id, dag_run, params)
                except Exception:  # as Airflow does: whatever a task raises fails its run
                    state = "failed"
        return state

    def _change(self, statement: str, values: list[Any]) -> int:
        with psycopg.connect(self.dsn, autocommit=True) as db:
            return db.execute(statement.encode(), values).rowcount
