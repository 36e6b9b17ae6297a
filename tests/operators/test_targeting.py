"""The target operators and the built-in targeting, on recipients and purchases of a few rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from psycopg.types.json import Jsonb

from campaign.operators.targeting import (
    DeliveryPreparationOperator,
    TargetCleanupOperator,
    TargetControlGroupOperator,
    TargetDeduplicationOperator,
    TargetExclusionOperator,
    TargetIntersectionOperator,
    TargetListOperator,
    TargetQueryOperator,
    TargetSampleOperator,
    TargetSplitOperator,
    TargetUnionOperator,
)
from campaign.operators.targeting.delivery_preparation import DeliveryPreparationError
from campaign.targeting import TargetingParameterError
from campaign.targeting.sets import MissingSetError, TargetSet, lay_set
from tests.factories import Factory
from tests.targeting import execute, run_targeting

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
ADDRESS = {"last_name": "Doe", "address1": "1 High Street", "postal_code": "12345", "city": "Springfield"}


def person(factory: Factory, **columns: Any) -> int:
    """Insert a recipient with an address of his own."""
    recipient = factory.recipient(**(ADDRESS | columns))
    if "address1" not in columns:
        factory.connection.execute(
            "UPDATE campaign.recipient SET address1 = %s WHERE id = %s",
            [f"{recipient} High Street", recipient],
        )
    return recipient


def buys(factory: Factory, recipient: int, *purchases: tuple[str, str]) -> None:
    for purchased_on, amount in purchases:
        factory.insert("purchase", recipient_id=recipient, purchased_on=purchased_on, quantity=1, amount=amount)


def target(db: psycopg.Connection[Any], delivery: int) -> dict[str, list[int]]:
    """Return the recipients of a delivery's target by role."""
    return dict(
        db.execute(
            """
            SELECT role, array_agg(recipient_id ORDER BY recipient_id) FROM campaign.delivery_target
            WHERE delivery_id = %s GROUP BY role
            """,
            [delivery],
        ).fetchall()
    )


def exclusions(db: psycopg.Connection[Any], delivery: int) -> dict[str, int]:
    return dict(
        db.execute(
            "SELECT reason, count FROM campaign.delivery_exclusion WHERE delivery_id = %s", [delivery]
        ).fetchall()
    )


@pytest.fixture
def generic(dag_bag: DagBag) -> DAG:
    return dag_bag.dags["campaignTargeting"]


@pytest.fixture
def waiting(factory: Factory) -> int:
    return factory.delivery(internal_name="catalog", label="Catalog", status="targeting_pending")


def selected(db: psycopg.Connection[Any], generic: DAG, factory: Factory, **conf: Any) -> list[int]:
    """Return whom the built-in targeting finds."""
    delivery = factory.delivery(status="targeting_pending")
    name = db.execute("SELECT internal_name FROM campaign.delivery WHERE id = %s", [delivery]).fetchone()
    run_targeting(generic, NOW, delivery=(name or [""])[0], seeds=False, **conf)
    return target(db, delivery).get("main", [])


def test_purchases_count_from_the_first_to_the_day_of_as_of(
    db: psycopg.Connection[Any], factory: Factory, generic: DAG
) -> None:
    loyal, spender, late, future, never = (person(factory) for _ in range(5))
    buys(factory, loyal, ("1997-05-01", "25.00"), ("1997-06-01", "25.00"), ("1998-01-01", "25.00"))
    buys(factory, spender, ("1997-05-01", "500.00"), ("1998-02-01", "1.00"))
    buys(factory, late, ("1997-05-01", "25.00"), ("1997-06-01", "25.00"), ("1997-12-31", "25.00"))
    buys(factory, future, ("1998-05-01", "70.00"), ("2026-11-02", "4.99"), ("2026-11-03", "0.01"))
    question = {"min_count": 3, "min_amount": "75.00", "last_on_or_after": "1998-01-01"}
    assert selected(db, generic, factory, purchases=question) == [loyal]
    assert selected(db, generic, factory, purchases={"min_count": 2}) == [loyal, spender, late, future]
    assert selected(db, generic, factory, purchases={"min_count": 3}) == [loyal, late]
    assert selected(db, generic, factory, purchases={"min_amount": "75"}) == [loyal, spender, late]
    assert selected(db, generic, factory, purchases={"max_count": 0}) == [never]
    # Who never bought has spent more than less than nothing.
    assert selected(db, generic, factory, purchases={"min_amount": "-1", "max_amount": 0}) == [never]
    assert selected(db, generic, factory, purchases={"max_amount": 75, "last_before": "1998-01-01"}) == [late]
    assert selected(db, generic, factory, purchases={}) == [loyal, spender, late, future, never]


