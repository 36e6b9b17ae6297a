"""Files at a provider's storage: handed over whole and verified, or not at all.

A file is written beside its place under a temporary name, read back, and renamed when its size and SHA-256
are right. A file that is there already with the same content is left as it is; one with other content is
never overwritten. Folders on SFTP servers are reached through Airflow's SFTP hook, which checks the server's
host key and times out; any other URL through Airflow's object storage.
"""

from __future__ import annotations

import hashlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import IO, Any
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 20
CONNECT_SECONDS = 20
ANSWER_SECONDS = 60
# Letters and digits of any script, and what is harmless in every storage. No leading dot or hyphen.
FILE_NAME = re.compile(r"\w[\w .,+=@()&'~-]*")
FILE_NAME_BYTES = 200
TOOK_TOO_LONG = "It took longer than the setting transfer_timeout allows."

OpenSource = Callable[[], AbstractContextManager[IO[bytes]]]


class StorageError(RuntimeError):
    """A file could not be handed over; trying again later may help."""


class StorageUnreachableError(StorageError):
    """The storage does not answer, or does not let us in: no other file can be handed to it now either."""


class StorageRefusedError(StorageError):
    """A file must not be handed over as it is; only a person can help."""


class Folder(ABC):
    """A folder at a storage, open for use. Names are those of files right in it."""

    url: str

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
            for chunk in _chunks(file, deadline):
                sha256.update(chunk)
        return sha256.hexdigest()


class ObjectStorageFolder(Folder):
    """A folder of Airflow's object storage: file, S3, Google Cloud Storage, and what else is installed."""

    def __init__(self, url: str, conn_id: str | None) -> None:
        from airflow.sdk import ObjectStoragePath

        self.url = url
        path = ObjectStoragePath(url, conn_id=conn_id)
        self._fs = path.fs
        self._fs.invalidate_cache()
        self._path = path.path.rstrip("/")
        # A local folder that is not there is a share that is not mounted: made here, the file would wait
        # in a place where nobody looks.
        if path.protocol in ("", "file", "local") and not self._fs.isdir(self._path or "/"):
            raise StorageUnreachableError(f"There is no folder {url}: make it, or mount its share.")

    def _full(self, name: str) -> str:
        return f"{self._path}/{name}"

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, or None when there is none of that name."""
        try:
            found = self._fs.info(self._full(name))
        except FileNotFoundError:
            return None
        if found["type"] == "directory":
            raise StorageRefusedError(f"{self.url_of(name)} is a folder.")
        return int(found["size"])

    def open(self, name: str, mode: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file."""
        opened: AbstractContextManager[IO[bytes]] = self._fs.open(self._full(name), mode)
        return opened

    def rename(self, old_name: str, new_name: str) -> None:
        """Give a file a name; object stores copy it there and remove the old one."""
        self._fs.mv(self._full(old_name), self._full(new_name))
        self._fs.invalidate_cache()

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._fs.rm_file(self._full(name))


class SftpFolder(Folder):
    """A folder of an SFTP server.

    :param client: an open SFTP connection, of paramiko.
    """

    def __init__(self, url: str, client: Any) -> None:
        self.url = url
        self._client = client
        self._path = urlsplit(url).path.rstrip("/")
        try:
            client.stat(self._path or "/")
        except FileNotFoundError:
            raise StorageUnreachableError(f"There is no folder {url} on the server: have it made.") from None

    def _full(self, name: str) -> str:
        return f"{self._path}/{name}"

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, or None when there is none of that name."""
        try:
            return int(self._client.stat(self._full(name)).st_size)
        except FileNotFoundError:
            return None

    @contextmanager
    def open(self, name: str, mode: str) -> Iterator[IO[bytes]]:
        """Open a file. What is written is acknowledged by the server at the latest when it is closed."""
        with self._client.open(self._full(name), mode) as file:
            if mode == "wb":
                file.set_pipelined(True)
            else:
                file.prefetch(file.stat().st_size, max_concurrent_requests=64)
            yield file

    def rename(self, old_name: str, new_name: str) -> None:
        """Give a file a name; SFTP's own rename refuses one that is taken."""
        self._client.rename(self._full(old_name), self._full(new_name))

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._client.remove(self._full(name))


