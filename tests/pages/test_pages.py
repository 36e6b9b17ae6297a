"""The pages in Airflow's own API server: who sees what, what is shown, and what an answer does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from psycopg.types.json import Jsonb

from campaign.pages import database, guard
from campaign.pages.app import HEADERS, app
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.pages.conftest import OUR_PAGE, Person
from tests.snapshots import changed_tables, snapshot

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
Seat = Callable[[str | None], Person]


class Case:
    """A campaign of olga's, with deliveries whose approvals are asked of rita, in a database whose clock stands."""

    def __init__(self, db: psycopg.Connection[Any], factory: Factory) -> None:
        self.db = db
        self.factory = factory
        # Functions for people ask the database for the moment, and each page has a connection of its own.
        self.set_clock(NOW)
        self.olga = factory.staff(internal_name="olga", label="Olga Lindqvist", time_zone="America/New_York")
        self.rita = factory.staff(internal_name="rita", label="Rita <b>Róża</b>", time_zone="Europe/Paris")
        self.paul = factory.staff(internal_name="paul", label="Paul")
        self.admin = factory.staff(internal_name="admin", label="Ada", is_admin=True)
        self.budget = factory.budget(label="Mailings", currency="EUR", allocated=1000)
        self.campaign = factory.campaign(
            label="Loyalty", owner_id=self.olga, status="started", program_id=factory.program(budget_id=self.budget)
        )
        # All is well with the house, so that the pages have nothing to say of it.
        self.db.execute(
            "INSERT INTO campaign.technical_run (dag_id, run_id, as_of, finished_at, state)"
            " SELECT dag_id, 'scheduled', now(), now(), 'success' FROM campaign.technical_workflow"
        )

    def set_clock(self, moment: datetime) -> None:
        name = self.db.info.dbname
        self.db.execute(f"ALTER DATABASE {name} SET campaign.as_of = '{moment.isoformat()}'")
        self.db.execute("SELECT set_config('campaign.as_of', %s, false)", [moment.isoformat()])

    def delivery(self, **columns: Any) -> int:
        values = {"label": "Spring", "status": "target_ready", "targeted_count": 2100, "message_count": 1900}
        values |= {"analysed_at": NOW - timedelta(hours=1), "campaign_id": self.campaign, "channel": "direct_mail"}
        return self.factory.delivery(**(values | columns))

    def ask(self, kind: str, *reviewers: int, **columns: Any) -> int:
        """Submit one approval; return its id."""
        delivery = self.delivery(**columns)
        self.factory.policy(kind, staff=reviewers or (self.rita,), delivery_id=delivery)
        return self.ask_again(delivery, kind)

    def ask_again(self, delivery: int, kind: str) -> int:
        [row] = self.db.execute(
            "SELECT * FROM campaign.open_approvals(%s, %s, campaign.moment())", [[delivery], [kind]]
        ).fetchall()
        return int(row[0])

    def approval(self, approval: int) -> tuple[Any, ...]:
        [row] = self.db.execute(
            """
            SELECT approval.status, staff.internal_name, approval.decided_at, approval.comment
            FROM campaign.approval LEFT JOIN campaign.staff ON approval.decided_by_id = staff.id
            WHERE approval.id = %s
            """,
            [approval],
        ).fetchall()
        return tuple(row)

    def delivery_of(self, approval: int) -> int:
        [row] = self.db.execute("SELECT delivery_id FROM campaign.approval WHERE id = %s", [approval]).fetchall()
        return int(row[0])


@pytest.fixture
def case(db: psycopg.Connection[Any], factory: Factory) -> Case:
    return Case(db, factory)


PENDING = ("pending", None, None, None)


# --- Who gets in


def test_nobody_sees_a_page_without_a_login(person: Seat, case: Case) -> None:
    """Every address of the app: one that is added later is tried too."""
    approval = case.ask("content")
    nobody, tried = person(None), 0
    for route in app.routes:
        if not isinstance(route, APIRoute):
            continue
        path = route.path.format(approval_id=approval, delivery_id=case.delivery_of(approval), deed="confirm")
        for method in route.methods:
            response = nobody.client.request(method, f"/campaign{path}", data={"decision": "approve"})
            assert response.status_code in (303, 401), f"{method} {path}"
            if method == "GET":
                location = urlsplit(response.headers["location"])
                assert (location.path, parse_qs(location.query)) == (
                    "/api/v2/auth/login",
                    {"next": [f"/campaign{path}"]},
                )
            tried += 1
    assert tried == 9
    assert case.approval(approval) == PENDING


def test_login_leads_back_to_the_approval(person: Seat, case: Case) -> None:
    nobody = person(None)
    to_login = nobody.client.get(nobody.get("/approvals/17?a=1&b=%C3%A9").headers["location"])
    assert to_login.headers["location"].endswith(
        "/auth/login?next=%2Fcampaign%2Fapprovals%2F17%3Fa%3D1%26b%3D%25C3%25A9"
    )