def test_conditions_on_columns_and_attributes(db: psycopg.Connection[Any], factory: Factory, generic: DAG) -> None:
    gold = person(factory, country="US", language="en", attributes=Jsonb({"tier": "gold", "age": 30, "vip": True}))
    silver = person(factory, country="FR", attributes=Jsonb({"tier": "silver", "age": "40"}))
    bare = person(factory, city="Nice O'Connor", opt_out_email=True)

    def found(*where: dict[str, Any]) -> list[int]:
        return selected(db, generic, factory, where=list(where))

    assert found({"column": "country", "op": "=", "value": "US"}) == [gold]
    assert found({"column": "country", "op": "<>", "value": "US"}) == [silver, bare]
    assert found({"column": "country", "op": "in", "value": ["US", "FR"]}) == [gold, silver]
    assert found({"column": "country", "op": "not in", "value": ["US"]}) == [silver, bare]
    assert found({"column": "country", "op": ">=", "value": "G"}) == [gold]
    assert found({"column": "language", "op": "is null"}) == [silver, bare]
    assert found({"column": "city", "op": "starts with", "value": "Nice O'"}) == [bare]
    assert found({"column": "opt_out_email", "op": "=", "value": True}) == [bare]
    assert found({"attribute": "tier", "op": "in", "value": ["gold", "silver"]}) == [gold, silver]
    assert found({"attribute": "tier", "op": "<>", "value": "gold"}) == [silver, bare]
    assert found({"attribute": "tier", "op": ">", "value": "gold"}) == [silver]
    assert found({"attribute": "age", "op": ">=", "value": 30}) == [gold]
    assert found({"attribute": "age", "op": "=", "value": 30.0}) == [gold]
    assert found({"attribute": "age", "op": "=", "value": "40"}) == [silver]
    assert found({"attribute": "vip", "op": "=", "value": True}) == [gold]
    assert found({"attribute": "vip", "op": "is not null"}) == [gold]
    assert found({"attribute": "o'; DROP TABLE campaign.purchase; --%s", "op": "=", "value": "'; --"}) == []
    two = ({"attribute": "age", "op": ">", "value": 1}, {"column": "country", "op": "=", "value": "FR"})
    assert found(*two) == []


