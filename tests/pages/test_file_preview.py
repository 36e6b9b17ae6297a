"""The first rows of a file, as an approver of the file sees them."""

from __future__ import annotations

import gzip
import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard

from campaign.database import connect
from campaign.pages import file_preview
from campaign.pages.file_preview import FilePreview, preview_file
from tests.factories import Factory

COLUMNS = [{"header": "key", "expression": "message.key"}, {"header": "name", "expression": "recipient.last_name"}]


def zipped(content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("letters.csv", content)
    return archive.getvalue()


def preview(factory: Factory, path: Path, **export_format: Any) -> FilePreview:
    """Preview a file of a delivery whose service has this export format."""
    values = {"internal_name": "letter", "label": "Letter", "columns": json.dumps(COLUMNS), "delimiter": ";"}
    format_id = factory.insert("export_format", **(values | export_format))
    provider = factory.insert("provider", internal_name="p", label="P")
    service = factory.insert("service", provider_id=provider, internal_name="s", label="S", export_format_id=format_id)
    delivery = factory.delivery(service_id=service)
    with connect("test") as connection:
        return preview_file(connection, delivery, f"file://{path}")


@pytest.mark.parametrize(
    ("compression", "compress"),
    [
        ("none", lambda content: content),
        ("gzip", gzip.compress),
        ("zip", zipped),
        ("zstd", lambda content: zstandard.ZstdCompressor().compress(content)),
    ],
)
def test_first_rows_are_read_whatever_the_compression(
    factory: Factory, tmp_path: Path, compression: str, compress: Any
) -> None:
    path = tmp_path / "letters"
    lines = [f'{number};"Groß; ""{number}"""\r\n' for number in range(20)]
    path.write_bytes(compress(("key;name\r\n" + "".join(lines)).encode()))
    assert preview(factory, path, compression=compression) == FilePreview(
        headings=["key", "name"], rows=[[str(number), f'Groß; "{number}"'] for number in range(10)]
    )


def test_encoding_and_a_missing_heading_are_those_of_the_format(factory: Factory, tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_bytes("1;Müller\n".encode("iso-8859-1"))
    assert preview(factory, path, encoding="ISO-8859-1", header=False) == FilePreview(
        headings=[], rows=[["1", "Müller"]]
    )


def test_line_of_fixed_width_is_one_value(factory: Factory, tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_bytes(b"key  name\n1    Ann \n")
    columns = [column | {"width": 5} for column in COLUMNS]
    assert preview(factory, path, columns=json.dumps(columns)) == FilePreview(
        headings=["key  name"], rows=[["1    Ann "]]
    )


def test_huge_value_is_cut_and_a_line_that_was_cut_off_is_not_shown(factory: Factory, tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_bytes(b"key;name\n1;" + b"x" * 500 + b"\n2;" + b"y" * 100_000 + b"\n")
    assert preview(factory, path).rows == [["1", "x" * 200 + "…"]]


def test_empty_file_has_no_rows(factory: Factory, tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_bytes(b"")
    assert preview(factory, path) == FilePreview(headings=[], rows=[])


def test_file_that_is_gone_or_broken_is_said_to_be_so(
    factory: Factory, db: psycopg.Connection[Any], tmp_path: Path
) -> None:
    assert "cannot be read" in (preview(factory, tmp_path / "gone").problem or "")


def test_broken_file_is_said_to_be_so(factory: Factory, tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_bytes(b"no gzip")
    assert "cannot be read" in (preview(factory, path, compression="gzip").problem or "")


def test_storage_that_hangs_does_not_keep_the_page(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_preview, "SECONDS", 0.1)
    monkeypatch.setattr(file_preview, "_read_head", lambda url, compression: time.sleep(0.5))
    assert preview(factory, tmp_path / "x").problem == "The storage of the file did not answer in time."
