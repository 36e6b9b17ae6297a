"""CostAggregation serves a team that adds a level and a source of costs, and so does its documented example."""

from __future__ import annotations

import ast
import re
import textwrap
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

from campaign.operators.cost_aggregation import CostAggregation, CostBelow, CostLevel, LevelAbove, level_sql
from campaign.workflow_dag import workflow_defaults

PROJECT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 1, tzinfo=UTC)

TABLES = """
    CREATE SCHEMA house;
    CREATE TABLE house.region (
        id bigint PRIMARY KEY, label text, provisional_cost numeric(18, 2), real_cost numeric(18, 2),
        calculated_cost numeric(18, 2)
    );
    ALTER TABLE campaign.plan ADD COLUMN region_id bigint REFERENCES house.region;
    CREATE TABLE house.event (
        id bigint PRIMARY KEY, program_id bigint REFERENCES campaign.program, guests integer, price numeric(18, 2),
        calculated_cost numeric(18, 2)
    );
    INSERT INTO house.region VALUES (1, 'North', NULL, NULL, NULL), (2, 'South', 99, NULL, NULL);
    INSERT INTO campaign.plan (id, internal_name, label, region_id) VALUES (11, 'p', 'P', 1);
    INSERT INTO campaign.program (id, internal_name, label, plan_id) VALUES (21, 'g', 'G', 11);
    INSERT INTO campaign.program (id, internal_name, label, plan_id, calculated_cost) VALUES (22, 'h', 'H', 11, 1000);
    INSERT INTO house.event VALUES (31, 21, 40, 12.50, NULL), (32, 21, 1, 0.07, NULL);
"""

# What the team writes by itself: one SQL file for its source ...
EVENT_COSTS = """
    CREATE TEMPORARY TABLE IF NOT EXISTS changed_cost (level text, id bigint) ON COMMIT DROP;
    WITH costed AS (
        UPDATE house.event AS event
        SET calculated_cost = event.guests * event.price
        WHERE event.calculated_cost IS DISTINCT FROM event.guests * event.price
        RETURNING event.program_id
    )
    INSERT INTO changed_cost (level, id)
    SELECT DISTINCT 'program', costed.program_id FROM costed;
    INSERT INTO changed_cost (level, id) SELECT 'region', region.id FROM house.region WHERE %(full)s::boolean;
    SELECT count(*) AS events FROM house.event;
"""

# ... and what is summed where.
LEVELS = (
    CostLevel(
        name="program",
        table="campaign.program",
        below=(
            CostBelow(table="campaign.campaign", column="program_id", condition="NOT below.is_template"),
            CostBelow(table="house.event", column="program_id"),
        ),
        above=LevelAbove(name="plan", column="plan_id"),
    ),
    CostLevel(
        name="plan",
        table="campaign.plan",
        below=(CostBelow(table="campaign.program", column="plan_id"),),
        above=LevelAbove(name="region", column="region_id"),
    ),
    CostLevel(name="region", table="house.region", below=(CostBelow(table="campaign.plan", column="region_id"),)),
)


@pytest.fixture
def aggregate(db):
    db.execute(TABLES)
    with DAG(dag_id="houseCosts", schedule=None, **workflow_defaults()) as dag:
        step = CostAggregation(task_id="calculate_costs", sources=(), levels=LEVELS)
    step.sources = (EVENT_COSTS,)

    def run(**params):
        as_of = params.pop("as_of", NOW)
        run_id = params.pop("run_id", "r")
        context = {
            "dag": dag,
            "task": step,
            "run_id": run_id,
            "dag_run": SimpleNamespace(run_type="manual", data_interval_end=None, logical_date=None, run_after=as_of),
            "params": params,
        }
        return step.prepare_for_execution().execute(context)

    return run


def costs(db, table):
    return db.execute(f"SELECT id, calculated_cost FROM {table} ORDER BY id").fetchall()


def test_team_adds_a_source_and_a_level(db, aggregate):
    assert aggregate() == {
        "events": 2,
        "program_totals_changed": 1,
        "plan_totals_changed": 1,
        "region_totals_changed": 1,
    }
    assert costs(db, "house.event") == [(31, Decimal("500.00")), (32, Decimal("0.07"))]
    assert costs(db, "campaign.program") == [(21, Decimal("500.07")), (22, Decimal(1000))]
    assert costs(db, "campaign.plan") == [(11, Decimal("1500.07"))]
    assert costs(db, "house.region") == [(1, Decimal("1500.07")), (2, None)]