def test_login_that_is_forged_or_over_is_none(person: Seat, case: Case, api_server: FastAPI) -> None:
    rita = person("rita")
    rita.client.cookies.set("_token", rita.client.cookies["_token"][:-4] + "AAAA")
    assert rita.get("/").status_code == 303
    rita.client.cookies.set("_token", "")
    assert rita.get("/").status_code == 303


def test_within_a_frame_the_login_is_asked_for_in_words(person: Seat, case: Case) -> None:
    response = person(None).get("/approvals/1", **{"sec-fetch-dest": "iframe"})
    assert (response.status_code, "You are logged out" in response.text) == (401, True)


def test_answer_after_the_login_ended_is_not_lost(person: Seat, case: Case) -> None:
    approval = case.ask("content")
    response = person(None).client.post(
        f"/campaign/approvals/{approval}/decision",
        data={"decision": "approve", "comment": "A <long> thought"},
        headers=OUR_PAGE,
    )
    assert response.status_code == 401
    assert "A &lt;long&gt; thought</textarea>" in response.text
    assert case.approval(approval) == PENDING


@pytest.mark.parametrize("path", ["/", "/approvals/1", "/deliveries/1"])
def test_airflow_user_who_is_no_staff_reads_what_to_do(person: Seat, case: Case, path: str) -> None:
    case.ask("content")
    response = person("stranger").get(path)
    assert response.status_code == 403
    assert "logged in to Airflow as &#39;stranger&#39;" in response.text
    assert "Spring" not in response.text


def test_member_of_staff_who_left_is_told_so(person: Seat, case: Case) -> None:
    approval = case.ask("content")
    rita = person("rita")
    token = rita.token(f"/approvals/{approval}")
    case.db.execute("UPDATE campaign.staff SET active = false WHERE internal_name = 'rita'")
    assert "no longer among the staff" in rita.get("/").text
    response = rita.post(f"/approvals/{approval}/decision", {"decision": "approve", "token": token})
    assert (response.status_code, case.approval(approval)) == (403, PENDING)


# --- The list


def titles(response: Any) -> list[str]:
    return [part.split("<", 1)[0] for part in response.text.split('dir="auto">')[1:] if part.split("<", 1)[0]]


def test_each_sees_what_concerns_them(person: Seat, case: Case) -> None:
    case.ask("content", label="For Rita")
    case.ask("content", case.paul, label="For Paul")
    other = case.factory.campaign(label="Other", owner_id=case.paul, status="started")
    case.ask("content", case.paul, label="Of another", campaign_id=other)
    case.ask("content", case.admin, label="For Ada")
    seen = {
        (name, view): titles(person(name).get(f"/?view={view}"))
        for name in ("rita", "paul", "olga", "admin")
        for view in ("mine", "others")
    }
    assert seen == {
        ("rita", "mine"): ["For Rita"],
        ("rita", "others"): [],
        ("paul", "mine"): ["For Paul", "Of another"],
        ("paul", "others"): [],
        ("olga", "mine"): [],
        ("olga", "others"): ["For Rita", "For Paul", "For Ada"],
        ("admin", "mine"): ["For Ada"],
        ("admin", "others"): ["For Rita", "For Paul", "Of another"],
    }


def test_owner_who_may_confirm_has_them_all(person: Seat, case: Case) -> None:
    case.ask("content", label="For Rita")
    case.db.execute("UPDATE campaign.setting SET value = 'true' WHERE name = 'owner_may_confirm'")
    assert titles(person("olga").get("/")) == ["For Rita"]


def test_nothing_to_do_is_said(person: Seat, case: Case) -> None:
    assert "Nothing waits for you." in person("rita").get("/").text
    assert "Nothing has been decided yet." in person("rita").get("/?view=decided").text


def test_what_was_decided_stays_to_be_seen_by_those_concerned(person: Seat, case: Case) -> None:
    approval = case.ask("content", label="Done")
    case.db.execute("SELECT campaign.decide_approval(%s, %s, false, 'No')", [approval, case.rita])
    seen = {name: titles(person(name).get("/?view=decided")) for name in ("rita", "olga", "admin", "paul")}
    assert seen == {"rita": ["Done"], "olga": ["Done"], "admin": ["Done"], "paul": []}


