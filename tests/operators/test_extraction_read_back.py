"""Extraction files as other programs read them: the csv module, pandas and DuckDB, value by value."""

from __future__ import annotations

import csv
import gzip
import io
import string
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import duckdb
import pandas as pd
import psycopg
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from campaign.extraction.layout import parse_layout
from campaign.extraction.stream import WrittenFile, write_rows

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
COLUMNS = ("first_name", "last_name", "city")
# Every character that PostgreSQL holds, those beyond the first plane and the odd ones of CSV among them.
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
ODD = st.text(st.sampled_from(" \t\r\n\"'`,;|\\?.N\u00a0\u0085\u2028\ufeff\U0001f600e\u0301"), max_size=6)
VALUES = st.one_of(st.none(), st.just(""), TEXT, ODD, TEXT.map(lambda text: f'"{text}"'))
ROWS = st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=8)
SIGNS = st.sampled_from([",", ";", "\t", "|", "^", ":"])
QUOTES = st.sampled_from(['"', "'", "`"])
COMPRESSIONS = st.sampled_from(["none", "gzip", "zip", "zstd"])
LINE_ENDS = st.sampled_from(["\n", "\r\n"])
TRIED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Rows = list[tuple[str | None, str | None, str | None]]


@pytest.fixture
def target(db: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Give an open transaction on a database with a delivery; what a try inserts is rolled back after it."""
    with db.transaction():
        db.execute("SET CONSTRAINTS ALL IMMEDIATE")
        db.execute(
            """
            INSERT INTO campaign.plan (id, internal_name, label) VALUES (1, 'p', 'P');
            INSERT INTO campaign.program (id, plan_id, internal_name, label) VALUES (1, 1, 'p', 'P');
            INSERT INTO campaign.campaign (id, program_id, internal_name, label) VALUES (1, 1, 'c', 'C');
            INSERT INTO campaign.delivery (id, internal_name, label, campaign_id, channel)
            VALUES (1, 'd', 'D', 1, 'direct_mail');
            """
        )
    return db


def write(db: psycopg.Connection[Any], path: Path, rows: Rows, **export_format: Any) -> WrittenFile:
    """Write a file of these rows; nothing stays in the database."""
    columns = export_format.pop("columns", [{"header": name, "expression": f"recipient.{name}"} for name in COLUMNS])
    defaults = {"delimiter": ",", "quote": '"', "header": True, "encoding": "UTF-8", "line_end": "\n"}
    layout = parse_layout(
        {"label": "F", "columns": columns, "compression": "none"} | defaults | export_format,
        {"delivery": {"id": 1}},
    )
    with db.transaction(force_rollback=True), db.cursor() as cursor, path.open("wb") as file:
        cursor.executemany(
            "INSERT INTO campaign.recipient (id, internal_name, first_name, last_name, city) "
            "VALUES (%s, %s, %s, %s, %s)",
            [(number, str(number), *row) for number, row in enumerate(rows, start=1)],
        )
        cursor.execute(
            "INSERT INTO campaign.delivery_target (delivery_id, recipient_id, role) "
            "SELECT 1, id, 'main' FROM campaign.recipient"
        )
        statement = layout.copy_statement(1).as_bytes(db)
        written = write_rows(db, statement, layout, file, inner_name="inner.csv", as_of=NOON)
    assert written.byte_count == path.stat().st_size
    return written


def unpacked(path: Path, compression: str) -> bytes:
    """Return what is in the file, by a program that did not write it."""
    if compression == "gzip":
        return gzip.decompress(path.read_bytes())
    if compression == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    if compression == "zip":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == ["inner.csv"]
            return archive.read("inner.csv")
    return path.read_bytes()


def plain(rows: Rows) -> list[list[str]]:
    """Return the rows as a reader without NULL has them."""
    return [["" if value is None else value for value in row] for row in rows]


@TRIED
@given(rows=ROWS, delimiter=SIGNS, quote=QUOTES, line_end=LINE_ENDS, compression=COMPRESSIONS)
@example(rows=[("\\.", None, None), ("\\N", "", None)], delimiter=",", quote='"', line_end="\n", compression="none")
@example(rows=[("a\r", "\rb", "\r\n")], delimiter=";", quote="'", line_end="\r\n", compression="zstd")
def test_csv_module_and_pandas_read_every_value(
    target: psycopg.Connection[Any],
    tmp_path: Path,
    rows: Rows,
    delimiter: str,
    quote: str,
    line_end: str,
    compression: str,
) -> None:
    path = tmp_path / "file"
    written = write(target, path, rows, delimiter=delimiter, quote=quote, line_end=line_end, compression=compression)
    raw = unpacked(path, compression)
    assert written.row_count == len(rows)
    read = list(csv.reader(io.StringIO(raw.decode(), newline=""), delimiter=delimiter, quotechar=quote))
    assert read == [list(COLUMNS), *plain(rows)]
    assert raw.endswith(line_end.encode())
    frame = pd.read_csv(
        path, sep=delimiter, quotechar=quote, dtype=str, keep_default_na=False, skip_blank_lines=False,
        compression=cast("Any", None if compression == "none" else compression), lineterminator=None,
    )  # fmt: skip
    assert frame.to_numpy().tolist() == plain(rows)
    # The same rows again are the same bytes.
    assert write(target, path, rows, delimiter=delimiter, quote=quote, line_end=line_end, compression=compression) == (
        written
    )


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_file_of_one_column_has_no_blank_lines(target: psycopg.Connection[Any], tmp_path: Path, line_end: str) -> None:
    path = tmp_path / "file.csv"
    values = ["a", None, "", "\\.", " ", None]
    rows: Rows = [(value, None, None) for value in values]
    columns = [{"header": "name", "expression": "recipient.first_name"}]
    write(target, path, rows, columns=columns, line_end=line_end)
    expected = [[value or ""] for value in values]
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [["name"], *expected]
    assert pd.read_csv(path, dtype=str, keep_default_na=False).to_numpy().tolist() == expected
    reading = f"SELECT * FROM read_csv('{path}', header = true, all_varchar = true, allow_quoted_nulls = false)"
    found = duckdb.sql(reading).fetchall()
    assert [list(row) for row in found] == expected


@TRIED
@given(rows=ROWS, delimiter=SIGNS, quote=QUOTES, compression=st.sampled_from(["none", "gzip", "zstd"]))
def test_duckdb_reads_every_value_and_tells_null_from_empty(
    target: psycopg.Connection[Any], tmp_path: Path, rows: Rows, delimiter: str, quote: str, compression: str
) -> None:
    path = tmp_path / "file"
    write(target, path, rows, delimiter=delimiter, quote=quote, compression=compression)
    found = duckdb.execute(
        """
        SELECT * FROM read_csv(
            $path, delim = $delimiter, quote = $quote, escape = $quote, header = true, compression = $compression,
            columns = {'first_name': 'VARCHAR', 'last_name': 'VARCHAR', 'city': 'VARCHAR'}, auto_detect = false,
            new_line = '\\n', allow_quoted_nulls = false, null_padding = false, parallel = false
        )
        """,
        {"path": str(path), "delimiter": delimiter, "quote": quote, "compression": compression},
    ).fetchall()
    # NULL is nothing between two delimiters, an empty text two quotes.
    assert found == rows


@TRIED
@given(rows=ROWS, encoding=st.sampled_from(["ISO-8859-1", "CP1252", "shift_jis", "EUC-KR", "UTF-16", "GB18030"]))
def test_what_an_encoding_lacks_becomes_a_question_mark(
    target: psycopg.Connection[Any], tmp_path: Path, rows: Rows, encoding: str
) -> None:
    path = tmp_path / "file"
    written = write(target, path, rows, encoding=encoding)
    lacking = [0]

    def expected(value: str | None) -> str:
        known = []
        for letter in value or "":
            try:
                known.append(letter.encode(encoding).decode(encoding))
            except UnicodeEncodeError:
                known.append("?")
                lacking[0] += 1
        return "".join(known)

    wanted = [[expected(value) for value in row] for row in rows]
    text = path.read_bytes().decode(encoding)
    assert list(csv.reader(io.StringIO(text, newline="")))[1:] == wanted
    assert written.replaced_count == lacking[0]


@TRIED
@given(
    rows=ROWS,
    widths=st.tuples(*[st.integers(1, 9)] * 3),
    aligns=st.tuples(*[st.sampled_from(["left", "right"])] * 3),
    line_end=LINE_ENDS,
    compression=COMPRESSIONS,
)
def test_a_slicer_reads_fixed_width(
    target: psycopg.Connection[Any],
    tmp_path: Path,
    rows: Rows,
    widths: tuple[int, int, int],
    aligns: tuple[str, str, str],
    line_end: str,
    compression: str,
) -> None:
    path = tmp_path / "file"
    columns = [
        {"header": name.upper(), "expression": f"recipient.{name}", "width": width, "align": align}
        for name, width, align in zip(COLUMNS, widths, aligns, strict=True)
    ]
    write(target, path, rows, columns=columns, line_end=line_end, compression=compression)

    def padded(value: str | None, width: int, align: str) -> str:
        line = (value or "").translate(str.maketrans("\n\r\t\x01\x02", "     "))[:width]
        return line.rjust(width) if align == "right" else line.ljust(width)

    text = unpacked(path, compression).decode()
    length = sum(widths) + len(line_end)
    assert len(text) == length * (len(rows) + 1)
    for number, row in enumerate([tuple(name.upper() for name in COLUMNS), *rows]):
        line = text[number * length : (number + 1) * length]
        assert line.endswith(line_end)
        start = 0
        for value, width, align in zip(row, widths, aligns, strict=True):
            assert line[start : start + width] == padded(value, width, align)
            start += width


@pytest.mark.parametrize("compression", ["none", "gzip", "zip", "zstd"])
def test_a_file_of_many_blocks_is_read_whole(target: psycopg.Connection[Any], tmp_path: Path, compression: str) -> None:
    letters = string.ascii_letters + "äöü中\U0001f600"
    rows: Rows = [
        (f"{number}", (letters[number % 57] + '"\n') * (number % 40), None if number % 3 else "")
        for number in range(40_000)
    ]
    path = tmp_path / "file"
    written = write(target, path, rows, compression=compression, line_end="\r\n")
    text = io.StringIO(unpacked(path, compression).decode(), newline="")
    assert list(csv.reader(text))[1:] == plain(rows)
    assert written.row_count == 40_000


def test_a_failing_row_is_an_error_and_the_connection_goes_on(target: psycopg.Connection[Any], tmp_path: Path) -> None:
    layout = parse_layout(
        {
            "label": "F", "columns": [{"header": "n", "expression": "recipient.city"}], "delimiter": ",",
            "quote": '"', "header": False, "encoding": "UTF-8", "line_end": "\n", "compression": "zstd",
        },
        {},
    )  # fmt: skip
    failing = sql.SQL("COPY (SELECT 1 / (50000 - n) FROM generate_series(1, 60000) AS n) TO STDOUT").as_bytes(target)
    with (
        (tmp_path / "file").open("wb") as file,
        pytest.raises(psycopg.errors.DivisionByZero),
        target.transaction(),
    ):
        write_rows(target, failing, layout, file, inner_name="x", as_of=NOON)
    assert target.execute("SELECT 1").fetchone() == (1,)


class _FullDisk(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() > 1_000_000:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("compression", ["none", "gzip", "zip", "zstd"])
def test_a_full_disk_is_an_error_and_the_connection_goes_on(target: psycopg.Connection[Any], compression: str) -> None:
    layout = parse_layout(
        {
            "label": "F", "columns": [{"header": "n", "expression": "recipient.city"}], "delimiter": ",",
            "quote": '"', "header": False, "encoding": "UTF-8", "line_end": "\n", "compression": compression,
        },
        {},
    )  # fmt: skip
    many = b"COPY (SELECT md5(n::text) FROM generate_series(1, 100000000) AS n) TO STDOUT"
    with pytest.raises(OSError, match="No space left on device"), target.transaction():
        write_rows(target, many, layout, _FullDisk(), inner_name="x", as_of=NOON)
    assert target.execute("SELECT 1").fetchone() == (1,)