def test_lists_narrow_and_exclude(db: psycopg.Connection[Any], factory: Factory, generic: DAG) -> None:
    first, second, third, fourth = (person(factory) for _ in range(4))
    for name, members in (("a", [first, second]), ("b", [second, third]), ("stop", [first])):
        list_id = factory.insert("recipient_list", internal_name=name, label=name)
        for member in members:
            factory.insert("recipient_list_member", recipient_list_id=list_id, recipient_id=member)
    assert selected(db, generic, factory, lists=["a"]) == [first, second]
    assert selected(db, generic, factory, lists=["a", "b"], exclude_lists=["stop"]) == [second, third]
    assert selected(db, generic, factory, exclude_lists=["a", "b"]) == [fourth]
    with pytest.raises(TargetingParameterError, match="There is no recipient list c, d"):
        selected(db, generic, factory, lists=["a", "c"], exclude_lists=["d"])


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"purchase": {}}, "purchase: not a parameter of targeting"),
        ({"purchases": {"min_cuont": 3}}, r"purchases\.min_cuont: unknown\. There are min_count"),
        ({"purchases": {"min_count": "3"}}, r"purchases\.min_count: '3' must be a whole number"),
        ({"purchases": {"min_count": -1}}, r"purchases\.min_count: -1 must be a whole number"),
        ({"purchases": {"min_amount": "a lot"}}, r"purchases\.min_amount: 'a lot' must be a number"),
        ({"purchases": {"min_amount": "NaN"}}, r"purchases\.min_amount: 'NaN' must be a number"),
        ({"purchases": {"last_before": "1998-02-30"}}, r"purchases\.last_before: '1998-02-30' must be a day"),
        ({"purchases": [3]}, "purchases: must be an object"),
        ({"where": {"column": "city"}}, "where: must be a list"),
        (
            {"where": [{"column": "id; DROP", "op": "=", "value": "1"}]},
            "where, condition 1: 'id; DROP' is no column",
        ),
        ({"where": [{"column": "city", "op": "LIKE", "value": "1"}]}, "where, condition 1: 'LIKE' is no op"),
        (
            {"where": [{"column": "city", "attribute": "x", "op": "=", "value": "1"}]},
            "name either a column or",
        ),
        ({"where": [{"column": "city", "op": "=", "value": None}]}, "nothing is compared with null"),
        ({"where": [{"column": "city", "op": "=", "value": 7}]}, "city is text, so its value must be"),
        ({"where": [{"column": "opt_out_sms", "op": ">", "value": True}]}, "op must be = or <>"),
        ({"where": [{"column": "city", "op": "in", "value": []}]}, "in takes a list of values, not empty"),
        ({"where": [{"column": "city", "op": "in", "value": [None]}]}, "in takes a list of values"),
        ({"where": [{"attribute": "", "op": "=", "value": "1"}]}, "attribute must be a name"),
        ({"lists": "all"}, "lists: must be a list of internal names"),
        ({"control_group": {"share": 2}}, r"control_group\.share: 2 must be from 0 to 1"),
        ({"control_group": {"share": 0.1, "count": 2}}, "control_group: must be"),
        ({"control_group": {"count": 2, "order_by": "id; --"}}, r"control_group\.order_by: 'id; --' must be"),
        ({"control_group": {}}, "control_group: must be"),
        ({"control_group": 0.1}, "control_group: must be"),
        ({"control_group": {"count": 2, "descending": "no"}}, r"control_group\.descending: 'no' must be true or false"),
        ({"seeds": "yes"}, "seeds: 'yes' must be true or false"),
        ({"charge_seeds": 1}, "charge_seeds: 1 must be true or false"),
        # Nothing that was meant to narrow is taken for nothing: it would be everybody.
        ({"lists": ""}, "lists: must be a list of internal names"),
        ({"exclude_lists": {}}, "exclude_lists: must be a list of internal names"),
        ({"where": {}}, "where: must be a list"),
        ({"purchases": []}, "purchases: must be an object"),
        ({"lists": ["a\0"]}, r"lists: 'a\\x00' has characters that no text in the database has"),
        ({"where": [{"column": "city", "op": "=", "value": "\ud800"}]}, "condition 1: .* has characters that no text"),
        ({"where": [{"attribute": "\0", "op": "=", "value": 1}]}, "condition 1: .* has characters that no text"),
        ({"where": [{"attribute": "x", "op": "in", "value": [float("nan")]}]}, "condition 1: nan is no number"),
        ({"control_group": {"count": 1, "order_by": "attributes.\0"}}, "order_by: .* has characters that no text"),
    ],
)
def test_wrong_parameters_are_refused_plainly(
    db: psycopg.Connection[Any], generic: DAG, waiting: int, conf: dict[str, Any], message: str
) -> None:
    with pytest.raises(TargetingParameterError, match=message):
        run_targeting(generic, NOW, delivery="catalog", **conf)
    assert db.execute("SELECT status FROM campaign.delivery").fetchall() == [("targeting_pending",)]
    assert db.execute("SELECT * FROM campaign_work.target_set").fetchall() == []


def test_exclusions_are_counted_by_reason_in_their_order(
    db: psycopg.Connection[Any], factory: Factory, generic: DAG
) -> None:
    delivery = factory.delivery(internal_name="catalog", status="targeting_pending", requested_quantity=3)
    everybody = [person(factory) for _ in range(8)]
    person(factory, opt_out_direct_mail=True, city=None)  # opted out first, whatever else
    for gap in ({"last_name": " "}, {"address1": None}, {"postal_code": ""}, {"city": None}):
        person(factory, **gap)
    db.execute("UPDATE campaign.recipient SET address1 = ' 7 Elm st.', city = 'X' WHERE id = %s", [everybody[0]])
    person(factory, address1="7, ELM ST", city="x")
    seed = person(factory, is_seed=True)
    person(factory, is_seed=True, opt_out_direct_mail=True)
    person(factory, is_seed=True, city=None)

    summaries = run_targeting(generic, NOW, delivery="catalog", control_group={"share": "0.25"})
    members = target(db, delivery)
    assert len(members["main"]) == 3
    assert len(members["control"]) == 2
    assert members["seed"] == [seed]
    assert set(members["main"]) | set(members["control"]) < set(everybody)
    counts = {"opt_out": 1, "no_address": 4, "duplicate": 1, "control_group": 2, "quantity_limit": 3}
    assert exclusions(db, delivery) == counts
    row = db.execute(
        "SELECT status, targeted_count, message_count, analysed_at FROM campaign.delivery WHERE id = %s",
        [delivery],
    ).fetchone()
    assert row == ("target_ready", 14, 3, NOW)
    assert summaries["prepare_delivery"] == {"targeted": 14, **counts, "messages": 3, "seeds": 1}
    assert summaries["drop_work_tables"] == {"work_tables_dropped": 2}
    assert work_tables(db) == ["target_set"]

    # Targeted again, as it is: the same people in the same roles.
    db.execute("UPDATE campaign.delivery SET status = 'targeting_pending' WHERE id = %s", [delivery])
    run_targeting(generic, NOW, delivery="catalog", control_group={"share": "0.25"})
    assert target(db, delivery) == members
    # And with another salt, that is for another delivery, others.
    db.execute("UPDATE campaign.delivery SET status = 'targeting_pending', internal_name = 'other'")
    run_targeting(generic, NOW, delivery="other", control_group={"share": "0.25"}, seeds=False)
    again = target(db, delivery)
    assert again.keys() == {"main", "control"}
    assert (again["main"], again["control"]) != (members["main"], members["control"])


