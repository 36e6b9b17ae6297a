"""The kinds of folders at a provider's storage: on SFTP servers, on S3, and what Airflow's object storage knows.

SFTP servers are reached through Airflow's SFTP hook, which checks the server's host key and times out; any
other URL through Airflow's object storage, which takes what lets us in from the Airflow connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from stat import S_ISREG
from typing import IO, Any
from urllib.parse import urlsplit

from campaign.storage import (
    AtomicFolder,
    Folder,
    FolderEntry,
    StorageError,
    StorageRefusedError,
    StorageUnreachableError,
    describe,
)

CONNECT_SECONDS = 20
ANSWER_SECONDS = 60
# What is held of a file at once on its way to or from S3. A file has 10,000 parts at most: 156 GiB.
PART_BYTES = 16 << 20


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

    def entries(self) -> dict[str, FolderEntry]:
        """Return the files in the folder, by name."""
        self._fs.invalidate_cache()
        return {
            found["name"].rpartition("/")[2]: FolderEntry(int(found["size"]), _moment(found))
            for found in self._fs.ls(self._path or "/", detail=True)
            if found["type"] == "file" and not found["name"].endswith("/")
        }

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


def _moment(found: dict[str, Any]) -> datetime | None:
    """Return when a file was last written, under the names that the file systems of fsspec have for it."""
    for name in ("LastModified", "mtime", "last_modified", "updated", "created"):
        value = found.get(name)
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
    return None


class S3Folder(ObjectStorageFolder, AtomicFolder):
    """A folder, that is a prefix, in a bucket of S3 or of what speaks its language.

    S3 has no renaming, and needs none: what is put appears under its name at once and whole, a file in parts
    when the last step joins them. That step is asked to do nothing when the name is taken (``If-None-Match``).
    """

    def __init__(self, url: str, conn_id: str | None) -> None:
        super().__init__(url, conn_id)
        bucket = urlsplit(url).hostname or ""
        try:
            self._fs.call_s3("head_bucket", Bucket=bucket)
        except FileNotFoundError:
            raise StorageUnreachableError(f"There is no bucket {bucket!r} ({url}): have it made.") from None

    def entries(self) -> dict[str, FolderEntry]:
        """Return the files in the folder, by name; a prefix under which nothing lies yet has none."""
        try:
            return super().entries()
        except FileNotFoundError:
            return {}

    def open(self, name: str, mode: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file for reading."""
        opened: AbstractContextManager[IO[bytes]] = self._fs.open(self._full(name), mode, block_size=PART_BYTES)
        return opened

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Open a new file that appears when the block ends, and not at all when it raises."""
        bucket, key, _ = self._fs.split_path(self._full(name))
        self._abort_uploads(bucket, key)
        file = self._fs.open(self._full(name), "xb", block_size=PART_BYTES, autocommit=False)
        try:
            yield file
            if file.tell() == 0:
                self._fs.call_s3("put_object", Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*")
            else:
                file.close()
                file.commit()
        except BaseException:
            # The parts that are there would be kept, and charged for, unseen.
            with suppress(Exception):
                file.discard()
            raise
        finally:
            # Or else it would send its rest when it is collected.
            file.closed = True
            self._fs.invalidate_cache()

    def _abort_uploads(self, bucket: str, key: str) -> None:
        """Give up what a try that was killed began: its parts would be kept, and charged for, unseen."""
        with suppress(Exception):  # not every account may list them, nor every server
            begun = self._fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key).get("Uploads", [])
            for upload in begun:
                if upload["Key"] == key:
                    self._fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload["UploadId"])


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

    def entries(self) -> dict[str, FolderEntry]:
        """Return the files in the folder, by name."""
        return {
            found.filename: FolderEntry(int(found.st_size), datetime.fromtimestamp(found.st_mtime, UTC))
            for found in self._client.listdir_attr(self._path or "/")
            if S_ISREG(found.st_mode)
        }

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
            elif parts.scheme in ("s3", "s3a", "s3n"):
                folder = S3Folder(url, conn_id)
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
