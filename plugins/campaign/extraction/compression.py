"""Compression of files on their way to storage."""

from __future__ import annotations

import gzip
import zipfile
from contextlib import nullcontext, suppress
from datetime import datetime
from typing import Any, BinaryIO, Protocol, cast

import zstandard

from campaign.extraction.layout import Layout

ZSTD_LEVEL = 1
GZIP_LEVEL = 6


class Sink(Protocol):
    """Where the bytes of the file go."""

    def write(self, data: bytes | bytearray, /) -> Any:
        """Take the next bytes."""


class Compressor:
    """A compression as a context: what is written into it comes out in the file.

    :param inner_name: name of the file inside a zip archive.
    :param as_of: the time that archives note, so that the same rows give the same bytes.
    """

    def __init__(self, layout: Layout, sink: Sink, *, inner_name: str, as_of: datetime) -> None:
        file = cast("BinaryIO", sink)
        self._closing: tuple[Any, ...] = ()
        # zstd compresses on a thread of its own, and takes blocks at once.
        self.keeps_waiting = layout.compression in ("gzip", "zip")
        self.write = sink.write
        if layout.compression == "gzip":
            stream = gzip.GzipFile(
                filename="", mode="wb", fileobj=file, compresslevel=GZIP_LEVEL, mtime=int(as_of.timestamp())
            )
            self._open(stream)
        elif layout.compression == "zip":
            archive = zipfile.ZipFile(file, mode="w", compression=zipfile.ZIP_DEFLATED)
            entry = zipfile.ZipInfo(inner_name, date_time=as_of.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            self._open(archive.open(entry, "w", force_zip64=True), archive)
        elif layout.compression == "zstd":
            self._open(zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=1).stream_writer(file, closefd=False))

    def _open(self, writer: Any, *more: Any) -> None:
        self._closing = (writer, *more)
        self.write = writer.write

    def __enter__(self) -> Compressor:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        for one in self._closing:
            # After an error the file is thrown away: whether the rest still fits is of no importance.
            with suppress(OSError, ValueError) if kind else nullcontext():
                one.close()
