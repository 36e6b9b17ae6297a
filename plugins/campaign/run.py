"""What one run of a technical workflow works on: its moment, its scope, its mode."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk import Context

# Airflow's name for the type of a run that an asset event started.
ASSET_TRIGGERED = "asset_triggered"
# Where the API server serves our pages.
PAGES_PREFIX = "/campaign"


class RunParameterError(ValueError):
    """A parameter of the run cannot be used; the message names it and says what would do."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a technical workflow.

    :param dag_id: internal name of the workflow, like ``budgetMgt``.
    :param run_id: Airflow's id of the run.
    :param task_id: the step that is running.
    :param as_of: the moment that the run works as of; what is due is decided by comparing with it.
    :param campaign: internal name of the one campaign to limit the run to, or None for all.
    :param full: recompute all instead of what changed.
    :param dry_run: compute and report, then roll back; nothing leaves the house.
    """

    dag_id: str
    run_id: str
    task_id: str
    as_of: datetime
    campaign: str | None = None
    full: bool = False
    dry_run: bool = False

    @classmethod
    def from_context(cls, context: Context) -> Run:
        """Read the run from Airflow's context.

        ``as_of`` is the parameter if given, else the end of the run's data interval, else its logical
        date, else the moment at which it was asked for. A run that news asked for works as of its start:
        Airflow merges news that comes while a run waits into that run, and dates it by the first.
        """
        params, dag_run = context["params"], context["dag_run"]
        return cls(
            dag_id=context["dag"].dag_id,
            run_id=context["run_id"],
            task_id=context["task"].task_id,
            as_of=parse_as_of(params.get("as_of"))
            or dag_run.data_interval_end
            or dag_run.logical_date
            or (dag_run.run_type == ASSET_TRIGGERED and dag_run.start_date)
            or dag_run.run_after,
            campaign=params.get("campaign") or None,
            full=bool(params.get("full")),
            dry_run=bool(params.get("dry_run")),
        )

    @property
    def application_name(self) -> str:
        """Name of the connections of this step, as pg_stat_activity shows it."""
        return f"{self.dag_id}.{self.task_id}"

    def binds(self) -> dict[str, Any]:
        """Return the values that every SQL file may use, by the names of their binds."""
        return {
            "as_of": self.as_of,
            "campaign": self.campaign,
            "full": self.full,
            "run_id": self.run_id,
            "dag_id": self.dag_id,
        }


def ui_url() -> str:
    """Return the address of the Airflow UI, without a slash at its end; links in messages start with it."""
    return str(conf.get("api", "base_url", fallback="http://localhost:8080")).rstrip("/")


def pages_url(base: str) -> str:
    """Return the address of our pages, without a slash at its end; it asks for a login and leads on.

    Not the one at which the UI frames them: that needs the right to see plugins, which FAB gives to few roles.

    :param base: from :func:`ui_url`.
    """
    return base + PAGES_PREFIX


def parse_as_of(text: str | None) -> datetime | None:
    """Read the ``as_of`` parameter: ISO 8601; without an offset it is UTC.

    :raises RunParameterError: when it is not a date with a time.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RunParameterError(f"as_of: {text!r} is not a moment. Write it like 2026-11-01T09:00:00Z.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def workflow_params() -> dict[str, Param]:
    """Parameters of every technical workflow, shown as a form when a run is triggered in the UI."""
    return {
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="As of",
            description_md="Work as of this moment instead of the run's own. A moment before that of a run "
            "already done computes and records the past; it sends nothing.",
        ),
        "campaign": Param(
            None,
            type=["null", "string"],
            title="Campaign",
            description_md="Internal name of one campaign, to limit the run to it.",
        ),
        "full": Param(
            False,
            type="boolean",
            title="Full",
            description_md="Recompute everything, not only what changed since the last run.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description_md="Compute and report what would change, then roll back. Nothing leaves the house.",
        ),
    }
