"""Extraction files: what they hold, what they are called, and that none is ever half there."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import threading
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import psycopg
import pytest
import zstandard
from airflow.dag_processing.dagbag import DagBag
from psycopg.types.json import Jsonb

from campaign.extraction import ExtractionError
from campaign.extraction.expression import compile_expression
from campaign.extraction.file_name import clean, make_file_name
from campaign.extraction.layout import Layout, parse_layout
from campaign.extraction.preview import preview_file
from campaign.operators.extraction import StorageError
from campaign.operators.workflow_step import WorkflowStep
from tests.conftest import Workflow
from tests.factories import Factory
from tests.snapshots import changed_tables, snapshot

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
FACTS = {
    "delivery": {"id": 7, "internal_name": "catalog", "label": "Catalog '26"},
    "campaign": {"internal_name": "loyalty", "label": "Loyalty"},
    "service": {"internal_name": "print", "label": "Print"},
    "provider": {"internal_name": "printers", "label": "The Printers", "email": None},
    "outline": {"internal_name": None, "label": None, "description": None, "cost": "12.40"},
}
NASTY = [
    ("comma, quote \" and 'apostrophe'", 'ends with quote"'),
    ("line\nend", "carriage\r\nreturn"),
    (" leading and trailing ", "\ttab\t"),
    ("\\N", "\\."),
    ("", '""'),
    (";|%s{{ x }}", "=1+1"),
    ("Gro\u00df \u0141\u00f3d\u017a \u4e2d\u6587 \U0001f600", "a\u0301\u00a0b\u2028c"),
    (None, None),
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files go; the path holds a space, as a person's may."""
    folder = tmp_path / "extraction files"
    monkeypatch.setenv("CAMPAIGN_FILES_URL", f"file://{folder}")
    return folder


@pytest.fixture
def service(factory: Factory) -> int:
    return a_service(factory, [("first", "recipient.first_name"), ("last", "recipient.last_name")])


def a_service(factory: Factory, columns: list[Any], template: str | None = None, **export_format: Any) -> int:
    """Insert a provider with a service that writes these columns."""
    number = (factory.connection.execute("SELECT count(*) FROM campaign.provider").fetchone() or [0])[0]
    provider = factory.insert("provider", internal_name=f"p{number}", label="The Printers Inc.")
    columns = [
        column if isinstance(column, dict) else {"header": column[0], "expression": column[1]} for column in columns
    ]
    format_id = factory.insert(
        "export_format", internal_name=f"f{number}", label="CSV", columns=Jsonb(columns), **export_format
    )
    return factory.insert(
        "service",
        internal_name=f"s{number}",
        label="Catalog",
        provider_id=provider,
        export_format_id=format_id,
        file_name_template=template,
    )


def approved(factory: Factory, service: int | None, people: list[tuple[Any, Any]], **columns: Any) -> int:
    """Insert a delivery that waits for its extraction, with people in its target."""
    columns = {"internal_name": "catalog", "label": "Catalog", "status": "extraction_pending"} | columns
    delivery = factory.delivery(service_id=service, **columns)
    for first_name, last_name in people:
        recipient = factory.recipient(first_name=first_name, last_name=last_name)
        factory.insert("delivery_target", delivery_id=delivery, recipient_id=recipient, role="main")
    return delivery


