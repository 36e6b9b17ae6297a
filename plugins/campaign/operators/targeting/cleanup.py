"""Drop the sets of a targeting run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from campaign.database import connect
from campaign.operators.targeting.base import TargetingRun

if TYPE_CHECKING:
    from airflow.sdk import Context


class TargetCleanupOperator(BaseOperator):
    """Drop the work tables of the run, however it went. Make it the teardown of the DAG."""

    ui_color = "#f1f3f4"

    def execute(self, context: Context) -> dict[str, Any]:
        """Drop what the register names for this run."""
        run = TargetingRun.from_context(context)
        with connect(f"{run.dag_id}.{self.task_id}") as connection, connection.transaction():
            dropped = connection.execute(
                """
                SELECT campaign_work.drop_sets(coalesce(array_agg(target_set.table_name), '{}'))
                FROM campaign_work.target_set
                WHERE target_set.dag_id = %s AND target_set.run_id = %s
                """,
                [run.dag_id, run.run_id],
            ).fetchone()
        count = dropped[0] if dropped else 0
        self.log.info("%d work tables dropped", count)
        return {"work_tables_dropped": count}
