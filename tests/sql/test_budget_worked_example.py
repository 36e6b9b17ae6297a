"""The worked example of domain.md, and the published examples of the reference."""

# The explanations of amounts use the sign of multiplication.
# ruff: noqa: RUF001

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.budget_world import World, moment


@pytest.fixture
def world(db):
    world = World(db)
    world.frame()
    world.cost_type("Small room", service="rooms", category="Rooms", channel="task", basis="fixed", amount=300)
    world.cost_type("Large room", service="rooms", category="Rooms", channel="task", basis="fixed", amount=500)
    world.cost_type("Content template", service="rooms", channel="task", basis="per_day", amount=300)
    return world


def test_worked_example(world, run_workflow):
    world.task("booking", "Large room", status="finished", finished_at=moment("01 10:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    assert world.position() == {"spent": Decimal(500)}

    world.task("design", "Content template", status="in_progress", days_completed=2, provisional_cost=1200)
    run_workflow("budgetMgt", moment("03 00:00"))
    assert world.cost("task", "design") == 1200
    assert world.position() == {"spent": Decimal(500), "planned": Decimal(1200)}

    world.set("task", "design", status="finished", days_completed=5, finished_at=moment("03 12:00"))
    run_workflow("budgetMgt", moment("04 00:00"))
    assert world.position() == {"spent": Decimal(2000)}
    assert world.items("design") == [
        ("Content template", "calculated", Decimal(5), Decimal(1500), "5 days × 300.00 = 1500.00")
    ]
    assert [
        world.cost("campaign", "loyalty"),
        world.cost("program", "program"),
        world.cost("plan", "plan"),
    ] == [
        2000,
        2000,
        2000,
    ]

    world.named("budget", "web", allocated=100000, owner_id="vera")
    world.named(
        "campaign",
        "webcampaign",
        program_id="program",
        budget_id="web",
        budget_status="defined",
        provisional_cost=45000,
    )
    run_workflow("budgetMgt", moment("05 00:00"))
    assert world.position("web") == {"planned": Decimal(45000)}
    world.set("campaign", "webcampaign", commitment_level="reserved")
    run_workflow("budgetMgt", moment("06 00:00"))
    assert world.position("web") == {"reserved": Decimal(45000)}
    assert world.differences() == []


def test_published_thresholds(world, run_workflow):
    """The reference's examples: 0.13 up to 100, 0.12 up to 1000, 0.11 beyond; and 12, 100, 500 for all."""
    world.cost_type(
        "each",
        basis="per_message",
        method="linear_by_threshold",
        beyond_amount="0.11",
        thresholds=((100, "0.13"), (1000, "0.12")),
    )
    world.cost_type(
        "all",
        basis="per_message",
        method="constant_by_threshold",
        beyond_amount=500,
        thresholds=((100, "12"), (1000, "100")),
    )
    for messages in (0, 1, 100, 101, 1000, 1001):
        world.analysed(f"d{messages}", "each", "all", messages=messages, at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    assert {
        messages: [item[3:] for item in world.items(f"d{messages}")] for messages in (0, 1, 100, 101, 1000, 1001)
    } == {
        0: [(Decimal(0), "no messages = 0.00"), (Decimal(0), "no messages = 0.00")],
        1: [
            (Decimal("12"), "band 1 to 100: 1 messages for 12.00 = 12.00"),
            (Decimal("0.13"), "band 1 to 100: 1 × 0.13 = 0.13"),
        ],
        100: [
            (Decimal("12"), "band 1 to 100: 100 messages for 12.00 = 12.00"),
            (Decimal("13"), "band 1 to 100: 100 × 0.13 = 13.00"),
        ],
        101: [
            (Decimal("100"), "band 101 to 1000: 101 messages for 100.00 = 100.00"),
            (Decimal("12.12"), "band 101 to 1000: 101 × 0.12 = 12.12"),
        ],
        1000: [
            (Decimal("100"), "band 101 to 1000: 1000 messages for 100.00 = 100.00"),
            (Decimal("120"), "band 101 to 1000: 1000 × 0.12 = 120.00"),
        ],
        1001: [
            (Decimal("500"), "band 1001 and more: 1001 messages for 500.00 = 500.00"),
            (Decimal("110.11"), "band 1001 and more: 1001 × 0.11 = 110.11"),
        ],
    }
    assert world.differences() == []


def test_published_campaign(world, run_workflow):
    """The reference's walk through a campaign: a mailing, a room, five days of design; being edited, then specified."""
    for label, category, structure in (
        ("114x229", "Envelopes", {"basis": "per_message", "method": "linear", "amount": "30", "batch_size": 1000}),
        ("162x229", "Envelopes", {"basis": "per_message", "method": "linear", "amount": "45", "batch_size": 1000}),
        ("Postage", "Postage", {"basis": "per_message", "method": "linear", "amount": "0.4"}),
        ("A4", "Print", {"basis": "per_message", "method": "linear", "amount": "0.05"}),
        ("Other", "Fixed cost", {"basis": "fixed", "amount": 0}),
    ):
        world.cost_type(label, category=category, channel="direct_mail", **structure)
    world.set("campaign", "loyalty", budget_status="being_edited", provisional_cost=6000)
    for category, amount in (("paper", 4000), ("postage", 2000)):
        world.add(
            "cost_breakdown", campaign_id="loyalty", kind="provisional", expense_category_id=category, amount=amount
        )
    run_workflow("budgetMgt", moment("01 00:00"))
    assert (world.cost("campaign", "loyalty"), world.position()) == (6000, {})

    # The cost of the envelopes is overridden, a fixed cost added, each with its category; A3 is not used.
    world.analysed("mailing", channel="direct_mail", messages=1500, at=moment("01 10:00"))
    for cost_type, surcharge, category in (
        ("114x229", "12.50", "paper"),
        ("Postage", "0", "postage"),
        ("A4", "0", "paper"),
        ("Other", "250", None),
    ):
        world.add(
            "delivery_cost",
            delivery_id="mailing",
            cost_type_id=cost_type,
            surcharge=surcharge,
            expense_category_id=category,
        )
    world.task("booking", "Large room", status="in_progress", provisional_cost=450)
    world.task("design", "Content template", status="scheduled", provisional_cost=1200)
    run_workflow("budgetMgt", moment("02 00:00"))
    assert world.items("mailing") == [
        ("114x229", "calculated", Decimal(1500), Decimal("45.00"), "1500 / 1000 × 30.00 = 45.00"),
        ("114x229", "surcharge", Decimal(1), Decimal("12.50"), "surcharge 12.50"),
        ("A4", "calculated", Decimal(1500), Decimal("75.00"), "1500 × 0.05 = 75.00"),
        ("Other", "calculated", Decimal(1), Decimal("0.00"), "fixed 0.00 = 0.00"),
        ("Other", "surcharge", Decimal(1), Decimal("250.00"), "surcharge 250.00"),
        ("Postage", "calculated", Decimal(1500), Decimal("600.00"), "1500 × 0.40 = 600.00"),
    ]
    assert [
        world.cost("delivery", "mailing"),
        world.cost("task", "booking"),
        world.cost("task", "design"),
        world.cost("campaign", "loyalty"),
        world.position(),
    ] == [Decimal("982.50"), 450, 1200, 6000, {}]

    world.set("task", "booking", status="finished", finished_at=moment("02 12:00"))
    world.set("task", "design", status="finished", days_completed=5, finished_at=moment("02 12:00"))
    world.set("campaign", "loyalty", budget_status="defined", commitment_level="committed")
    run_workflow("budgetMgt", moment("03 00:00"))
    assert world.cost("campaign", "loyalty") == Decimal("2982.50")
    assert world.lines() == [
        ("booking", "marketing", None, "spent", Decimal("500.00")),
        ("design", "marketing", None, "spent", Decimal("1500.00")),
        ("mailing", "marketing", "paper", "committed", Decimal("132.50")),
        ("mailing", "marketing", "postage", "committed", Decimal("600.00")),
        ("mailing", "marketing", None, "committed", Decimal("250.00")),
    ]
    assert world.position() == {"committed": Decimal("982.50"), "spent": Decimal(2000)}
    assert world.differences() == []


def test_second_run_writes_nothing(world, run_workflow):
    world.task("booking", "Large room", status="finished", finished_at=moment("01 10:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    before = world.state()
    xmin = (
        "SELECT xmin::text, ctid::text FROM campaign.cost_line "
        "UNION ALL SELECT xmin::text, ctid::text FROM campaign.expense_line"
    )
    versions = world.rows(xmin)
    run_workflow("budgetMgt", moment("02 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"), full=True)
    assert (world.state(), world.rows(xmin)) == (before, versions)