def on_record(db: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return db.execute(
        """
        SELECT delivery_id, version, file_name, url, row_count, byte_count, sha256, status
        FROM campaign.extraction_file ORDER BY id
        """
    ).fetchall()


def statuses(db: psycopg.Connection[Any]) -> dict[str, str]:
    return dict(db.execute("SELECT internal_name, status FROM campaign.delivery").fetchall())


def journal(db: psycopg.Connection[Any], level: str) -> list[str]:
    rows = db.execute("SELECT message FROM campaign.journal WHERE level = %s ORDER BY id", [level]).fetchall()
    return [message for (message,) in rows]


def test_file_is_whole_recorded_and_written_once(
    db: psycopg.Connection[Any], factory: Factory, files: Path, service: int, run_workflow: Workflow
) -> None:
    delivery = approved(factory, service, [("Ann", "A"), ("Bob", "B")])
    control, seed = factory.recipient(last_name="Control"), factory.recipient(last_name="Seed")
    factory.insert("delivery_target", delivery_id=delivery, recipient_id=control, role="control")
    factory.insert("delivery_target", delivery_id=delivery, recipient_id=seed, role="seed")
    summaries = run_workflow("operationMgt", NOW)
    content = b"first,last\nAnn,A\nBob,B\n,Seed\n"
    assert (files / "catalog_20261102.csv").read_bytes() == content
    assert [path.name for path in files.iterdir()] == ["catalog_20261102.csv"]
    digest = hashlib.sha256(content).hexdigest()
    url = f"file://{files}/catalog_20261102.csv"
    assert on_record(db) == [(delivery, 1, "catalog_20261102.csv", url, 3, len(content), digest, "current")]
    assert db.execute("SELECT status, extracted_at FROM campaign.delivery").fetchall() == [("file_to_approve", NOW)]
    assert summaries["extract_files"] == {
        "files_extracted": 1, "rows_extracted": 3, "bytes_written": len(content), "deliveries_failed": 0,
    }  # fmt: skip
    assert db.execute("SELECT * FROM campaign.extraction_attempt").fetchall() == []
    before = snapshot(db)
    run_workflow("operationMgt", NOW)
    run_workflow("operationMgt", NOW + HOUR)
    assert changed_tables(before, snapshot(db)) == {}


def test_extracted_again_is_a_new_version_beside_the_old_one(
    db: psycopg.Connection[Any], factory: Factory, files: Path, service: int, run_workflow: Workflow
) -> None:
    approved(factory, service, [("Ann", "A")])
    run_workflow("operationMgt", NOW)
    db.execute("UPDATE campaign.recipient SET first_name = 'Anna'")
    db.execute("UPDATE campaign.delivery SET status = 'extraction_pending'")
    run_workflow("operationMgt", NOW + HOUR)
    records = [(row[1], row[2], row[7]) for row in on_record(db)]
    assert records == [(1, "catalog_20261102.csv", "superseded"), (2, "catalog_20261102_v2.csv", "current")]
    assert (files / "catalog_20261102.csv").read_text() == "first,last\nAnn,A\n"
    assert (files / "catalog_20261102_v2.csv").read_text() == "first,last\nAnna,A\n"


def test_names_that_differ_in_capitals_only_are_the_same(
    db: psycopg.Connection[Any], factory: Factory, files: Path, run_workflow: Workflow
) -> None:
    for template in ("Offer", "OFFER", "offer"):
        service = a_service(factory, [("n", "recipient.first_name")], template=template)
        approved(factory, service, [("Ann", "A")], internal_name=template)
    run_workflow("operationMgt", NOW)
    assert [row[2] for row in on_record(db)] == ["Offer.csv", "OFFER_v1.csv", "offer_v2.csv"]


@pytest.mark.parametrize(
    ("export_format", "dialect"),
    [
        ({}, {}),
        ({"delimiter": ";", "quote": "'"}, {"delimiter": ";", "quotechar": "'"}),
        ({"delimiter": "\t", "line_end": "\r\n"}, {"delimiter": "\t"}),
        ({"delimiter": "|", "encoding": "UTF-16", "header": False}, {"delimiter": "|"}),
        ({"encoding": "utf-8-sig"}, {}),
        ({"encoding": "GB18030"}, {}),
    ],
)
def test_every_character_comes_back(
    db: psycopg.Connection[Any],
    factory: Factory,
    files: Path,
    run_workflow: Workflow,
    export_format: dict[str, Any],
    dialect: dict[str, str],
) -> None:
    headings = ["last, name", 'a "first" name']
    columns = [(headings[0], "recipient.last_name"), (headings[1], "recipient.first_name")]
    approved(factory, a_service(factory, columns, **export_format), [(first, last) for last, first in NASTY])
    run_workflow("operationMgt", NOW)
    encoding = export_format.get("encoding", "UTF-8")
    raw = (files / "catalog_20261102.csv").read_bytes()
    expected = [[last or "", first or ""] for last, first in NASTY]
    read = list(csv.reader(io.StringIO(raw.decode(encoding), newline=""), **dialect))
    has_header = export_format.get("header", True)
    assert read == ([headings] if has_header else []) + expected
    frame = pd.read_csv(
        files / "catalog_20261102.csv", sep=dialect.get("delimiter", ","),
        quotechar=dialect.get("quotechar", '"'),
        encoding=encoding, dtype=str, keep_default_na=False, header=0 if has_header else None,
    )  # fmt: skip
    assert frame.to_numpy().tolist() == expected
    assert not has_header or list(frame.columns) == headings
    assert raw.decode(encoding).count("\r\n") == (1 if export_format.get("line_end") is None else 10)


def test_what_an_encoding_lacks_becomes_a_question_mark_and_is_counted(
    db: psycopg.Connection[Any], factory: Factory, files: Path, run_workflow: Workflow
) -> None:
    columns = [("pr\u00e9nom \u0142", "recipient.first_name"), ("x", "recipient.last_name")]
    approved(
        factory,
        a_service(factory, columns, encoding="ISO-8859-1"),
        [("\u00c9va \u0141\u0141\u00f3d\u017a", "\u4e2d\u6587")],
    )
    run_workflow("operationMgt", NOW)
    content = (files / "catalog_20261102.csv").read_bytes()
    assert content == "pr\u00e9nom ?,x\n\u00c9va ??\u00f3d?,??\n".encode("iso-8859-1")
    assert journal(db, "warning") == [
        "6 characters in the file of 'Catalog' do not exist in iso8859-1 and became question marks. Use "
        "UTF-8 if the provider reads it."
    ]


@pytest.mark.parametrize("compression", ["gzip", "zip", "zstd"])
def test_compressed_files_hold_the_same(
    db: psycopg.Connection[Any], factory: Factory, files: Path, run_workflow: Workflow, compression: str
) -> None:
    columns = [("n", "recipient.first_name")]
    service = a_service(factory, columns, template="{{ delivery.internal_name }}.csv", compression=compression)
    approved(factory, service, [(str(number), None) for number in range(1000)])
    run_workflow("operationMgt", NOW)
    [path] = files.iterdir()
    raw = path.read_bytes()
    [(_, _, name, _, rows, size, digest, _)] = on_record(db)
    assert (name, rows, size, digest) == (path.name, 1000, len(raw), hashlib.sha256(raw).hexdigest())
    if compression == "gzip":
        plain, wanted = gzip.decompress(raw), "catalog.csv.gz"
    elif compression == "zstd":
        plain, wanted = zstandard.ZstdDecompressor().decompressobj().decompress(raw), "catalog.csv.zst"
    else:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        assert archive.testzip() is None
        assert archive.namelist() == ["catalog.csv"]
        plain, wanted = archive.read("catalog.csv"), "catalog.csv.zip"
    assert path.name == wanted
    # The only column is quoted: an empty value would be a blank line, which readers pass over.
    assert plain.decode() == "n\n" + "".join(f'"{number}"\n' for number in range(1000))


def test_fixed_width(db: psycopg.Connection[Any], factory: Factory, files: Path, run_workflow: Workflow) -> None:
    columns = [
        {"header": "last name", "expression": "recipient.last_name", "width": 6},
        {"header": "n", "expression": "recipient.first_name", "width": 4, "align": "right"},
    ]
    service = a_service(factory, columns, line_end="\r\n")
    approved(
        factory,
        service,
        [("1", 'D"o,e'), ("12345", "Wi\nll"), (None, None), ("\u0141", "\u0141\u00f3d\u017a")],
    )
    run_workflow("operationMgt", NOW)
    content = (files / "catalog_20261102.txt").read_bytes().decode()
    assert content == 'last n   n\r\nD"o,e    1\r\nWi ll 1234\r\n          \r\n\u0141\u00f3d\u017a     \u0141\r\n'
    assert journal(db, "warning") == ["1 values in the file of 'Catalog' are longer than their column and were cut."]


def test_columns_come_from_everywhere(
    db: psycopg.Connection[Any], factory: Factory, files: Path, run_workflow: Workflow
) -> None:
    columns = [
        ("key", "message.key"),
        ("role", "message.role"),
        ("name", "recipient.first_name || ' ' || recipient.last_name || ', ''' || recipient.city || ''''"),
        ("tier", "recipient.attributes.tier"),
        ("none", "recipient.attributes.none"),
        ("delivery", "delivery.label"),
        ("campaign", "campaign.label"),
        ("provider", "provider.label"),
        ("service", "service.label"),
        ("offers", "outline.label"),
        ("words", "outline.description"),
        ("worth", "outline.cost"),
        ("fix", "'it''s 100%'"),
    ]
    outline = factory.insert("delivery_outline", internal_name="o", label="Offers")
    for label, description, cost in (("Voucher", "Ten off", "10.00"), ("Sampler", None, "2.40")):
        factory.insert("delivery_outline_item", outline_id=outline, label=label, description=description, cost=cost)
    campaign = factory.campaign(label="Loyalty %s")
    delivery = approved(factory, a_service(factory, columns), [("Ann", None)], outline_id=outline, campaign_id=campaign)
    db.execute('UPDATE campaign.recipient SET attributes = \'{"tier": "gold"}\'')
    run_workflow("operationMgt", NOW)
    with (files / "catalog_20261102.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    recipient = (db.execute("SELECT id FROM campaign.recipient").fetchone() or [0])[0]
    assert row == {
        "key": f"{delivery}-{recipient}", "role": "main", "name": "Ann , ''", "tier": "gold", "none": "",
        "delivery": "Catalog", "campaign": "Loyalty %s", "provider": "The Printers Inc.",
        "service": "Catalog",
        "offers": "Voucher, Sampler", "words": "Ten off", "worth": "12.40", "fix": "it's 100%",
    }  # fmt: skip
    assert preview_file(db, delivery, limit=1) == (list(row), [list(row.values())])


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "something must stand there"),
        ("recipient.password", "there is no recipient.password; there are recipient.id"),
        ("recipient.attributes", "there is no recipient.attributes; "),
        ("staff.email", "there is no staff.email"),
        ("delivery.status", "there is no delivery.status"),
        ("recipient.city recipient.city", r"wrong at 'recipient.city': \|\| must stand there"),
        ("recipient.city ||", "wrong at its end"),
        ("|| recipient.city", r"wrong at '\|\| recipient.city'"),
        ("'open", 'wrong at "\'open"'),
        ("recipient.city || (SELECT 1)", r"wrong at '\(SELECT 1\)'"),
        ("upper(recipient.city)", "wrong at 'upper"),
        ("recipient.city; DROP TABLE x", "wrong at '; DROP TABLE x'"),
        ("recipient.city::text", "wrong at '::text'"),
    ],
)
def test_wrong_expressions_are_refused(expression: str, message: str) -> None:
    with pytest.raises(ExtractionError, match=message):
        compile_expression(expression, FACTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "klingon"}, "In the export format 'CSV': there is no encoding 'klingon'"),
        ({"encoding": "base64"}, "there is no encoding 'base64'"),
        ({"encoding": "idna"}, "'idna' is no encoding for files"),
        ({"encoding": "unicode_escape"}, "'unicode_escape' is no encoding for files"),
        ({"encoding": "charmap"}, "'charmap' is no encoding for files"),
        ({"delimiter": "\u00a7"}, "the delimiter '\u00a7' must be a sign of ASCII"),
        ({"quote": "?", "encoding": "latin-1"}, r"the quote must not be '\?' with the encoding iso8859-1"),
        ({"columns": [{"header": "a", "expression": "x"}]}, r"column 1 \('a'\): the expression 'x' is wrong"),
        ({"columns": [{"header": "a", "expression": "'x'", "width": 0}]}, "width must be a whole number"),
        ({"columns": [{"header": "a", "expression": "'x'", "size": 1}]}, "size is not known"),
        (
            {
                "columns": [
                    {"header": "a", "expression": "'x'", "width": 1},
                    {"header": "b", "expression": "'y'"},
                ]
            },
            "either each column has a width, or none",
        ),
    ],
)
def test_wrong_formats_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExtractionError, match=message):
        parse_layout(a_format() | changes, FACTS)