def test_seeds_are_judged_by_the_same_rule_and_charged_only_when_said_so(
    db: psycopg.Connection[Any], factory: Factory, generic: DAG, waiting: int
) -> None:
    kept, seed, second = person(factory), person(factory, is_seed=True), person(factory, is_seed=True)
    person(factory, is_seed=True, last_name=" ")
    for charged, messages in ((None, 1), (False, 1), (True, 3)):
        db.execute("UPDATE campaign.delivery SET status = 'targeting_pending'")
        summary = run_targeting(generic, NOW, delivery="catalog", charge_seeds=charged)["prepare_delivery"]
        assert (summary["messages"], summary["seeds"]) == (1, 2)
        assert target(db, waiting) == {"main": [kept], "seed": [seed, second]}
        assert db.execute("SELECT targeted_count, message_count FROM campaign.delivery").fetchone() == (1, messages)


def work_tables(db: psycopg.Connection[Any]) -> list[str]:
    rows = db.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'campaign_work'::regnamespace AND relkind = 'r'"
    ).fetchall()
    return [name for (name,) in rows]


@pytest.mark.parametrize(
    ("channel", "column", "good", "bad", "same"),
    [
        ("email", "email", "a@example.com", "a@b, c@d", "A@Example.com"),
        ("sms", "phone", "+33 6 12", "none", "+33612"),
        ("push", "push_token", "t1", " ", "t1"),
    ],
)
def test_online_channels_need_their_address(
    db: psycopg.Connection[Any],
    factory: Factory,
    generic: DAG,
    channel: str,
    column: str,
    good: str,
    bad: str,
    same: str,
) -> None:
    delivery = factory.delivery(internal_name="news", channel=channel, status="targeting_pending")
    kept = factory.recipient(**{column: good})
    factory.recipient(**{column: bad})
    factory.recipient(**{column: None})
    factory.recipient(**{column: same})
    factory.recipient(**{column: good, f"opt_out_{channel}": True})
    seed = factory.recipient(**{column: good, "is_seed": True})
    run_targeting(generic, NOW, delivery="news")
    assert target(db, delivery) == {"main": [kept], "seed": [seed]}
    assert exclusions(db, delivery) == {"opt_out": 1, "no_address": 2, "duplicate": 1}
    assert db.execute("SELECT count(*) FROM campaign.delivery_message").fetchone() == (0,)


def test_control_group_may_be_the_first_in_an_order(
    db: psycopg.Connection[Any], factory: Factory, generic: DAG, waiting: int
) -> None:
    low, high, none = (person(factory, attributes=Jsonb({"score": score} if score else {})) for score in (9, 10, None))
    run_targeting(
        generic, NOW, delivery="catalog",
        control_group={"count": 1, "order_by": "attributes.score", "descending": True},
    )  # fmt: skip
    assert target(db, waiting) == {"control": [high], "main": [low, none]}


def test_a_null_in_an_attribute_is_last_in_an_order_like_no_attribute(
    db: psycopg.Connection[Any], factory: Factory, generic: DAG, waiting: int
) -> None:
    null, high, none, low = (
        person(factory, attributes=Jsonb(attributes))
        for attributes in ({"score": None}, {"score": 9}, {}, {"score": 1})
    )
    run_targeting(generic, NOW, delivery="catalog", control_group={"count": 2, "order_by": "attributes.score"})
    assert target(db, waiting) == {"control": [high, low], "main": [null, none]}


def test_who_is_excluded_takes_no_place_in_the_control_group(
    db: psycopg.Connection[Any], factory: Factory, generic: DAG, waiting: int
) -> None:
    person(factory, opt_out_direct_mail=True, attributes=Jsonb({"score": 1}))
    person(factory, city=None)
    first = person(factory, attributes=Jsonb({"score": 5}), address1="1 Elm St")
    person(factory, attributes=Jsonb({"score": 2}), address1="1 ELM ST.")
    unknown, last = person(factory), person(factory)
    run_targeting(generic, NOW, delivery="catalog", control_group={"count": 2, "order_by": "attributes.score"})
    assert target(db, waiting) == {"control": [first, unknown], "main": [last]}
    assert exclusions(db, waiting) == {"opt_out": 1, "no_address": 1, "duplicate": 1, "control_group": 2}


