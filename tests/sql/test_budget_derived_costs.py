"""Real costs that nobody entered: what follows from the answers of providers, whenever budgetMgt comes to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.conftest import Workflow
from tests.factories import Factory
from tests.provider_case import AS_OF
from tests.return_case import ReturnCase
from tests.snapshots import snapshot

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
RETURN_STEPS = ("expect_returns", "take_returns", "alert_returns")
Step = Callable[[int], None]


@pytest.fixture
def case(db: psycopg.Connection[Any], factory: Factory, tmp_path: Path) -> ReturnCase:
    return ReturnCase(db, factory, tmp_path)


@pytest.fixture
def take(run_workflow: Workflow) -> Step:
    """Return a function that takes answers so many minutes later: one that was not seen before has settled then."""

    def run(minutes: int) -> None:
        for minute in (minutes - 2, minutes):
            run_workflow("providerMgt", AS_OF + minute * MINUTE, steps=RETURN_STEPS)

    return run


@pytest.fixture
def at(run_workflow: Workflow, take: Step) -> Step:
    """Return a function that takes answers so many minutes later, and calculates costs."""

    def run(minutes: int) -> None:
        take(minutes)
        run_workflow("budgetMgt", AS_OF + minutes * MINUTE)

    return run


def answer(case: ReturnCase, name: str, keys: list[str], posted: int, minutes: int = 0) -> None:
    """Put an answer there: the first so many keys are posted, the others rejected."""
    rows = [f"{key},accepted,1" if number < posted else f"{key},rejected,0" for number, key in enumerate(keys)]
    case.answer(name, "\n".join(["key,status,posted", *rows, ""]), AS_OF + minutes * MINUTE)


def priced(case: ReturnCase, service: int) -> None:
    """Let the service cost 2.40 up to 3 messages and 2.10 above, and 10 for handling."""
    category = case.factory.insert("cost_category", service_id=service, label="Print", channel="direct_mail")
    letter = case.factory.insert("cost_type", cost_category_id=category, label="Letter", selected_by_default=True)
    structure = case.factory.insert(
        "cost_structure", cost_type_id=letter, basis="per_message", method="linear_by_threshold", beyond_amount="2.1",
    )  # fmt: skip
    case.factory.insert("cost_threshold", cost_structure_id=structure, up_to=3, amount="2.4")
    handling = case.factory.insert("cost_type", cost_category_id=category, label="Handling", selected_by_default=True)
    case.factory.insert("cost_structure", cost_type_id=handling, basis="fixed", amount=10)


def costs(case: ReturnCase) -> list[tuple[Any, ...]]:
    return case.db.execute(
        """
        SELECT delivery.real_cost, delivery.calculated_cost, derived.quantity, derived.explanation
        FROM campaign.delivery AS delivery
        LEFT JOIN campaign.derived_real_cost AS derived ON delivery.id = derived.delivery_id
        ORDER BY delivery.id
        """
    ).fetchall()


def derived_at(case: ReturnCase) -> list[timedelta]:
    """Return how long after AS_OF real costs were derived."""
    return [moment - AS_OF for (moment,) in case.db.execute("SELECT derived_at FROM campaign.derived_real_cost")]


def spent(case: ReturnCase) -> dict[int, Decimal]:
    """Return what the budget had spent at the end of each day."""
    return {
        day.day: amount
        for day, amount in case.db.execute("SELECT as_of, amount FROM campaign.budget_history WHERE level = 'spent'")
    }


@pytest.fixture
def handed(case: ReturnCase, run_workflow: Workflow) -> list[str]:
    """Hand over four letters and a seed, at 4 times 2.10 and 10. Return their keys."""
    case.db.execute(
        "UPDATE campaign.campaign SET budget_id = %s, budget_status = 'defined', commitment_level = 'planned'",
        [case.factory.budget()],
    )
    service = case.returning()
    priced(case, service)
    _, keys = case.handed(service, count=4, seeds=1)
    run_workflow("providerMgt", AS_OF)
    return keys


@pytest.fixture
def finished(case: ReturnCase, run_workflow: Workflow, handed: list[str]) -> list[str]:
    """The same, and freeze the split."""
    run_workflow("budgetMgt", AS_OF)
    assert costs(case) == [(None, Decimal("18.40"), None, None)]
    return handed


def test_real_cost_follows_from_what_was_posted(case: ReturnCase, at: Step, finished: list[str]) -> None:
    # Three letters and the seed: the band below, and the seed is not charged.
    answer(case, "ack.csv", [*finished[:3], finished[4], finished[3]], 4)
    at(12)
    words = "3 messages to be paid for: Print - Letter 7.20, Print - Handling 10.00."
    assert costs(case) == [(Decimal("17.20"), Decimal("17.20"), 3, words)]
    assert case.db.execute("SELECT real_cost, cost_total FROM campaign.expense_line").fetchall() == [
        (Decimal("17.20"), Decimal("18.40"))
    ]
    assert case.db.execute("SELECT level, amount FROM campaign.cost_line").fetchall() == [("spent", Decimal("17.20"))]
    assert case.db.execute("SELECT * FROM campaign.cost_change").fetchall() == []
    [(label,)] = case.db.execute("SELECT label FROM campaign.delivery").fetchall()
    assert [message for _, message in case.journal() if "by what its provider" in message] == [
        f"The real cost of '{label}' is 17.20, by what its provider answered: {words}",
        f"The cost of delivery '{label}' went from 18.40 to 17.20: the real cost by what its provider answered.",
    ]
    before = case.journal()
    at(14)
    assert case.journal() == before

    # A corrected answer: the real cost, which is ours, follows.
    answer(case, "ack.csv", finished, 5, 20)
    at(32)
    assert costs(case)[0][:3] == (Decimal("18.40"), Decimal("18.40"), 4)


def test_answer_that_is_not_complete_costs_nothing_yet(case: ReturnCase, at: Step, finished: list[str]) -> None:
    answer(case, "1.csv", finished[:2], 2)
    at(12)
    assert costs(case)[0][0] is None
    answer(case, "2.csv", finished[2:], 0)
    at(22)
    assert costs(case)[0][::2] == (Decimal("14.80"), 2)


def test_answer_that_comes_to_the_same_is_no_other(case: ReturnCase, take: Step, at: Step, finished: list[str]) -> None:
    answer(case, "1.csv", finished, 2)
    take(12)
    answer(case, "2.csv", finished, 2, 15)
    at(22)
    assert derived_at(case) == [12 * MINUTE]
    answer(case, "3.csv", finished, 3, 25)
    at(32)
    assert (derived_at(case), costs(case)[0][0]) == ([32 * MINUTE], Decimal("17.20"))


@pytest.mark.parametrize("how", ["before", "after", "broken down", "taken away"])
def test_real_cost_of_a_person_stands(case: ReturnCase, at: Step, finished: list[str], how: str) -> None:
    if how == "before":
        case.db.execute("UPDATE campaign.delivery SET real_cost = 99")
    elif how == "broken down":
        category = case.factory.insert("expense_category", internal_name="paper", label="Paper")
        case.factory.insert("cost_breakdown", delivery_id=1, kind="real", expense_category_id=category, amount=99)
    answer(case, "1.csv", finished, 4)
    at(12)
    if how == "after":
        case.db.execute("UPDATE campaign.delivery SET real_cost = 99")
    elif how == "taken away":
        case.db.execute("UPDATE campaign.delivery SET real_cost = NULL")
        answer(case, "2.csv", finished, 4, 15)
    if how == "after":
        answer(case, "1.csv", finished, 2, 20)
    at(32)
    expected = {"broken down": (None, Decimal("99.00")), "taken away": (None, Decimal("18.40"))}
    assert costs(case)[0][:2] == expected.get(how, (Decimal("99.00"), Decimal("99.00")))
    assert sum("stays what a person made it" in message for _, message in case.journal()) == 1


def test_prices_that_changed_since_count_pro_rata(case: ReturnCase, at: Step, finished: list[str]) -> None:
    case.db.execute("UPDATE campaign.cost_structure SET beyond_amount = 9 WHERE basis = 'per_message'")
    answer(case, "1.csv", finished, 2)
    at(12)
    assert costs(case)[0] == (
        Decimal("14.20"), Decimal("14.20"), 2,
        "2 messages to be paid for: Print - Letter 4.20 (pro rata: its prices have changed since), "
        "Print - Handling 10.00.",
    )  # fmt: skip


def test_split_and_real_cost_come_of_one_run(case: ReturnCase, at: Step, handed: list[str]) -> None:
    answer(case, "1.csv", handed, 2)
    at(12)
    assert costs(case)[0][:3] == (Decimal("14.80"), Decimal("14.80"), 2)
    assert case.db.execute("SELECT cost_total, frozen_at FROM campaign.expense_line").fetchall() == [
        (Decimal("18.40"), AS_OF + 12 * MINUTE)
    ]


@pytest.mark.parametrize("runs", [(0, 1, 2, 3), (3, 0, 1, 2), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_day_of_a_real_cost_is_that_of_the_answer_whenever_the_runs_are(
    case: ReturnCase, run_workflow: Workflow, take: Step, handed: list[str], runs: tuple[int, ...]
) -> None:
    for number, day in enumerate(runs):
        if day == max(runs[: number + 1]):
            # What came until then; later days have not come yet.
            for came in range(max((0, *runs[:number])), day + 1):
                if came == 1:
                    answer(case, "ack.csv", handed, 2)
                    take(came * 1440)
        run_workflow("budgetMgt", AS_OF + day * DAY + 60 * MINUTE)
    assert spent(case) == {2: Decimal("18.40"), 3: Decimal("14.80"), 4: Decimal("14.80"), 5: Decimal("14.80")}
    assert derived_at(case) == [DAY]
    assert costs(case)[0][:3] == (Decimal("14.80"), Decimal("14.80"), 2)


def test_answer_that_came_before_the_end_counts_from_the_end(
    case: ReturnCase, run_workflow: Workflow, at: Step, handed: list[str]
) -> None:
    case.db.execute("UPDATE campaign.delivery SET status = 'routing', finished_at = NULL")
    answer(case, "1.csv", handed, 2)
    at(12)
    assert costs(case)[0][0] is None
    case.db.execute("UPDATE campaign.delivery SET status = 'finished', finished_at = %s", [AS_OF + 20 * MINUTE])
    run_workflow("budgetMgt", AS_OF + 19 * MINUTE)
    assert costs(case)[0][0] is None
    run_workflow("budgetMgt", AS_OF + 30 * MINUTE)
    assert costs(case)[0][:2] == (Decimal("14.80"), Decimal("14.80"))
    assert derived_at(case) == [20 * MINUTE]


def test_answer_is_news_for_budget_mgt_and_what_follows_from_it_is_not(
    case: ReturnCase, run_workflow: Workflow, take: Step, dsn: str, finished: list[str]
) -> None:
    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute("LISTEN campaign_event")
        answer(case, "1.csv", finished, 2)
        take(12)
        assert [news.payload for news in listener.notifies(timeout=0.5)] == ["budgetMgt"]
        run_workflow("budgetMgt", AS_OF + 12 * MINUTE)
        assert costs(case)[0][0] == Decimal("14.80")
        assert list(listener.notifies(timeout=0.5)) == []


def test_dry_run_says_what_would_be_derived_and_a_second_run_derives_nothing(
    case: ReturnCase, run_workflow: Workflow, take: Step, finished: list[str]
) -> None:
    answer(case, "1.csv", finished, 2)
    take(12)
    before = snapshot(case.db)
    rehearsed = run_workflow("budgetMgt", AS_OF + 12 * MINUTE, dry_run=True)["calculate_costs"]
    assert snapshot(case.db) == before
    done = run_workflow("budgetMgt", AS_OF + 12 * MINUTE)["calculate_costs"]
    assert rehearsed == done | {"dry_run": True}
    assert (done["real_costs_derived"], done["real_costs_left_to_people"]) == (1, 0)
    before = snapshot(case.db)
    run_workflow("budgetMgt", AS_OF + 12 * MINUTE)
    assert snapshot(case.db) == before


def test_run_limited_to_a_campaign_derives_for_it_only(
    case: ReturnCase, run_workflow: Workflow, take: Step, finished: list[str]
) -> None:
    case.factory.campaign(internal_name="other")
    answer(case, "1.csv", finished, 2)
    take(12)
    for campaign, real_cost in (("other", None), ("loyalty", Decimal("14.80"))):
        run_workflow("budgetMgt", AS_OF + 12 * MINUTE, campaign=campaign)
        assert costs(case)[0][0] == real_cost


def test_full_run_in_chunks_derives_too(
    case: ReturnCase, run_workflow: Workflow, take: Step, dag_bag: DagBag, monkeypatch: pytest.MonkeyPatch,
    handed: list[str],
) -> None:  # fmt: skip
    other = case.factory.campaign(budget_status="defined")
    _, keys = case.handed(1, campaign_id=other)
    run_workflow("providerMgt", AS_OF)
    answer(case, "1.csv", handed, 2)
    answer(case, "2.csv", keys, 3)
    take(12)
    monkeypatch.setattr(dag_bag.dags["budgetMgt"].get_task("calculate_costs"), "chunk_size", 1)
    summary = run_workflow("budgetMgt", AS_OF + 12 * MINUTE, full=True)["calculate_costs"]
    assert summary["real_costs_derived"] == 2
    assert [row[:2] for row in costs(case)] == [
        (Decimal("14.80"), Decimal("14.80")),
        (Decimal("17.20"), Decimal("17.20")),
    ]
    assert case.db.execute("SELECT * FROM campaign.total_difference").fetchall() == []


def test_answer_that_is_being_taken_is_waited_for(
    case: ReturnCase, run_workflow: Workflow, take: Step, dsn: str, finished: list[str]
) -> None:
    answer(case, "1.csv", finished, 2)
    take(12)
    with psycopg.connect(dsn) as taker:
        # What providerMgt locks, in its order: a file that names the delivery, then what the answers come to.
        taker.execute(
            """
            INSERT INTO campaign.provider_return
            (service_id, file_name, status, byte_count, seen_at, sha256, delivery_id, received_at)
            SELECT service_id, '2.csv', status, byte_count, seen_at, sha256, delivery_id, received_at
            FROM campaign.provider_return
            """
        )
        calculating = threading.Thread(target=run_workflow, args=("budgetMgt", AS_OF + 12 * MINUTE))
        calculating.start()
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype <> 'advisory'"
        while calculating.is_alive() and not case.db.execute(waiting).fetchone():
            calculating.join(0.05)
        assert calculating.is_alive()
        taker.execute("SET lock_timeout = '5s'")
        taker.execute("UPDATE campaign.provider_return_line SET posted = 1")
        taker.execute("SELECT campaign.count_answers('{1}', %s)", [AS_OF + 13 * MINUTE])
        taker.commit()
        calculating.join(60)
    # It has changed since the moment of the run.
    assert costs(case)[0][0] is None
    run_workflow("budgetMgt", AS_OF + 13 * MINUTE)
    assert costs(case)[0][0] == Decimal("18.40")


def test_full_run_in_chunks_counts_what_cannot_be_calculated_once(
    case: ReturnCase, run_workflow: Workflow, take: Step, handed: list[str], dag_bag: DagBag,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _, keys = case.handed(1, campaign_id=case.factory.campaign(budget_status="defined"))
    run_workflow("providerMgt", AS_OF)
    case.db.execute("UPDATE campaign.cost_structure SET beyond_amount = NULL WHERE basis = 'per_message'")
    answer(case, "1.csv", handed, 2)
    answer(case, "2.csv", keys, 3)
    take(12)
    names = ("elements_calculated", "elements_not_calculated")
    said = run_workflow("budgetMgt", AS_OF + 12 * MINUTE, full=True, dry_run=True)["calculate_costs"]
    monkeypatch.setattr(dag_bag.dags["budgetMgt"].get_task("calculate_costs"), "chunk_size", 1)
    done = run_workflow("budgetMgt", AS_OF + 12 * MINUTE, full=True)["calculate_costs"]
    assert [done[name] for name in names] == [said[name] for name in names]
