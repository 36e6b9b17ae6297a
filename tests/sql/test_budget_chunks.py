"""A full run in chunks: consistent half-way, resumed after a kill, one at a time, and nothing deleted under it."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from tests.budget_oracle import Oracle
from tests.budget_world import World, moment


@pytest.fixture
def world(db, dag_bag, monkeypatch):
    monkeypatch.setattr(dag_bag.dags["budgetMgt"].get_task("calculate_costs"), "chunk_size", 2)
    world = World(db)
    world.frame()
    world.cost_type("piece", basis="per_message", method="linear", amount="0.1243")
    for campaign in range(6):
        world.named("campaign", f"c{campaign}", program_id="program", budget_status="defined")
        for number in range(2):
            world.analysed(
                f"d{campaign}{number}",
                "piece",
                campaign=f"c{campaign}",
                messages=100 * campaign + number,
                at=moment("01 00:00"),
            )
    world.task("of the program", program_id="program", provisional_cost=9)
    return world


def in_background(work):
    """Start the work; return a function that waits for it and returns what it raised."""
    raised: list[BaseException] = []

    def run():
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def end():
        thread.join(60)
        assert not thread.is_alive()
        return raised

    return end


def wait_until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to this")


def charged(world):
    """Return what the positions of all budgets say, and what the cost lines add up to."""
    return world.rows(
        "SELECT (SELECT sum(allocated - projected) FROM campaign.budget_position), "
        "(SELECT coalesce(sum(amount), 0) FROM campaign.cost_line)"
    )[0]


def as_the_oracle(world, as_of):
    oracle = Oracle(world.db)
    oracle.run(as_of)
    assert oracle.actual() == oracle.expected()
    assert world.differences() == []


def test_chunks_come_to_the_same_as_one_transaction(world, run_workflow, dag_bag, monkeypatch):
    summary = run_workflow("budgetMgt", moment("02 00:00"), full=True)["calculate_costs"]
    assert (summary["elements_calculated"], summary["items_changed"], summary["cost_lines_changed"]) == (13, 12, 12)
    as_the_oracle(world, moment("02 00:00"))
    before = world.state()
    monkeypatch.setattr(dag_bag.dags["budgetMgt"].get_task("calculate_costs"), "chunk_size", 1000)
    run_workflow("budgetMgt", moment("02 00:00"), full=True)
    assert world.state() == before


def test_kill_in_the_middle_leaves_what_is_right_and_the_queue(world, dsn, run_workflow):
    with psycopg.connect(dsn) as holder:
        holder.execute("SELECT FROM campaign.delivery WHERE internal_name = 'd40' FOR UPDATE")
        end = in_background(lambda: run_workflow("budgetMgt", moment("02 00:00"), full=True))
        # Every chunk but the one that is held has been committed, and adds up.
        wait_until(lambda: world.cost("delivery", "d51") is not None)
        assert world.cost("delivery", "d41") is None
        assert world.differences() == []
        positions, lines = charged(world)
        assert positions == lines > 0
        assert world.cost("program", "program") == sum(
            cost for (cost,) in world.rows("SELECT calculated_cost FROM campaign.campaign WHERE calculated_cost > 0")
        )
        queued = world.rows("SELECT count(*) FROM campaign.cost_change")
        assert queued[0][0] > 0
        world.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'budgetMgt.calculate_costs'"
        )
        assert isinstance(end()[0], psycopg.OperationalError)
    assert world.rows("SELECT count(*) FROM campaign.cost_change") == queued
    assert world.rows("SELECT * FROM campaign.cost_watermark") == []
    run_workflow("budgetMgt", moment("02 00:00"))
    as_the_oracle(world, moment("02 00:00"))


def test_two_full_runs_take_turns_and_the_second_writes_nothing(world, dsn, run_workflow):
    with psycopg.connect(dsn) as holder:
        holder.execute("SELECT FROM campaign.delivery WHERE internal_name = 'd40' FOR UPDATE")
        first = in_background(lambda: run_workflow("budgetMgt", moment("02 00:00"), full=True, run_id="first"))
        wait_until(lambda: world.cost("delivery", "d51") is not None)
        second = in_background(lambda: run_workflow("budgetMgt", moment("02 00:00"), full=True, run_id="second"))
        wait_until(lambda: world.rows("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
    assert (first(), second()) == ([], [])
    as_the_oracle(world, moment("02 00:00"))
    assert world.rows(
        "SELECT DISTINCT run_id FROM campaign.expense_line UNION SELECT run_id FROM campaign.cost_line"
    ) == [("first",)]


def test_change_that_commits_while_chunks_run_is_calculated(world, dsn, run_workflow):
    with psycopg.connect(dsn) as late, psycopg.connect(dsn) as holder:
        late.execute("UPDATE campaign.delivery_cost SET surcharge = 5 WHERE delivery_id = %s", [world.ids["d00"]])
        holder.execute("SELECT FROM campaign.delivery WHERE internal_name = 'd40' FOR UPDATE")
        end = in_background(lambda: run_workflow("budgetMgt", moment("02 00:00"), full=True))
        wait_until(lambda: world.cost("delivery", "d00") == 0 and world.cost("delivery", "d51") is not None)
        late.commit()
        holder.rollback()
        assert end() == []
    as_the_oracle(world, moment("02 00:00"))
    assert world.cost("delivery", "d00") == 5


def test_change_that_commits_after_the_run_waits_for_the_next(world, dsn, run_workflow):
    with psycopg.connect(dsn) as late:
        late.execute("UPDATE campaign.delivery_cost SET surcharge = 5 WHERE delivery_id = %s", [world.ids["d00"]])
        run_workflow("budgetMgt", moment("02 00:00"), full=True)
    assert world.cost("delivery", "d00") == 0
    run_workflow("budgetMgt", moment("02 00:00"))
    as_the_oracle(world, moment("02 00:00"))


def test_delivery_moved_to_a_campaign_of_another_chunk(world, run_workflow):
    run_workflow("budgetMgt", moment("02 00:00"), full=True)
    world.set("delivery", "d11", campaign_id="c5")
    world.set("delivery", "d51", campaign_id="c0")
    run_workflow("budgetMgt", moment("03 00:00"), full=True)
    as_the_oracle(world, moment("03 00:00"))


def test_full_run_mends_what_was_written_by_hand(world, run_workflow):
    run_workflow("budgetMgt", moment("02 00:00"), full=True)
    before = {table: rows for table, rows in world.state().items() if table not in ("cost_watermark", "journal")}
    world.db.execute("SET campaign.cost_bookkeeping = 'off'")
    world.db.execute("UPDATE campaign.budget_charge SET amount = amount + 1")
    world.db.execute("UPDATE campaign.delivery SET calculated_cost = 1")
    world.db.execute("UPDATE campaign.expense_line SET cost_total = 1")
    world.db.execute("DELETE FROM campaign.expense_item WHERE amount > 20")
    assert len(world.differences()) > 10
    run_workflow("budgetMgt", moment("02 00:00"), full=True)
    assert world.differences() == []
    after = world.state()
    for table in ("budget_charge", "delivery", "campaign", "cost_line"):
        assert sorted(after[table], key=repr) == sorted(before[table], key=repr), table


@pytest.mark.parametrize("named", ["delivery", "campaign", "budget", "cost_structure", "expense_category", "task"])
def test_what_a_cost_names_cannot_be_deleted(world, run_workflow, named):
    world.db.execute("UPDATE campaign.delivery_cost SET expense_category_id = %s", [world.ids["paper"]])
    run_workflow("budgetMgt", moment("02 00:00"), full=True)
    world.db.execute("DELETE FROM campaign.delivery_cost")
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match=r"cannot be deleted|violates foreign key"):
        world.db.execute(f"DELETE FROM campaign.{named}")


def test_campaign_that_only_the_line_of_a_moved_delivery_names_cannot_be_deleted(world, run_workflow):
    world.named("campaign", "old", program_id="program", budget_status="being_edited")
    world.analysed("moved", "piece", campaign="old", messages=100, at=moment("01 00:00"))
    run_workflow("budgetMgt", moment("02 00:00"))
    # It cannot be calculated any more: it keeps what it had, its line of the campaign that it left as well.
    world.cost_type("unpriced")
    world.add("delivery_cost", delivery_id="moved", cost_type_id="unpriced")
    world.set("delivery", "moved", campaign_id="c0")
    run_workflow("budgetMgt", moment("03 00:00"))
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="a row of expense_line names it"):
        world.db.execute("DELETE FROM campaign.campaign WHERE internal_name = 'old'")


def test_deleting_waits_for_the_calculation_and_is_refused(world, dsn, run_workflow):
    with psycopg.connect(dsn) as holder:
        holder.execute("SELECT FROM campaign.delivery WHERE internal_name = 'd41' FOR UPDATE")
        end = in_background(lambda: run_workflow("budgetMgt", moment("02 00:00"), full=True))
        wait_until(lambda: world.cost("delivery", "d51") is not None)
        world.db.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            world.db.execute("DELETE FROM campaign.delivery WHERE internal_name = 'd40'")
        world.db.execute("RESET lock_timeout")
    assert end() == []
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="a row of expense_line names it"):
        world.db.execute("DELETE FROM campaign.delivery WHERE internal_name = 'd40'")


def test_items_go_with_their_line(world, run_workflow):
    run_workflow("budgetMgt", moment("02 00:00"), full=True)
    world.db.execute("DELETE FROM campaign.delivery_cost WHERE delivery_id = %s", [world.ids["d40"]])
    world.set("delivery", "d40", service_id=None)
    run_workflow("budgetMgt", moment("03 00:00"))
    assert world.items("d40") == []
    assert world.rows(
        "SELECT count(*) FROM campaign.expense_item WHERE expense_line_id NOT IN (SELECT id FROM campaign.expense_line)"
    ) == [(0,)]