def test_nobody_targeted_is_a_target_with_a_warning(db: psycopg.Connection[Any], generic: DAG, waiting: int) -> None:
    run_targeting(generic, NOW, delivery="catalog", control_group={"share": 0.5})
    assert (target(db, waiting), exclusions(db, waiting)) == ({}, {})
    assert db.execute("SELECT status, targeted_count, message_count FROM campaign.delivery").fetchall() == [
        ("target_ready", 0, 0)
    ]
    assert db.execute("SELECT level, source FROM campaign.journal").fetchall() == [("warning", "campaignTargeting")]


def test_preparation_refuses_what_it_is_not_for(
    db: psycopg.Connection[Any], factory: Factory, generic: DAG, waiting: int
) -> None:
    with pytest.raises(TargetingParameterError, match="there is no delivery 'nothing'"):
        run_targeting(generic, NOW, delivery="nothing")
    with pytest.raises(TargetingParameterError, match="give the internal name of the delivery"):
        run_targeting(generic, NOW)
    with pytest.raises(DeliveryPreparationError, match="targeted by the workflow None, not by somebody-else"):
        run_targeting(generic, NOW, delivery="catalog", workflow="somebody-else")
    db.execute("SELECT campaign.cancel_delivery(%s, 'changed our mind')", [waiting])
    with pytest.raises(DeliveryPreparationError, match="'Catalog' is canceled: it does not wait for a target"):
        run_targeting(generic, NOW, delivery="catalog")
    assert work_tables(db) == ["target_set"]


def of_workflow(db: psycopg.Connection[Any], factory: Factory, delivery: int) -> None:
    """Give the delivery a workflow that is under way."""
    workflow = factory.insert(
        "workflow", internal_name="w", label="W", dag_id="campaignTargeting", status="running", run_id="campaign__w",
        delivery_id=delivery,
    )  # fmt: skip
    db.execute("UPDATE campaign.delivery SET workflow_id = %s WHERE id = %s", [workflow, delivery])


def test_a_preparation_that_is_tried_again_after_its_commit_finds_it_done(
    db: psycopg.Connection[Any], factory: Factory, generic: DAG, waiting: int
) -> None:
    of_workflow(db, factory, waiting)
    somebody, gone = person(factory), person(factory, opt_out_direct_mail=True)
    first = run_targeting(generic, NOW, run_id="campaign__w", workflow="w", delivery="catalog")
    assert first["prepare_delivery"]["targeted"] == 2
    before = target(db, waiting), exclusions(db, waiting)
    assert before == ({"main": [somebody]}, {"opt_out": 1})
    db.execute("UPDATE campaign.recipient SET opt_out_direct_mail = false WHERE id = %s", [gone])
    for status in ("target_ready", "extraction_pending"):
        db.execute("UPDATE campaign.delivery SET status = %s", [status])
        again = run_targeting(generic, NOW, run_id="campaign__w", workflow="w", delivery="catalog")
        assert again["prepare_delivery"] == {"targeted": 2, "messages": 1}
    assert (target(db, waiting), exclusions(db, waiting)) == before
    # Another moment, another run: it is refused as before.
    with pytest.raises(DeliveryPreparationError, match="'Catalog' is extraction pending"):
        run_targeting(generic, NOW + timedelta(hours=1), run_id="campaign__w", workflow="w", delivery="catalog")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("SELECT campaign.cancel_delivery(id, 'wrong offer') FROM campaign.delivery", "'Catalog' is canceled"),
        ("SELECT campaign.cancel_workflow(id, 'wrong list') FROM campaign.workflow", "'Catalog' is failed"),
        ("UPDATE campaign.delivery SET workflow_id = NULL", "is targeted by the workflow None, not by w"),
        ("UPDATE campaign.delivery SET requested_quantity = 1", "requested quantity of 'Catalog' was changed"),
    ],
)
def test_who_changes_a_delivery_while_it_is_prepared_does_not_wait_and_wins(
    db: psycopg.Connection[Any], dsn: str, factory: Factory, generic: DAG, waiting: int,
    monkeypatch: pytest.MonkeyPatch, change: str, reason: str,
) -> None:  # fmt: skip
    of_workflow(db, factory, waiting)
    person(factory)

    def lay_and_change(*arguments: Any) -> int:
        count = lay_set(*arguments)
        with psycopg.connect(dsn, autocommit=True, options="-c lock_timeout=2s") as other:
            # What names the delivery is written meanwhile, and what checks its content may lock it.
            other.execute("INSERT INTO campaign.delivery_exclusion VALUES (%s, 'other', 1)", [waiting])
            other.execute(change.encode())
        return count

    monkeypatch.setattr("campaign.operators.targeting.delivery_preparation.lay_set", lay_and_change)
    with pytest.raises(DeliveryPreparationError, match=reason):
        run_targeting(generic, NOW, run_id="campaign__w", workflow="w", delivery="catalog")
    assert (target(db, waiting), exclusions(db, waiting)) == ({}, {"other": 1})