def a_format() -> dict[str, Any]:
    return {
        "label": "CSV", "columns": [{"header": "a", "expression": "recipient.city"}], "delimiter": ",",
        "quote": '"',
        "header": True, "encoding": "UTF-8", "line_end": "\n", "compression": "none",
    }  # fmt: skip


def layout(**changes: Any) -> Layout:
    return parse_layout(a_format() | changes, FACTS)


def file_name(template: str | None, *taken: str, version: int = 1, **changes: Any) -> str:
    return make_file_name(
        template,
        FACTS,
        as_of=NOW,
        version=version,
        layout=layout(**changes),
        is_taken=lambda name: name in taken,
    )


@pytest.mark.parametrize(
    ("template", "changes", "name"),
    [
        (None, {}, "catalog_20261102.csv"),
        ("", {"compression": "zip"}, "catalog_20261102.csv.zip"),
        ("{{ delivery.label }}.TXT", {}, "Catalog_26.TXT"),
        ("{{ delivery.label }}.csv.gz", {"compression": "gzip"}, "Catalog_26.csv.gz"),
        ("../../etc/passwd", {}, "etc_passwd.csv"),
        ("/abs/olute\\path\0.csv", {}, "abs_olute_path.csv"),
        ("..hidden", {}, "hidden.csv"),
        ("Stra\u00dfe \u00e9t\u00e9 {{ version }}", {}, "Strasse_ete_1.csv"),
        ("v1.2 {{ as_of.strftime('%H%M') }}", {}, "v1.2_0900.csv"),
        ("x" * 500, {}, "x" * 180 + ".csv"),
        ("\u00e9" * 500 + ".csv.zst", {"compression": "zstd"}, "e" * 180 + ".csv.zst"),
        ("CON", {}, "CON_.csv"),
        ("nul.2026.txt", {}, "nul_.2026.txt"),
        ("../lpt1.csv.gz", {"compression": "gzip"}, "lpt1_.csv.gz"),
        ("console", {}, "console.csv"),
    ],
)
def test_file_names_stay_in_the_folder(template: str | None, changes: dict[str, Any], name: str) -> None:
    assert file_name(template, **changes) == name


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ delivery.nothing }}", "file_name_template: .*nothing"),
        ("{{ ''.__class__.__mro__ }}", "file_name_template: .*unsafe"),
        ("{{ open('/etc/passwd') }}", "'open' is undefined"),
        ("{% for x in range(1000000000) %}x{% endfor %}", "file_name_template: .*[Rr]ange"),
        ("{{ delivery.label", "file_name_template"),
        ("../..", "gives '../..', which is no name"),
        ("\u4e2d\u6587", "which is no name"),
        ("{{ '{x}'.format() }}", "file_name_template: .*x"),
    ],
)
def test_file_names_that_cannot_be_made(template: str, message: str) -> None:
    with pytest.raises(ExtractionError, match=message):
        file_name(template)


