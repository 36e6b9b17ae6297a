"""Files at a provider's storage: handed over whole and verified, or not at all.

A file is written beside its place under a temporary name, read back, and renamed when its size and SHA-256
are right; where a file appears under its name at once and whole (S3), it is put there, and read back. A file
that is there already with the same content is left as it is; one with other content is never overwritten. A
router that takes a file away as soon as it has its name has it.
The kinds of folders are in :mod:`campaign.folders`.
"""

from __future__ import annotations

import hashlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

CHUNK_BYTES = 1 << 20
# Letters and digits of any script, and what is harmless in every storage. No leading dot or hyphen.
FILE_NAME = re.compile(r"\w[\w .,+=@()&'~-]*")
# With the marks of a temporary name it stays below what file systems allow (255 bytes).
FILE_NAME_BYTES = 220
TOOK_TOO_LONG = "It took longer than the setting transfer_timeout allows."

OpenSource = Callable[[], AbstractContextManager[IO[bytes]]]


class StorageError(RuntimeError):
    """A file could not be handed over; trying again later may help."""


class StorageUnreachableError(StorageError):
    """The storage does not answer, or does not let us in: no other file can be handed to it now either."""


class StorageRefusedError(StorageError):
    """A file must not be handed over as it is; only a person can help."""


@dataclass(frozen=True)
class FolderEntry:
    """A file in a folder: its size, and when its storage says that it was last written, if it says so."""

    byte_count: int
    modified_at: datetime | None