def test_a_failed_task_leaves_its_reason_on_the_workflow(
    db: psycopg.Connection[Any], factory: Factory, generic: DAG, waiting: int
) -> None:
    workflow = factory.insert(
        "workflow",
        internal_name="w",
        label="W",
        dag_id="campaignTargeting",
        status="running",
        run_id="campaign__w",
    )
    with pytest.raises(TargetingParameterError):
        run_targeting(generic, NOW, run_id="campaign__w", workflow="w", delivery="catalog", lists=["nowhere"])
    assert db.execute("SELECT id, status, failure FROM campaign.workflow").fetchall() == [
        (workflow, "running", "select_recipients: There is no recipient list nowhere.")
    ]


@pytest.fixture
def people(factory: Factory) -> list[int]:
    return [
        person(factory, language=language, email=email, attributes=Jsonb({"score": score}))
        for language, email, score in (
            ("en", "a@example.com", 5), ("en", "A@example.com", 7), ("fr", None, 1),
            ("fr", "b@example.com", 2),
        )
    ]  # fmt: skip


def of_set(db: psycopg.Connection[Any], dag: DAG, task_id: str, columns: str = "recipient_id") -> list[Any]:
    table = TargetSet(dag_id=dag.dag_id, run_id="r", task_id=task_id).table
    rows = db.execute(f"SELECT {columns} FROM {table} ORDER BY recipient_id").fetchall()
    return [row[0] for row in rows] if "," not in columns else rows


def query(task_id: str, condition: str) -> TargetQueryOperator:
    return TargetQueryOperator(
        task_id=task_id,
        sql=f"SELECT id FROM campaign.recipient WHERE {condition};",
    )


def test_set_operators(db: psycopg.Connection[Any], factory: Factory, people: list[int]) -> None:
    first, second, third, fourth = people
    list_id = factory.insert("recipient_list", internal_name="few", label="few")
    for member in (second, third, person(factory, is_seed=True)):
        factory.insert("recipient_list_member", recipient_list_id=list_id, recipient_id=member)
    with DAG(dag_id="sets", schedule=None) as dag:
        english, french = query("english", "language = 'en'"), query("french", "language = 'fr' -- no more")
        few = TargetListOperator(task_id="few", lists=["few"])
        TargetUnionOperator(task_id="everybody", sources=[english, french, few])
        TargetIntersectionOperator(task_id="both", sources=["everybody", few])
        TargetExclusionOperator(task_id="rest", sources=["everybody", few, "nobody"])
        query("nobody", "false")
        TargetDeduplicationOperator(task_id="by_mail", source="everybody", key="email")
        TargetDeduplicationOperator(
            task_id="best", source="everybody", key="email", keep_first_by="attributes.score", descending=True
        )
        TargetSampleOperator(task_id="two", source="everybody", count=2, order_by="attributes.score")
        TargetSampleOperator(task_id="half", source="everybody", share="0.5")
        TargetControlGroupOperator(task_id="control", source="everybody", share="0.5")
    for task_id in (
        "english", "french", "few", "nobody", "everybody", "both", "rest", "by_mail", "best", "two", "half",
        "control",
    ):  # fmt: skip
        run_task(dag, task_id)
    found = {task.task_id: of_set(db, dag, task.task_id) for task in dag.tasks}
    half, control = found.pop("half"), found.pop("control")
    assert found == {
        "english": [first, second],
        "french": [third, fourth],
        "few": [second, third],
        "nobody": [],
        "everybody": people,
        "both": [second, third],
        "rest": [first, fourth],
        "by_mail": [first, third, fourth],
        "best": [second, third, fourth],
        "two": [third, fourth],
    }
    assert len(half) == len(control) == 2
    counts = db.execute("SELECT task_id, row_count FROM campaign_work.target_set").fetchall()
    assert dict(counts) == {**{name: len(ids) for name, ids in found.items()}, "half": 2, "control": 2}
    run_task(dag, "half")
    assert of_set(db, dag, "half") == half
    assert dag.get_task("both").upstream_task_ids == {"everybody", "few"}


