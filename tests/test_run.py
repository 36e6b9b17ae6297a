"""As of which moment a run works, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from campaign.run import Run, RunParameterError

ASKED = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
STARTED = ASKED + timedelta(seconds=20)
LOGICAL = ASKED - timedelta(minutes=1)
INTERVAL_END = ASKED - timedelta(minutes=2)


def as_of(param: str | None = None, **dag_run: Any) -> datetime:
    values = {
        "run_type": "manual",
        "data_interval_end": None,
        "logical_date": None,
        "start_date": STARTED,
        "run_after": ASKED,
    }
    context: Any = {
        "params": {"as_of": param},
        "dag_run": SimpleNamespace(**(values | dag_run)),
        "dag": SimpleNamespace(dag_id="budgetMgt"),
        "task": SimpleNamespace(task_id="calculate_costs"),
        "run_id": "test",
    }
    return Run.from_context(context).as_of


def test_parameter_wins_then_interval_then_logical_date_then_when_it_was_asked_for() -> None:
    everything = {"data_interval_end": INTERVAL_END, "logical_date": LOGICAL}
    assert as_of("2026-01-01T00:00:00Z", **everything) == datetime(2026, 1, 1, tzinfo=UTC)
    assert as_of(**everything) == INTERVAL_END
    assert as_of(logical_date=LOGICAL) == LOGICAL
    assert as_of() == ASKED


def test_run_that_news_asked_for_sees_all_news_until_its_start() -> None:
    """Airflow merges later news into a run that waits, and keeps the date of the first."""
    assert as_of(run_type="asset_triggered") == STARTED


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T09:00", datetime(2026, 11, 1, 9, tzinfo=UTC)),
        ("2026-11-01T09:00:00+02:00", datetime(2026, 11, 1, 7, tzinfo=UTC)),
    ],
)
def test_parameter_without_an_offset_is_utc(text: str, moment: datetime) -> None:
    assert as_of(text) == moment


@pytest.mark.parametrize("text", ["tomorrow", "2026-13-01", "1698825600"])
def test_parameter_that_is_no_moment_is_refused_by_name(text: str) -> None:
    with pytest.raises(RunParameterError, match=rf"as_of: '{text}' is not a moment\. Write it like"):
        as_of(text)
