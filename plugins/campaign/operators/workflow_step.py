"""The common shape of a step of a technical workflow: perform it, or rehearse it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from campaign.database import (
    Connection,
    connect,
    is_for_the_past,
    lock_workflow,
    refuse_in_clone,
    workflow_transaction,
)
from campaign.run import Run

if TYPE_CHECKING:
    from airflow.sdk import Context

Summary = dict[str, Any]

# Marks in the summary of a step that was rehearsed: its counts say what a run would do.
REHEARSED = ("dry_run", "for_the_past", "held_in_clone")
# A log is read by people.
LINES_LOGGED = 200


class WorkflowStep(BaseOperator):
    """A step of a technical workflow.

    A subclass says what it does twice: :meth:`perform` does it, effects included; :meth:`rehearse` does
    in one open transaction what can be done in the database, reports what would leave the house, under the
    names of what :meth:`perform` counts, and sends nothing. A dry run rehearses the steps before this one and
    then this one in one transaction, so that it sees what they would have done, and rolls all of it back.

    A run for the past (its ``as_of`` before that of a run already done) is rehearsed too, unless the
    step computes the past.

    In a database that was cloned, and that nobody has adopted, a step that may send is rehearsed too: it says
    what it would send, and sends nothing.

    :cvar stays_in_the_house: whether the step only writes to the database. A step that does not say so may send.
    :param computes_the_past: whether the step knows by itself what to do in a run for the past.
    """

    ui_color = "#e8f0fe"
    stays_in_the_house: ClassVar[bool] = False

    def __init__(self, *, computes_the_past: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.computes_the_past = computes_the_past

    @abstractmethod
    def perform(self, run: Run, context: Context) -> Summary:
        """Do the step, and return its counts."""

    @abstractmethod
    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Do in the open transaction what the step would do, without effects, and return its counts."""

    def execute(self, context: Context) -> Summary:
        """Perform or rehearse the step as the run asks, log its counts, and return them."""
        run = Run.from_context(context)
        self.log.info(
            "%s as of %s%s%s%s",
            run.application_name,
            run.as_of.isoformat(),
            f", campaign {run.campaign}" if run.campaign else "",
            ", full" if run.full else "",
            ", dry run" if run.dry_run else "",
        )
        if run.dry_run:
            summary = {"dry_run": True, **self._rehearse_from_the_start(run, context)}
        elif not self.computes_the_past and self._is_for_the_past(run):
            self.log.warning("A later run has been here: this one is for the past, and sends nothing.")
            self._warn_of_the_future(run)
            summary = {"for_the_past": True, **self._rehearse_from_the_start(run, context)}
        elif not self.stays_in_the_house and (reason := self._refusal(run)):
            self.log.warning(reason)
            summary = {"held_in_clone": True, **self._rehearse_alone(run, context)}
        else:
            summary = self.perform(run, context)
        is_rehearsed = not summary.keys().isdisjoint(REHEARSED)
        for name, value in summary.items():
            self.log.info("%s: %s (would be)" if is_rehearsed and name not in REHEARSED else "%s: %s", name, value)
        return summary

    def _is_for_the_past(self, run: Run) -> bool:
        with workflow_transaction(run) as connection:
            return is_for_the_past(connection, run)

    @staticmethod
    def _refusal(run: Run) -> str | None:
        with workflow_transaction(run) as connection:
            return refuse_in_clone(connection, run)

    def _rehearse_alone(self, run: Run, context: Context) -> Summary:
        """Rehearse the step after what the steps before it have really done."""
        with connect(run.application_name) as connection, connection.transaction(force_rollback=True):
            lock_workflow(connection, run)
            return self._rehearse_aloud(connection, run, context)

    def _rehearse_aloud(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Rehearse the step, and log what it would note in the journal: each start, move and request by its name."""
        before = connection.execute("SELECT coalesce(max(id), 0) FROM campaign.journal").fetchone()
        summary = self.rehearse(connection, run, context)
        noted = connection.execute(
            "SELECT message FROM campaign.journal WHERE id > %s AND source = %s ORDER BY id",
            [before and before[0], run.dag_id],
        ).fetchall()
        for (message,) in noted[:LINES_LOGGED]:
            self.log.info("would note: %s", message)
        if len(noted) > LINES_LOGGED:
            self.log.info("... and %d more", len(noted) - LINES_LOGGED)
        return summary

    def _warn_of_the_future(self, run: Run) -> None:
        """Say once in the journal that a run as of a moment yet to come silences the workflow until then."""
        with workflow_transaction(run) as connection:
            connection.execute(
                """
                WITH silencing AS (
                    SELECT format(
                        'A run as of %%s, which has not come yet (%%s), makes every run until then one for the past. '
                        'If that was a mistake, delete it from campaign.technical_run.', later.as_of, later.run_id
                    ) AS message
                    FROM campaign.technical_run AS later
                    WHERE
                        later.dag_id = %(dag_id)s AND later.as_of > %(as_of)s
                        AND later.as_of > clock_timestamp() + interval '1 minute'
                )
                INSERT INTO campaign.journal (level, source, run_id, message)
                SELECT 'warning', %(dag_id)s, %(run_id)s, silencing.message
                FROM silencing
                WHERE NOT EXISTS (SELECT 1 FROM campaign.journal AS said WHERE said.message = silencing.message)
                """,
                {"dag_id": run.dag_id, "run_id": run.run_id, "as_of": run.as_of},
            )

    def _rehearse_from_the_start(self, run: Run, context: Context) -> Summary:
        with connect(run.application_name) as connection, connection.transaction(force_rollback=True):
            lock_workflow(connection, run)
            for step in self._steps_before():
                # The rehearsal of a step must not change the operator that Airflow holds.
                rehearsed = step.prepare_for_execution()
                rehearsed.render_template_fields(context)
                rehearsed.rehearse(connection, run, context)
            return self._rehearse_aloud(connection, run, context)

    def _steps_before(self) -> list[WorkflowStep]:
        before = self.get_flat_relative_ids(upstream=True)
        return [
            task for task in self.dag.topological_sort() if task.task_id in before and isinstance(task, WorkflowStep)
        ]