@pytest.mark.parametrize("key", ["email", "phone", "push_token", "address", "household"])
def test_who_has_no_key_is_nobodys_duplicate(db: psycopg.Connection[Any], factory: Factory, key: str) -> None:
    bare = [factory.recipient(email=" ", push_token="", phone="-", address1=". ") for _ in range(3)]
    columns = {"email": "a@b.c", "phone": "1", "push_token": "t", "last_name": "Doe", "address1": "1 Elm St"}
    first, _ = factory.recipient(**columns), factory.recipient(**columns)
    with DAG(dag_id="sets", schedule=None) as dag:
        query("everybody", "true")
        TargetDeduplicationOperator(task_id="distinct", source="everybody", key=key)
    for task_id in ("everybody", "distinct"):
        run_task(dag, task_id)
    assert of_set(db, dag, "distinct") == [*bare, first]


def run_task(dag: DAG, task_id: str, **params: Any) -> dict[str, Any]:
    from types import SimpleNamespace

    from tests.targeting import execute

    dag_run = SimpleNamespace(logical_date=None, run_after=NOW, run_id="r")
    return execute(dag, dag.get_task(task_id), "r", dag_run, params)


def test_split_puts_each_recipient_into_one_part_and_keeps_it_there(
    db: psycopg.Connection[Any], factory: Factory
) -> None:
    db.execute(
        "INSERT INTO campaign.recipient (internal_name) SELECT 'r' || number FROM generate_series(1, 2000) AS number"
    )
    with DAG(dag_id="parts", schedule=None) as dag:
        everybody, some = query("everybody", "true"), query("some", "id %% 2 = 0")
        whole = TargetSplitOperator(task_id="whole", source=everybody, shares={"a": 0.5, "b": 0.3, "c": 0.1}, salt="s")
        TargetSplitOperator(task_id="part", source=some, shares={"a": 0.5, "b": 0.3, "c": 0.1}, salt="s")
        TargetSplitOperator(task_id="other", source=everybody, shares={"a": 0.5, "b": 0.5}, salt="o")
        TargetUnionOperator(task_id="back", sources=[whole.part("a"), whole.part("{{ params.other }}")])
    for task_id in ("everybody", "whole", "back", "some", "part", "other"):
        run_task(dag, task_id, other="c")
    parts = dict(of_set(db, dag, "whole", "recipient_id, part"))
    sizes = {part: list(parts.values()).count(part) for part in "abc"}
    assert sum(sizes.values()) == len(parts) < 2000
    assert all(abs(sizes[part] - share) < 120 for part, share in (("a", 1000), ("b", 600), ("c", 200)))
    assert of_set(db, dag, "back") == [recipient for recipient, part in sorted(parts.items()) if part in "ac"]
    subset = dict(of_set(db, dag, "part", "recipient_id, part"))
    assert subset.items() <= parts.items()
    assert len(subset) > 800
    # Another salt parts them anew.
    other = dict(of_set(db, dag, "other", "recipient_id, part"))
    not_in_a = [recipient for recipient, part in parts.items() if part != "a"]
    assert 0.4 < sum(other[recipient] == "a" for recipient in not_in_a) / len(not_in_a) < 0.6


def test_a_part_that_a_split_does_not_have_is_refused(
    db: psycopg.Connection[Any], factory: Factory, people: list[int]
) -> None:
    with DAG(dag_id="parts", schedule=None) as dag:
        everybody = query("everybody", "true")
        halves = TargetSplitOperator(task_id="halves", source=everybody, shares={"a": 0.5, "b": 0.5})
        whole = TargetSplitOperator(task_id="whole", source=everybody, shares={"all": 1})
        TargetUnionOperator(task_id="back", sources=[whole.part("all"), halves.part("{{ params.half }}")])
        TargetUnionOperator(task_id="no_split", sources=["everybody/a", halves.part("a")])
    for task_id in ("everybody", "halves", "whole"):
        run_task(dag, task_id)
    run_task(dag, "back", half="b")
    assert of_set(db, dag, "back") == people
    for half in ("c", "a' OR TRUE --", "A"):
        with pytest.raises(MissingSetError) as refused:
            run_task(dag, "back", half=half)
        assert str(refused.value) == f"halves has no part {half!r}: it has a, b."
    with pytest.raises(MissingSetError, match="everybody has no part 'a': it has none"):
        run_task(dag, "no_split")


