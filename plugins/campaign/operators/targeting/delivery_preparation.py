"""Make a set of recipients the target of a delivery."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from campaign.database import Connection, Row, execute_statements
from campaign.operators.targeting.base import Source, TargetingRun, TargetTask
from campaign.statements import read_statement
from campaign.targeting import TargetingParameterError
from campaign.targeting.choice import Choice, parse_choice
from campaign.targeting.sets import lay_set, render_statement


class DeliveryPreparationError(RuntimeError):
    """The delivery cannot take a target now; the message says why."""


class DeliveryPreparationOperator(TargetTask):
    """Judge each recipient of a set (main, control, or a reason of exclusion) and record the target.

    Last operator of a targeting DAG. Members, exclusions, counts and the delivery's new status are
    written in one transaction: the target is there whole, or not at all. A task that is tried again after that
    was committed finds it done.

    :param source: the set: a task, or its task_id.
    :param control_group: the set of a control group operator; without it the run's parameter
        ``control_group`` says who it is, and without that there is none.
    """

    def __init__(self, *, source: Source, control_group: Source | None = None, **kwargs: Any) -> None:
        super().__init__(sources=[source, *([control_group] if control_group is not None else [])], **kwargs)

    def work(self, connection: Connection, run: TargetingRun) -> dict[str, Any]:
        """Judge the set and record it, in the open transaction."""
        choice = self._control_group(run)
        has_seeds = _flag(run, "seeds", default=True)
        delivery = self._find_delivery(connection, run)
        if _is_done(delivery, run):
            self.log.info("This run has prepared %r already.", delivery["label"])
            return {"targeted": delivery["targeted_count"], "messages": delivery["message_count"]}
        self._check(delivery, run)
        sources = self.source_tables(connection, run)
        verdicts = run.set_of(self.task_id)
        structure = {"channel": delivery["channel"], "seeds": has_seeds}
        statement = render_statement(
            "judge_recipients.sql",
            target=verdicts.table,
            sources=sources,
            control_set=sources[1] if len(sources) > 1 else None,
            has_control=choice is not None or len(sources) > 1,
            has_limit=delivery["requested_quantity"] > 0,
            order_by=choice.order_expression if choice else None,
            descending=choice.descending if choice else False,
            **structure,
        )
        binds = {
            **(choice or Choice()).binds(),
            "control_share": choice.share if choice else None,
            "control_count": choice.count if choice else None,
            "delivery": run.delivery,
            "delivery_id": delivery["id"],
            "workflow_id": delivery["workflow_id"],
            "channel": delivery["channel"],
            "requested_quantity": delivery["requested_quantity"],
            "as_of": run.as_of,
            "run_id": run.run_id,
            "source": run.dag_id,
            "charge_seeds": _flag(run, "charge_seeds", default=False),
        }
        self.log.info("%s", statement)
        lay_set(connection, verdicts, statement, binds)
        record = render_statement("record_target.sql", sources=[verdicts.table], **structure)
        rows = execute_statements(connection, record, binds)[-1]
        if not rows:
            self._check(self._find_delivery(connection, run), run)
            raise DeliveryPreparationError(
                f"The channel or the requested quantity of {delivery['label']!r} was changed while it was targeted. "
                "Nothing was changed; send it back with campaign.retry_delivery."
            )
        summary = rows[0]
        for name, value in summary.items():
            self.log.info("%s: %s", name, value)
        return summary

    def _control_group(self, run: TargetingRun) -> Choice | None:
        """Return the control group that the run's parameters ask for; that of an operator wins."""
        control_group = run.parameters.get("control_group")
        if control_group is None or len(self.sources) > 1:
            return None
        return parse_choice("control_group", control_group)

    def _find_delivery(self, connection: Connection, run: TargetingRun) -> Row:
        """Return the delivery, which no other run prepares until the end of the transaction."""
        if run.delivery is None:
            raise TargetingParameterError("delivery: give the internal name of the delivery to prepare.")
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('campaign.targeting:' || %s, 0))", [run.delivery]
        )
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(read_statement("targeting/select_delivery.sql").encode(), {"delivery": run.delivery})
            delivery = cursor.fetchone()
        if delivery is None:
            raise TargetingParameterError(f"delivery: there is no delivery {run.delivery!r}.")
        return delivery

    @staticmethod
    def _check(delivery: Row, run: TargetingRun) -> None:
        """Refuse a delivery that does not wait for the target of this very run."""
        if delivery["status"] != "targeting_pending":
            raise DeliveryPreparationError(
                f"Delivery {delivery['label']!r} is {delivery['status'].replace('_', ' ')}: "
                "it does not wait for a target. Nothing was changed."
            )
        if run.workflow is not None and delivery["workflow_status"] == "canceled":
            raise DeliveryPreparationError(f"The workflow {run.workflow} was canceled. Nothing was changed.")
        if run.workflow is not None and delivery["workflow"] != run.workflow:
            raise DeliveryPreparationError(
                f"Delivery {delivery['label']!r} is targeted by the workflow {delivery['workflow']}, not by "
                f"{run.workflow}. Nothing was changed."
            )
        if delivery["missing_cost_categories"]:
            raise DeliveryPreparationError(
                f"Delivery {delivery['label']!r} needs a cost type of each of these cost categories: "
                f"{', '.join(delivery['missing_cost_categories'])}. Select them (campaign.delivery_cost), and retry."
            )


def _is_done(delivery: Row, run: TargetingRun) -> bool:
    """Say whether the run of a workflow has prepared the delivery, in a try that was killed after its commit."""
    return (
        run.workflow is not None
        and delivery["workflow"] == run.workflow
        and delivery["analysed_at"] == run.as_of
        and delivery["status"] not in ("being_edited", "targeting_pending", "failed", "canceled")
    )


def _flag(run: TargetingRun, name: str, *, default: bool) -> bool:
    """Return a parameter of the run that is true or false."""
    value = run.parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise TargetingParameterError(f"{name}: {value!r} must be true or false.")
    return default if value is None else value
