"""Tasks killed at any moment, PostgreSQL too, and what is around them away: in the end all is as if nothing had been.

The same days are played twice: in peace, and with the workflows in processes that are killed, their database killed
and started again, the servers and folders around them away for a while. After each moment the workflows run until
they change nothing more, as they do in operation. What people do is the same in both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from campaign.migrate import migrate
from tests.conftest import _memory_folder
from tests.snapshots import snapshot
from tests.trust.comparison import BESIDE, content, describe, differences, journal_messages, without_facts
from tests.trust.conftest import OpenHouse
from tests.trust.killing import KillingPlayer
from tests.trust.month import Month, moments
from tests.trust.player import Player
from tests.trust.postgres_server import PostgresServer
from tests.trust.tally import SEED, count, size

DAYS = size(short=2, long=3)
KILLS = size(short=200, long=400)
# A moment is over when a round of runs changes nothing more.
ROUNDS = 40
# How often something was tried, and when it is to be tried again: that differs. What is in a file names its delivery by
# its id, which a transaction that was killed leaves a gap before.
DIFFERENT = {
    "tries", "tries_before", "next_try_at", "error", "request_tries", "sent_count", "refused_count",
    "byte_count", "bytes", "sha256",
}  # fmt: skip
# So that a try that failed is made again at the same moment, however often it takes.
PATIENCE = {
    "job_pauses": ["0 seconds"], "message_pauses": ["0 seconds"], "notice_pauses": ["0 seconds"],
    "job_tries": 1000, "message_tries": 1000, "notice_tries": 1000, "failed_share": 1,
}  # fmt: skip
# Lines of the journal that say how something was done, not what: in portions, at the second try.
HOW = re.compile("messages left|leave again")
# The same in words.
IN_WORDS = re.compile(r"(\d+ bytes, )?SHA-256 [0-9a-f]+|was already(?= with)|is(?= with)")


class Played:
    """What came of some days: what the database says, and what arrived outside."""

    def __init__(self, player: Player | KillingPlayer) -> None:
        self.player, self.house, self.outside = player, player.house, player.outside
        for name, value in PATIENCE.items():
            self.house.db.execute("UPDATE campaign.setting SET value = %s WHERE name = %s", [json.dumps(value), name])
        month = Month(self.house, SEED)
        month.open()
        for moment in moments(DAYS):
            month.act(moment)
            self._run_until_nothing_changes(moment)
        # Runs that find nothing to do are killed too, until that was enough.
        while isinstance(player, KillingPlayer) and not player.has_killed(KILLS):
            player.run_all(moment)
            self._run_until_nothing_changes(moment)
        self.deeds = month.deeds
        self.rows = {table: sorted(map(_what_is_the_same, rows)) for table, rows in content(self.house.db).items()}
        self.decisions = {
            (source, IN_WORDS.sub("", message))
            for source, level, message in journal_messages(self.house.db)
            if level == "info" and not HOW.search(message)
        }
        self.mails, self.texts = self.outside.mails(), self.outside.texts()
        self.wanted_mails, self.wanted_texts = self._wanted("email"), self._wanted("sms")
        self.files = {name: self._sha256(name) for name in self.outside.files()}
        self.extracted = dict(self.house.rows("SELECT file_name, sha256 FROM campaign.extraction_file"))

    def _run_until_nothing_changes(self, moment: datetime) -> None:
        for _ in range(ROUNDS):
            before = snapshot(self.house.db)
            self.player.run_all(moment)
            self._send_what_is_unknown()
            if snapshot(self.house.db) == before:
                # A round of which every run was killed changes nothing either.
                self.player.run_all_in_peace(moment)
                if snapshot(self.house.db) == before:
                    return
        raise AssertionError(f"the workflows do not come to rest at {moment}")

    def _send_what_is_unknown(self) -> None:
        """Send again the messages of which nobody knows whether they left: a person decides that."""
        unknown = self.house.rows("SELECT DISTINCT delivery_id FROM campaign.delivery_message WHERE is_unknown")
        for (delivery,) in unknown:
            self.house.db.execute("SELECT campaign.resend_unknown(%s, %s)", [delivery, self.house.ids["olga"]])

    def _sha256(self, name: str) -> str:
        return hashlib.sha256((self.house.folder / name).read_bytes()).hexdigest()

    def _wanted(self, channel: str) -> set[str]:
        """Return the keys of the messages that are said to be sent; of e-mail their Message-IDs, notices too."""
        notices = "SELECT message_id FROM campaign.notification WHERE sent_at IS NOT NULL AND %s = 'email'"
        return {
            key
            for (key,) in self.house.rows(
                f"""
                {notices}
                UNION ALL
                SELECT format(
                    CASE delivery.channel WHEN 'email' THEN '<%%s@example.com>' ELSE '%%s' END,
                    campaign.message_key(message.delivery_id, message.recipient_id)
                )
                FROM campaign.delivery_message AS message
                JOIN campaign.delivery ON message.delivery_id = delivery.id
                WHERE message.status = 'sent' AND delivery.channel = %s
                """,
                channel,
                channel,
            )
        }


def _what_is_the_same(text: str) -> str:
    row = json.loads(text)
    if "facts" in row:
        row = without_facts(row, BESIDE)
    if row.get("status") == "pending":
        # Of an approval that nobody has answered: as of when it was asked for, like those of its notice.
        row.pop("warnings", None)
    return json.dumps(_without_different(row), sort_keys=True)


def _without_different(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_different(one) for name, one in value.items() if name not in DIFFERENT}
    if isinstance(value, list):
        return [_without_different(one) for one in value]
    return value


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Start a PostgreSQL server that may be killed."""
    server = PostgresServer(_memory_folder())
    yield server
    server.close()


