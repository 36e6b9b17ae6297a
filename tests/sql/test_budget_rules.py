"""The rules of cost calculation that a person would name, one by one."""

# The explanations of amounts use the sign of multiplication.
# ruff: noqa: RUF001, RUF003, E501

from __future__ import annotations

from decimal import Decimal

import psycopg
import pytest

from campaign.mail import render_mail
from campaign.operators.cost_aggregation import CostAggregation
from tests.budget_world import World, moment

D = Decimal


@pytest.fixture
def world(db):
    world = World(db)
    world.frame(commitment_level="reserved")
    world.cost_type("piece", basis="per_message", method="linear", amount="0.1243")
    world.cost_type("set-up", basis="fixed", amount=50)
    world.cost_type("day", service="rooms", channel="task", basis="per_day", amount=300)
    return world


def journal(world, level="error"):
    return [row[0] for row in world.rows("SELECT message FROM campaign.journal WHERE level = %s ORDER BY id", level)]


def notices(world, kind):
    return world.rows("SELECT recipient_email, facts FROM campaign.notification WHERE kind = %s ORDER BY id", kind)


def test_empty_database_changes_nothing(db, run_workflow):
    before = World(db).state()
    run_workflow("budgetMgt", moment("01 00:00"))
    after = World(db).state()
    assert after.pop("cost_watermark")
    assert after.pop("budget_history_day")
    assert after == {table: rows for table, rows in before.items() if table in after}


def test_split_says_how_each_amount_came_about(world, run_workflow):
    world.analysed("d", "piece", "set-up", messages=798, at=moment("01 00:00"))
    world.db.execute("UPDATE campaign.delivery_cost SET surcharge = 7.5 WHERE cost_type_id = %s", [world.ids["set-up"]])
    run_workflow("budgetMgt", moment("02 00:00"), run_id="the run")
    assert world.items("d") == [
        ("piece", "calculated", D(798), D("99.19"), "798 × 0.1243 = 99.1914, rounded 99.19"),
        ("set-up", "calculated", D(1), D("50.00"), "fixed 50.00 = 50.00"),
        ("set-up", "surcharge", D(1), D("7.50"), "surcharge 7.50"),
    ]
    assert world.rows("SELECT cost_total, computed_at, run_id, frozen_at FROM campaign.expense_line") == [
        (D("156.69"), moment("02 00:00"), "the run", None)
    ]
    assert world.cost("delivery", "d") == D("156.69")