def test_file_names_are_never_the_same_twice() -> None:
    taken = ["catalog_20261102.csv"]
    assert file_name(None, *taken, version=2) == "catalog_20261102_v2.csv"
    taken += ["catalog_20261102_v2.csv"]
    assert file_name(None, *taken, version=2) == "catalog_20261102_v3.csv"
    assert file_name("x.csv.gz", "x.csv.gz", version=2, compression="gzip") == "x_v2.csv.gz"
    assert clean("a/b") == "a_b"


def test_one_that_fails_does_not_stop_the_others(
    db: psycopg.Connection[Any], factory: Factory, files: Path, service: int, run_workflow: Workflow
) -> None:
    owner = factory.staff(label="Olga", email="olga@example.com")
    campaign = factory.campaign(label="Loyalty", owner_id=owner)
    no_format = factory.insert(
        "service",
        internal_name="bare",
        label="Bare",
        provider_id=factory.insert("provider", internal_name="q", label="Q"),
    )
    approved(factory, None, [], internal_name="a", label="A", campaign_id=campaign)
    approved(factory, no_format, [], internal_name="b", label="B", campaign_id=campaign)
    wrong = a_service(factory, [("tier", "recipient.tier")])
    approved(factory, wrong, [], internal_name="c", label="C", campaign_id=campaign)
    approved(factory, service, [("Ann", "A")], internal_name="d", campaign_id=campaign)
    summaries = run_workflow("operationMgt", NOW)
    assert summaries["extract_files"]["deliveries_failed"] == 3
    assert summaries["extract_files"]["files_extracted"] == 1
    assert statuses(db) == {"a": "failed", "b": "failed", "c": "failed", "d": "file_to_approve"}
    failures = db.execute(
        "SELECT failed_from, failure FROM campaign.delivery WHERE status = 'failed' ORDER BY id"
    ).fetchall()
    assert [failed_from for failed_from, _ in failures] == ["extraction_pending"] * 3
    assert failures[0][1] == "The delivery has no service: choose the one that prints it (service_id)."
    assert failures[1][1] == "The service 'Bare' has no export format: give it one (export_format_id)."
    assert failures[2][1].startswith(
        "In the export format 'CSV': column 1 ('tier'): there is no recipient.tier; there are"
    )
    assert [line.split(":")[0] for line in journal(db, "error")] == [
        f"The file of '{label}' could not be made" for label in "ABC"
    ]
    notices = db.execute("SELECT recipient_email, subject FROM campaign.notification ORDER BY id").fetchall()
    assert notices == [("olga@example.com", f"The file of delivery '{label}' could not be made") for label in "ABC"]
    before = snapshot(db)
    run_workflow("operationMgt", NOW + HOUR)
    assert changed_tables(before, snapshot(db)) == {}
    # Mended and sent back, it goes through.
    db.execute("UPDATE campaign.export_format SET columns = jsonb_set(columns, '{0,expression}', '\"recipient.city\"')")
    db.execute("SELECT campaign.retry_delivery(id) FROM campaign.delivery WHERE internal_name = 'c'")
    run_workflow("operationMgt", NOW + HOUR)
    assert statuses(db)["c"] == "file_to_approve"


