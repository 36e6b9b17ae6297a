"""What the target operators have in common: the run they belong to, their set, their failure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.sdk import BaseOperator

from campaign.database import Connection, connect
from campaign.run import parse_as_of
from campaign.targeting.sets import MissingSetError, TargetSet, lay_set, require_sets

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True, kw_only=True)
class TargetingRun:
    """One run of a targeting DAG.

    :param as_of: the moment that it targets as of.
    :param workflow: internal name of the workflow whose run it is; None when a person started the DAG.
    :param delivery: internal name of the delivery to prepare; None when the DAG prepares none.
    :param parameters: everything that the run was given.
    """

    dag_id: str
    run_id: str
    as_of: datetime
    workflow: str | None
    delivery: str | None
    parameters: Mapping[str, Any]

    @classmethod
    def from_context(cls, context: Context) -> TargetingRun:
        """Read the run from Airflow's context."""
        dag_run, parameters = context["dag_run"], dict(context["params"])
        return cls(
            dag_id=context["dag"].dag_id,
            run_id=context["run_id"],
            as_of=parse_as_of(parameters.get("as_of")) or dag_run.logical_date or dag_run.run_after,
            workflow=parameters.get("workflow") or None,
            delivery=parameters.get("delivery") or None,
            parameters=parameters,
        )

    def set_of(self, task_id: str) -> TargetSet:
        """Return the set of a task of this run."""
        return TargetSet(dag_id=self.dag_id, run_id=self.run_id, task_id=task_id)


# A set is the task that lays it, or its task_id; one part of a split is ``split.part("name")``.
Source: TypeAlias = "TargetTask | str"


class TargetTask(BaseOperator):
    """A task of a targeting DAG: works on sets in one transaction; why it failed is kept on its workflow.

    :param sources: the sets that it builds on: tasks, or their task_ids. They become upstream. (templated)
    """

    ui_color = "#fef7e0"
    template_fields: Sequence[str] = ("sources",)

    def __init__(self, *, sources: Sequence[Source] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sources = [source if isinstance(source, str) else source.task_id for source in sources]
        for task_id in {source.partition("/")[0] for source in self.sources}:
            if self.has_dag() and self.dag.has_task(task_id):
                self.set_upstream(self.dag.get_task(task_id))

    @abstractmethod
    def work(self, connection: Connection, run: TargetingRun) -> dict[str, Any]:
        """Do all of the task in the open transaction, and return its counts."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Do the task, and return its counts."""
        run = TargetingRun.from_context(context)
        with connect(f"{run.dag_id}.{self.task_id}") as connection:
            try:
                with connection.transaction():
                    return self.work(connection, run)
            except Exception as error:
                self._tell_workflow(connection, run, error)
                raise

    def source_tables(self, connection: Connection, run: TargetingRun) -> list[str]:
        """Return the tables of the sources, as a statement names them; they are there."""
        parts = [source.partition("/") for source in self.sources]
        sets = [run.set_of(task_id) for task_id, _, _ in parts]
        require_sets(connection, sets)
        for task_id, _, part in parts:
            # The name of a part may come from a parameter of the run: of an unknown one, nobody would be found.
            known = getattr(self.dag.get_task(task_id), "shares", {}) if part else {}
            if part and part not in known:
                raise MissingSetError(f"{task_id} has no part {part!r}: it has {', '.join(known) or 'none'}.")
        return [
            one.table
            if not part
            else f"(SELECT split.recipient_id FROM {one.table} AS split WHERE split.part = '{part}')"  # noqa: S608
            for one, (_, _, part) in zip(sets, parts, strict=True)
        ]

    def _tell_workflow(self, connection: Connection, run: TargetingRun, error: Exception) -> None:
        """Keep the reason on the workflow: whoever follows the run cannot read its log."""
        if run.workflow is None or connection.closed:
            return
        connection.execute(
            """
            UPDATE campaign.workflow SET failure = %s
            WHERE internal_name = %s AND run_id = %s AND status IN ('queued', 'running')
            """,
            [f"{self.task_id}: {str(error).strip() or type(error).__name__}", run.workflow, run.run_id],
        )
        connection.commit()


class TargetOperator(TargetTask):
    """A task that lays one set of recipient ids, by one SQL statement."""

    @abstractmethod
    def statement(self, run: TargetingRun, target: str, sources: list[str]) -> tuple[str, dict[str, Any]]:
        """Return the statement that creates the table ``target`` from ``sources``, and its binds."""

    def check(self, connection: Connection, run: TargetingRun) -> None:
        """Check, before the statement runs, what needs the database."""

    def work(self, connection: Connection, run: TargetingRun) -> dict[str, Any]:
        """Lay the set, and return how many recipients are in it."""
        self.check(connection, run)
        target = run.set_of(self.task_id)
        sources = self.source_tables(connection, run)
        statement, binds = self.statement(run, target.table, sources)
        self.log.info("%s", statement)
        count = lay_set(connection, target, statement, binds)
        self.log.info("%s recipients", f"{count:,}")
        return {"recipients": count}
