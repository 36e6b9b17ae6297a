"""The answers of routers: picked up, checked, recorded per recipient, counted; and what is wrong with them, said."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from campaign.folders import ObjectStorageFolder
from tests.conftest import Workflow
from tests.factories import Factory
from tests.mail_server import MailServer
from tests.provider_case import AS_OF
from tests.return_case import LATER, ReturnCase
from tests.snapshots import snapshot

HEADER = "key,status,reason,printed,posted\n"
MINUTES = timedelta(minutes=5)


@pytest.fixture
def case(db: psycopg.Connection[Any], factory: Factory, tmp_path: Path) -> ReturnCase:
    return ReturnCase(db, factory, tmp_path)


def lines(case: ReturnCase) -> list[tuple[Any, ...]]:
    return case.db.execute(
        """
        SELECT delivery_id || '-' || recipient_id, status, reason, printed, posted
        FROM campaign.delivery_return ORDER BY delivery_id, recipient_id
        """
    ).fetchall()


def test_answer_is_recorded_for_each_recipient(case: ReturnCase, run_workflow: Workflow) -> None:
    delivery, keys = case.handed(case.returning(), count=3, seeds=1)
    run_workflow("providerMgt", AS_OF)
    assert case.quantities() == [(4, None, None, None, None, "waiting")]
    case.answer(
        "ack.csv",
        HEADER
        + f"{keys[0]},accepted,,1,1\n{keys[1]},OK,,1,0\n{keys[2]}, Rejected ,no such street,,\n{keys[3]},ok,,1,1\n",
    )
    first = run_workflow("providerMgt", LATER)["take_returns"]
    assert first == {
        "files_taken": 0, "rows_taken": 0, "files_refused": 0, "files_settling": 1, "folders_unreachable": 0,
    }  # fmt: skip
    second = run_workflow("providerMgt", LATER + MINUTES)["take_returns"]
    assert (second["files_taken"], second["rows_taken"]) == (1, 4)
    assert lines(case) == [
        (keys[0], "accepted", "", 1, 1),
        (keys[1], "accepted", "", 1, 0),
        (keys[2], "rejected", "no such street", None, None),
        (keys[3], "accepted", "", 1, 1),
    ]
    assert case.quantities() == [(4, 3, 1, 3, 2, "different")]
    assert case.returns("row_count", "delivery_id") == [("ack.csv", "taken", 4, delivery)]
    assert sum("was taken: 4 rows" in message for _, message in case.journal()) == 1


STEPS = ("expect_returns", "take_returns", "alert_returns", "send_alerts")


def take(case: ReturnCase, run_workflow: Workflow, minutes: int = 10) -> dict[str, Any]:
    """Run until what lies there has settled; return what the last run took."""
    run_workflow("providerMgt", AS_OF + timedelta(minutes=minutes), steps=("take_returns",))
    return run_workflow("providerMgt", AS_OF + timedelta(minutes=minutes + 2), steps=STEPS)["take_returns"]


def test_second_run_changes_nothing(
    case: ReturnCase, run_workflow: Workflow, db: psycopg.Connection[Any], mail_server: MailServer
) -> None:
    _, keys = case.handed(case.returning())
    run_workflow("providerMgt", AS_OF)
    case.answer("good.csv", HEADER + "".join(f"{key},accepted,,1,1\n" for key in keys))
    case.answer("bad.csv", HEADER + f"{keys[0]},accepted,,-1,1\n")
    summary = take(case, run_workflow)
    assert (summary["files_taken"], summary["files_refused"]) == (1, 1)
    before, mails = snapshot(db), len(mail_server.messages)
    again = run_workflow("providerMgt", AS_OF + timedelta(minutes=12))["take_returns"]
    assert set(again.values()) == {0}
    assert (snapshot(db), len(mail_server.messages)) == (before, mails)


GOOD = "{0},accepted,,1,1\n{1},accepted,,1,1\n"


# Content of a file with something wrong, with {0}, {1}, ... for the keys of its delivery; and what is said.
BAD_FILES: list[tuple[str | bytes, str]] = [
    ("", "It is empty."),
    (HEADER, "It is empty: it has headings, and no row."),
    (HEADER + GOOD + "{2},acc", "It is cut off: its last line has no end."),
    (HEADER + GOOD + "{2},acc\n", "A status that is neither accepted nor rejected: 1 (row 3)."),
    (HEADER + GOOD + "{2},accepted,,1,1", "It is cut off: its last line has no end."),
    (HEADER + GOOD + '{2},rejected,"no such', "It is cut off or damaged: Error tokenizing data. C error: EOF"),
    (HEADER + GOOD + "{2},accepted,,1,1,more\n", "It is cut off or damaged: Error tokenizing data. C error: Expected"),
    (HEADER + GOOD + "{0},accepted,,1,1\n", "keys that stand more than once: 1 (row 1 the first)."),
    (HEADER + GOOD + "{2},accepted,,-1,1\n", "A quantity printed below zero: 1 (row 3)."),
    (HEADER + GOOD + "{2},accepted,,1,many\n", "A quantity posted that is no whole number: 1 (row 3)."),
    (HEADER + GOOD + "{2},accepted,,1.5,1\n", "A quantity printed that is no whole number: 1 (row 3)."),
    (HEADER + GOOD + "{2},accepted,,9999999999,1\n", "A quantity printed that is no whole number: 1 (row 3)."),
    (HEADER + GOOD + "{2},lost,,1,1\n", "A status that is neither accepted nor rejected: 1 (row 3)."),
    (HEADER + GOOD + "{2},,,,\n", "Rows that say nothing: no status, and no quantity: 1 (row 3)."),
    (HEADER + GOOD + "7,accepted,,1,1\n,accepted,,-1,x\n", "No key of ours: 2 (rows 3, 4). A quantity printed below"),
    (HEADER + GOOD + "{delivery}-99999999,accepted,,1,1\n", "rows with a key that 'Catalog' does not have: 1 (row 3"),
    (HEADER + GOOD + "{control},accepted,,1,1\n", "rows with a key that 'Catalog' does not have: 1 (row 3"),
    (HEADER + "99999999-1,accepted,,1,1\n", "there is no delivery with the number in its keys."),
    (HEADER + GOOD + "{other},accepted,,1,1\n", "rows with the key of another delivery than 'Catalog': 1 (row 3"),
    (HEADER + "{foreign},accepted,,1,1\n", "its keys are of the delivery 'Foreign', which this service was not given."),
    ("key,reason\n{0},none\n", "It says nothing but keys: no status, and no quantity printed or posted."),
    ("key,status,KEY\n{0},accepted,x\n", "The heading 'key' stands twice."),
    ("nummer,status\n{0},accepted\n", "It has no heading 'key', which returns_format of the service names; it has"),
    ((HEADER + GOOD + "{2},rejected,Straße,1,1\n").encode("latin-1"), "It is not in the encoding utf-8 that"),
    (HEADER.encode("utf-16"), "It is not in the encoding utf-8 that the service says"),
]


def test_bad_files_are_set_aside_whole_and_others_go_on(
    case: ReturnCase, run_workflow: Workflow, mail_server: MailServer
) -> None:
    service = case.returning()
    delivery, keys = case.handed(service, label="Catalog")
    _, others = case.handed(service)
    _, foreign = case.handed(case.service(notification_emails=["x@example.com"]), label="Foreign")
    control = case.factory.recipient()
    case.factory.insert("delivery_target", delivery_id=delivery, recipient_id=control, role="control")
    run_workflow("providerMgt", AS_OF)
    names = {"other": others[0], "foreign": foreign[0], "delivery": delivery, "control": f"{delivery}-{control}"}
    for number, (content, _) in enumerate(BAD_FILES):
        text = content.decode("latin-1") if isinstance(content, bytes) else content
        text = text if "\0" in text else text.format(*keys, **names)
        case.answer(f"{number:02}.csv", text.encode("latin-1"))
    case.answer("cut.csv.gz", gzip.compress((HEADER + GOOD * 99).encode())[:-20])
    case.answer("good.csv", HEADER + f"{others[0]},accepted,,1,1\n")
    case.db.execute("UPDATE campaign.service SET returns_pattern = '*.csv*'")
    mail_server.messages.clear()
    summary = take(case, run_workflow)
    assert (summary["files_taken"], summary["files_refused"]) == (1, len(BAD_FILES) + 1)
    assert [key for key, *_ in lines(case)] == [others[0]]
    refused = case.returns("error")
    for (name, status, said), (_, error) in zip(refused[: len(BAD_FILES)], BAD_FILES, strict=True):
        assert (name, status, error in said) == (name, "refused", True), said
    assert [row[:2] for row in refused[-2:]] == [("cut.csv.gz", "refused"), ("good.csv", "taken")]
    journal = [message for level, message in case.journal() if level == "error"]
    assert len(journal) == len(BAD_FILES) + 1
    assert all("was set aside, nothing of it counts" in message for message in journal)
    told = [(to, str(mail["Subject"])) for to, mail in mail_server.messages]
    assert told == [("olga@example.com", f"Answer set aside: {name} (Nordtryck)") for name, *_ in refused[:-1]]


# Files: each once, whole, and as it is last


def test_corrected_file_takes_the_place_of_the_one_before(case: ReturnCase, run_workflow: Workflow) -> None:
    _, keys = case.handed(case.returning(), count=2)
    run_workflow("providerMgt", AS_OF)
    case.answer("ack.csv", HEADER + f"{keys[0]},accepted,,1,1\n{keys[1]},accepted,,1,1\n")
    take(case, run_workflow)
    first = case.answer("ack.csv", HEADER + f"{keys[0]},rejected,moved,0,0\n", AS_OF + MINUTES * 3).read_bytes()
    take(case, run_workflow, 20)
    assert lines(case) == [(keys[0], "rejected", "moved", 0, 0)]
    assert case.returns("row_count") == [("ack.csv", "superseded", 2), ("ack.csv", "taken", 1)]
    assert case.quantities() == [(2, 0, 1, 0, 0, "partial")]

    # The first version comes back, and the second one again.
    case.answer("ack.csv", HEADER + f"{keys[0]},accepted,,1,1\n{keys[1]},accepted,,1,1\n", AS_OF + MINUTES * 5)
    take(case, run_workflow, 30)
    assert case.quantities() == [(2, 2, 0, 2, 2, "agrees")]
    case.answer("ack.csv", first, AS_OF + MINUTES * 7)
    take(case, run_workflow, 40)
    assert case.quantities() == [(2, 0, 1, 0, 0, "partial")]


def test_files_of_other_names_add_to_what_is_known(case: ReturnCase, run_workflow: Workflow) -> None:
    service = case.returning()
    _, keys = case.handed(service, count=3)
    run_workflow("providerMgt", AS_OF)
    case.answer("1-accepted.csv", "key,status,reason\n" + "".join(f"{key},accepted,\n" for key in keys))
    take(case, run_workflow)
    assert case.quantities() == [(3, 3, 0, None, None, "agrees")]
    case.answer("2-posted.csv", f"key,printed,posted\n{keys[0]},1,1\n{keys[1]},1,1\n")
    case.answer("3-late.csv", f"key,status,reason,printed\n{keys[2]},rejected,torn,1\n")
    take(case, run_workflow, 20)
    assert lines(case) == [
        (keys[0], "accepted", "", 1, 1), (keys[1], "accepted", "", 1, 1), (keys[2], "rejected", "torn", 1, None),
    ]  # fmt: skip
    assert case.quantities() == [(3, 2, 1, 3, 2, "different")]


def test_file_that_is_only_touched_is_not_taken_again(case: ReturnCase, run_workflow: Workflow) -> None:
    _, keys = case.handed(case.returning())
    run_workflow("providerMgt", AS_OF)
    good, bad = HEADER + f"{keys[0]},accepted,,1,1\n", HEADER
    case.answer("good.csv", good), case.answer("bad.csv", bad)
    take(case, run_workflow)
    journal, known = case.journal(), case.returns("received_at")
    case.answer("good.csv", good, AS_OF + MINUTES * 3), case.answer("bad.csv", bad, AS_OF + MINUTES * 3)
    assert set(take(case, run_workflow, 20).values()) == {0}
    assert (case.journal(), case.returns("received_at")) == (journal, known)
    assert set(run_workflow("providerMgt", AS_OF + MINUTES * 9)["take_returns"].values()) == {0}


def test_file_that_is_being_written_waits(case: ReturnCase, run_workflow: Workflow) -> None:
    _, keys = case.handed(case.returning())
    run_workflow("providerMgt", AS_OF)
    for name in (".ack.csv", "ack.csv.part", "other.txt", "ack.tmp"):
        case.answer(name, HEADER)
    (case.answers / "folder.csv").mkdir()
    row = f"{keys[0]},accepted,,1,1\n"
    for minute in range(3):
        case.answer("ack.csv", HEADER + row * (minute + 1), AS_OF + timedelta(minutes=minute))
        at = AS_OF + timedelta(minutes=10 + minute, seconds=minute)
        summary = run_workflow("providerMgt", at, steps=STEPS)["take_returns"]
        assert (summary["files_settling"], summary["files_taken"], summary["files_refused"]) == (1, 0, 0)
    case.answer("ack.csv", HEADER + row, AS_OF + MINUTES)
    assert take(case, run_workflow, 15)["files_taken"] == 1
    assert case.returns() == [("ack.csv", "taken")]


def test_file_that_goes_away_unread_is_forgotten(case: ReturnCase, run_workflow: Workflow) -> None:
    case.handed(case.returning())
    run_workflow("providerMgt", AS_OF)
    path = case.answer("ack.csv", HEADER)
    run_workflow("providerMgt", LATER)
    path.unlink()
    run_workflow("providerMgt", LATER + MINUTES)
    assert case.returns() == []


def test_format_of_a_service(case: ReturnCase, run_workflow: Workflow) -> None:
    typed = {
        "encoding": "cp1252", "delimiter": ";", "quote": "'", "line_end_at_end": False,
        "columns": {"key": "Schlüssel", "status": "Ergebnis", "reason": "Grund"},
        "accepted": ["Angenommen"], "rejected": ["Abgelehnt"],
    }  # fmt: skip
    service = case.returning(returns_pattern="r?ck_*.csv.gz", returns_format=json.dumps(typed))
    _, keys = case.handed(service)
    run_workflow("providerMgt", AS_OF)
    text = f"Nr;Schlüssel;Ergebnis;Grund\n1;{keys[0]};angenommen;\n2;{keys[1]};ABGELEHNT;'Straße; unbekannt'"
    case.answer("rück_1.csv.gz", gzip.compress(text.encode("cp1252")))
    case.answer("not_1.csv.gz", b"")
    assert take(case, run_workflow)["files_taken"] == 1
    assert lines(case) == [
        (keys[0], "accepted", "", None, None), (keys[1], "rejected", "Straße; unbekannt", None, None),
    ]  # fmt: skip


def archive(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.mkdir("answers")
        for name, text in files.items():
            packed.writestr(f"answers/{name}.csv", text)
    return content.getvalue()


def test_archive_of_one_file_is_unpacked(case: ReturnCase, run_workflow: Workflow) -> None:
    _, keys = case.handed(case.returning(returns_pattern="*.zip"), count=2)
    run_workflow("providerMgt", AS_OF)
    text = accepted(keys)
    case.answer("1-two.zip", archive(a=text, b=text))
    case.answer("2-none.zip", archive())
    case.answer("3-cut.zip", archive(a=text)[:-30])
    case.answer("4-damaged.zip", archive(a=text).replace(b"PK\x03\x04", b"PK\x03\x05"))
    case.answer("5-locked.zip", archive(a=text).replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1"))
    case.answer("6-good.zip", archive(a=text))
    assert take(case, run_workflow)["files_taken"] == 1
    assert case.returns("error") == [
        ("1-two.zip", "refused", "The archive must hold one file, and holds 2."),
        ("2-none.zip", "refused", "The archive must hold one file, and holds 0."),
        ("3-cut.zip", "refused", "It is cut off or damaged: File is not a zip file."),
        ("4-damaged.zip", "refused", "It is cut off or damaged: Bad magic number for file header."),
        ("5-locked.zip", "refused", "The archive is encrypted."),
        ("6-good.zip", "taken", None),
    ]
    assert case.quantities() == [(2, 2, 0, 2, 2, "agrees")]


@pytest.mark.parametrize("order", ["le", "be"])
def test_wide_characters_in_either_order(case: ReturnCase, run_workflow: Workflow, order: str) -> None:
    _, keys = case.handed(case.returning(returns_format='{"encoding": "utf-16"}'), count=2)
    run_workflow("providerMgt", AS_OF)
    case.answer("ack.csv", ("\ufeff" + accepted(keys)).encode(f"utf-16-{order}"))
    case.answer("cut.csv", ("\ufeff" + accepted(keys).strip()).encode(f"utf-16-{order}"))
    take(case, run_workflow)
    assert case.returns("error") == [
        ("ack.csv", "taken", None), ("cut.csv", "refused", "It is cut off: its last line has no end."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ({"encodign": "x"}, "there is no 'encodign'; there are accepted, columns, delimiter"),
        ({"encoding": "utf-99"}, "there is no encoding 'utf-99'"),
        ({"encoding": "hex"}, "there is no encoding 'hex'"),
        ({"delimiter": "||"}, "delimiter must be one character"),
        ({"delimiter": "\n"}, "delimiter must be one character, and not a line end"),
        ({"columns": {"kye": "k"}}, "columns must be an object with names among key"),
        ({"accepted": "ok"}, "accepted must be a list of words"),
        ({"columns": {"posted": "Anzahl"}}, "It has no heading 'Anzahl'"),
    ],
)
def test_format_that_cannot_be_used_is_said_and_mended(
    case: ReturnCase, run_workflow: Workflow, typed: dict[str, Any], error: str
) -> None:
    _, keys = case.handed(case.returning(returns_format=json.dumps(typed)))
    run_workflow("providerMgt", AS_OF)
    case.answer("ack.csv", HEADER + f"{keys[0]},accepted,,1,1\n")
    take(case, run_workflow)
    [(number, said)] = case.db.execute("SELECT id, error FROM campaign.provider_return").fetchall()
    assert error in said
    case.db.execute("UPDATE campaign.service SET returns_format = '{}'")
    case.db.execute("SELECT campaign.retry_return(%s)", [number])
    assert take(case, run_workflow, 20)["files_taken"] == 1
    with pytest.raises(psycopg.errors.NoDataFound, match="no refused answer"):
        case.db.execute("SELECT campaign.retry_return(%s)", [number])


def test_folder_that_cannot_be_read_is_said_once_and_others_go_on(
    case: ReturnCase, run_workflow: Workflow, tmp_path: Path
) -> None:
    gone = case.returning(returns_url=f"file://{tmp_path}/gone", label="Cards")
    case.handed(gone)
    _, keys = case.handed(case.returning())
    run_workflow("providerMgt", AS_OF)
    case.answer("ack.csv", HEADER + f"{keys[0]},accepted,,1,1\n")
    summary = take(case, run_workflow)
    assert (summary["files_taken"], summary["folders_unreachable"]) == (1, 1)
    said = [message for level, message in case.journal() if level == "warning"]
    assert said == [
        f"The answers of Nordtryck to the service 'Cards' cannot be picked up: "
        f"There is no folder file://{tmp_path}/gone: make it, or mount its share."
    ]


def test_dry_run_takes_nothing_and_says_what_it_would(
    case: ReturnCase, run_workflow: Workflow, db: psycopg.Connection[Any]
) -> None:
    _, keys = case.handed(case.returning())
    run_workflow("providerMgt", AS_OF)
    case.answer("ack.csv", HEADER + f"{keys[0]},accepted,,1,1\n")
    case.answer("bad.csv", HEADER)
    run_workflow("providerMgt", LATER)
    before = snapshot(db)
    dry = run_workflow("providerMgt", LATER + MINUTES, dry_run=True)
    assert snapshot(db) == before
    real = run_workflow("providerMgt", LATER + MINUTES)
    for step in ("take_returns", "alert_returns"):
        assert {name: dry[step][name] for name in real[step]} == real[step]
    assert (real["take_returns"]["files_taken"], real["take_returns"]["files_refused"]) == (1, 1)


def test_run_for_the_past_takes_nothing(case: ReturnCase, run_workflow: Workflow, db: psycopg.Connection[Any]) -> None:
    _, keys = case.handed(case.returning(returns_within="1 minute"))
    run_workflow("providerMgt", AS_OF)
    run_workflow("providerMgt", AS_OF + timedelta(seconds=30))
    case.answer("ack.csv", HEADER + f"{keys[0]},accepted,,1,1\n")
    before = snapshot(db)
    run_workflow("providerMgt", AS_OF - MINUTES)
    assert snapshot(db) == before


def test_run_limited_to_a_campaign_looks_where_its_answers_go(case: ReturnCase, run_workflow: Workflow) -> None:
    _, keys = case.handed(case.returning())
    case.factory.campaign(internal_name="other")
    run_workflow("providerMgt", AS_OF)
    case.answer("ack.csv", HEADER + f"{keys[0]},accepted,,1,1\n")
    for campaign, taken in (("other", 0), ("loyalty", 1)):
        run_workflow("providerMgt", LATER, campaign=campaign)
        summary = run_workflow("providerMgt", LATER + MINUTES, campaign=campaign)["take_returns"]
        assert summary["files_taken"] == taken


def test_answers_for_a_file_that_was_replaced_do_not_count(case: ReturnCase, run_workflow: Workflow) -> None:
    delivery, keys = case.handed(case.returning(), count=1)
    run_workflow("providerMgt", AS_OF)
    case.answer("ack.csv", HEADER + f"{keys[0]},accepted,,1,1\n")
    take(case, run_workflow)
    case.extract(delivery, b"name\nEve\n")
    case.db.execute("UPDATE campaign.delivery SET status = 'routing', finished_at = NULL")
    run_workflow("providerMgt", AS_OF + MINUTES * 4)
    assert case.quantities() == [(1, None, None, None, None, "waiting")]
    assert case.returns() == [("ack.csv", "superseded")]


def accepted(keys: list[str]) -> str:
    return HEADER + "".join(f"{key},accepted,,1,1\n" for key in keys)


@pytest.mark.parametrize("trouble", ["link to nowhere", "name in Latin-1"])
def test_file_that_cannot_be_read_stops_no_other(case: ReturnCase, run_workflow: Workflow, trouble: str) -> None:
    _, keys = case.handed(case.returning())
    run_workflow("providerMgt", AS_OF)
    case.answer("good.csv", accepted(keys))
    if trouble == "link to nowhere":
        (case.answers / "a.csv").symlink_to("/nowhere")
    else:
        Path(os.fsdecode(os.fsencode(case.answers) + b"/antwort_\xe4.csv")).write_text("x")
    run_workflow("providerMgt", LATER, steps=("take_returns",))
    run_workflow("providerMgt", LATER + MINUTES, steps=("take_returns",))
    assert ("good.csv", "taken") in case.returns()


def test_file_that_may_not_be_read_stops_no_other_and_is_told_once(
    case: ReturnCase, run_workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, keys = case.handed(case.returning())
    run_workflow("providerMgt", AS_OF)
    case.answer("good.csv", accepted(keys))
    case.answer("a.csv", "x")
    opened = ObjectStorageFolder.open

    # The tests may run as a user who may read all.
    def refuse(folder: ObjectStorageFolder, name: str, mode: str) -> Any:
        if name == "a.csv":
            raise PermissionError(13, "Permission denied", name)
        return opened(folder, name, mode)

    monkeypatch.setattr(ObjectStorageFolder, "open", refuse)
    for later in range(3):
        run_workflow("providerMgt", LATER + later * MINUTES, steps=("take_returns",))
    assert ("good.csv", "taken") in case.returns()
    told = case.db.execute("SELECT count(*) FROM campaign.journal WHERE message LIKE '%a.csv%' AND level = 'warning'")
    assert told.fetchone() == (1,)


def test_file_that_was_written_on_counts_as_late_as_its_last_change(case: ReturnCase, run_workflow: Workflow) -> None:
    _, [key] = case.handed(case.returning(), count=1)
    run_workflow("providerMgt", AS_OF)
    case.answer("a.csv", HEADER, AS_OF)
    run_workflow("providerMgt", LATER, steps=("take_returns",))
    case.answer("b.csv", f"{HEADER}{key},accepted,,,\n", LATER + MINUTES)
    case.answer("a.csv", f"{HEADER}{key},rejected,,,\n", LATER + 1.5 * MINUTES)
    run_workflow("providerMgt", LATER + 2 * MINUTES, steps=("take_returns",))
    run_workflow("providerMgt", LATER + 3 * MINUTES, steps=("take_returns",))
    assert case.db.execute("SELECT status FROM campaign.delivery_return").fetchall() == [("rejected",)]
