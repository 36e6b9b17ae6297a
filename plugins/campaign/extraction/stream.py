"""The stream of a file: rows from COPY in blocks, encoded, compressed and hashed on their way to storage.

Memory does not grow with the file. Compressing has a thread of its own, which gets blocks that are large
enough to be worth the handing over; hashing and writing alone are cheaper than that, and are done in line.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import select
import zipfile
from codecs import getincrementalencoder
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Protocol, cast

import zstandard
from psycopg import errors, pq

from campaign.database import Connection
from campaign.extraction.layout import Layout

# Rows are joined while they are in the processor's cache, and handed over by many.
JOIN_BYTES = 64 * 1024
BLOCK_BYTES = 2 * 1024 * 1024
BLOCKS_AHEAD = 3
ZSTD_LEVEL = 1
GZIP_LEVEL = 6


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
    """
    sink = _HashingFile(file)
    encoder = _Encoder(layout)
    rows = CopyRows(connection, statement, is_crlf=layout.line_end == "\r\n")
    with _compressor(layout.compression, sink, inner_name, as_of) as compressor:
        compressor.write(encoder.encode(encoder.header(layout)))
        if layout.compression == "none":
            for block in rows:
                compressor.write(encoder.encode(block))
        else:
            _write_beside(rows, lambda block: compressor.write(encoder.encode(block)))
    return WrittenFile(
        row_count=rows.row_count,
        byte_count=sink.byte_count,
        sha256=sink.digest.hexdigest(),
        replaced_count=encoder.replaced_count,
    )


def _write_beside(rows: Iterable[bytes], write: Callable[[bytes], Any]) -> None:
    """Write blocks on a thread while the next ones are read; an error there is raised here."""
    pending: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1) as writer:
        for block in rows:
            pending.append(writer.submit(write, block))
            if len(pending) > BLOCKS_AHEAD:
                pending.popleft().result()
        while pending:
            pending.popleft().result()


class CopyRows:
    """The rows of a COPY ... TO STDOUT as blocks of bytes, each of whole rows.

    psycopg's own ``copy()`` hands out one row at a time through Python; this joins them.
    """

    def __init__(self, connection: Connection, statement: bytes, *, is_crlf: bool) -> None:
        self._pgconn = connection.pgconn
        self._statement = statement
        self._is_crlf = is_crlf
        self.row_count = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blocks; afterwards ``row_count`` is known."""
        self._pgconn.send_query(self._statement)
        self._require(self._pgconn.get_result(), pq.ExecStatus.COPY_OUT)
        rows: list[Any] = []
        block = bytearray()
        size = 0
        # The loop that every row goes through: nothing in it that need not be.
        get_copy_data, add_row = self._pgconn.get_copy_data, rows.append
        while True:
            length, row = get_copy_data(1)
            if length > 0:
                add_row(row)
                size += length
                if size >= JOIN_BYTES:
                    block += self._join(rows)
                    rows.clear()
                    size = 0
                    if len(block) >= BLOCK_BYTES:
                        yield bytes(block)
                        block.clear()
            elif length == 0:
                select.select([self._pgconn.socket], [], [])
                self._pgconn.consume_input()
            else:
                break
        self.row_count = self._require(self._pgconn.get_result(), pq.ExecStatus.COMMAND_OK).command_tuples or 0
        while self._pgconn.get_result():
            pass
        block += self._join(rows)
        if block:
            yield bytes(block)

    def _join(self, rows: list[Any]) -> bytes:
        if not self._is_crlf:
            return b"".join(rows)
        # Only the end of a row: a line end inside a quoted value stays as it is.
        return b"".join(bytes(row[:-1]) + b"\r\n" for row in rows)

    def _require(self, result: Any, status: pq.ExecStatus) -> Any:
        if result is None or result.status != status:
            if result is None:
                raise errors.OperationalError("the connection to the database was lost")
            while self._pgconn.get_result():
                pass
            raise errors.error_from_result(result)
        return result


class _Encoder:
    """From UTF-8 to the encoding of the layout; what that lacks becomes a question mark, and is counted."""

    def __init__(self, layout: Layout) -> None:
        self._is_utf8 = layout.encoding == "utf-8"
        self._is_unicode = layout.encoding.startswith("utf")
        self._encoding = layout.encoding
        self._encoder = getincrementalencoder(layout.encoding)()
        self._is_known: dict[str, bool] = {}
        self.replaced_count = 0

    def header(self, layout: Layout) -> bytes:
        """Return the first line as UTF-8, with the line end of the file."""
        return (layout.header().removesuffix("\n") + layout.line_end if layout.has_header else "").encode()

    def encode(self, block: bytes) -> bytes:
        if self._is_utf8:
            return block
        text = block.decode()
        if not self._is_unicode:
            for letter in set(text):
                if not self._can_encode(letter):
                    self.replaced_count += text.count(letter)
                    text = text.replace(letter, "?")
        return self._encoder.encode(text)

    def _can_encode(self, letter: str) -> bool:
        if letter not in self._is_known:
            try:
                letter.encode(self._encoding)
            except UnicodeEncodeError:
                self._is_known[letter] = False
            else:
                self._is_known[letter] = True
        return self._is_known[letter]


class _Writable(Protocol):
    def write(self, data: bytes, /) -> Any: ...


class _HashingFile:
    """A file that counts and hashes what goes into it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.byte_count = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.byte_count += len(data)
        self._file.write(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()


class _Compressor:
    """A compression as a context: what is written into it comes out in the file."""

    def __init__(self, writer: Any, *more: Any) -> None:
        self._closing = (writer, *more)
        self.write = writer.write

    def __enter__(self) -> _Compressor:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        # After an error the file is thrown away: what is left in buffers need not go into it.
        for one in self._closing if kind is None else ():
            one.close()


def _compressor(compression: str, sink: _HashingFile, inner_name: str, as_of: datetime) -> _Compressor:
    if compression == "gzip":
        stream = gzip.GzipFile(
            filename="",
            mode="wb",
            fileobj=cast("Any", sink),
            compresslevel=GZIP_LEVEL,
            mtime=int(as_of.timestamp()),
        )
        return _Compressor(stream)
    if compression == "zip":
        archive = zipfile.ZipFile(cast("Any", sink), mode="w", compression=zipfile.ZIP_DEFLATED)
        entry = zipfile.ZipInfo(inner_name, date_time=as_of.timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        return _Compressor(archive.open(entry, "w", force_zip64=True), archive)
    if compression == "zstd":
        compressed = zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(cast("Any", sink), closefd=False)
        return _Compressor(compressed)
    return _Compressor(_Plain(sink))


class _Plain:
    def __init__(self, sink: _HashingFile) -> None:
        self.write = sink.write

    def close(self) -> None:
        pass


def sync_to_disk(file: BinaryIO) -> None:
    """Make a local file survive a power cut; elsewhere, storage answers for itself."""
    file.flush()
    try:
        descriptor = file.fileno()
    except (AttributeError, OSError):
        return
    os.fsync(descriptor)
