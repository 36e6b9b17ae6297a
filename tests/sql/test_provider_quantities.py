"""What answers come to: quantities side by side, what a quantity costs, alerts that are raised once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.budget_oracle import ConfigurationError, price
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.provider_case import AS_OF
from tests.return_case import ReturnCase

MINUTE = timedelta(minutes=1)
STEPS = ("expect_returns", "take_returns", "alert_returns", "send_alerts")
Step = Callable[[int], dict[str, dict[str, Any]]]


@pytest.fixture
def case(db: psycopg.Connection[Any], factory: Factory, tmp_path: Path) -> ReturnCase:
    return ReturnCase(db, factory, tmp_path)


@pytest.fixture
def at(run_workflow: Workflow) -> Step:
    """Return a function that runs the steps about answers so many minutes later."""

    def run(minutes: int) -> dict[str, dict[str, Any]]:
        return run_workflow("providerMgt", AS_OF + minutes * MINUTE, steps=STEPS)

    return run


def answer(case: ReturnCase, name: str, keys: list[str], posted: int, minutes: int = 0) -> None:
    """Put an answer there: the first so many keys are posted, the others rejected."""
    rows = [f"{key},accepted,1" if number < posted else f"{key},rejected,0" for number, key in enumerate(keys)]
    case.answer(name, "\n".join(["key,status,posted", *rows, ""]), AS_OF + minutes * MINUTE)


amounts = st.decimals(min_value=0, max_value=1000, places=5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["linear", "linear_by_threshold", "constant_by_threshold", "graduated"]),
    amount=amounts,
    batch_size=st.integers(1, 50),
    whole=st.booleans(),
    bands=st.dictionaries(st.integers(1, 300), amounts, max_size=4),
    beyond=st.none() | amounts,
    quantity=st.integers(0, 400),
)
def test_cost_of_a_quantity_is_that_of_the_oracle(
    case: ReturnCase, method: str, amount: Decimal, batch_size: int, whole: bool, bands: dict[int, Decimal],
    beyond: Decimal | None, quantity: int,
) -> None:  # fmt: skip
    with case.db.transaction(force_rollback=True):
        category = case.factory.insert("cost_category", service_id=case.service(), label="Print", channel="direct_mail")
        kind = case.factory.insert("cost_type", cost_category_id=category, label="Letter")
        structure = {
            "basis": "per_message", "method": method, "amount": amount, "batch_size": batch_size,
            "whole_batches": whole, "beyond_amount": beyond,
        }  # fmt: skip
        number = case.factory.insert("cost_structure", cost_type_id=kind, **structure)
        for up_to, unit in bands.items():
            case.factory.insert("cost_threshold", cost_structure_id=number, up_to=up_to, amount=unit)
        found = case.db.execute("SELECT round(campaign.structure_cost(%s, %s), 5)", [number, quantity]).fetchone()[0]  # type: ignore[index]
        try:
            exact = price(structure, sorted(bands.items()), quantity, Decimal(0))
        except ConfigurationError:
            assert found is None
        else:
            assert abs(Decimal(exact.numerator) / exact.denominator - found) <= Decimal("0.000005")


# Side by side, and alerts


def alerts(case: ReturnCase) -> list[tuple[Any, ...]]:
    return case.db.execute("SELECT kind, raised_at, recovered_at FROM campaign.provider_alert ORDER BY id").fetchall()


def test_time_for_an_answer_that_is_changed_holds_for_what_was_handed_over(
    case: ReturnCase, run_workflow: Workflow, db: psycopg.Connection[Any]
) -> None:
    service = case.returning()
    case.handed(service)
    run_workflow("providerMgt", AS_OF)
    states = []
    for minute, within in ((1, "1 minute"), (2, "1 hour"), (3, None), (4, "3 minutes")):
        db.execute("UPDATE campaign.service SET returns_within = %s WHERE id = %s", [within, service])
        run_workflow("providerMgt", AS_OF + minute * MINUTE)
        states += [due and due - AS_OF for (due,) in db.execute("SELECT due_at FROM campaign.provider_answer")]
    assert states == [MINUTE, 60 * MINUTE, None, 3 * MINUTE]
    assert [kind for kind, *_ in alerts(case)] == ["late", "late"]


def test_answer_that_is_late_is_alerted_once_and_its_coming_noted(
    case: ReturnCase, run_workflow: Workflow, at: Step, mail_server: MailServer
) -> None:
    _, keys = case.handed(case.returning(returns_within="1 hour"), label="Catalog")
    run_workflow("providerMgt", AS_OF)
    assert at(59)["alert_returns"] == {"alerts_over": 0, "alerts_raised": 0, "alerts_to_send": 0}
    assert at(60)["alert_returns"] == {"alerts_over": 0, "alerts_raised": 1, "alerts_to_send": 1}
    assert case.quantities("state") == [("late",)]
    assert at(61)["alert_returns"] == {"alerts_over": 0, "alerts_raised": 0, "alerts_to_send": 0}
    assert [(to, str(mail["Subject"])) for to, mail in mail_server.messages] == [
        ("olga@example.com", "No answer yet: Catalog (Nordtryck)")
    ]
    answer(case, "ack.csv", keys, 4)
    at(70), at(72), at(74)
    assert alerts(case) == [("late", AS_OF + 60 * MINUTE, AS_OF + 72 * MINUTE)]
    assert len(mail_server.messages) == 1
    assert sum("is not overdue any more" in message for _, message in case.journal()) == 1


def test_delivery_that_is_canceled_is_waited_for_no_longer(case: ReturnCase, run_workflow: Workflow, at: Step) -> None:
    case.handed(case.returning(returns_within="1 hour"))
    run_workflow("providerMgt", AS_OF)
    at(60)
    case.db.execute("UPDATE campaign.delivery SET status = 'canceled'")
    at(61)
    assert alerts(case) == [("late", AS_OF + 60 * MINUTE, AS_OF + 61 * MINUTE)]


def test_quantities_that_differ_are_alerted_once_each_time(
    case: ReturnCase, run_workflow: Workflow, at: Step, mail_server: MailServer
) -> None:
    _, keys = case.handed(case.returning(quantity_tolerance=25), count=4, label="Catalog")
    run_workflow("providerMgt", AS_OF)
    for number, posted in enumerate((3, 2, 2, 4, 1)):
        answer(case, "ack.csv", keys, posted, number * 10)
        at(number * 10 + 10), at(number * 10 + 12)
    assert alerts(case) == [
        ("difference", AS_OF + 22 * MINUTE, AS_OF + 42 * MINUTE), ("difference", AS_OF + 52 * MINUTE, None),
    ]  # fmt: skip
    assert [str(mail["Subject"]) for _, mail in mail_server.messages] == ["Quantities differ: Catalog (Nordtryck)"] * 2
    assert (
        "The quantities of 'Catalog' at Nordtryck differ by 75 %, more than the 25 % allowed: extracted 4, "
        "accepted 1, posted 1." in [message for _, message in case.journal()]
    )


@pytest.mark.parametrize(
    ("posted", "quantity", "status", "expected"),
    [
        (4, 4, "issued", ("agrees", Decimal("0.00"))),
        (4, 5, "issued", ("different", Decimal("25.00"))),
        (4, 5, "draft", ("agrees", Decimal("0.00"))),
        (None, 5, "issued", ("different", Decimal("25.00"))),
        (None, None, "issued", ("waiting", None)),
    ],
)
def test_invoiced_quantity_stands_beside_the_others(
    case: ReturnCase, run_workflow: Workflow, at: Step, posted: int | None, quantity: int | None, status: str,
    expected: tuple[str, Any],
) -> None:  # fmt: skip
    _, keys = case.handed(case.returning())
    run_workflow("providerMgt", AS_OF)
    run_workflow("budgetMgt", AS_OF)
    if posted is not None:
        answer(case, "ack.csv", keys, posted)
    [(provider,)] = case.db.execute("SELECT id FROM campaign.provider").fetchall()
    invoice = case.factory.insert("invoice", number="1", provider_id=provider, status=status)
    line = case.factory.insert("invoice_line", invoice_id=invoice, label="Letters", amount=10, quantity=quantity)
    case.db.execute("UPDATE campaign.expense_line SET invoice_line_id = %s", [line])
    at(10), at(12)
    assert case.quantities("state", "difference") == [expected]


def test_service_that_is_not_expected_to_answer(case: ReturnCase, run_workflow: Workflow, at: Step) -> None:
    case.handed(case.returning(returns_url=None, returns_within="1 minute"))
    run_workflow("providerMgt", AS_OF)
    at(10)
    assert (case.quantities("state"), alerts(case)) == ([("not expected",)], [])