def test_a_set_that_is_gone_is_named(db: psycopg.Connection[Any]) -> None:
    with DAG(dag_id="gone", schedule=None) as dag:
        one, two = query("one", "true"), query("two", "true")
        TargetUnionOperator(task_id="both", sources=[one, two])
        TargetCleanupOperator(task_id="clean")
    run_task(dag, "one")
    run_task(dag, "two")
    assert run_task(dag, "clean") == {"work_tables_dropped": 2}
    with pytest.raises(MissingSetError, match="The set of the task one is not there"):
        run_task(dag, "both")


def test_analysis_without_a_cost_type_that_must_be_selected_fails_and_says_which(
    db: psycopg.Connection[Any], factory: Factory, waiting: int
) -> None:
    person(factory)
    provider = factory.insert("provider", internal_name="p", label="Printers")
    service = factory.insert("service", internal_name="s", label="Catalog", provider_id=provider)
    factory.insert("cost_category", service_id=service, label="Postage", channel="direct_mail", selection_required=True)
    db.execute("UPDATE campaign.delivery SET service_id = %s WHERE id = %s", [service, waiting])
    with DAG(dag_id="own", schedule=None) as dag:
        DeliveryPreparationOperator(task_id="prepare", source=query("found", "true"))
    with pytest.raises(DeliveryPreparationError, match="needs a cost type of each of these cost categories: Postage"):
        run_targeting(dag, NOW, delivery="catalog")
    assert target(db, waiting) == {}


def test_control_group_of_an_operator_reaches_the_delivery(
    db: psycopg.Connection[Any], factory: Factory, waiting: int
) -> None:
    everybody = [person(factory) for _ in range(10)]
    person(factory, opt_out_direct_mail=True)
    with DAG(dag_id="own", schedule=None) as dag:
        found = query("found", "true")
        control = TargetControlGroupOperator(task_id="control", source=found, count=4, order_by="id")
        DeliveryPreparationOperator(task_id="prepare", source=found, control_group=control)
    run_targeting(dag, NOW, delivery="catalog")
    assert target(db, waiting) == {"control": everybody[:4], "main": everybody[4:]}
    assert exclusions(db, waiting) == {"opt_out": 1, "control_group": 4}


def test_sets_that_other_tasks_read_survive_a_crash_of_the_server(db: psycopg.Connection[Any], dag_bag: DagBag) -> None:
    dag = dag_bag.dags["campaignTargeting"]
    dag_run = SimpleNamespace(data_interval_end=None, logical_date=None, run_after=NOW, run_id="crash")
    params = {name: param.value for name, param in dag.params.items()} | {"as_of": NOW.isoformat(), "everybody": True}
    execute(dag, dag.get_task("select_recipients"), "crash", dag_run, params)
    assert db.execute(
        """
        SELECT relpersistence FROM pg_class
        WHERE relnamespace = 'campaign_work'::regnamespace AND relkind = 'r' AND relname <> 'target_set'
        """
    ).fetchall() == [("p",)]


def test_examples_of_a_teams_own_targeting(db: psycopg.Connection[Any], factory: Factory, dag_bag: DagBag) -> None:
    lapsed, recent, poor, family = (person(factory) for _ in range(4))
    buys(factory, lapsed, ("2026-01-01", "100.00"))
    buys(factory, recent, ("2026-01-01", "100.00"), ("2026-10-30", "1.00"))
    buys(factory, poor, ("2026-01-01", "99.99"))
    buys(factory, family, ("2026-01-01", "500.00"))
    for name, member in (("staff-and-family", family), ("newsletter", recent)):
        list_id = factory.insert("recipient_list", internal_name=name, label=name)
        factory.insert("recipient_list_member", recipient_list_id=list_id, recipient_id=member)
    delivery = factory.delivery(internal_name="come-back", status="targeting_pending")
    run_targeting(dag_bag.dags["exampleLapsedBuyers"], NOW, delivery="come-back")
    assert target(db, delivery) == {"main": [lapsed]}

    db.execute("UPDATE campaign.recipient SET language = 'en', attributes = '{\"tier\": \"gold\"}'")
    halves = []
    for half in "ab":
        delivery = factory.delivery(internal_name=f"offer-{half}", status="targeting_pending")
        run_targeting(dag_bag.dags["exampleTwoOffers"], NOW, delivery=f"offer-{half}", half=half)
        halves.append(set(target(db, delivery).get("main", [])))
    assert halves[0] | halves[1] == {lapsed, recent, poor, family}
    assert not halves[0] & halves[1]
    assert work_tables(db) == ["target_set"]
