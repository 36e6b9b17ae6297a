"""How a file gets to a provider: the transport of its URL's scheme."""

from __future__ import annotations

import hashlib
import io
import json
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self

from campaign.folders import open_folder
from campaign.storage import Folder, OpenSource, check_file_name, is_there, open_url, put_verified


@dataclass(frozen=True, kw_only=True)
class OutgoingFile:
    """A file to hand over.

    :param job_id: the job; the same whenever the handing over is repeated.
    :param name: its name at the provider.
    :param url: where it is now.
    :param byte_count: its size.
    :param sha256: its SHA-256, in hexadecimal.
    :param manifest: what goes beside it, or None: see :func:`manifest_of`.
    """

    job_id: int
    name: str
    url: str
    byte_count: int
    sha256: str
    manifest: bytes | None = None

    @classmethod
    def from_facts(cls, job_id: int, facts: dict[str, Any]) -> Self:
        """Read it from what ``campaign.provider_facts`` says of a delivery."""
        file = facts["file"]
        return cls(
            job_id=job_id,
            name=file["name"],
            url=file["url"],
            byte_count=file["bytes"],
            sha256=file["sha256"],
            manifest=manifest_of(facts) if facts["with_manifest"] else None,
        )

    def open(self) -> AbstractContextManager[IO[bytes]]:
        """Open the content for reading."""
        return open_url(self.url)


def manifest_of(facts: dict[str, Any]) -> bytes:
    """Return the manifest of a file: JSON that says whose it is and how to check that it is whole.

    It is the same whenever it is made for the same file, so that a repeated try finds its own.
    """
    file = facts["file"]
    manifest = {
        "delivery": facts["delivery_name"],
        "campaign": facts["campaign_name"],
        "service": facts["service_name"],
        "file": file["name"],
        "version": file["version"],
        "rows": file["rows"],
        "bytes": file["bytes"],
        "sha256": file["sha256"],
        "columns": facts["columns"],
    }
    return (json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode()


@dataclass(frozen=True)
class Receipt:
    """What became of a file: where it is now, and whether it had been there before."""

    destination: str
    was_there: bool = False


class Transport(ABC):
    """Hands files to one provider; opened once a run, closed at its end.

    A team adds a transport of its own by a class like this, in a module below ``plugins/``, and names it
    for a scheme in ``dags/provider_mgt.py``: every provider whose ``storage_url`` has that scheme uses it::

        # plugins/printers/api.py
        from typing import Self

        import requests
        from airflow.sdk import BaseHook

        from campaign.storage import StorageError
        from campaign.transport import OutgoingFile, Receipt, Transport


        class PrinterApi(Transport):
            '''Hands files to the printers' HTTP API; its token is the password of the connection.'''

            def __enter__(self) -> Self:
                connection = BaseHook.get_connection(self.conn_id)
                self.session = requests.Session()
                self.session.headers["Authorization"] = f"Bearer {connection.password}"
                self.orders = f"{connection.schema}://{connection.host}:{connection.port}/orders"
                return self

            def __exit__(self, *error: object) -> None:
                self.session.close()

            def deliver(self, file: OutgoingFile, deadline: float) -> Receipt:
                url = f"{self.orders}/{file.job_id}"  # the same order, however often it is sent
                if self.session.get(url, timeout=60).ok:
                    return Receipt(url, was_there=True)
                with file.open() as content:
                    answer = self.session.put(url, data=content, timeout=60)
                if not answer.ok:
                    raise StorageError(f"The printers answered {answer.status_code}.")
                return Receipt(url)


        # dags/provider_mgt.py
        ProviderRoutingStep(transports={"printer-api": "printers.api.PrinterApi"}, task_id=...)

        # the provider
        UPDATE campaign.provider
        SET storage_url = 'printer-api://orders', storage_conn_id = 'printers_api'
        WHERE internal_name = 'printers';

    :param url: the provider's ``storage_url``.
    :param conn_id: its ``storage_conn_id``.
    """

    def __init__(self, url: str, conn_id: str | None) -> None:
        self.url = url
        self.conn_id = conn_id

    @abstractmethod
    def __enter__(self) -> Self:
        """Connect.

        :raises StorageUnreachableError: when no file can be handed over now.
        """

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""

    @abstractmethod
    def deliver(self, file: OutgoingFile, deadline: float) -> Receipt:
        """Hand over one file. It may be called again for a file that is already there, and must say so.

        :param deadline: reading of ``time.monotonic()`` at which to give up.
        :raises StorageError: when it did not work; the job is tried again after a pause.
        :raises StorageRefusedError: when only a person can help.
        """


class StorageTransport(Transport):
    """Puts files into a folder: SFTP, local, S3, or any URL that Airflow's object storage knows."""

    def __enter__(self) -> Self:
        """Open the folder."""
        self._stack = ExitStack()
        self._folder: Folder = self._stack.enter_context(open_folder(self.url, self.conn_id))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._stack.close()

    def deliver(self, file: OutgoingFile, deadline: float) -> Receipt:
        """Put the file there, and then its manifest: who sees a manifest may take the file."""
        manifest = file.manifest
        if manifest is None:
            is_new = self._put(file.name, file.open, file.byte_count, file.sha256, file, deadline)
        else:
            name, size, sha256 = f"{file.name}.manifest.json", len(manifest), hashlib.sha256(manifest).hexdigest()
            # A file whose manifest has no place is not handed over.
            check_file_name(name)
            is_there(self._folder, name, size, sha256, deadline)
            is_new = self._put(file.name, file.open, file.byte_count, file.sha256, file, deadline)
            self._put(name, lambda: io.BytesIO(manifest), size, sha256, file, deadline)
        return Receipt(self._folder.url_of(file.name), was_there=not is_new)

    def _put(
        self, name: str, open_source: OpenSource, byte_count: int, sha256: str, file: OutgoingFile, deadline: float
    ) -> bool:
        return put_verified(
            self._folder,
            name,
            open_source,
            byte_count=byte_count,
            sha256=sha256,
            # Hidden, and unlike the pattern of any file that the provider waits for.
            temporary_name=f".{name}.{file.job_id}.part",
            deadline=deadline,
        )
