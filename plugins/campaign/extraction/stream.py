"""The stream of a file: rows from COPY in blocks, encoded, compressed and hashed on their way to storage.

Memory does not grow with the file. Compressing has a thread of its own; hashing and writing alone are cheaper
than the handing over, and are done in line. The checksum is of what was written: no file is read again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from campaign.database import Connection
from campaign.extraction.compression import Compressor
from campaign.extraction.copy_rows import CopyRows
from campaign.extraction.encoding import Encoder
from campaign.extraction.layout import Layout

BLOCKS_AHEAD = 8


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """What was written: counts, and the SHA-256 of the bytes as they lie in the file."""

    row_count: int
    byte_count: int
    sha256: str
    replaced_count: int


def write_rows(
    connection: Connection,
    statement: bytes,
    layout: Layout,
    file: BinaryIO,
    *,
    inner_name: str,
    as_of: datetime,
) -> WrittenFile:
    """Stream the rows of a COPY statement into an open file.

    :param inner_name: name of the file inside a zip archive.
    :param as_of: the time that archives note, so that the same rows give the same bytes.
    :raises psycopg.Error: when the statement fails.
    :raises OSError: when the file cannot be written; the connection can roll back then.
    """
    sink = _HashingFile(file)
    encoder = Encoder(layout)
    rows = CopyRows(connection, statement, is_crlf=layout.line_end == "\r\n")
    try:
        with Compressor(layout, sink, inner_name=inner_name, as_of=as_of) as compressor:
            compressor.write(encoder.encode(layout.first_line()))
            if compressor.keeps_waiting:
                _write_beside(rows, lambda block: compressor.write(encoder.encode(block)))
            else:
                for block in rows:
                    compressor.write(encoder.encode(block))
    except BaseException:
        rows.abandon()
        raise
    return WrittenFile(
        row_count=rows.row_count,
        byte_count=sink.byte_count,
        sha256=sink.digest.hexdigest(),
        replaced_count=encoder.replaced_count,
    )


def _write_beside(rows: Iterable[bytearray], write: Callable[[bytearray], Any]) -> None:
    """Write blocks on a thread while the next ones are read; an error there is raised here."""
    pending: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1) as writer:
        for block in rows:
            pending.append(writer.submit(write, block))
            if len(pending) > BLOCKS_AHEAD:
                pending.popleft().result()
        while pending:
            pending.popleft().result()


class _HashingFile:
    """A file that counts and hashes what goes into it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.byte_count = 0

    def write(self, data: bytes | bytearray) -> int:
        self.digest.update(data)
        self.byte_count += len(data)
        self._file.write(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()
