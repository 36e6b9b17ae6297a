"""One bad element of each kind among a thousand: the others are done, it says what is wrong; mended, it is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from psycopg.types.json import Jsonb

from campaign.dag_runs import DagRunError
from campaign.sending import SendingHaltedError
from tests.budget_world import World
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.message_provider import MessageProvider
from tests.provider_case import ProviderCase
from tests.return_case import ReturnCase
from tests.sql.test_delivery_sending import ready
from tests.sql.test_operation_mgt import Airflow
from tests.stock_world import Warehouse
from tests.trust.tally import size

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# How many good ones there are.
MANY = size(short=1000, long=5000)


def journal(db: psycopg.Connection[Any], *parts: str) -> list[str]:
    """Return the lines above info that speak of all of this."""
    rows = db.execute("SELECT message FROM campaign.journal WHERE level <> 'info' ORDER BY id").fetchall()
    return [message for (message,) in rows if all(part in message for part in parts)]


def scalar(db: psycopg.Connection[Any], query: str, *values: Any) -> Any:
    [(value,)] = db.execute(query.encode(), values).fetchall()
    return value


@pytest.fixture(autouse=True)
def clock(db: psycopg.Connection[Any]) -> None:
    db.execute("SELECT set_config('campaign.as_of', %s, false)", [NOW.isoformat()])


class TestCosts:
    """Deliveries and tasks whose cost cannot be calculated."""

    # What is wrong, what the report says of it, and how a person mends it.
    BAD: ClassVar[dict[str, tuple[str, str]]] = {
        "no structure": (
            "has no cost structure: enter one",
            "INSERT INTO campaign.cost_structure (cost_type_id, basis, amount) "
            "SELECT id, 'fixed', 7 FROM campaign.cost_type WHERE label = 'Free'",
        ),
        "beyond": (
            "more than the last threshold",
            "UPDATE campaign.cost_structure SET beyond_amount = 0.07 WHERE label = 'Banded'",
        ),
        "required": (
            "demands a cost type of the category",
            "INSERT INTO campaign.delivery_cost (delivery_id, cost_type_id) "
            "SELECT delivery.id, cost_type.id FROM campaign.delivery, campaign.cost_type "
            "WHERE internal_name = 'required' AND cost_type.label = 'Choice'",
        ),
        "too much": (
            "is more than can be right",
            "UPDATE campaign.cost_structure SET amount = 0.07 WHERE label = 'Gold'",
        ),
        "task": (
            "has no cost structure: enter one",
            "INSERT INTO campaign.cost_structure (cost_type_id, basis, amount) "
            "SELECT id, 'fixed', 7 FROM campaign.cost_type WHERE label = 'Unpriced room'",
        ),
    }

    def test_the_others_are_calculated(self, db: psycopg.Connection[Any], run_workflow: Workflow) -> None:
        world = World(db)
        world.frame()
        world.named("service", "choosy", provider_id="printers")
        world.cost_type("Letter", basis="per_message", method="linear", amount="0.5")
        world.cost_type("Free")
        world.cost_type("Banded", basis="per_message", method="linear_by_threshold", thresholds=((50, "1"),))
        world.cost_type("Choice", service="choosy", selection_required=True, basis="fixed", amount=7)
        world.cost_type("Gold", basis="per_message", method="linear", amount=9_999_999_999_999)
        world.cost_type("Unpriced room", service="rooms", channel="task")
        db.execute("UPDATE campaign.cost_structure SET label = 'Banded' WHERE id = %s", [world.ids["Banded structure"]])
        db.execute("UPDATE campaign.cost_structure SET label = 'Gold' WHERE id = %s", [world.ids["Gold structure"]])
        analysed = {"messages": 100, "at": NOW - HOUR}
        world.analysed("no structure", "Free", **analysed)
        world.analysed("beyond", "Banded", **analysed)
        world.analysed("required", service_id="choosy", **analysed)
        world.analysed("too much", "Gold", messages=1_000_000, at=NOW - HOUR)
        world.task("task", "Unpriced room", status="finished", finished_at=NOW - HOUR)
        db.execute(
            """
            WITH good AS (
                INSERT INTO campaign.delivery
                (internal_name, label, campaign_id, channel, service_id, status, message_count, analysed_at)
                SELECT 'good-' || n, 'Good', %s, 'email', %s, 'target_ready', 100, %s FROM generate_series(1, %s) AS n
                RETURNING id
            )
            INSERT INTO campaign.delivery_cost (delivery_id, cost_type_id) SELECT id, %s FROM good
            """,
            [world.ids["loyalty"], world.ids["print"], NOW - HOUR, MANY, world.ids["Letter"]],
        )
        good = "SELECT count(*) FROM campaign.delivery WHERE calculated_cost = 50 AND internal_name LIKE 'good-%%'"
        summary = run_workflow("budgetMgt", NOW)["calculate_costs"]
        assert summary["elements_not_calculated"] == len(self.BAD)
        assert scalar(db, good) == MANY
        problems = world.rows(
            """
            SELECT coalesce(delivery.internal_name, task.internal_name), problem.message
            FROM campaign.cost_problem AS problem
            LEFT JOIN campaign.delivery ON problem.delivery_id = delivery.id
            LEFT JOIN campaign.task ON problem.task_id = task.id
            """
        )
        assert {name for name, _ in problems} == set(self.BAD)
        for name, message in problems:
            assert self.BAD[name][0] in message
            assert journal(db, message, f"({name})"), message
        assert world.differences() == []
        for _, mend in self.BAD.values():
            db.execute(mend.encode())
        run_workflow("budgetMgt", NOW + MINUTE)
        costs = world.rows(
            "SELECT internal_name, calculated_cost FROM campaign.delivery WHERE internal_name NOT LIKE 'good-%%'"
            " UNION ALL SELECT internal_name, calculated_cost FROM campaign.task"
        )
        assert dict(costs) == dict.fromkeys(self.BAD, Decimal(7)) | {"too much": Decimal(70_000)}
        assert world.rows("SELECT * FROM campaign.cost_problem") == []


class TestStock:
    """Stock lines of which nobody can be told."""

    def test_the_others_are_told(
        self, db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, mail_server: MailServer
    ) -> None:
        house = Warehouse(db, factory)
        nobody = factory.insert("stock", internal_name="attic", label="Attic")
        bad = factory.insert(
            "stock_line", stock_id=nobody, internal_name="bad", label="Bad", initial_quantity=10, alert_level=5
        )
        house.extract(house.delivery(house.uses(bad)), 7, NOW)
        db.execute(
            """
            INSERT INTO campaign.stock_line (stock_id, internal_name, label, initial_quantity, alert_level)
            SELECT %s, 'good-' || n, 'Good ' || n, 10, 10 FROM generate_series(1, %s) AS n
            """,
            [house.stock, MANY],
        )
        summary = run_workflow("stockMgt", NOW)
        assert summary["alert_lines"]["notifications_written"] == len(mail_server.messages) == MANY
        assert len(journal(db, "Bad (Attic (attic))", "low", "set its assigned_to_id")) == 1
        run_workflow("stockMgt", NOW + MINUTE)
        assert len(journal(db, "Bad (Attic (attic))")) == 1, "it is said once"
        db.execute("UPDATE campaign.stock SET assigned_to_id = %s WHERE id = %s", [house.keeper, nobody])
        assert run_workflow("stockMgt", NOW + 2 * MINUTE)["alert_lines"]["notifications_written"] == 1
        assert "Bad" in str(mail_server.messages[-1][1]["Subject"])
        before = len(mail_server.messages)
        run_workflow("stockMgt", NOW + 3 * MINUTE)
        assert len(mail_server.messages) == before


class TestApprovals:
    """Online deliveries whose content cannot be rendered, and approvals that nobody can answer or hears of."""

    def test_the_others_are_asked_for(
        self, db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, mail_server: MailServer
    ) -> None:
        olga = factory.staff(internal_name="olga")
        lost = factory.staff(internal_name="lost", email="gone@example.com")
        owners = {"good": olga, "nobody": None, "refused": lost}
        campaigns = {name: factory.campaign(owner_id=owner) for name, owner in owners.items()}
        for campaign in campaigns.values():
            factory.policy("content", campaign_id=campaign)
        columns: dict[str, Any] = {
            "channel": "email", "status": "targeting_pending", "submitted_at": NOW - HOUR, "subject": "Hello",
            "body_text": "Dear {{ recipient.first_name }}",
        }  # fmt: skip
        garbled = factory.delivery(
            campaign_id=campaigns["good"], **columns | {"body_text": "{{ recipient.shoe_size }} {%"}
        )
        nobody = factory.delivery(campaign_id=campaigns["nobody"], **columns)
        factory.delivery(campaign_id=campaigns["refused"], **columns)
        db.execute(
            """
            INSERT INTO campaign.delivery
            (internal_name, label, campaign_id, channel, status, submitted_at, subject, body_text)
            SELECT
                'good-' || n, 'Good', %s, 'email', 'targeting_pending', %s, 'Hello', 'Dear {{ recipient.first_name }}'
            FROM generate_series(1, %s) AS n
            """,
            [campaigns["good"], NOW - HOUR, MANY],
        )
        mail_server.on_recipient = lambda address: "550 no such user" if address == "gone@example.com" else None
        run_workflow("deliveryMgt", NOW)
        assert len(mail_server.messages) == MANY + 1, "the requests for the good ones, and that one cannot be rendered"
        status, failure = db.execute(
            "SELECT status, failure FROM campaign.delivery WHERE id = %s", [garbled]
        ).fetchone() or ("", "")
        assert (status, "campaign.retry_delivery" in failure) == ("failed", True)
        assert journal(db, failure)
        assert len(journal(db, "nobody can answer: give the campaign an owner")) == 1
        assert len(journal(db, "approval_request", "550 no such user")) == 1
        run_workflow("deliveryMgt", NOW + MINUTE)
        assert len(journal(db, "nobody can answer")) == 1, "it is said once"
        # Mended.
        db.execute("UPDATE campaign.delivery SET body_text = 'Dear you' WHERE id = %s", [garbled])
        db.execute("SELECT campaign.retry_delivery(%s)", [garbled])
        db.execute("UPDATE campaign.campaign SET owner_id = %s WHERE id = %s", [olga, campaigns["nobody"]])
        db.execute("UPDATE campaign.staff SET email = 'found@example.com' WHERE id = %s", [lost])
        del mail_server.messages[:]
        run_workflow("deliveryMgt", NOW + 2 * MINUTE)
        assert sorted(to for to, _ in mail_server.messages) == ["found@example.com", *["olga@example.com"] * 2]
        [approval] = db.execute("SELECT id FROM campaign.approval WHERE delivery_id = %s", [nobody]).fetchall()
        db.execute("SELECT campaign.decide_approval(%s, %s, true)", [approval[0], olga])


class TestMessages:
    """Recipients whose address is refused or cannot be written, and deliveries whose connection is of no use."""

    def test_the_others_get_theirs(
        self,
        db: psycopg.Connection[Any],
        factory: Factory,
        run_workflow: Workflow,
        mail_server: MailServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # All in one task, so that each may stand in the way of each.
        db.execute("UPDATE campaign.setting SET value = '1' WHERE name = 'sending_workers'")
        campaign = factory.campaign(owner_id=factory.staff(internal_name="olga"))
        bad = {}
        for kind in ("missing", "wrong"):
            provider = factory.insert("provider", internal_name=kind, label=kind, message_conn_id=f"{kind}_texters")
            service = factory.insert("service", internal_name=kind, label=kind, provider_id=provider)
            bad[kind] = ready(db, factory, campaign, 2, channel="sms", service_id=service)
        monkeypatch.setenv(
            "AIRFLOW_CONN_WRONG_TEXTERS", json.dumps({"conn_type": "http", "extra": {"timeout": "soon"}})
        )
        good = ready(db, factory, campaign, MANY)
        refused, garbled = [
            recipient for (recipient,) in db.execute(
                "SELECT recipient_id FROM campaign.delivery_target WHERE delivery_id = %s ORDER BY 1 LIMIT 2", [good]
            )
        ]  # fmt: skip
        db.execute("UPDATE campaign.recipient SET email = 'gone@example.com' WHERE id = %s", [refused])
        db.execute("UPDATE campaign.recipient SET email = E'a\\nb@example.com' WHERE id = %s", [garbled])
        mail_server.on_recipient = lambda address: "550 no such user" if address == "gone@example.com" else None
        with pytest.raises(SendingHaltedError, match=r"missing_texters.*wrong_texters|wrong_texters.*missing_texters"):
            run_workflow("deliveryMgt", NOW)
        assert len(mail_server.messages) == MANY - 2
        errors = dict(
            db.execute(
                "SELECT recipient_id, error FROM campaign.delivery_message "
                "WHERE delivery_id = %s AND status = 'failed'",
                [good],
            ).fetchall()
        )
        assert errors.keys() == {refused, garbled}
        assert "550 no such user" in errors[refused]
        assert "not sent" in errors[garbled]
        for kind, delivery in bad.items():
            status, failure = db.execute(
                "SELECT status, failure FROM campaign.delivery WHERE id = %s", [delivery]
            ).fetchone() or ("", "")
            assert status == "in_progress"
            assert f"the connection {kind}_texters" in failure
            assert len(journal(db, failure)) == 1
        texters = MessageProvider()
        for kind in bad:
            monkeypatch.setenv(f"AIRFLOW_CONN_{kind.upper()}_TEXTERS", texters.airflow_connection())
        with suppress(SendingHaltedError):
            run_workflow("deliveryMgt", NOW + MINUTE)
        texters.close()
        assert len(texters.delivered) == 4
        rows = db.execute("SELECT status, failure FROM campaign.delivery").fetchall()
        assert rows == [("finished", None)] * 3


class TestWorkflows:
    """Workflows whose DAG is missing, deliveries that nothing can target, schedules that cannot be served."""

    @pytest.fixture
    def airflow(self, monkeypatch: pytest.MonkeyPatch) -> Airflow:
        airflow = Airflow()
        for name in ("start_dag_run", "require_runnable_dag", "dag_run_state", "stop_dag_run"):
            for module in ("workflow_start", "workflow_follow"):
                monkeypatch.setattr(f"campaign.operators.{module}.{name}", getattr(airflow, name), raising=False)
        return airflow

    def test_the_others_are_started(
        self, db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, airflow: Airflow
    ) -> None:
        db.execute("UPDATE campaign.setting SET value = '10000' WHERE name = 'workflows_at_once'")
        campaign = factory.campaign(internal_name="spring", owner_id=factory.staff(internal_name="olga"))
        template = factory.insert(
            "workflow_template", internal_name="t", label="T", campaign_id=campaign, dag_id="campaignTargeting"
        )
        missing = factory.insert(
            "workflow_template", internal_name="missing", label="M", campaign_id=campaign, dag_id="noSuchDag"
        )
        airflow.troubles["noSuchDag"] = DagRunError("The DAG noSuchDag cannot run, deploy it or correct the dag_id.")
        pending: dict[str, Any] = {"campaign_id": campaign, "status": "targeting_pending", "submitted_at": NOW - HOUR}
        factory.delivery(workflow_template_id=missing, internal_name="missing", **pending)
        untargetable = factory.delivery(internal_name="untargetable", **pending)
        db.execute(
            """
            INSERT INTO campaign.delivery
            (internal_name, label, campaign_id, channel, status, submitted_at, workflow_template_id)
            SELECT 'good-' || n, 'Good', %s, 'direct_mail', 'targeting_pending', %s, %s FROM generate_series(1, %s) AS n
            """,
            [campaign, NOW - HOUR, template, MANY],
        )
        hindered = factory.campaign(internal_name="hindered", kind="recurring", status="started", starts_at=NOW - DAY)
        served = factory.campaign(internal_name="served", kind="recurring", status="started", starts_at=NOW - DAY)
        factory.insert(
            "workflow_template", internal_name="s", label="S", campaign_id=served, dag_id="campaignTargeting"
        )
        for repeating in (hindered, served):
            factory.insert("campaign_schedule", campaign_id=repeating, starts_at=NOW - MINUTE)
        run_workflow("operationMgt", NOW)
        assert len(airflow.started) == MANY + 1
        failure = scalar(db, "SELECT failure FROM campaign.workflow WHERE dag_id = 'noSuchDag' AND status = 'queued'")
        assert "deploy it or correct the dag_id" in failure
        assert journal(db, failure)
        reason = scalar(db, "SELECT failure FROM campaign.delivery WHERE id = %s AND status = 'failed'", untargetable)
        assert "It has no workflow template" in reason
        assert journal(db, reason)
        assert journal(db, "'Hindered'", "it has no workflow template, so there is nothing to run. Give it one")
        # Mended.
        del airflow.troubles["noSuchDag"]
        db.execute("UPDATE campaign.delivery SET workflow_template_id = %s WHERE id = %s", [template, untargetable])
        db.execute("SELECT campaign.retry_delivery(%s)", [untargetable])
        factory.insert(
            "workflow_template", internal_name="h", label="H", campaign_id=hindered, dag_id="campaignTargeting"
        )
        run_workflow("operationMgt", NOW + MINUTE)
        assert len(airflow.started) == MANY + 4
        assert db.execute("SELECT DISTINCT status, failure FROM campaign.workflow").fetchall() == [("running", None)]


class TestFiles:
    """Deliveries whose extraction file cannot be made."""

    # Columns, and columns of the service or the format, that are wrong, and what is said.
    BAD: ClassVar[dict[str, tuple[str, dict[str, Any], str]]] = {
        "expression": ("length(recipient.first_name)", {}, "a name like recipient.last_name must stand there"),
        "column": ("recipient.no_such_column", {}, "there is no recipient.no_such_column"),
        "name": ("recipient.first_name", {"file_name_template": "{{ nonsense }}"}, "nonsense"),
        "encoding": ("recipient.first_name", {"encoding": "klingon"}, "klingon"),
    }

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "files"
        monkeypatch.setenv("CAMPAIGN_FILES_URL", f"file://{folder}")
        return folder

    def test_the_others_are_written(
        self, db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, folder: Path
    ) -> None:
        campaign = factory.campaign(owner_id=factory.staff(internal_name="olga"))
        provider = factory.insert("provider", internal_name="p", label="P")
        # One character is not in Latin 1.
        people = [factory.recipient(first_name=name) for name in ("Åsa", "Paweł")]

        def service(name: str, expression: str, **columns: Any) -> int:
            template = columns.pop("file_name_template", None)
            form = factory.insert(
                "export_format", internal_name=name, label=name,
                columns=Jsonb([{"header": "h", "expression": expression}]), **columns,
            )  # fmt: skip
            return factory.insert(
                "service", internal_name=name, label=name, provider_id=provider, export_format_id=form,
                file_name_template=template,
            )  # fmt: skip

        def delivery(name: str, service_id: int | None) -> int:
            return factory.delivery(
                internal_name=name, campaign_id=campaign, service_id=service_id, status="extraction_pending"
            )

        bad = {}
        for name, (expression, columns, _) in self.BAD.items():
            bad[name] = delivery(name, service(name, expression, **columns))
        bad["no service"] = delivery("no service", None)
        narrow = delivery("narrow", service("narrow", "recipient.first_name", encoding="latin-1"))
        good = service("good", "recipient.first_name")
        db.execute(
            """
            INSERT INTO campaign.delivery (internal_name, label, campaign_id, channel, status, service_id)
            SELECT 'good-' || n, 'Good', %s, 'direct_mail', 'extraction_pending', %s FROM generate_series(1, %s) AS n
            """,
            [campaign, good, MANY],
        )
        db.execute(
            "INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role) "
            "SELECT delivery.id, person.id, 'main' FROM campaign.delivery, unnest(%s::bigint[]) AS person (id)",
            [people],
        )
        summary = run_workflow("operationMgt", NOW)["extract_files"]
        assert (summary["files_extracted"], summary["deliveries_failed"]) == (MANY + 1, len(bad))
        assert len(list(folder.iterdir())) == MANY + 1
        for name, delivery_id in bad.items():
            failure = scalar(
                db, "SELECT failure FROM campaign.delivery WHERE id = %s AND status = 'failed'", delivery_id
            )
            assert self.BAD.get(name, ("", {}, "service"))[2] in failure, failure
            assert journal(db, failure)
        assert journal(db, "Use UTF-8"), "what an encoding cannot take is a question mark, and said"
        assert scalar(db, "SELECT row_count FROM campaign.extraction_file WHERE delivery_id = %s", narrow) == 2
        for delivery_id in bad.values():
            db.execute("UPDATE campaign.delivery SET service_id = %s WHERE id = %s", [good, delivery_id])
            db.execute("SELECT campaign.retry_delivery(%s)", [delivery_id])
        summary = run_workflow("operationMgt", NOW + MINUTE)["extract_files"]
        assert (summary["files_extracted"], summary["deliveries_failed"]) == (len(bad), 0)
        assert len(list(folder.iterdir())) == MANY + 1 + len(bad)


class TestProviders:
    """Providers that cannot be reached, or that nobody can write to; files that must not be handed over."""

    def test_the_others_get_their_files(
        self,
        db: psycopg.Connection[Any],
        factory: Factory,
        run_workflow: Workflow,
        mail_server: MailServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("outbox", "inbox"):
            (tmp_path / name).mkdir()
        case = ProviderCase(db, factory, tmp_path / "outbox")
        good = case.service(provider={"storage_url": f"file://{tmp_path}/inbox"})
        bad: dict[str, tuple[int, str, Callable[[], Any]]] = {}

        def add(name: str, service: int, said: str, mend: Callable[[], Any]) -> int:
            delivery = case.delivery(service, internal_name=name)
            bad[name] = (delivery, said, mend)
            return delivery

        def set_provider(service: int, url: str) -> None:
            db.execute(
                "UPDATE campaign.provider SET storage_url = %s, storage_conn_id = NULL WHERE id = "
                "(SELECT provider_id FROM campaign.service WHERE id = %s)", [url, service],
            )  # fmt: skip

        inbox = f"file://{tmp_path}/inbox"
        folder = case.service(provider={"storage_url": f"file://{tmp_path}/nowhere"})
        add("folder", folder, "There is no folder", lambda: (tmp_path / "nowhere").mkdir())
        scheme = case.service(provider={"storage_url": "gopher://old/inbox"})
        add("scheme", scheme, "gopher", lambda: set_provider(scheme, inbox))
        connection = case.service(provider={"storage_url": "sftp:///in", "storage_conn_id": "no_such_conn"})
        add("connection", connection, "no_such_conn", lambda: set_provider(connection, inbox))
        mail = case.service(notification_emails=["gone@example.com"])
        add(
            "address", mail, "550 no such user",
            lambda: db.execute(
                "UPDATE campaign.service SET notification_emails = '{here@example.com}' WHERE id = %s", [mail]
            ),
        )  # fmt: skip
        text = case.service(notification_emails=["here@example.com"], notification_template="{{ nonsense() }}")
        add(
            "template", text, "nonsense",
            lambda: db.execute("UPDATE campaign.service SET notification_template = 'Here' WHERE id = %s", [text]),
        )  # fmt: skip
        taken = add("taken", good, "There is another file", lambda: None)
        in_the_way = tmp_path / "inbox" / f"delivery-{taken}-1.csv"
        in_the_way.write_text("other")
        bad["taken"] = (taken, "There is another file", in_the_way.unlink)
        for _ in range(MANY):
            case.delivery(good)
        mail_server.on_recipient = lambda address: "550 no such user" if address == "gone@example.com" else None
        run_workflow("providerMgt", NOW)
        finished = "SELECT count(*) FROM campaign.delivery WHERE status = 'finished'"
        assert scalar(db, finished) == MANY
        assert len(list((tmp_path / "inbox").iterdir())) == MANY + 1
        for name, (delivery, said, _) in bad.items():
            errors = db.execute(
                "SELECT error FROM campaign.provider_job WHERE delivery_id = %s AND error IS NOT NULL", [delivery]
            ).fetchall()
            assert [said in error for (error,) in errors] == [True], (name, errors)
            assert journal(db, said), name
        for delivery, _, mend in bad.values():
            mend()
            if scalar(db, "SELECT status FROM campaign.delivery WHERE id = %s", delivery) == "failed":
                db.execute("SELECT campaign.retry_delivery(%s)", [delivery])
        for minutes in (5, 6):
            run_workflow("providerMgt", NOW + minutes * MINUTE)
        assert scalar(db, finished) == MANY + len(bad)

    def test_the_other_answers_are_taken(
        self, db: psycopg.Connection[Any], factory: Factory, run_workflow: Workflow, tmp_path: Path
    ) -> None:
        case = ReturnCase(db, factory, tmp_path)
        service = case.returning()
        many = min(MANY, 100)
        mended, (mended_key,) = case.handed(service, 1)
        handed = [case.handed(service, 1) for _ in range(many)]
        run_workflow("providerMgt", NOW)
        for delivery, (key,) in handed:
            case.answer(f"good-{delivery}.csv", f"key,status\n{key},accepted\n")
        bad = {
            "garbage.csv": b"\x00\xff\xfe\x80" * 100,
            "nobody.csv": b"key,status\nnobody,accepted\n",
            "columns.csv": b"name,colour\nAda,red\n",
            "empty.csv": b"",
            "zip.csv": b"PK\x03\x04 no zip at all",
        }
        for name, content in bad.items():
            case.answer(name, content)
        for minutes in (5, 10):
            run_workflow("providerMgt", NOW + minutes * MINUTE)
        returns = {name: (status, error) for name, status, error in case.returns("error")}
        assert sum(status == "taken" for status, _ in returns.values()) == many
        for name in bad:
            status, error = returns[name]
            assert (status, bool(error)) == ("refused", True), (name, status, error)
            assert journal(db, name), name
        case.answer("garbage.csv", f"key,status\n{mended_key},accepted\n", NOW + 10 * MINUTE)
        for minutes in (15, 20):
            run_workflow("providerMgt", NOW + minutes * MINUTE)
        assert ("garbage.csv", "taken", mended) in case.returns("delivery_id")


class TestSettings:
    """Settings of a wrong type are refused where they are entered, so that none is ever the bad one."""

    def test_no_setting_can_be_of_a_wrong_type(self, db: psycopg.Connection[Any]) -> None:
        taken = []
        for (name,) in db.execute("SELECT name FROM campaign.setting ORDER BY name").fetchall():
            with suppress(psycopg.errors.CheckViolation):
                db.execute("UPDATE campaign.setting SET value = '{\"a\": [1]}' WHERE name = %s", [name])
                taken.append(name)
        assert taken == []