def test_half_a_cent_is_rounded_away_from_zero(world, run_workflow):
    world.cost_type("third", basis="per_message", method="linear", amount="0.015", batch_size=3)
    world.analysed("d", "third", messages=1, at=moment("01 00:00"))
    world.analysed("e", "third", messages=3, at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    assert (world.items("d"), world.items("e")) == (
        [("third", "calculated", D(1), D("0.01"), "1 / 3 × 0.015 = 0.005, rounded 0.01")],
        [("third", "calculated", D(3), D("0.02"), "3 / 3 × 0.015 = 0.015, rounded 0.02")],
    )


def test_analysis_with_the_same_cost_is_seen_as_new(world, run_workflow):
    """Budget approvals wait for a split that is as new as the analysis."""
    world.analysed("d", "piece", messages=10, at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    run_workflow("budgetMgt", moment("03 00:00"), full=True)
    assert world.rows("SELECT computed_at FROM campaign.expense_line") == [(moment("02 00:00"),)]
    world.set("delivery", "d", analysed_at=moment("03 12:00"))
    run_workflow("budgetMgt", moment("04 00:00"))
    assert world.rows("SELECT computed_at FROM campaign.expense_line") == [(moment("04 00:00"),)]


def test_count_that_no_analysis_found_is_not_charged_yet(world, run_workflow):
    world.analysed("d", "piece", messages=798, at=moment("01 00:00"), provisional_cost=120)
    run_workflow("budgetMgt", moment("02 00:00"))
    world.set("delivery", "d", analysed_at=None)
    run_workflow("budgetMgt", moment("03 00:00"))
    assert world.items("d") == []
    assert world.lines() == [("d", "marketing", None, "reserved", D("120.00"))]
    assert world.cost("delivery", "d") == 120


def test_levels_are_inherited_overridden_and_spent(world, run_workflow):
    world.delivery("inherits", provisional_cost=100)
    world.delivery("overrides", provisional_cost=10, commitment_level="committed")
    world.task("of program", program_id="program", provisional_cost=7)
    run_workflow("budgetMgt", moment("02 00:00"))
    assert world.lines() == [
        ("inherits", "marketing", None, "reserved", D(100)),
        ("of program", "marketing", None, "planned", D(7)),
        ("overrides", "marketing", None, "committed", D(10)),
    ]
    world.set(
        "delivery",
        "inherits",
        status="finished",
        message_count=0,
        finished_at=moment("02 12:00"),
        real_cost=90,
    )
    run_workflow("budgetMgt", moment("03 00:00"))
    assert world.position() == {"spent": D(90), "committed": D(10), "planned": D(7)}
    assert world.cost("program", "program") == D(107)


def test_campaign_being_edited_charges_nobody(world, run_workflow):
    world.set("campaign", "loyalty", budget_status="being_edited", fixed_cost=5)
    world.delivery("d", provisional_cost=100)
    world.task("t", provisional_cost=20, status="canceled", canceled_at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    assert (world.cost("campaign", "loyalty"), world.lines()) == (D(100), [])
    world.set("campaign", "loyalty", provisional_cost=77)
    run_workflow("budgetMgt", moment("02 00:00"))
    assert (world.cost("campaign", "loyalty"), world.lines(), world.differences()) == (D(77), [], [])


def test_campaign_being_edited_counts_what_is_entered_for_elements_that_cannot_be_calculated(world, run_workflow):
    world.cost_type("unpriced")
    world.set("campaign", "loyalty", budget_status="being_edited")
    world.analysed("d", "unpriced", messages=1, at=moment("01 00:00"), provisional_cost=70)
    world.delivery("broken down")
    world.add("cost_breakdown", delivery_id="broken down", kind="provisional", expense_category_id="paper", amount=5)
    world.task("t", provisional_cost=20)
    world.task("canceled", provisional_cost=900, status="canceled", canceled_at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    assert (world.cost("campaign", "loyalty"), world.position()) == (95, {})
    world.set("delivery", "d", provisional_cost=71)
    run_workflow("budgetMgt", moment("03 00:00"))
    assert world.cost("campaign", "loyalty") == 96
    assert world.differences() == []


def test_breakdown_sends_costs_to_categories(world, run_workflow):
    world.delivery("d", provisional_cost=100)
    world.add("cost_breakdown", delivery_id="d", kind="provisional", expense_category_id="paper", amount=60)
    world.add("cost_breakdown", delivery_id="d", kind="real", expense_category_id="postage", amount=80)
    run_workflow("budgetMgt", moment("02 00:00"))
    assert world.lines() == [("d", "marketing", "postage", "reserved", D(80))]
    world.db.execute("DELETE FROM campaign.cost_breakdown WHERE kind = 'real'")
    run_workflow("budgetMgt", moment("03 00:00"))
    assert world.lines() == [
        ("d", "marketing", "paper", "reserved", D(60)),
        ("d", "marketing", None, "reserved", D(40)),
    ]


def test_real_cost_of_a_campaign_is_what_its_budget_is_charged(world, run_workflow):
    world.delivery("d", provisional_cost=100)
    world.set("campaign", "loyalty", fixed_cost=20, real_cost=150)
    run_workflow("budgetMgt", moment("02 00:00"))
    assert world.lines() == [
        ("d", "marketing", None, "reserved", D(100)),
        ("loyalty", "marketing", None, "reserved", D(50)),
    ]
    assert (world.cost("campaign", "loyalty"), world.differences()) == (D(150), [])


def test_canceled_element_is_charged_only_what_it_spent(world, run_workflow):
    world.task(
        "worked",
        "day",
        status="canceled",
        days_completed=2,
        finished_at=moment("01 00:00"),
        canceled_at=moment("02 00:00"),
        provisional_cost=900,
    )
    world.task("dropped", "day", status="canceled", canceled_at=moment("02 00:00"), provisional_cost=900)
    world.task("paid", "day", status="canceled", canceled_at=moment("02 00:00"), real_cost=30)
    run_workflow("budgetMgt", moment("03 00:00"))
    assert world.lines() == [
        ("paid", "marketing", None, "spent", D(30)),
        ("worked", "marketing", None, "spent", D(600)),
    ]


def test_templates_cost_nothing(world, run_workflow):
    world.analysed("d", "piece", messages=100, at=moment("01 00:00"), is_template=True)
    world.named(
        "campaign",
        "template",
        program_id="program",
        is_template=True,
        budget_status="defined",
        provisional_cost=9,
    )
    world.analysed("e", "piece", messages=100, at=moment("01 00:00"), campaign="template")
    run_workflow("budgetMgt", moment("02 00:00"))
    assert world.lines() == []
    assert [world.cost("delivery", "d"), world.cost("delivery", "e"), world.cost("campaign", "template")] == [None] * 3


def test_default_is_taken_where_nothing_is_selected(world, run_workflow):
    world.cost_type("plain", category="envelope", selected_by_default=True, basis="fixed", amount=3)
    world.cost_type("window", category="envelope", basis="fixed", amount=4)
    world.cost_type("voice", category="voice", channel="sms", selected_by_default=True, basis="fixed", amount=9)
    world.analysed("d", messages=1, at=moment("01 00:00"))
    world.analysed("e", "window", messages=1, at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    assert (world.cost("delivery", "d"), world.cost("delivery", "e")) == (D(3), D(4))


def test_split_is_frozen_when_the_element_is_finished(world, run_workflow):
    world.analysed("open", "piece", messages=1000, at=moment("01 00:00"))
    world.analysed(
        "done",
        "piece",
        messages=1000,
        at=moment("01 00:00"),
        status="finished",
        finished_at=moment("02 00:00"),
    )
    run_workflow("budgetMgt", moment("03 00:00"))
    world.set("cost_structure", "piece structure", amount="0.2")
    run_workflow("budgetMgt", moment("04 00:00"), full=True)
    assert (world.cost("delivery", "open"), world.cost("delivery", "done")) == (D(200), D("124.30"))
    world.set("delivery", "done", budget_id=world.named("budget", "other"))
    run_workflow("budgetMgt", moment("05 00:00"))
    assert (world.position("other"), world.differences()) == ({"spent": D("124.30")}, [])


def test_paid_invoice_takes_the_place_of_the_cost(world, run_workflow):
    world.analysed(
        "d",
        "piece",
        "set-up",
        messages=1000,
        at=moment("01 00:00"),
        status="finished",
        finished_at=moment("02 00:00"),
    )
    for cost_type, category in (("piece", "postage"), ("set-up", "paper")):
        world.db.execute(
            "UPDATE campaign.delivery_cost SET expense_category_id = %s WHERE cost_type_id = %s",
            [world.ids[category], world.ids[cost_type]],
        )
    run_workflow("budgetMgt", moment("03 00:00"))
    world.add("invoice", number="1", provider_id="printers", status="issued")
    world.add("invoice_line", invoice_id="1", label="print", amount="200.00")
    line = world.rows("SELECT id FROM campaign.expense_line")[0][0]
    world.set("expense_line", line, invoice_line_id="print")
    run_workflow("budgetMgt", moment("04 00:00"))
    assert world.position() == {"spent": D("174.30")}
    world.set("invoice", "1", status="paid", paid_at=moment("04 12:00"))
    run_workflow("budgetMgt", moment("05 00:00"))
    # 200 × 124.30 / 174.30 = 142.63
    assert world.lines() == [
        ("d", "marketing", "paper", "invoiced", D("57.37")),
        ("d", "marketing", "postage", "invoiced", D("142.63")),
    ]
    assert (world.cost("delivery", "d"), world.differences()) == (D("174.30"), [])
    world.set("invoice", "1", status="issued", paid_at=None)
    run_workflow("budgetMgt", moment("06 00:00"))
    assert world.position() == {"spent": D("174.30")}


def test_invoice_line_pays_one_expense_line(world, run_workflow):
    world.delivery("d", provisional_cost=1)
    world.delivery("e", provisional_cost=1)
    run_workflow("budgetMgt", moment("01 00:00"))
    world.add("invoice", number="1", provider_id="printers")
    world.add("invoice_line", invoice_id="1", label="print", amount=1)
    with pytest.raises(psycopg.errors.UniqueViolation, match="an invoice_line pays one expense_line"):
        world.db.execute("UPDATE campaign.expense_line SET invoice_line_id = %s", [world.ids["print"]])


def test_element_that_cannot_be_calculated_keeps_what_it_had(world, run_workflow):
    world.analysed("good", "piece", messages=100, at=moment("01 00:00"))
    world.analysed("bad", "piece", messages=100, at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    world.cost_type("unpriced")
    world.add("delivery_cost", delivery_id="bad", cost_type_id="unpriced")
    world.set("delivery", "good", message_count=200)
    world.set("delivery", "bad", message_count=200)
    summary = run_workflow("budgetMgt", moment("03 00:00"))
    run_workflow("budgetMgt", moment("04 00:00"), full=True)
    assert summary["calculate_costs"]["elements_not_calculated"] == 1
    assert (world.cost("delivery", "good"), world.cost("delivery", "bad")) == (D("24.86"), D("12.43"))
    assert journal(world) == [
        "The cost of delivery 'bad' (bad) cannot be calculated: the cost type 'unpriced category - unpriced' of the "
        "service 'print' has no cost structure: enter one, or select another cost type."
    ]
    ((email, facts),) = notices(world, "budget_problems")
    assert (email, facts["problems"], facts["problems_more"]) == ("vera@example.com", journal(world), 0)

    world.add("cost_structure", cost_type_id="unpriced", basis="fixed", amount=1)
    summary = run_workflow("budgetMgt", moment("05 00:00"))
    assert (world.cost("delivery", "bad"), summary["alert_budgets"]["problems_standing"]) == (D("25.86"), 0)
    assert len(notices(world, "budget_problems")) == 1


def test_count_past_the_last_threshold_is_an_error_with_names(world, run_workflow):
    world.cost_type("band", basis="per_message", method="graduated", thresholds=((100, "1"),))
    world.set("cost_structure", "band structure", label="Bands")
    world.analysed("d", "band", messages=101, at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    assert journal(world) == [
        "The cost of delivery 'd' (d) cannot be calculated: 101 messages are more than the last threshold of the "
        "cost structure 'Bands', which has no amount beyond it: enter that amount, or another threshold."
    ]
    assert (world.cost("delivery", "d"), world.cost("campaign", "loyalty")) == (None, 0)


def test_cost_that_is_more_than_can_be_right_is_an_error_and_stops_no_other(world, run_workflow):
    world.cost_type("mistyped", category="Paper", basis="per_message", method="linear", amount=1_000_000_000)
    world.analysed("d", "mistyped", messages=20_000_000, at=moment("01 00:00"))
    world.analysed("other", "piece", messages=100, at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    assert journal(world) == [
        "The cost of delivery 'd' (d) cannot be calculated: its cost by 'Paper - mistyped' is more than can be right, "
        "20000000 × 1000000000.00 = 20000000000000000.00: correct the cost structure, or what it counts."
    ]
    assert (world.cost("delivery", "d"), world.cost("delivery", "other")) == (None, D("12.43"))
    world.set("cost_structure", "mistyped structure", amount=1)
    run_workflow("budgetMgt", moment("03 00:00"))
    assert world.cost("delivery", "d") == D("20000000.00")


def test_required_category_without_selection_is_an_error(world, run_workflow):
    world.cost_type("stamp", category="Stamps", selection_required=True, basis="fixed", amount=1)
    world.analysed("d", "piece", messages=1, at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    assert journal(world) == [
        "The cost of delivery 'd' (d) cannot be calculated: its service 'print' demands a cost type of the category "
        "'Stamps', and none is selected: select one."
    ]


def test_overrun_is_told_once_per_crossing(world, run_workflow):
    world.delivery("small", provisional_cost=9000)
    run_workflow("budgetMgt", moment("01 00:00"))
    world.delivery("large", provisional_cost=3000)
    world.delivery("planned", provisional_cost=50000, commitment_level="planned")
    run_workflow("budgetMgt", moment("02 00:00"))
    run_workflow("budgetMgt", moment("03 00:00"), full=True)
    ((email, facts),) = notices(world, "budget_overrun")
    assert email == "vera@example.com"
    assert (facts["budget"], facts["amount_over"], facts["allocated"]) == ("marketing", "2000.00", "10000.00")
    assert facts["lines"] == [
        {
            "element": "delivery",
            "label": "large",
            "campaign": "loyalty",
            "level": "reserved",
            "amount": "3000.00",
        }
    ]
    assert journal(world, "warning") == [
        "Budget 'marketing' (marketing) is charged 2000.00 EUR beyond its allocation of 10000.00. Among what took it "
        "there: delivery 'large' 3000.00."
    ]
    world.set("budget", "marketing", allocated=20000)
    run_workflow("budgetMgt", moment("04 00:00"))
    world.set("budget", "marketing", allocated=11000)
    run_workflow("budgetMgt", moment("05 00:00"))
    facts = [facts for _, facts in notices(world, "budget_overrun")]
    assert [(fact["amount_over"], len(fact["lines"])) for fact in facts] == [("2000.00", 1), ("1000.00", 2)]


def test_overrun_names_each_element_once_with_its_sum(world, run_workflow):
    world.delivery("large", provisional_cost=13000)
    for category, amount in (("paper", 6000), ("postage", 5500)):
        world.add(
            "cost_breakdown", delivery_id="large", kind="provisional", expense_category_id=category, amount=amount
        )
    world.delivery("larger in one category", provisional_cost=7000)
    world.task("of the program", program_id="program", provisional_cost=9000, commitment_level="committed")
    world.set("campaign", "loyalty", fixed_cost=8000)
    run_workflow("budgetMgt", moment("01 00:00"))
    ((_, facts),) = notices(world, "budget_overrun")
    assert [(line["element"], line["label"], line["level"], line["amount"]) for line in facts["lines"]] == [
        ("delivery", "large", "reserved", "13000.00"),
        ("task", "of the program", "committed", "9000.00"),
        ("campaign", "loyalty", "reserved", "8000.00"),
        ("delivery", "larger in one category", "reserved", "7000.00"),
    ]


def test_budget_without_an_owner_tells_the_supervisors(world, run_workflow):
    world.named("staff", "sam", email="sam@example.com")
    world.named("staff_group", "supervisors")
    world.db.execute(
        "INSERT INTO campaign.staff_group_member VALUES (%s, %s)",
        [world.ids["supervisors"], world.ids["sam"]],
    )
    world.set("budget", "marketing", owner_id=None)
    world.delivery("large", provisional_cost=13000)
    run_workflow("budgetMgt", moment("02 00:00"))
    assert [email for email, _ in notices(world, "budget_overrun")] == ["sam@example.com"]


def test_categories_that_do_not_add_up_are_told(world, run_workflow):
    world.add("budget_category", budget_id="marketing", expense_category_id="paper", allocated=4000)
    run_workflow("budgetMgt", moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    assert journal(world, "warning") == [
        "The categories of budget 'marketing' (marketing) add up to 4000.00 EUR, but 10000.00 is allocated to it: "
        "correct one or the other."
    ]
    assert len(notices(world, "budget_problems")) == 1
    world.add("budget_category", budget_id="marketing", expense_category_id="postage", allocated=6000)
    summary = run_workflow("budgetMgt", moment("03 00:00"))
    assert summary["alert_budgets"]["problems_standing"] == 0


def history(world):
    return world.rows(
        "SELECT to_char(as_of, 'DD'), level, amount FROM campaign.budget_history ORDER BY as_of, level, amount"
    )


@pytest.mark.parametrize("order", [(1, 2, 3, 4, 5, 6), (6, 5, 4, 3, 2, 1), (3, 6, 1, 5, 2, 4)])
def test_history_and_present_do_not_depend_on_the_order_of_runs(world, run_workflow, order):
    world.analysed(
        "d",
        "piece",
        messages=1000,
        at=moment("02 09:00"),
        status="finished",
        finished_at=moment("04 09:00"),
        provisional_cost=100,
    )
    world.task("t", "day", status="canceled", canceled_at=moment("03 09:00"), provisional_cost=7)
    world.set("campaign", "loyalty", fixed_cost=11, status="finished", ends_at=moment("05 09:00"))
    for day in order:
        run_workflow("budgetMgt", moment(f"{day:02} 23:00"), run_id=f"day {day} {order}")
    assert history(world) == [
        ("01", "reserved", D(118)),
        ("02", "reserved", D("142.30")),
        ("03", "reserved", D("135.30")),
        ("04", "reserved", D(11)),
        ("04", "spent", D("124.30")),
        ("05", "spent", D("135.30")),
        ("06", "spent", D("135.30")),
    ]
    assert (world.position(), world.differences()) == ({"spent": D("135.30")}, [])


def test_day_ends_at_midnight_of_the_instance(world, run_workflow):
    world.db.execute("UPDATE campaign.setting SET value = '\"Asia/Tokyo\"' WHERE name = 'time_zone'")
    world.delivery("d", provisional_cost=100)
    run_workflow("budgetMgt", moment("01 15:00"))
    assert history(world) == [("02", "reserved", D(100))]


def test_run_for_an_earlier_moment_of_the_day_leaves_its_history(world, run_workflow):
    world.task("t", "day", status="finished", days_completed=1, finished_at=moment("01 12:00"))
    run_workflow("budgetMgt", moment("01 13:00"), run_id="later")
    run_workflow("budgetMgt", moment("01 11:00"), run_id="earlier")
    assert history(world) == [("01", "spent", D(300))]


def test_run_for_the_past_writes_only_history(world, run_workflow):
    world.task("t", "day", status="finished", days_completed=40, finished_at=moment("02 12:00"))
    run_workflow("budgetMgt", moment("05 00:00"), run_id="present")
    world.set("budget", "marketing", allocated=1)
    before = world.state()
    run_workflow("budgetMgt", moment("03 00:00"), run_id="past")
    after = world.state()
    changed = {table for table in before if before[table] != after[table]}
    assert changed == {"budget_history", "budget_history_day"}


def test_run_of_one_campaign_leaves_the_others(world, run_workflow):
    world.named("campaign", "other", program_id="program", budget_status="defined")
    world.delivery("d", provisional_cost=100)
    world.delivery("e", provisional_cost=10, campaign="other")
    run_workflow("budgetMgt", moment("01 00:00"), campaign="loyalty")
    assert (world.cost("delivery", "d"), world.cost("delivery", "e"), world.cost("program", "program")) == (
        100,
        None,
        100,
    )
    assert (history(world), world.differences()) == ([], [])
    run_workflow("budgetMgt", moment("02 00:00"))
    assert (world.cost("delivery", "e"), world.cost("plan", "plan")) == (10, 110)


def test_dry_run_lists_lines_and_totals_and_changes_nothing(world, run_workflow, monkeypatch):
    world.delivery("d", provisional_cost=100)
    world.delivery("e", provisional_cost=10)
    run_workflow("budgetMgt", moment("01 00:00"))
    world.set("delivery", "d", provisional_cost=130)
    world.set("delivery", "e", provisional_cost=2000, commitment_level="committed")
    world.set("budget", "marketing", allocated=1)
    before = world.state()
    report: list[str] = []
    monkeypatch.setattr(CostAggregation, "log_report", lambda _, lines: report.extend(lines))
    summary = run_workflow("budgetMgt", moment("02 00:00"), dry_run=True)
    assert world.state() == before
    assert summary["calculate_costs"]["cost_lines_changed"] == 2
    assert summary["alert_budgets"]["budgets_overrun"] == 1
    assert report == [
        "delivery e, no category: 10.00 reserved on marketing -> 2000.00 committed on marketing",
        "delivery d, no category: 100.00 reserved on marketing -> 130.00 reserved on marketing",
        "budget marketing, committed: 0.00 -> 2000.00",
        "budget marketing, reserved: 110.00 -> 130.00",
    ]


def test_element_due_later_is_seen_without_an_edit(world, run_workflow):
    world.analysed("d", "set-up", messages=1, at=moment("05 00:00"), provisional_cost=3)
    run_workflow("budgetMgt", moment("01 00:00"))
    assert world.cost("delivery", "d") == 3
    run_workflow("budgetMgt", moment("06 00:00"))
    assert world.cost("delivery", "d") == 50


def test_sums_that_come_to_nothing_go(world, run_workflow):
    world.delivery("d", provisional_cost=100)
    world.task("t", program_id="program", provisional_cost=30)
    run_workflow("budgetMgt", moment("01 00:00"))
    world.named("budget", "other", allocated=1)
    for table, name in (("delivery", "d"), ("task", "t")):
        world.set(table, name, budget_id="other")
    run_workflow("budgetMgt", moment("02 00:00"))
    assert world.rows("SELECT DISTINCT budget_id FROM campaign.budget_charge") == [(world.ids["other"],)]


def test_linked_budgets_are_consolidated_at_any_depth(world, run_workflow):
    world.named("budget", "top", allocated=5)
    world.named("budget", "middle", allocated=7, parent_id="top")
    world.set("budget", "marketing", parent_id="middle")
    world.delivery("d", provisional_cost=100)
    world.delivery("e", provisional_cost=10, budget_id="middle", commitment_level="planned")
    run_workflow("budgetMgt", moment("01 00:00"))
    assert world.rows(
        "SELECT allocated, planned, reserved, available, projected FROM campaign.budget_consolidated "
        "WHERE budget_id = %s",
        world.ids["top"],
    ) == [(D(10012), D(10), D(100), D(9912), D(9902))]
    assert world.differences() == []


def test_budgets_must_not_go_round_nor_mix_currencies(world):
    world.named("budget", "child", parent_id="marketing")
    world.named("budget", "yen", currency="JPY")
    with pytest.raises(psycopg.errors.CheckViolation, match="Budget 'marketing' cannot be linked to budget 'child'"):
        world.set("budget", "marketing", parent_id="child")
    with pytest.raises(psycopg.errors.CheckViolation, match="Budget 'yen' is in JPY and budget 'marketing'"):
        world.set("budget", "yen", parent_id="marketing")
    with pytest.raises(psycopg.errors.CheckViolation, match="linked budgets have one currency"):
        world.set("budget", "marketing", currency="USD")


def test_currency_of_a_charged_budget_stays(world, run_workflow):
    world.delivery("d", provisional_cost=100)
    run_workflow("budgetMgt", moment("01 00:00"))
    with pytest.raises(psycopg.errors.CheckViolation, match="'marketing' cannot change from EUR to USD: amounts"):
        world.set("budget", "marketing", currency="USD")


def test_edit_that_changes_no_cost_is_not_noted(world, run_workflow):
    world.delivery("d", provisional_cost=100)
    run_workflow("budgetMgt", moment("01 00:00"))
    world.set("delivery", "d", label="another", status="targeting_pending")
    world.set("campaign", "loyalty", label="another")
    assert world.rows("SELECT * FROM campaign.cost_change") == []
    world.set("delivery", "d", provisional_cost=1)
    assert world.rows("SELECT * FROM campaign.cost_change") == [("delivery", world.ids["d"])]


def test_total_that_was_written_by_hand_is_reported(world, run_workflow):
    world.delivery("d", provisional_cost=100)
    run_workflow("budgetMgt", moment("01 00:00"))
    world.db.execute("UPDATE campaign.program SET calculated_cost = 1")
    summary = run_workflow("budgetMgt", moment("02 00:00"))
    assert summary["check_totals"]["totals_that_differ"] == 2
    assert journal(world)[0].startswith(
        "The calculated cost of a program (program) is 1.00, but what is below it adds up to 100.00"
    )
    summary = run_workflow("budgetMgt", moment("03 00:00"), full=True)
    assert (summary["check_totals"]["totals_that_differ"], world.differences()) == (0, [])


def test_cost_that_is_charged_to_nobody_is_reported(world, run_workflow):
    world.delivery("d", provisional_cost=100)
    world.task("t", program_id="program", provisional_cost=30)
    world.cost_type("unpriced")
    world.analysed("problem", "unpriced", messages=1, at=moment("01 00:00"), provisional_cost=7)
    run_workflow("budgetMgt", moment("01 00:00"))
    assert world.differences() == []
    world.db.execute("DELETE FROM campaign.cost_line")
    assert [row[:2] + row[3:] for row in world.differences() if row[0].startswith("cost lines")] == [
        ("cost lines of a delivery", "d", D(0), D(100)),
        ("cost lines of a task", "t", D(0), D(30)),
    ]
    # Not while it is charged to nobody, nor before the run that charges it.
    world.set("campaign", "loyalty", budget_status="being_edited")
    run_workflow("budgetMgt", moment("02 00:00"), full=True)
    assert world.differences() == []
    world.set("campaign", "loyalty", budget_status="defined")
    assert world.differences() == []
    run_workflow("budgetMgt", moment("03 00:00"))
    assert world.differences() == []


def mail(world, kind):
    ((_, facts),) = notices(world, kind)
    recipient = {"label": "Vera", "time_zone": "Europe/Paris", "language": "en"}
    return render_mail(kind, facts, recipient, "http://ui")


def test_mail_of_an_overrun_says_all(world, run_workflow):
    world.delivery("<large>", provisional_cost=13000)
    run_workflow("budgetMgt", moment("02 00:00"))
    sent = mail(world, "budget_overrun")
    assert sent.subject == "Budget marketing: 3000.00 EUR beyond its allocation"
    assert (
        sent.body_text
        == """Hello Vera,

as of 2026-11-02 01:00 CET the budget marketing (marketing) is charged 3000.00 EUR more than the 10000.00 that are allocated to it.

Reserved 13000.00, committed 0.00, spent 0.00, invoiced 0.00; planned on top: 0.00.

What took it there:
- delivery <large> (loyalty): 13000.00 reserved

Raise the allocation, charge something to another budget, or lower a commitment. You will hear of this budget again only after it has been back within its allocation.
"""
    )
    assert "delivery &lt;large&gt; (loyalty)" in sent.body_html


def test_mail_of_problems_lists_them(world, run_workflow):
    world.add("budget_category", budget_id="marketing", expense_category_id="paper", allocated=4000)
    run_workflow("budgetMgt", moment("02 00:00"))
    sent = mail(world, "budget_problems")
    assert sent.subject == "Budget marketing: 1 to mend"
    assert sent.body_text.endswith(
        "keeps the cost it had.\n\n- The categories of budget 'marketing' (marketing) add up to 4000.00 EUR, but "
        "10000.00 is allocated to it: correct one or the other.\n"
    )


def test_categories_that_an_analysis_misses_are_named(world):
    world.cost_type("stamp", category="Stamps", selection_required=True, basis="fixed", amount=1)
    world.cost_type("box", category="Boxes", selection_required=True, selected_by_default=True, basis="fixed", amount=1)
    world.delivery("d", "piece")
    assert world.rows("SELECT campaign.missing_cost_categories(%s)", world.ids["d"]) == [(["Stamps"],)]
    world.delivery("e", "stamp")
    assert world.rows("SELECT campaign.missing_cost_categories(%s)", world.ids["e"]) == [([],)]


def test_new_split_is_noted_for_its_approvals(world, run_workflow):
    world.analysed("waiting", "piece", messages=100, at=moment("01 00:00"))
    world.analysed(
        "done", "piece", messages=100, at=moment("01 00:00"), status="finished", finished_at=moment("02 00:00")
    )
    world.db.execute("DELETE FROM campaign.approval_queue")
    world.db.execute("LISTEN campaign_event")
    run_workflow("budgetMgt", moment("03 00:00"))
    noted = world.db.execute("SELECT delivery_id, due_at::text FROM campaign.approval_queue").fetchall()
    assert noted == [(world.ids["waiting"], "-infinity")]
    assert "deliveryMgt" in [news.payload for news in world.db.notifies(timeout=0)]


def test_calculated_cost_is_no_edit(world, run_workflow):
    world.analysed("d", "piece", messages=100, at=moment("01 00:00"))
    tables = ("delivery", "campaign", "program", "plan")

    def touched():
        return [world.rows(f"SELECT updated_at, calculated_cost FROM campaign.{table}")[0] for table in tables]

    before = touched()
    run_workflow("budgetMgt", moment("02 00:00"))
    assert [at for at, _ in touched()] == [at for at, _ in before]
    assert {cost for _, cost in touched()} == {D("12.43")}
    for table in tables:
        world.db.execute(f"UPDATE campaign.{table} SET label = 'other'")
    assert all(after > at for (after, _), (at, _) in zip(touched(), before, strict=True))