def test_many_are_paged_in_the_order_of_their_deadlines(person: Seat, case: Case) -> None:
    for number in range(120):
        case.set_clock(NOW - timedelta(hours=number))
        case.ask("content" if number % 2 else "target", label=f"Nr {number:03d}")
    case.set_clock(NOW)
    rita = person("rita")
    pages = [rita.get(f"/?page={page}") for page in (1, 2, 3, 4)]
    expected = [f"Nr {number:03d}" for number in reversed(range(120))]
    assert [titles(page) for page in pages] == [expected[:50], expected[50:100], expected[100:], []]
    # Due three days after they were submitted: those of 72 hours ago and more are late, 24 more within a day.
    shown = [
        [text in page.text for text in (">Late<", ">Within a day<", ">Later<", "prev", "next")] for page in pages[:3]
    ]
    assert shown == [
        [True, True, False, False, True],
        [False, True, True, True, True],
        [False, False, True, True, False],
    ]
    assert "51\N{EN DASH}100 of 120" in pages[1].text
    assert titles(rita.get("/?search=nr 00&kind=target")) == [f"Nr {number:03d}" for number in (8, 6, 4, 2, 0)]
    assert titles(rita.get("/?search=%25")) == []


@pytest.mark.parametrize("query", ["view=all", "page=0", "page=x", "search=" + "x" * 201])
def test_address_that_is_none_of_ours_is_not_found(person: Seat, case: Case, query: str) -> None:
    response = person("rita").get(f"/?{query}")
    assert (response.status_code, "There is no such page" in response.text) == (404, True)


# --- One approval


