"""A house with campaigns of every kind, providers, stocks, budgets and people, for the tests of whole months."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from tests.budget_world import World

# A Monday: what happens before it is the building of the world.
BEGIN = datetime(2026, 11, 2, 0, 0, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
CAMPAIGNS = ("spring", "summer")
REVIEWERS = ("rita", "ravi")
STOCK_LINES = ("sheets", "envelopes", "stamps")


class House(World):
    """The world of a month: what was there before its first day.

    It touches all five workflows: two unique campaigns, a recurring and a periodic one; a router that is given
    files in a folder and answers there, one that is given them by SFTP, a provider of SMS; budgets below a main
    one; a stock whose lines run low; reviewers for every kind of approval.

    :param db: an empty campaign database, autocommit.
    :param folder: where the routers' folders and the extraction files are.
    :param recipients: how many there are, each twelfth of whom cannot be reached or opted out.
    :param budget_approvals: whether budgets are approved: those wait for budgetMgt.
    :param is_dated: leave out costs that are due as soon as something exists: nothing records since when it does.
    """

    def __init__(
        self,
        db: psycopg.Connection[Any],
        folder: Path,
        *,
        recipients: int = 60,
        budget_approvals: bool = True,
        is_dated: bool = False,
    ) -> None:
        super().__init__(db)
        self.folder = folder
        self.inbox, self.answers, self.sftp_root = folder / "inbox", folder / "answers", folder / "sftp"
        self.files = folder / "files"
        self.recipients = recipients
        self.budget_approvals, self.is_dated = budget_approvals, is_dated

    def make_folders(self) -> None:
        """Make the folders of the routers."""
        for path in (self.inbox, self.answers, self.files, self.sftp_root / "letters"):
            path.mkdir(parents=True)

    def at(self, moment: datetime) -> None:
        """Let the functions that people call act at a moment."""
        self.db.execute("SELECT set_config('campaign.as_of', %s, false)", [moment.isoformat()])

    def build(self) -> None:
        """Insert all of it."""
        self.at(BEGIN - DAY)
        self._people()
        self._money()
        self._stock()
        self._providers()
        self._recipients()
        self._campaigns()

    def _people(self) -> None:
        for name in ("olga", "vera", "kim", "sam", "sue", *REVIEWERS):
            self.named("staff", name, email=f"{name}@example.com")
        self.named("staff", "anna", email="anna@example.com", is_admin=True)
        self._group("reviewers", *REVIEWERS)
        self._group("supervisors", "sam")
        self._group("router-desk", "sue")

    def _group(self, name: str, *members: str) -> None:
        # The group of supervisors comes with the schema.
        found = self.rows("SELECT id FROM campaign.staff_group WHERE internal_name = %s", name)
        self.ids[name] = found[0][0] if found else self.named("staff_group", name)
        for member in members:
            self.db.execute(
                "INSERT INTO campaign.staff_group_member (staff_group_id, staff_id) VALUES (%s, %s)",
                [self.ids[name], self.ids[member]],
            )

    def _money(self) -> None:
        self.named("budget", "main", allocated=20000, owner_id="vera")
        self.named("budget", "paper-mail", allocated=1500, owner_id="vera", parent_id="main")
        self.named("budget", "online", allocated=900, owner_id="vera", parent_id="main")
        for category in ("paper", "postage", "agency"):
            self.named("expense_category", category)
        self.add("budget_category", budget_id="paper-mail", expense_category_id="paper", allocated=900)
        self.add("budget_category", budget_id="paper-mail", expense_category_id="postage", allocated=600)
        self.named("plan", "year")
        self.named("program", "loyalty-program", plan_id="year", budget_id="paper-mail")
        self.named("program", "offers", plan_id="year", budget_id="main")

    def _stock(self) -> None:
        self.named("stock", "warehouse", assigned_to_id="kim")
        for name, initial in zip(STOCK_LINES, (400, 300, 250), strict=True):
            self.named("stock_line", name, stock_id="warehouse", initial_quantity=initial, alert_level=150)

    def _providers(self) -> None:
        columns = [
            {"header": "key", "expression": "message.key"},
            {"header": "name", "expression": "recipient.first_name"},
            {"header": "city", "expression": "recipient.city"},
        ]
        self.named("export_format", "csv", columns=json.dumps(columns))
        self.named("export_format", "packed", columns=json.dumps(columns), delimiter=";", compression="gzip")
        self.named("provider", "printers", storage_url=f"file://{self.inbox}")
        self.named("provider", "mailhouse", storage_url="sftp:///letters", storage_conn_id="mailhouse")
        self.named("provider", "texters", message_conn_id="texters")
        self.named("provider", "halls")
        self.named(
            "service", "catalogs", provider_id="printers", export_format_id="csv",
            notification_group_id="router-desk", post_processing_dag_id="routerAcknowledgement",
            returns_url=f"file://{self.answers}", returns_within="3 days",
        )  # fmt: skip
        self.named(
            "service", "letters", provider_id="mailhouse", export_format_id="packed",
            notification_emails=["desk@mailhouse.example", "boss@mailhouse.example"], with_manifest=True,
        )  # fmt: skip
        self.named("service", "texts", provider_id="texters")
        self.named("service", "mails", provider_id="halls")
        self.named("service", "rooms", provider_id="halls")
        bands = ((50, "0.90"), (500, "0.75"))
        paper: dict[str, Any] = {"channel": "direct_mail", "basis": "per_message"}
        for service in ("catalogs", "letters"):
            self.cost_type(
                f"paper {service}",
                service=service,
                method="linear",
                amount="0.12430",
                selected_by_default=True,
                **paper,
            )
            self.cost_type(
                f"postage {service}", service=service, method="linear_by_threshold", thresholds=bands,
                beyond_amount="0.60", selected_by_default=True, **paper,
            )  # fmt: skip
            self.cost_type(
                f"set-up {service}", service=service, channel="direct_mail", basis="fixed", amount="25",
                category=f"paper {service} category",
            )  # fmt: skip
            self.set("cost_type", f"paper {service}", stock_line_id="sheets", units_per_message=2)
            self.set("cost_type", f"postage {service}", stock_line_id="envelopes")
        self.cost_type(
            "mail", service="mails", basis="per_message", method="graduated", thresholds=((20, "0.05"),),
            beyond_amount="0.01", selected_by_default=True,
        )  # fmt: skip
        self.cost_type("text", service="texts", channel="sms", basis="per_message", method="linear", amount="0.07")
        self.set("cost_type", "text", stock_line_id="stamps", selected_by_default=True)
        self.cost_type("room", service="rooms", channel="task", basis="per_day", amount="300.50")
        # Nobody has entered its price: what selects it has no cost, and says so.
        self.cost_type("unpriced", service="rooms", channel="task")

    def _recipients(self) -> None:
        self.db.execute(
            """
            INSERT INTO campaign.recipient (
                internal_name, email, phone, first_name, last_name, address1, postal_code, city, country,
                opt_out_direct_mail, opt_out_email, attributes
            )
            SELECT
                'r' || n, nullif('r' || n || '@example.net', 'r7@example.net'), '+46 70 ' || n, 'Åsa ' || n,
                'Ek', CASE WHEN n %% 12 <> 5 THEN 'Street ' || n END, '111 22', 'Stockholm', 'SE',
                n %% 12 = 3, n %% 12 = 4, jsonb_build_object('tier', CASE WHEN n %% 3 = 0 THEN 'gold' ELSE 'plain' END)
            FROM generate_series(1, %(count)s::integer) AS n
            """,
            {"count": self.recipients},
        )
        self.db.execute(
            """
            INSERT INTO campaign.recipient (
                internal_name, email, phone, first_name, last_name, address1, postal_code, city, country, is_seed
            )
            VALUES ('seed', 'seed@example.com', '+46 71 1', 'Seed', 'Ek', 'Street 0', '111 22', 'Stockholm', 'SE', true)
            """
        )

    def _campaigns(self) -> None:
        end = BEGIN + 60 * DAY
        for name, program in zip(CAMPAIGNS, ("loyalty-program", "offers"), strict=True):
            self.named(
                "campaign", name, program_id=program, owner_id="olga", budget_status="defined", fixed_cost=50,
                commitment_level="reserved", starts_at=BEGIN, ends_at=end,
            )  # fmt: skip
        self.named(
            "campaign", "weekly", program_id="offers", owner_id="olga", kind="recurring", budget_status="defined",
            budget_id="online", starts_at=BEGIN + 9 * HOUR, recurrence="FREQ=DAILY;INTERVAL=3",
            create_in_advance="1 day",
            # Demands all kinds, the budget's too.
            submit_for_approval=self.budget_approvals,
        )  # fmt: skip
        self.named(
            "campaign", "fair", program_id="offers", owner_id="olga", kind="periodic", is_template=True,
            budget_status="defined", budget_id="paper-mail", starts_at=BEGIN + 10 * HOUR, duration="20 days",
            recurrence="FREQ=DAILY;INTERVAL=5",
        )  # fmt: skip
        conf = {"everybody": True, "control_group": {"share": 0.1}}
        for campaign in (*CAMPAIGNS, "weekly", "fair"):
            self.named(
                "workflow_template", f"{campaign}-targets", campaign_id=campaign, dag_id="campaignTargeting",
                conf=json.dumps(conf),
            )  # fmt: skip
            self._policies(campaign)
        self.delivery(
            "weekly-mail", campaign="weekly", service_id="mails", is_template=True, contact_date=BEGIN + 12 * HOUR,
            workflow_template_id="weekly-targets", **self.content("weekly-mail"),
        )  # fmt: skip
        self.delivery(
            "fair-letter", "set-up letters", campaign="fair", channel="direct_mail", service_id="letters",
            workflow_template_id="fair-targets",
        )  # fmt: skip
        self.task(
            "fair-hall",
            "room",
            campaign_id="fair",
            provisional_cost=None if self.is_dated else 600,
            starts_at=BEGIN,
            ends_at=BEGIN + DAY,
        )

    def _policies(self, campaign: str) -> None:
        kinds = ["content", "target", "extraction", "proof", "start", *["budget"] * self.budget_approvals]
        for kind in kinds:
            policy = self.add(
                "approval_policy", campaign_id=campaign, kind=kind, deadline="2 days",
                reminders=[DAY, timedelta(hours=6)],
            )  # fmt: skip
            self.add("approval_policy_reviewer", approval_policy_id=policy, staff_group_id="reviewers")

    @staticmethod
    def content(name: str) -> dict[str, str]:
        """Return what an online delivery says."""
        return {
            "subject": f"{name} for {{{{ recipient.first_name }}}}",
            "body_text": "Dear {{ recipient.first_name }}, as a {{ recipient.attributes.tier | default('new') }} one",
        }