def test_level_follows_provisional_and_real_costs(db, aggregate):
    db.execute("UPDATE campaign.plan SET real_cost = 7")
    aggregate(full=True)
    assert costs(db, "house.region") == [(1, Decimal(7)), (2, Decimal(99))]
    assert db.execute("SELECT own_amount, below_amount FROM campaign.cost_total WHERE level = 'plan'").fetchall() == [
        (Decimal("-1493.07"), Decimal("1500.07"))
    ]


def test_second_run_changes_nothing(db, aggregate):
    aggregate(full=True)
    before = db.execute("SELECT xmin::text, ctid::text FROM house.region").fetchall()
    totals = db.execute("SELECT xmin::text, ctid::text FROM campaign.cost_total").fetchall()
    assert set(aggregate(full=True).values()) == {2, 0}
    assert db.execute("SELECT xmin::text, ctid::text FROM house.region").fetchall() == before
    assert db.execute("SELECT xmin::text, ctid::text FROM campaign.cost_total").fetchall() == totals


def test_dry_run_and_run_for_the_past_change_nothing(db, aggregate):
    aggregate(dry_run=True)
    assert costs(db, "house.event") == [(31, None), (32, None)]
    aggregate(as_of=datetime(2026, 11, 5, tzinfo=UTC), run_id="later")
    db.execute("UPDATE house.event SET price = 1")
    assert aggregate(run_id="past") == {"for_the_past": True}
    assert costs(db, "house.event") == [(31, Decimal("500.00")), (32, Decimal("0.07"))]


def test_level_sums_each_of_its_sources():
    assert level_sql(LEVELS[2]).count("UNION ALL") == 1
    assert level_sql(LEVELS[0]).count("UNION ALL") == 2


def documented() -> dict[str, str]:
    """Return the three pieces of code of the page: the source, the step, the views."""
    section = (PROJECT / "docs" / "cost-calculation.md").read_text().split("\n## Adding a level", 1)[1]
    return dict(zip(("source", "step", "views"), re.findall(r"```\w+\n(.*?)```", section, re.DOTALL), strict=True))


@pytest.fixture
def dag_bag(tmp_path):
    """The workflow after a person has copied what the page says into it."""
    code = documented()
    [path] = re.findall(r"-- include/sql/(.*)", code["source"])
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(code["source"])
    lines = (PROJECT / "dags" / "budget_mgt.py").read_text().splitlines(keepends=True)
    [step] = [
        node
        for node in ast.walk(ast.parse("".join(lines)))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "calculate_costs"
    ]
    lines[step.lineno - 1 : step.end_lineno] = textwrap.indent(code["step"], " " * step.col_offset)
    (tmp_path / "budget_mgt.py").write_text("".join(lines))
    bag = DagBag(tmp_path / "budget_mgt.py")
    bag.dags["budgetMgt"].template_searchpath.append(str(tmp_path))
    return bag


@pytest.mark.parametrize("chunk_size", [50_000, 1])
def test_documented_level_and_source_are_totalled_and_checked(db, factory, dag_bag, run_workflow, chunk_size):
    db.execute(TABLES)
    db.execute(documented()["views"])
    dag_bag.dags["budgetMgt"].get_task("calculate_costs").chunk_size = chunk_size
    for name in ("one", "two"):
        campaign = factory.campaign(internal_name=name, program_id=22, budget_status="defined")
        factory.delivery(campaign_id=campaign, provisional_cost=30)

    def run(minutes, **params):
        return run_workflow("budgetMgt", NOW + timedelta(minutes=minutes), **params)["check_totals"]

    assert run(0, full=True) == {"totals_that_differ": 0}
    assert costs(db, "house.event") == [(31, Decimal("500.00")), (32, Decimal("0.07"))]
    assert costs(db, "campaign.program") == [(21, Decimal("500.07")), (22, Decimal("60.00"))]
    assert costs(db, "house.region") == [(1, Decimal("560.07")), (2, Decimal("99.00"))]
    # Moved to another program, deleted, and the plan to another region.
    db.execute("UPDATE house.event SET program_id = 22 WHERE id = 32")
    db.execute("DELETE FROM house.event WHERE id = 31")
    db.execute("UPDATE campaign.plan SET region_id = 2")
    assert run(1) == {"totals_that_differ": 0}
    assert costs(db, "campaign.program") == [(21, Decimal("0.00")), (22, Decimal("60.07"))]
    assert costs(db, "house.region") == [(1, Decimal("0.00")), (2, Decimal("60.07"))]
    # The check knows the new level.
    db.execute("UPDATE house.region SET calculated_cost = 7 WHERE id = 2")
    assert db.execute("SELECT total_of, total, sum_below FROM campaign.total_difference").fetchall() == [
        ("calculated cost of a region", Decimal(7), Decimal("60.07"))
    ]
