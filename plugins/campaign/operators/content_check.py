"""Check what online deliveries say before anybody approves or gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from campaign.database import Connection, Row, execute_statements, workflow_transaction
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.run import Run
from campaign.sending.content import PARTS, find_attributes, find_faults
from campaign.sending.mail_form import MailForm
from campaign.statements import read_statement

if TYPE_CHECKING:
    from airflow.sdk import Context


class ContentCheckStep(WorkflowStep):
    """Read the templates of online deliveries that are new or were edited since they were checked.

    A name that does not exist, an attribute that nobody in the target has, a template that does not end: the
    delivery fails, with all its faults in words, and nothing of it leaves.
    """

    def perform(self, run: Run, context: Context) -> Summary:
        """Check, and record what was found."""
        with workflow_transaction(run) as connection:
            return self.rehearse(connection, run, context)

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Check in the open transaction."""
        [unchecked] = execute_statements(
            connection, read_statement("delivery_mgt/select_unchecked_contents.sql"), run.binds()
        )
        if not unchecked:
            return {"contents_checked": 0, "contents_refused": 0}
        faults = {row["id"]: list(self._find_faults(connection, row)) for row in unchecked}
        refused = {delivery: "; ".join(found) for delivery, found in faults.items() if found}
        for delivery, failure in refused.items():
            self.log.warning("The content of delivery %d cannot be sent: %s", delivery, failure)
        binds = run.binds() | {
            "delivery_ids": [row["id"] for row in unchecked if row["id"] not in refused],
            "refused_ids": list(refused),
            "failures": list(refused.values()),
        }
        [[summary]] = execute_statements(connection, read_statement("delivery_mgt/record_contents.sql"), binds)
        return summary

    @staticmethod
    def _find_faults(connection: Connection, row: Row) -> list[str]:
        texts = {part: row[part] for part in PARTS}
        faults = list(find_faults(row["channel"], texts))
        if row["channel"] == "email" and row["sender"]:
            try:
                MailForm(row["sender"])
            except ValueError as error:
                faults.append(f"sender: {error}")
        named = set() if faults or row["status"] == "targeting_pending" else find_attributes(texts)
        if named:
            unknown = connection.execute(
                """
                SELECT named.attribute
                FROM unnest(%s::text[]) AS named (attribute)
                WHERE EXISTS (
                    SELECT 1 FROM campaign.delivery_target AS target WHERE target.delivery_id = %s
                ) AND NOT EXISTS (
                    SELECT 1
                    FROM campaign.delivery_target AS target
                    INNER JOIN campaign.recipient AS recipient ON target.recipient_id = recipient.id
                    WHERE target.delivery_id = %s AND recipient.attributes ? named.attribute
                )
                ORDER BY named.attribute
                """,
                [sorted(named), row["id"], row["id"]],
            ).fetchall()
            faults += [f"nobody in the target has the attribute {name!r}" for (name,) in unknown]
        return faults