def test_only_what_is_due_and_approved_is_extracted(
    db: psycopg.Connection[Any], factory: Factory, files: Path, service: int, run_workflow: Workflow
) -> None:
    approved(factory, service, [("Ann", "A")], internal_name="later", extraction_date=NOW + HOUR)
    approved(factory, service, [("Ann", "A")], internal_name="held", held_at=NOW - HOUR)
    unapproved = approved(factory, service, [("Ann", "A")], internal_name="unapproved")
    factory.policy("target", delivery_id=unapproved)
    approved(factory, service, [("Ann", "A")], internal_name="template", is_template=True)
    approved(factory, service, [], internal_name="canceled", campaign_id=factory.campaign(status="canceled"))
    other = factory.campaign(internal_name="other")
    approved(factory, service, [("Ann", "A")], internal_name="elsewhere", campaign_id=other)
    assert run_workflow("operationMgt", NOW, campaign="other")["extract_files"]["files_extracted"] == 1
    assert run_workflow("operationMgt", NOW)["extract_files"]["files_extracted"] == 0
    assert run_workflow("operationMgt", NOW + HOUR)["extract_files"]["files_extracted"] == 1
    assert {name for name, status in statuses(db).items() if status == "file_to_approve"} == {
        "elsewhere",
        "later",
    }


def test_dry_run_says_what_would_be_written_and_writes_nothing(
    db: psycopg.Connection[Any],
    factory: Factory,
    files: Path,
    service: int,
    run_workflow: Workflow,
    caplog: pytest.LogCaptureFixture,
) -> None:
    approved(factory, service, [("Ann", "A"), ("Bob", "B")])
    approved(factory, None, [], internal_name="wrong")
    before = snapshot(db)
    summaries = run_workflow("operationMgt", NOW, dry_run=True)
    assert summaries["extract_files"] == {
        "dry_run": True, "files_extracted": 1, "rows_extracted": 2, "deliveries_failed": 1,
    }  # fmt: skip
    assert changed_tables(before, snapshot(db)) == {}
    assert not files.exists()


def test_a_run_for_the_past_writes_no_file(
    db: psycopg.Connection[Any], factory: Factory, files: Path, service: int, run_workflow: Workflow
) -> None:
    run_workflow("operationMgt", NOW)
    approved(factory, service, [("Ann", "A")])
    assert run_workflow("operationMgt", NOW - HOUR)["extract_files"]["files_extracted"] == 1
    assert statuses(db) == {"catalog": "extraction_pending"}
    assert not files.exists()