@contextmanager
def open_folder(url: str, conn_id: str | None) -> Iterator[Folder]:
    """Open a folder at a storage, and close the connection at the end.

    :param url: like ``sftp:///inbox``, ``file:///mnt/router`` or ``s3://bucket/inbox``.
    :param conn_id: Airflow connection that says where the storage is and lets us in.
    :raises StorageRefusedError: when the URL cannot be used.
    :raises StorageUnreachableError: when the storage does not answer, refuses us, or has no such folder.
    """
    parts = urlsplit(url)
    if ".." in re.split(r"[/\\]", parts.path) or any(not character.isprintable() for character in url):
        raise StorageRefusedError(f"The storage_url {url!r} must name its folder without '..'.")
    with ExitStack() as stack:
        try:
            folder: Folder
            if parts.scheme in ("sftp", "ssh"):
                client = stack.enter_context(_sftp_client(parts.hostname, conn_id or parts.username, url))
                folder = SftpFolder(url, client)
            else:
                folder = ObjectStorageFolder(url, conn_id)
        except StorageError:
            raise
        except Exception as error:  # each library has errors of its own for a server that is away
            raise StorageUnreachableError(f"{url} cannot be reached: {describe(error)}") from error
        yield folder


@contextmanager
def _sftp_client(host: str | None, conn_id: str | None, url: str) -> Iterator[Any]:
    from airflow.providers.sftp.hooks.sftp import SFTPHook

    if conn_id is None:
        raise StorageRefusedError(f"{url} needs a storage_conn_id: an Airflow connection of type sftp.")
    # One attempt: the job has tries and pauses of its own.
    hook = SFTPHook(ssh_conn_id=conn_id, conn_retry_attempts=1)
    if host and host != hook.remote_host:
        # Else whoever may edit a provider could have our password sent to another server.
        raise StorageRefusedError(f"{url} names another host than its connection {conn_id}.")
    hook.conn_timeout = hook.conn_timeout or CONNECT_SECONDS
    hook.auth_timeout = hook.auth_timeout or CONNECT_SECONDS
    with hook.get_managed_conn() as client:
        channel = client.get_channel()
        if channel is not None:
            channel.settimeout(ANSWER_SECONDS)
        yield client


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
        there = folder.size(name)
        if there is not None:
            if there != byte_count or folder.digest(name, deadline) != sha256:
                raise StorageRefusedError(
                    f"There is another file of the name {folder.url_of(name)}: it is not overwritten."
                )
            return False
        _write(folder, temporary_name, open_source, byte_count, sha256, deadline)
        if folder.size(temporary_name) != byte_count or folder.digest(temporary_name, deadline) != sha256:
            raise StorageError(f"{name} did not arrive at {folder.url} as it was sent.")
        folder.rename(temporary_name, name)
        if folder.size(name) != byte_count:
            raise StorageError(f"{name} is not at {folder.url} under its name.")
    except BaseException as error:
        _clear(folder, temporary_name)
        if isinstance(error, StorageError) or not isinstance(error, Exception):
            raise
        raise StorageError(f"{name} could not be written to {folder.url}: {describe(error)}") from error
    return True


def _write(
    folder: Folder, name: str, open_source: OpenSource, byte_count: int, sha256: str, deadline: float | None
) -> None:
    digest, written = hashlib.sha256(), 0
    with _opened(open_source) as source, folder.open(name, "wb") as target:
        for chunk in _chunks(source, deadline):
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


def _chunks(file: IO[bytes], deadline: float | None) -> Iterator[bytes]:
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
    """
    from airflow.sdk import ObjectStoragePath

    path = ObjectStoragePath(url)
    opened: AbstractContextManager[Any] = path.fs.open(path.path, "rb")
    return opened