class Folder(ABC):
    """A folder at a storage, open for use. Names are those of files right in it."""

    url: str

    @abstractmethod
    def entries(self) -> dict[str, FolderEntry]:
        """Return the files in the folder, by name; folders in it are left out."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, or None when there is none of that name."""

    @abstractmethod
    def open(self, name: str, mode: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file; ``mode`` is ``rb`` or ``wb``."""

    @abstractmethod
    def rename(self, old_name: str, new_name: str) -> None:
        """Give a file a name that is not taken."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file."""

    def url_of(self, name: str) -> str:
        """Return the URL of a file, as people are told it."""
        return f"{self.url.rstrip('/')}/{name}"

    def digest(self, name: str, deadline: float | None = None) -> str:
        """Read a file and return its SHA-256 in hexadecimal."""
        sha256 = hashlib.sha256()
        with self.open(name, "rb") as file:
            for chunk in chunks(file, deadline):
                sha256.update(chunk)
        return sha256.hexdigest()


class AtomicFolder(Folder):
    """A folder where a file appears under its name whole or not at all, so that none needs a temporary name."""

    @abstractmethod
    def create(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a new file that appears when the block ends, and not at all when it raises.

        :raises FileExistsError: at the end, when the name was taken meanwhile.
        """


def put_verified(
    folder: Folder,
    name: str,
    open_source: OpenSource,
    *,
    byte_count: int,
    sha256: str,
    temporary_name: str,
    deadline: float | None = None,
) -> bool:
    """Hand a file over: whole and verified, or not at all.

    :param open_source: opens the content.
    :param byte_count: size of the content.
    :param sha256: its SHA-256, in hexadecimal.
    :param temporary_name: name to write it under; what a try before left there is replaced.
    :param deadline: reading of ``time.monotonic()`` at which to give up.
    :returns: False when the same content was there already.
    :raises StorageRefusedError: when another file has the name, or the content is not what it should be.
    :raises StorageError: when the file could not be written, or did not arrive as it was sent.
    """
    check_file_name(name)
    try:
        if is_there(folder, name, byte_count, sha256, deadline):
            return False
        if isinstance(folder, AtomicFolder):
            with folder.create(name) as target:
                _copy(open_source, target, byte_count, sha256, deadline)
            if _is_damaged(folder, name, byte_count, sha256, deadline):
                _clear(folder, name)
                raise StorageError(f"{name} did not arrive at {folder.url} as it was sent.")
            return True
        try:
            with folder.open(temporary_name, "wb") as target:
                _copy(open_source, target, byte_count, sha256, deadline)
            if folder.size(temporary_name) != byte_count or folder.digest(temporary_name, deadline) != sha256:
                raise StorageError(f"{name} did not arrive at {folder.url} as it was sent.")
            if folder.size(name) is not None:
                # Came in between; not every storage refuses to rename over it.
                raise _taken(folder, name)
            folder.rename(temporary_name, name)
        except BaseException:
            _clear(folder, temporary_name)
            raise
        if folder.size(name) not in (byte_count, None):
            raise StorageError(f"{name} is not at {folder.url} as it was sent.")
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(f"{name} could not be written to {folder.url}: {describe(error)}") from error
    return True


def is_there(folder: Folder, name: str, byte_count: int, sha256: str, deadline: float | None = None) -> bool:
    """Say whether a file is there already.

    :raises StorageRefusedError: when another file has the name.
    """
    there = folder.size(name)
    if there is None:
        return False
    if there != byte_count or folder.digest(name, deadline) != sha256:
        raise _taken(folder, name)
    return True


def _taken(folder: Folder, name: str) -> StorageRefusedError:
    return StorageRefusedError(f"There is another file of the name {folder.url_of(name)}: it is not overwritten.")


def _is_damaged(folder: Folder, name: str, byte_count: int, sha256: str, deadline: float | None) -> bool:
    """Say whether a file that was put is another one now. One that the router took meanwhile is not."""
    try:
        return folder.size(name) not in (byte_count, None) or folder.digest(name, deadline) != sha256
    except FileNotFoundError:
        return False


def _copy(open_source: OpenSource, target: IO[bytes], byte_count: int, sha256: str, deadline: float | None) -> None:
    """Copy our file to where it goes; what is not the file that was approved raises."""
    digest, written = hashlib.sha256(), 0
    with _opened(open_source) as source:
        for chunk in chunks(source, deadline):
            target.write(chunk)
            digest.update(chunk)
            written += len(chunk)
    if (written, digest.hexdigest()) != (byte_count, sha256):
        raise StorageRefusedError(
            "Our own file is not the one that was approved (its size or checksum changed): extract it again."
        )


@contextmanager
def _opened(open_source: OpenSource) -> Iterator[IO[bytes]]:
    try:
        opened = open_source()
    except FileNotFoundError as error:
        raise StorageRefusedError("Our own file is gone: extract it again.") from error
    with opened as source:
        yield source


def chunks(file: IO[bytes], deadline: float | None) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces.

    :param deadline: reading of ``time.monotonic()`` at which to give up.
    :raises StorageError: when it took longer.
    """
    while chunk := file.read(CHUNK_BYTES):
        if deadline is not None and time.monotonic() > deadline:
            raise StorageError(TOOK_TOO_LONG)
        yield chunk


def _clear(folder: Folder, name: str) -> None:
    """Remove what a failed try left, if the storage still lets us: the next try replaces it anyway."""
    with suppress(Exception):
        folder.remove(name)


def check_file_name(name: str) -> None:
    """Refuse a name that is not plainly one file in one folder.

    :raises StorageRefusedError: saying which names may be used.
    """
    if not FILE_NAME.fullmatch(name) or len(name.encode()) > FILE_NAME_BYTES:
        raise StorageRefusedError(
            f"The file name {name!r} cannot be used: up to {FILE_NAME_BYTES} letters, digits, spaces and "
            "_ . , + = @ ( ) & ' ~ -, beginning with a letter or digit."
        )


def describe(error: BaseException) -> str:
    """Return one line about an error: our own words, or a library's with its type; some have no text."""
    if isinstance(error, StorageError):
        return str(error)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def open_url(url: str) -> AbstractContextManager[Any]:
    """Open a file of ours for reading.

    :param url: where the extraction put it; a connection is named as in ``s3://conn_id@bucket/key``.
    :raises StorageError: when its whole folder is away, as that of a share that is not mounted.
    """
    from airflow.sdk import ObjectStoragePath

    path = ObjectStoragePath(url)
    try:
        opened: AbstractContextManager[Any] = path.fs.open(path.path, "rb")
    except FileNotFoundError as error:
        if not path.parent.exists():
            raise StorageError(f"The folder of our own files is away ({path.parent}): mount its share.") from error
        raise
    return opened