@pytest.fixture(scope="module")
def template(server: PostgresServer) -> str:
    """Create the database on that server that the house is a copy of."""
    with server.connect("postgres") as connection:
        connection.execute("CREATE DATABASE campaign_template")
    migrate(make_conninfo(dbname="campaign_template", **server.address))
    return "campaign_template"


@pytest.fixture(scope="module")
def peaceful(open_house: OpenHouse) -> Played:
    """Play some days in peace."""
    with open_house() as player:
        return Played(player)


@pytest.fixture(scope="module")
def killed(open_house: OpenHouse, server: PostgresServer, template: str, peaceful: Played) -> Played:
    """Play the same days while everything is killed."""
    with open_house(server=server.address, template=template) as player:
        killer = KillingPlayer(player, server, SEED)
        played = Played(killer)
        player.house.db.close()
    count(
        **killer.counts,
        mails=len(played.mails),
        mails_that_came_again=sum(played.mails.values()) - len(played.mails),
        texts=len(played.texts),
        files=len(played.files),
        differences=sum(len(one) + len(other) for one, other in differences(peaceful.rows, played.rows).values()),
    )
    return played


def test_enough_is_killed(killed: Played) -> None:
    assert isinstance(killed.player, KillingPlayer)
    assert killed.player.has_killed(KILLS)


def test_the_state_is_that_of_days_in_peace(peaceful: Played, killed: Played) -> None:
    found = differences(peaceful.rows, killed.rows)
    assert found == {}, describe(found)
    assert peaceful.deeds == killed.deeds


def test_the_journal_says_the_same_decisions(peaceful: Played, killed: Played) -> None:
    assert (peaceful.decisions - killed.decisions, killed.decisions - peaceful.decisions) == (set(), set())


def test_each_mail_arrives_and_none_under_two_names(peaceful: Played, killed: Played) -> None:
    """Nobody can know whether a server has a mail whose answer was lost: it comes again under its own Message-ID."""
    arrived = [message_id for _, message_id in killed.mails]
    assert set(arrived) ^ killed.wanted_mails == set()
    assert len(arrived) == len(set(arrived)) == len(peaceful.mails)


def test_each_text_arrives_once(peaceful: Played, killed: Played) -> None:
    assert killed.texts == Counter(killed.wanted_texts)
    assert len(killed.texts) == len(peaceful.texts) >= 1


def test_each_file_arrives_once_and_whole(peaceful: Played, killed: Played) -> None:
    assert killed.files.keys() == peaceful.files.keys()
    arrived = {Path(name).name: sha256 for name, sha256 in killed.files.items() if Path(name).name in killed.extracted}
    assert arrived == killed.extracted
    assert len(arrived) >= 1