def text_of(response: Any) -> str:
    """What a person reads of a page, roughly: without tags, in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.text).replace("\N{NO-BREAK SPACE}", " ").split())


def test_budget_approval_shows_its_split_and_its_budget(person: Seat, case: Case) -> None:
    factory = case.factory
    delivery = case.delivery(contact_date=NOW + timedelta(days=3))
    factory.insert("delivery_exclusion", delivery_id=delivery, reason="no_address", count=200)
    provider = factory.insert("provider", internal_name="p", label="P")
    service = factory.insert("service", provider_id=provider, internal_name="s", label="S")
    category = factory.insert("cost_category", service_id=service, label="Print", channel="direct_mail")
    cost_type = factory.insert("cost_type", cost_category_id=category, label="Letter")
    structure = factory.insert(
        "cost_structure", cost_type_id=cost_type, basis="per_message", method="linear", amount=0.75
    )
    line = factory.insert(
        "expense_line", delivery_id=delivery, campaign_id=case.campaign, budget_id=case.budget, cost_total=1425,
        computed_at=NOW,
    )  # fmt: skip
    factory.insert(
        "expense_item", expense_line_id=line, cost_structure_id=structure, kind="calculated", quantity=1900,
        amount=1425, explanation="1,900 x 0.75",
    )  # fmt: skip
    factory.policy("budget", staff=(case.rita,), delivery_id=delivery)
    approval = case.ask_again(delivery, "budget")
    text = text_of(person("rita").get(f"/approvals/{approval}"))
    for expected in (
        "Budget of Spring",
        "May this be spent?",
        "Answer by Thu 5 Nov 2026, 10:00 CET (in 3 days)",
        "Campaign Loyalty",
        "Channel direct mail",
        "Contact Thu 5 Nov 2026, 10:00 CET",
        "Print - Letter 1,900 x 0.75 1 425.00",
        "Total in EUR 1 425.00",
        "Budget Mailings Allocated 1 000.00 EUR",
        "Targeted 2 100 no address \N{MINUS SIGN}200 Messages to send 1 900",
        "Owner Olga Lindqvist",
    ):
        assert expected in text


def test_target_approval_shows_the_question_that_the_target_answers(person: Seat, case: Case) -> None:
    template = case.factory.insert(
        "workflow_template", internal_name="t", label="Two years", campaign_id=case.campaign,
        dag_id="campaignTargeting", conf=Jsonb({"where": [{"attribute": "a<b", "op": ">=", "value": 3}]}),
    )  # fmt: skip
    approval = case.ask("target", workflow_template_id=template)
    response = person("rita").get(f"/approvals/{approval}")
    assert "Two years" in response.text
    assert "a&lt;b" in response.text


def test_file_approval_warns_of_the_stock_as_it_was_and_as_it_is(person: Seat, case: Case) -> None:
    factory = case.factory
    provider = factory.insert("provider", internal_name="p", label="P")
    service = factory.insert("service", provider_id=provider, internal_name="s", label="S")
    category = factory.insert("cost_category", service_id=service, label="Print", channel="direct_mail")
    stock = factory.insert("stock", internal_name="envelopes", label="Envelopes", provider_id=provider)
    line = factory.insert(
        "stock_line", stock_id=stock, internal_name="c5", label="C5", initial_quantity=100, alert_level=0
    )
    cost_type = factory.insert("cost_type", cost_category_id=category, label="Envelope", stock_line_id=line)
    delivery = case.delivery(status="file_to_approve", service_id=service)
    factory.insert("delivery_cost", delivery_id=delivery, cost_type_id=cost_type)
    factory.policy("extraction", staff=(case.rita,), delivery_id=delivery)
    approval = case.ask_again(delivery, "extraction")
    before = "Stock status &#39;C5 (Envelopes (envelopes))&#39; insufficient &#39;-1800&#39;"
    rita = person("rita")
    assert f"Warning. {before} </div>" not in rita.get(f"/approvals/{approval}").text
    assert f"Warning. {before}" in text_of(rita.get(f"/approvals/{approval}"))
    case.db.execute("UPDATE campaign.stock_line SET initial_quantity = 400")
    text = text_of(rita.get(f"/approvals/{approval}"))
    assert f"Warning. {before.replace('-1800', '-1500')} (since it was submitted)" in text
    assert f"When it was submitted: {before} This holds no longer." in text
    case.db.execute("UPDATE campaign.stock_line SET initial_quantity = 4000")
    assert "Warning." not in text_of(rita.get(f"/approvals/{approval}"))


def test_what_people_typed_is_text(person: Seat, case: Case) -> None:
    evil = "<script>alert(1)</script>"
    other = case.factory.campaign(label=evil, owner_id=case.olga, status="started")
    approval = case.ask(
        "content", label=f"{evil}\"'", subject=evil, body_text=evil, sender=evil, campaign_id=other,
        channel="email", service_id=None,
    )  # fmt: skip
    case.db.execute("SELECT campaign.decide_approval(%s, %s, false, %s)", [approval, case.rita, evil])
    case.db.execute("UPDATE campaign.delivery SET body_text = 'mended'")
    again = case.ask_again(case.delivery_of(approval), "content")
    pages = [
        person("rita").get(path)
        for path in ("/", "/?view=decided", f"/approvals/{approval}", f"/approvals/{again}", f"/?search={evil}")
    ] + [person("olga").get(f"/deliveries/{case.delivery_of(approval)}")]
    for page in pages:
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text


def test_html_of_a_delivery_can_do_nothing(person: Seat, case: Case) -> None:
    body = "<h1>Hi {{ recipient.first_name }}</h1><img src='https://x.example/p.png'><script>1</script>"
    approval = case.ask("content", channel="email", body_html=body)
    rita = person("rita")
    page = rita.get(f"/approvals/{approval}").text
    assert f'src="/campaign/approvals/{approval}/content" sandbox=""' in page
    assert "pictures are not loaded" in page
    plain, pictures = (rita.get(f"/approvals/{approval}/content{query}") for query in ("", "?pictures=true"))
    assert plain.text == pictures.text == body
    for response in (plain, pictures):
        policy = response.headers["content-security-policy"]
        assert policy.startswith("sandbox; default-src 'none'; ")
        assert "script-src" not in policy
        assert response.headers["referrer-policy"] == "no-referrer"
    assert "img-src data:;" in plain.headers["content-security-policy"]
    assert "img-src data: https: http:;" in pictures.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/approvals/{}", "/approvals/{}/content"])
def test_approval_of_others_is_not_shown(person: Seat, case: Case, path: str) -> None:
    approval = case.ask("content", body_html="<p>secret</p>", label="Secret")
    response = person("paul").get(path.format(approval))
    assert response.status_code == 403
    assert "secret" not in response.text.lower()
    assert "submitted to Rita &lt;b&gt;Róża&lt;/b&gt;" in response.text


def test_owner_sees_but_does_not_answer(person: Seat, case: Case) -> None:
    approval = case.ask("content")
    olga = person("olga")
    page = olga.get(f"/approvals/{approval}")
    assert ("<form" in page.text, "Only its reviewers can answer." in page.text) == (False, True)
    # A token of another page of hers does not help: the database decides.
    token = guard.form_token(type("Olga", (), {"get_id": lambda self: "olga"})())
    response = olga.post(f"/approvals/{approval}/decision", {"decision": "approve", "token": token})
    assert response.status_code == 403
    assert "Olga Lindqvist may not decide the content of delivery &#39;Spring&#39;" in response.text
    assert case.approval(approval) == PENDING


@pytest.mark.parametrize(
    "path", ["/approvals/99", "/approvals/0", "/approvals/x", "/approvals/9223372036854775808", "/no"]
)
def test_what_is_not_there_is_said_to_be_so(person: Seat, case: Case, path: str) -> None:
    response = person("rita").get(path)
    assert (response.status_code, "There is no such" in response.text) == (404, True)


KIND_COLUMNS = {
    "content": {},
    "target": {},
    "budget": {"channel": "email", "targeted_count": None, "message_count": None},
    "extraction": {"status": "file_to_approve"},
    "proof": {"status": "proof_to_submit"},
    "start": {"status": "pending_confirmation", "channel": "sms", "body_text": "Hi"},
}


@pytest.mark.parametrize("kind", KIND_COLUMNS)
def test_every_kind_of_approval_can_be_looked_at_whatever_became_of_it(person: Seat, case: Case, kind: str) -> None:
    approval = case.ask(kind, **KIND_COLUMNS[kind])
    shown = {}
    case.set_clock(NOW + timedelta(days=4))
    for status in ("pending", "approved", "rejected", "void", "canceled"):
        decided = {"approved", "rejected"} & {status}
        case.db.execute(
            "UPDATE campaign.approval SET status = %s, decided_at = %s, decided_by_id = %s WHERE id = %s",
            [status, NOW if decided else None, case.paul if decided else None, approval],
        )
        text = text_of(person("rita").get(f"/approvals/{approval}"))
        shown[status] = next(part for part in ("Paul ", "It was due", "What was shown", "There is") if part in text)
        assert person("olga").get(f"/deliveries/{case.delivery_of(approval)}").status_code == 200
    assert shown == {
        "pending": "It was due",
        "approved": "Paul ",
        "rejected": "Paul ",
        "void": "What was shown",
        "canceled": "There is",
    }


# --- Answers


@pytest.mark.parametrize(
    ("decision", "comment", "row"),
    [
        ("approve", "Looks right ✓", ("approved", "rita", NOW, "Looks right ✓")),
        ("approve", "  ", ("approved", "rita", NOW, None)),
        ("reject", "No:\r\nthe year\0", ("rejected", "rita", NOW, "No:\nthe year")),
    ],
)
def test_answer_is_recorded_and_shown(
    person: Seat, case: Case, decision: str, comment: str, row: tuple[Any, ...]
) -> None:
    approval = case.ask("content")
    rita = person("rita")
    response = rita.answer(approval, decision, comment)
    assert (response.status_code, response.headers["location"]) == (303, f"/campaign/approvals/{approval}")
    assert case.approval(approval) == row
    page = rita.get(f"/approvals/{approval}")
    assert f"You {row[0]} this at Mon 2 Nov 2026, 10:00 CET (just now)" in text_of(page)
    assert "<form" not in page.text


def test_answered_approval_leads_to_the_next(person: Seat, case: Case) -> None:
    first, second = case.ask("content"), case.ask("content")
    rita = person("rita")
    rita.answer(first, "approve")
    assert f'href="/campaign/approvals/{second}">Next approval' in rita.get(f"/approvals/{first}").text


def test_administrator_may_answer(person: Seat, case: Case) -> None:
    approval = case.ask("content")
    assert person("admin").answer(approval, "approve").status_code == 303
    assert case.approval(approval) == ("approved", "admin", NOW, None)


def test_button_pressed_twice_is_one_answer(person: Seat, case: Case) -> None:
    approval = case.ask("content")
    rita = person("rita")
    token = rita.token(f"/approvals/{approval}")
    answers = [rita.post(f"/approvals/{approval}/decision", {"decision": "approve", "token": token}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert case.db.execute("SELECT count(*) FROM campaign.journal WHERE message LIKE 'rita approved%'").fetchone() == (
        1,
    )


def test_late_answer_is_told_who_decided_and_when(person: Seat, case: Case) -> None:
    approval = case.ask("content", case.rita, case.paul)
    paul = person("paul")
    token = paul.token(f"/approvals/{approval}")
    person("rita").answer(approval, "reject", "Wrong year")
    case.set_clock(NOW + timedelta(hours=3))
    response = paul.post(
        f"/approvals/{approval}/decision", {"decision": "approve", "comment": "Fine & good", "token": token}
    )
    assert response.status_code == 409
    text = text_of(response)
    assert "Your answer was not taken. Rita &lt;b&gt;Róża&lt;/b&gt; rejected this at Mon 2 Nov 2026, 09:00 UTC" in text
    assert "(3 hours ago)" in text
    assert "You had written: Fine &amp; good" in text
    assert case.approval(approval) == ("rejected", "rita", NOW, "Wrong year")


def test_of_two_who_answer_at_once_one_decides(person: Seat, case: Case) -> None:
    people = [person("rita"), person("paul")]
    for _ in range(5):
        approval = case.ask("content", case.rita, case.paul)
        tokens = [someone.token(f"/approvals/{approval}") for someone in people]

        def answer(number: int, approval: int = approval, tokens: list[str] = tokens) -> int:
            form = {"decision": ("approve", "reject")[number], "token": tokens[number]}
            return people[number].post(f"/approvals/{approval}/decision", form).status_code

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(answer, (0, 1))) == [303, 409]
        status, decider, *_ = case.approval(approval)
        assert (status, decider) in {("approved", "rita"), ("rejected", "paul")}


def test_what_changed_meanwhile_cannot_be_answered(person: Seat, case: Case) -> None:
    approval = case.ask("content", body_text="Old")
    rita = person("rita")
    token = rita.token(f"/approvals/{approval}")
    case.db.execute("UPDATE campaign.delivery SET body_text = 'New'")
    page = rita.get(f"/approvals/{approval}")
    assert ("no longer what was submitted" in page.text, "<form" in page.text) == (True, False)
    response = rita.post(f"/approvals/{approval}/decision", {"decision": "approve", "token": token})
    assert response.status_code == 409
    assert "changed after it was shown: a new round will be asked for" in response.text
    assert case.approval(approval) == PENDING
    case.db.execute("UPDATE campaign.approval SET status = 'void'")
    response = rita.post(f"/approvals/{approval}/decision", {"decision": "approve", "token": token})
    assert (response.status_code, "this request is void" in response.text) == (409, True)


def test_both_rounds_stand_on_the_page(person: Seat, case: Case) -> None:
    approval = case.ask("content", body_text="Old")
    rita = person("rita")
    rita.answer(approval, "reject", "Mend the year")
    case.db.execute("UPDATE campaign.delivery SET body_text = 'New'")
    again = case.ask_again(case.delivery_of(approval), "content")
    text = text_of(rita.get(f"/approvals/{again}"))
    assert "round 2" in text
    assert "Content, round 1 rejected Rita &lt;b&gt;Róża&lt;/b&gt; , Mon 2 Nov 2026, 10:00 CET Mend the year" in text


def test_answer_that_is_neither_yes_nor_no_is_none(person: Seat, case: Case) -> None:
    approval = case.ask("content")
    assert person("rita").answer(approval, "maybe").status_code == 404
    assert person("rita").answer(approval, "approve", "x" * 10_001).status_code == 413
    assert case.approval(approval) == PENDING


# --- Forgery


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {"sec-fetch-site": "same-site", "origin": "http://other.testserver"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver.evil.example"},
        {},
    ],
    ids=str,
)
def test_answer_from_another_site_is_refused(person: Seat, case: Case, headers: dict[str, str]) -> None:
    approval = case.ask("content")
    rita = person("rita")
    form = {"decision": "approve", "comment": "kept"}
    response = rita.post(f"/approvals/{approval}/decision", form, page=f"/approvals/{approval}", headers=headers)
    assert (response.status_code, "did not come from the page" in response.text) == (403, True)
    response = rita.post(f"/deliveries/{case.delivery_of(approval)}/retry", {}, page="/approvals/1", headers=headers)
    assert response.status_code == 403
    assert case.approval(approval) == PENDING


@pytest.mark.parametrize("headers", [{"origin": "http://testserver"}, {"sec-fetch-site": "same-origin"}], ids=str)
def test_answer_from_our_page_in_an_older_browser_is_taken(person: Seat, case: Case, headers: dict[str, str]) -> None:
    approval = case.ask("content")
    form = {"decision": "approve"}
    response = person("rita").post(
        f"/approvals/{approval}/decision", form, page=f"/approvals/{approval}", headers=headers
    )
    assert response.status_code == 303


def test_answer_without_a_token_of_this_user_is_refused(
    person: Seat, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = case.ask("content", case.rita, case.paul)
    rita, page = person("rita"), f"/approvals/{approval}"
    of_paul, of_rita = person("paul").token(page), rita.token(page)
    assert of_rita != rita.token(page)
    for token in ("", "x", of_paul, of_rita[:-2] + "xx"):
        response = rita.post(f"{page}/decision", {"decision": "approve", "token": token or " "})
        assert response.status_code == 403
    with monkeypatch.context() as later:
        later.setattr(guard, "TOKEN_SECONDS", -1)
        response = rita.post(f"{page}/decision", {"decision": "approve", "comment": "kept", "token": of_rita})
    assert (response.status_code, "This page is too old" in response.text, ">kept<" in response.text) == (
        403,
        True,
        True,
    )
    assert case.approval(approval) == PENDING
    assert rita.post(f"{page}/decision", {"decision": "approve", "token": of_rita}).status_code == 303


def test_no_get_changes_anything(person: Seat, case: Case) -> None:
    approval = case.ask("content", body_html="<p>x</p>")
    case.ask("extraction", status="file_to_approve")
    failed = case.delivery(status="failed", failed_from="extracting", failure="x")
    before = snapshot(case.db)
    paths = ["/", "/?view=others", "/?view=decided", f"/approvals/{approval}", f"/approvals/{approval}/content"]
    paths += [f"/approvals/{approval}/decision?decision=approve", f"/deliveries/{failed}"]
    paths += [f"/deliveries/{failed}/retry", f"/deliveries/{failed}/content"]
    for name in ("rita", "admin"):
        for path in paths:
            assert person(name).get(path).status_code < 500
    assert changed_tables(before, snapshot(case.db)) == {}
    with database.reading() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("SELECT campaign.decide_approval(%s, %s, true)", [approval, case.rita])


def test_reload_of_a_refusal_leads_to_the_approval(person: Seat, case: Case) -> None:
    approval = case.ask("content")
    response = person("rita").get(f"/approvals/{approval}/decision")
    assert (response.status_code, response.headers["location"]) == (303, f"/campaign/approvals/{approval}")


# --- Deliveries


def delivery_row(case: Case, delivery: int) -> Any:
    return case.db.execute(
        "SELECT status, held_at, confirmed_by_id, failure FROM campaign.delivery WHERE id = %s", [delivery]
    ).fetchone()


def in_need(case: Case) -> dict[str, int]:
    return {
        "confirm": case.delivery(label="Mail", channel="email", status="pending_confirmation"),
        "release": case.delivery(label="Old", status="extraction_pending", held_at=NOW - timedelta(hours=1)),
        "retry": case.delivery(label="Broken", status="failed", failed_from="extracting", failure="No <column>"),
    }


def test_deliveries_in_need_are_shown_to_those_who_can_help(person: Seat, case: Case) -> None:
    in_need(case)
    asked = case.ask("start", channel="email", status="pending_confirmation", label="Asked for")
    assert titles(person("olga").get("/")) == ["Broken", "No &lt;column&gt;", "Old", "Mail"]
    assert titles(person("admin").get("/")) == ["Broken", "No &lt;column&gt;", "Old", "Mail"]
    assert titles(person("rita").get("/")) == ["Asked for"]
    assert "Confirm the start" not in person("olga").get(f"/deliveries/{case.delivery_of(asked)}").text


@pytest.mark.parametrize("name", ["olga", "admin"])
def test_owner_and_administrator_help_a_delivery_on(person: Seat, case: Case, name: str) -> None:
    deliveries, someone = in_need(case), person(name)
    for deed, delivery in deliveries.items():
        response = someone.act(delivery, deed)
        assert (response.status_code, response.headers["location"]) == (303, f"/campaign/deliveries/{delivery}")
        assert "Nothing to do here" in someone.get(f"/deliveries/{delivery}").text
    staff = {"olga": case.olga, "admin": case.admin}[name]
    assert [delivery_row(case, delivery) for delivery in deliveries.values()] == [
        ("start_pending", None, staff, None),
        ("extraction_pending", None, None, None),
        ("extracting", None, None, None),
    ]
    journal = [
        message
        for (message,) in case.db.execute("SELECT message FROM campaign.journal WHERE source <> 'edit' ORDER BY id")
    ]
    assert journal == [
        f"{name} confirmed the start of 'Mail'.",
        f"{name} released 'Old', held since 2026-11-02 08:00:00+00.",
        f"Delivery 'Broken' was sent back to extracting by {name}.",
    ]


def test_others_do_not_touch_a_delivery(person: Seat, case: Case) -> None:
    deliveries, rita = in_need(case), person("rita")
    case.ask("content")
    before = snapshot(case.db)
    for deed, delivery in deliveries.items():
        assert rita.get(f"/deliveries/{delivery}").status_code == 403
        response = rita.post(f"/deliveries/{delivery}/{deed}", {}, page="/approvals/1")
        assert response.status_code == 403
    assert changed_tables(before, snapshot(case.db)) == {}


def test_deed_that_is_not_called_for_is_refused_in_words(person: Seat, case: Case) -> None:
    deliveries, olga = in_need(case), person("olga")
    token = olga.token(f"/deliveries/{deliveries['retry']}")
    response = olga.post(f"/deliveries/{deliveries['confirm']}/retry", {"token": token})
    assert response.status_code == 409
    assert "That was not done. Delivery &#39;Mail&#39; is pending confirmation: only one that failed" in text_of(
        response
    )


def test_retry_by_nobody_in_particular_is_still_there(case: Case) -> None:
    delivery = in_need(case)["retry"]
    case.db.execute("SELECT campaign.retry_delivery(%s)", [delivery])
    assert case.db.execute("SELECT message FROM campaign.journal WHERE source <> 'edit'").fetchall() == [
        ("Delivery 'Broken' was sent back to extracting.",)
    ]


# --- When something is broken


def test_database_that_is_away_is_said_on_a_page(person: Seat, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    approval = case.ask("content")
    rita = person("rita")
    token = rita.token(f"/approvals/{approval}")
    away = {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "x", "schema": "x"}
    monkeypatch.setenv("AIRFLOW_CONN_CAMPAIGN_DB", json.dumps(away))
    for response in (
        rita.get("/"),
        rita.post(f"/approvals/{approval}/decision", {"decision": "approve", "comment": "kept", "token": token}),
    ):
        assert (response.status_code, "database does not answer" in response.text) == (503, True)
        assert "127.0.0.1" not in response.text
    assert ">kept<" in response.text
    monkeypatch.delenv("AIRFLOW_CONN_CAMPAIGN_DB")
    response = rita.get("/")
    assert (response.status_code, "no connection to the campaign database" in response.text) == (503, True)


def test_approval_that_a_workflow_holds_is_not_waited_for_without_end(
    person: Seat, case: Case, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT", timedelta(seconds=0.2))
    approval = case.ask("content")
    with psycopg.connect(dsn) as other:
        other.execute("SELECT campaign.lock_delivery(%s)", [case.delivery_of(approval)])
        response = person("rita").answer(approval, "approve", "kept")
    assert (response.status_code, "The database is busy" in response.text) == (503, True)
    assert ">kept<" in response.text
    assert case.approval(approval) == PENDING


def test_schema_that_is_missing_is_said_on_a_page(person: Seat, case: Case) -> None:
    case.db.execute("ALTER TABLE campaign.staff RENAME TO staff_of_old")
    response = person("rita").get("/")
    assert (response.status_code, "campaign.migrate" in response.text) == (503, True)


def test_failure_of_ours_says_nothing_of_its_cause(person: Seat, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campaign.pages.overview.by_urgency", lambda approvals: 1 / 0)
    response = person("rita").get("/")
    assert (response.status_code, "Something is broken" in response.text) == (500, True)
    assert "division" not in response.text
    assert response.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]


def test_every_answer_tells_the_browser_what_it_may_do(person: Seat, case: Case) -> None:
    approval = case.ask("content")
    rita = person("rita")
    for response in (rita.get("/"), rita.get(f"/approvals/{approval}"), rita.get("/x"), person(None).get("/")):
        assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert "script-src 'self'" in HEADERS["Content-Security-Policy"]
    style = rita.get("/static/style.css?v=1")
    assert (style.status_code, style.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
    assert rita.get("/static/../layout.html.j2").status_code == 404
    # Nothing inline: the policy would silently drop it.
    assert " style=" not in rita.get(f"/approvals/{approval}").text
    assert " onclick=" not in rita.get(f"/approvals/{approval}").text


def test_airflow_shows_the_pages_in_its_menu(person: Seat, api_server: FastAPI, case: Case) -> None:
    client = person("rita").client
    plugins = client.get("/api/v2/plugins").json()["plugins"]
    [view] = [view for plugin in plugins for view in plugin["external_views"]]
    assert {name: view[name] for name in ("name", "href", "url_route", "destination")} == {
        "name": "Approvals",
        "href": "campaign/",
        "url_route": "approvals",
        "destination": "nav",
    }
    assert client.get("/api/v2/plugins/importErrors").json()["total_entries"] == 0
    for icon in (view["icon"], view["icon_dark_mode"]):
        assert client.get(f"/{icon}").status_code == 200


def test_trouble_of_the_workflows_comes_first_for_supervisors(person: Seat, case: Case) -> None:
    case.db.execute(
        "UPDATE campaign.technical_run SET state = 'failed', failed_task_id = 'read <prices>', log_url = 'http://ui/dags'"
        " WHERE dag_id = 'budgetMgt'"
    )
    group = case.factory.insert("staff_group", internal_name="supervisors", label="Supervisors")
    case.factory.insert("staff_group_member", staff_group_id=group, staff_id=case.paul)
    shown = {name: text_of(person(name).get("/")) for name in ("paul", "admin", "rita")}
    expected = "Its last run failed at the step read &lt;prices&gt;: its log says why. Log For you"
    assert {name: expected in text for name, text in shown.items()} == {"paul": True, "admin": True, "rita": False}
    assert "Campaign jobs" not in shown["admin"]


# --- From the mail to the answer


def test_mail_leads_to_the_page_where_it_is_answered(
    person: Seat, case: Case, run_workflow: Workflow, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/flow/")
    approval = case.ask("content", body_text="Hello")
    held = case.delivery(
        label="Old", status="extraction_pending", contact_date=NOW - timedelta(days=9), approvals_demanded=True
    )
    case.db.execute("DELETE FROM campaign.technical_run")  # This run is the first, and so not one for the past.
    run_workflow("deliveryMgt", NOW)
    base = "https://airflow.example.com/flow/campaign"
    links = {
        (address, link)
        for address, mail in mail_server.messages
        for part in mail.iter_parts()
        for link in re.findall(rf"{base}/\w+/\d+", part.get_content())
        if f"/{approval}" in link or f"/{held}" in link
    }
    assert {
        ("rita@example.com", f"{base}/approvals/{approval}"),
        ("olga@example.com", f"{base}/deliveries/{held}"),
    } <= links
    for mail in (mail for _, mail in mail_server.messages):
        for part in mail.iter_parts():
            assert base in part.get_content()
    monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    assert person("rita").get(f"/approvals/{approval}").status_code == 200
    assert person("olga").get(f"/deliveries/{held}").status_code == 200