def kill_extraction(dsn: str, files: Path) -> threading.Thread:
    """End the server's side of the extraction as soon as its file has begun."""

    def kill() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while (
                not list(files.glob(".*.part"))
                or not connection.execute(
                    """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'operationMgt.extract_files'
                    AND query LIKE 'COPY%'
                """
                ).fetchall()
            ):
                pass

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_a_killed_extraction_leaves_nothing_half_and_the_next_run_completes(
    db: psycopg.Connection[Any], dsn: str, factory: Factory, files: Path, run_workflow: Workflow
) -> None:
    service = a_service(factory, [("n", "recipient.internal_name"), ("long", "recipient.address1")])
    delivery = approved(factory, service, [])
    db.execute(
        """
        WITH person AS (
            INSERT INTO campaign.recipient (internal_name, address1)
            SELECT 'r' || number, repeat('x', 200) FROM generate_series(1, 200000) AS number RETURNING id
        )

        INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role)
        SELECT %s, id, 'main' FROM person
        """,
        [delivery],
    )
    killer = kill_extraction(dsn, files)
    with pytest.raises(StorageError, match="Not all files could be written; the next run tries again"):
        run_workflow("operationMgt", NOW)
    killer.join(10)
    assert list(files.iterdir()) == []
    assert statuses(db) == {"catalog": "extracting"}
    assert on_record(db) == []
    # A process that dies has no time to clean up: what it leaves does no harm.
    (files / ".catalog_20261102.csv.part").write_text("half")
    run_workflow("operationMgt", NOW + timedelta(days=1))
    assert [path.name for path in files.iterdir()] == ["catalog_20261102.csv"]
    with (files / "catalog_20261102.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 200_001
    assert {row[1] for row in rows[1:]} == {"x" * 200}
    assert [row[:3] + row[4:5] for row in on_record(db)] == [(delivery, 1, "catalog_20261102.csv", 200_000)]
    assert statuses(db) == {"catalog": "file_to_approve"}


def test_a_crash_between_renaming_and_recording_is_mended(
    db: psycopg.Connection[Any],
    factory: Factory,
    files: Path,
    service: int,
    run_workflow: Workflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from campaign.operators.extraction import ExtractionStep

    approved(factory, service, [("Ann", "A")])
    with monkeypatch.context() as patched:
        patched.setattr(ExtractionStep, "_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_workflow("operationMgt", NOW)
    assert [path.name for path in files.iterdir()] == ["catalog_20261102.csv"]
    assert (statuses(db), on_record(db)) == ({"catalog": "extracting"}, [])
    db.execute("UPDATE campaign.recipient SET first_name = 'Anna'")
    run_workflow("operationMgt", NOW + timedelta(days=1))
    assert [path.name for path in files.iterdir()] == ["catalog_20261102.csv"]
    assert (files / "catalog_20261102.csv").read_text() == "first,last\nAnna,A\n"
    assert len(on_record(db)) == 1


def test_a_delivery_canceled_after_a_kill_leaves_no_file(
    db: psycopg.Connection[Any], factory: Factory, files: Path, service: int, run_workflow: Workflow
) -> None:
    delivery = approved(factory, service, [("Ann", "A")], status="extracting")
    factory.insert(
        "extraction_attempt",
        delivery_id=delivery,
        version=1,
        file_name="c.csv",
        started_at=NOW,
        run_id="killed",
    )
    files.mkdir()
    for name in ("c.csv", ".c.csv.part", "other.csv"):
        (files / name).write_text("half")
    db.execute("SELECT campaign.cancel_delivery(%s, 'too late')", [delivery])
    run_workflow("operationMgt", NOW)
    assert [path.name for path in files.iterdir()] == ["other.csv"]
    assert db.execute("SELECT * FROM campaign.extraction_attempt").fetchall() == []


def test_a_file_that_was_killed_and_failed_gets_a_name_that_fits_when_it_is_sent_back(
    db: psycopg.Connection[Any], factory: Factory, files: Path, service: int, run_workflow: Workflow
) -> None:
    delivery = approved(factory, service, [("Ann", "A")], status="extracting")
    factory.insert(
        "extraction_attempt", delivery_id=delivery, version=1, file_name="catalog_20261101.csv", started_at=NOW,
        run_id="killed",
    )  # fmt: skip
    files.mkdir()
    for name in ("catalog_20261101.csv", ".catalog_20261101.csv.part"):
        (files / name).write_text("half")
    db.execute("UPDATE campaign.export_format SET encoding = 'klingon'")
    run_workflow("operationMgt", NOW)
    assert statuses(db) == {"catalog": "failed"}
    db.execute("UPDATE campaign.export_format SET encoding = 'UTF-8', compression = 'gzip'")
    db.execute("SELECT campaign.retry_delivery(%s)", [delivery])
    assert run_workflow("operationMgt", NOW, dry_run=True)["extract_files"]["files_extracted"] == 1
    run_workflow("operationMgt", NOW)
    assert [path.name for path in files.iterdir()] == ["catalog_20261102.csv.gz"]
    assert gzip.decompress((files / "catalog_20261102.csv.gz").read_bytes()) == b"first,last\nAnn,A\n"
    assert [row[1:3] for row in on_record(db)] == [(1, "catalog_20261102.csv.gz")]


def test_recipients_deleted_after_the_analysis_are_told(
    db: psycopg.Connection[Any], factory: Factory, files: Path, service: int, run_workflow: Workflow
) -> None:
    approved(factory, service, [("Ann", "A"), ("Bob", "B")])
    db.execute("DELETE FROM campaign.recipient WHERE first_name = 'Bob'")
    run_workflow("operationMgt", NOW)
    assert journal(db, "warning") == [
        "The target of 'Catalog' has 2 recipients, its file 1 rows: some recipients were deleted after the "
        "target was analysed. Target it again."
    ]


def test_the_file_is_compared_with_what_the_analysis_counted_and_the_seeds(
    db: psycopg.Connection[Any], factory: Factory, files: Path, service: int, run_workflow: Workflow
) -> None:
    people: list[tuple[Any, Any]] = [("Ann", "A"), ("Bob", "B"), ("Cleo", "C")]
    for name, targeted_count in (("whole", 6), ("short", 6), ("unknown", None)):
        delivery = approved(
            factory, service, people, internal_name=name, label=name.title(), targeted_count=targeted_count
        )
        if targeted_count:
            factory.insert("delivery_exclusion", delivery_id=delivery, reason="opt_out", count=2)
            factory.insert("delivery_exclusion", delivery_id=delivery, reason="control_group", count=1)
        for role in ("seed", "control"):
            factory.insert("delivery_target", delivery_id=delivery, recipient_id=factory.recipient(), role=role)
    db.execute(
        """
        DELETE FROM campaign.recipient
        WHERE id = (
            SELECT max(target.recipient_id)
            FROM campaign.delivery_target AS target
            INNER JOIN campaign.delivery ON target.delivery_id = delivery.id
            WHERE delivery.internal_name = 'short' AND target.role = 'main'
        )
        """
    )
    assert run_workflow("operationMgt", NOW, dry_run=True)["extract_files"]["rows_extracted"] == 12
    run_workflow("operationMgt", NOW)
    assert db.execute("SELECT file_name, row_count FROM campaign.extraction_file ORDER BY id").fetchall() == [
        ("whole_20261102.csv", 4), ("short_20261102.csv", 3), ("unknown_20261102.csv", 4),
    ]  # fmt: skip
    assert [line[:70] for line in journal(db, "warning")] == [
        "The target of 'Short' has 4 recipients, its file 3 rows: some recipien",
    ]


def test_storage_that_is_away_keeps_the_delivery_for_the_next_run(
    db: psycopg.Connection[Any],
    factory: Factory,
    service: int,
    run_workflow: Workflow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    approved(factory, service, [("Ann", "A")])
    (tmp_path / "wall").write_text("not a folder")
    monkeypatch.setenv("CAMPAIGN_FILES_URL", f"file://{tmp_path}/wall/files")
    with pytest.raises(StorageError, match="catalog: "):
        run_workflow("operationMgt", NOW)
    assert statuses(db) == {"catalog": "extracting"}
    monkeypatch.setenv("CAMPAIGN_FILES_URL", f"file://{tmp_path}/files")
    run_workflow("operationMgt", NOW + HOUR)
    assert statuses(db) == {"catalog": "file_to_approve"}


def run_as_airflow_would(dag_bag: DagBag, run_id: str) -> tuple[dict[str, str], str]:
    """Execute operationMgt by its trigger rules; return the states of its tasks, and of the run by its leaves."""
    dag = dag_bag.dags["operationMgt"]
    dag_run = SimpleNamespace(
        run_type="manual", data_interval_end=None, logical_date=None, run_after=NOW, run_id=run_id, dag_id=dag.dag_id
    )
    params = {"as_of": None, "campaign": None, "full": False, "dry_run": False}
    states: dict[str, str] = {}
    for task in dag.topological_sort():
        before = {states[task_id] for task_id in task.upstream_task_ids}
        if task.trigger_rule == "all_success" and before - {"success"}:
            states[task.task_id] = "upstream_failed"
            continue
        context: Any = {"dag": dag, "task": task, "run_id": run_id, "dag_run": dag_run, "params": params}
        step = cast("WorkflowStep", task.prepare_for_execution())
        step.render_template_fields(context)
        try:
            step.execute(context)
        except Exception:
            states[task.task_id] = "failed"
        else:
            states[task.task_id] = "success"
    return states, "success" if {states[task.task_id] for task in dag.leaves} == {"success"} else "failed"


def unsent(db: psycopg.Connection[Any]) -> list[str]:
    rows = db.execute("SELECT kind FROM campaign.notification WHERE sent_at IS NULL ORDER BY id").fetchall()
    return [kind for (kind,) in rows]


def test_trouble_with_one_file_stops_no_notice_and_fails_the_run(
    db: psycopg.Connection[Any],
    factory: Factory,
    service: int,
    dag_bag: DagBag,
    run_workflow: Workflow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign = factory.campaign(owner_id=factory.staff(internal_name="olga"))
    approved(factory, service, [("Ann", "A")], campaign_id=campaign)
    approved(factory, None, [], internal_name="wrong", campaign_id=campaign)
    factory.delivery(campaign_id=campaign, internal_name="bare", status="targeting_pending", submitted_at=NOW)
    (tmp_path / "wall").write_text("not a folder")
    monkeypatch.setenv("CAMPAIGN_FILES_URL", f"file://{tmp_path}/wall/files")
    # A dry run goes through all steps, the last one too, which sees what all before it would have done.
    rehearsed = run_workflow("operationMgt", NOW, dry_run=True)
    assert rehearsed["extract_files"] == {
        "dry_run": True, "files_extracted": 1, "rows_extracted": 1, "deliveries_failed": 1,
    }  # fmt: skip
    assert list(rehearsed)[-3:] == ["send_notifications", "extract_files", "send_alerts"]
    assert rehearsed["send_alerts"] == {
        "dry_run": True, "notifications_sent": 1, "notifications_failed": 0, "notifications_postponed": 0,
    }  # fmt: skip
    states, state = run_as_airflow_would(dag_bag, "first")
    assert (states["extract_files"], states["send_alerts"], state) == ("failed", "upstream_failed", "failed")
    assert db.execute("SELECT kind FROM campaign.notification WHERE sent_at IS NOT NULL").fetchall() == [
        ("targeting_failed",)
    ]
    # What extract_files itself had to tell goes out with the next run, although the storage is still away.
    assert unsent(db) == ["extraction_failed"]
    states, state = run_as_airflow_would(dag_bag, "second")
    assert (states["extract_files"], state, unsent(db)) == ("failed", "failed", [])
    monkeypatch.setenv("CAMPAIGN_FILES_URL", f"file://{tmp_path}/files")
    states, state = run_as_airflow_would(dag_bag, "third")
    assert (set(states.values()), state) == ({"success"}, "success")


@pytest.mark.parametrize("failing", ["advance_campaigns", "start_workflows", "send_notifications"])
def test_a_step_that_fails_stops_neither_files_nor_notices_and_fails_the_run(
    db: psycopg.Connection[Any],
    factory: Factory,
    files: Path,
    service: int,
    dag_bag: DagBag,
    run_workflow: Workflow,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    campaign = factory.campaign(owner_id=factory.staff(internal_name="olga"))
    approved(factory, service, [("Ann", "A")])
    factory.delivery(campaign_id=campaign, internal_name="bare", status="targeting_pending", submitted_at=NOW)
    if failing == "send_notifications":
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", "smtp://127.0.0.1:1?disable_ssl=true&retry_limit=0&timeout=1")
    else:
        step = type(dag_bag.dags["operationMgt"].get_task(failing))
        whole = step.perform

        def perform(self: Any, *arguments: Any) -> Any:
            if self.task_id == failing:
                raise RuntimeError("away")
            return whole(self, *arguments)

        monkeypatch.setattr(step, "perform", perform)
    states, state = run_as_airflow_would(dag_bag, "first")
    assert (states[failing], states["extract_files"], state) == ("failed", "success", "failed")
    assert statuses(db)["catalog"] == "file_to_approve"
    assert failing == "send_notifications" or unsent(db) == []


def test_files_url_that_is_not_set_fails_the_step_and_no_delivery(
    db: psycopg.Connection[Any],
    factory: Factory,
    service: int,
    run_workflow: Workflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CAMPAIGN_FILES_URL", raising=False)
    # With nothing to extract nobody misses it.
    assert run_workflow("operationMgt", NOW)["extract_files"]["files_extracted"] == 0
    approved(factory, service, [("Ann", "A")])
    approved(factory, None, [], internal_name="wrong")
    before = snapshot(db)
    with pytest.raises(StorageError, match="CAMPAIGN_FILES_URL is not set: it says where"):
        run_workflow("operationMgt", NOW)
    monkeypatch.setenv("CAMPAIGN_FILES_URL", "nowhere://files")
    with pytest.raises(StorageError, match=r"CAMPAIGN_FILES_URL cannot be used: .*nowhere"):
        run_workflow("operationMgt", NOW)
    assert changed_tables(before, snapshot(db)) == {}
    assert statuses(db) == {"catalog": "extraction_pending", "wrong": "extraction_pending"}


def test_an_old_file_that_cannot_be_removed_stops_nothing_and_is_told_once(
    db: psycopg.Connection[Any],
    factory: Factory,
    files: Path,
    service: int,
    run_workflow: Workflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files.mkdir()
    for name in ("locked", "folder", "old"):
        delivery = approved(factory, service, [], internal_name=name, label=name.title(), status="canceled")
        factory.insert(
            "extraction_attempt", delivery_id=delivery, version=1, file_name=f"{name}.csv", started_at=NOW, run_id="r"
        )
        (files / f"{name}.csv").mkdir() if name == "folder" else (files / f"{name}.csv").write_text("half")
    approved(factory, service, [("Ann", "A")])
    remove = os.remove

    def guarded(path: Any, **more: Any) -> None:
        if str(path).endswith("locked.csv"):
            raise PermissionError(13, "Permission denied", path)
        remove(path, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "remove", guarded)
        assert run_workflow("operationMgt", NOW)["extract_files"]["files_extracted"] == 1
        before = snapshot(db)
        run_workflow("operationMgt", NOW + HOUR)
        assert changed_tables(before, snapshot(db)) == {}
    assert statuses(db)["catalog"] == "file_to_approve"
    assert sorted(path.name for path in files.iterdir()) == ["catalog_20261102.csv", "folder.csv", "locked.csv"]
    after = "Each run tries again; if that does not help, remove it by hand."
    assert journal(db, "warning") == [
        f"The file locked.csv, which was begun for 'Locked', cannot be removed: Permission denied. {after}",
        "The file folder.csv, which was begun for 'Folder', cannot be removed: Cannot delete directory, set "
        f"recursive=True. {after}",
    ]
    (files / "folder.csv").rmdir()
    run_workflow("operationMgt", NOW + HOUR)
    assert [path.name for path in files.iterdir()] == ["catalog_20261102.csv"]
    assert db.execute("SELECT * FROM campaign.extraction_attempt").fetchall() == []


def test_a_file_name_that_breaks_while_it_is_rendered_fails_its_delivery_only(
    db: psycopg.Connection[Any], factory: Factory, files: Path, service: int, run_workflow: Workflow
) -> None:
    wrong = a_service(factory, [("n", "recipient.first_name")], template="{{ '{x}'.format() }}")
    approved(factory, wrong, [("Ann", "A")], internal_name="wrong")
    approved(factory, service, [("Ann", "A")])
    rehearsed = run_workflow("operationMgt", NOW, dry_run=True)["extract_files"]
    assert (rehearsed["deliveries_failed"], rehearsed["files_extracted"]) == (1, 1)
    run_workflow("operationMgt", NOW)
    assert statuses(db) == {"wrong": "failed", "catalog": "file_to_approve"}
    [(failure,)] = db.execute("SELECT failure FROM campaign.delivery WHERE status = 'failed'").fetchall()
    assert failure.startswith("The file name cannot be made: file_name_template: ")


def test_each_failure_is_told_even_within_one_run(
    db: psycopg.Connection[Any], factory: Factory, files: Path, run_workflow: Workflow
) -> None:
    campaign = factory.campaign(owner_id=factory.staff(internal_name="olga"))
    approved(factory, None, [], campaign_id=campaign)
    # Between two tries of one run, the owner sends the delivery back, and nothing is mended.
    for count in (1, 2, 3):
        run_workflow("operationMgt", NOW, run_id="the same")
        run_workflow("operationMgt", NOW, run_id="the same")
        assert unsent(db) == []
        assert db.execute("SELECT count(*) FROM campaign.notification").fetchone() == (count,)
        db.execute("SELECT campaign.retry_delivery(id) FROM campaign.delivery")
