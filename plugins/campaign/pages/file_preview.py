"""The first rows of an extraction file, as it lies in storage: what an approver of the file looks at."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, cast

import zstandard

from campaign.database import Connection
from campaign.extraction import ExtractionError
from campaign.extraction.layout import Layout
from campaign.extraction.preview import layout_of, load_facts
from campaign.storage import open_url

log = logging.getLogger(__name__)

ROWS = 10
HEAD_BYTES = 64_000
CELL_LETTERS = 200
SECONDS = 5.0

# A storage that hangs keeps its thread, not the page; when all hang, pages come without a preview.
_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="file-preview")


@dataclass(frozen=True, kw_only=True)
class FilePreview:
    """The first rows of a file.

    :param headings: empty when the file has none.
    :param rows: their values as text, long ones cut.
    :param problem: why there are none; None when they could be read.
    """

    headings: list[str]
    rows: list[list[str]]
    problem: str | None = None


def preview_file(connection: Connection, delivery_id: int, url: str) -> FilePreview:
    """Return the first rows of a file, or why they cannot be shown; within seconds, whatever the storage does.

    :param url: where the extraction put it.
    """
    try:
        layout = layout_of(load_facts(connection, delivery_id))
        head = _readers.submit(_read_head, url, layout.compression).result(timeout=SECONDS)
    except TimeoutError:
        return _without("The storage of the file did not answer in time.")
    except ExtractionError as error:
        return _without(str(error))
    except Exception:
        # Each storage library has errors of its own, and the page must come without a preview then too.
        log.warning("The file of delivery %s cannot be read for its preview", delivery_id, exc_info=True)
        return _without("The file cannot be read where it was put. It is in the log of the API server.")
    return parse_head(head, layout)


def parse_head(head: bytes, layout: Layout) -> FilePreview:
    """Read the first rows from the beginning of a file.

    :param head: its first bytes, decompressed; the last line may be cut off.
    """
    text = head.decode(layout.encoding, errors="replace")
    if layout.is_fixed_width:
        lines = [[line] for line in text.splitlines()]
    else:
        source = io.StringIO(text, newline="")
        lines = list(csv.reader(source, delimiter=layout.delimiter, quotechar=layout.quote))
    if len(head) >= HEAD_BYTES and len(lines) <= ROWS:
        lines = lines[:-1]
    headings = lines.pop(0) if layout.has_header and lines else []
    rows = [[value[:CELL_LETTERS] + "…" * (len(value) > CELL_LETTERS) for value in line] for line in lines[:ROWS]]
    return FilePreview(headings=headings, rows=rows)


def _without(problem: str) -> FilePreview:
    return FilePreview(headings=[], rows=[], problem=problem)


def _read_head(url: str, compression: str) -> bytes:
    with ExitStack() as stack:
        source: IO[Any] = stack.enter_context(open_url(url))
        if compression == "gzip":
            source = cast("IO[bytes]", stack.enter_context(gzip.open(source)))
        elif compression == "zstd":
            source = stack.enter_context(zstandard.ZstdDecompressor().stream_reader(source))
        elif compression == "zip":
            archive = stack.enter_context(zipfile.ZipFile(source))
            source = stack.enter_context(archive.open(archive.namelist()[0]))
        return bytes(source.read(HEAD_BYTES))
