"""The answers of a service's router: looked for in its folder, read, and taken or set aside, one file at a time."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import psycopg

from campaign.database import Connection, Row, execute_statements, write_journal
from campaign.folders import open_folder
from campaign.return_file import ReturnLayout, ReturnRefusedError, read_answers
from campaign.run import Run
from campaign.statements import read_statement
from campaign.storage import AtomicFolder, Folder, StorageError, chunks, describe

log = logging.getLogger(__name__)

# Names under which files are written before they are whole.
TEMPORARY_SUFFIXES = (".part", ".tmp", ".filepart", ".partial", ".writing")
LONG_AGO = datetime.min.replace(tzinfo=UTC)
Transaction = Callable[[], AbstractContextManager[Connection]]


class ServiceReturns:
    """The answers of one service.

    :param service: row of ``select_returns.sql``.
    :param transaction: opens a transaction of the step; each file has one of its own.
    :param timeout: seconds that reading one file may take.
    """

    def __init__(self, service: Row, run: Run, transaction: Transaction, timeout: float) -> None:
        self.tally: Counter[str] = Counter()
        self._service = service
        self._run = run
        self._transaction = transaction
        self._timeout = timeout

    def take_all(self) -> Counter[str]:
        """Take what is there; return counts. A folder that cannot be read is said in the journal, once."""
        try:
            with open_folder(self._service["returns_url"], self._service["conn_id"]) as folder:
                self._take_files(folder)
        except StorageError as error:
            log.warning("Answers of %s: %s", self._service["service"], error)
            self.tally["folders_unreachable"] += 1
            self._warn(str(error))
        except psycopg.Error:
            raise
        except Exception as error:  # each library has errors of its own for a folder that cannot be listed
            log.warning("Answers of %s: %s", self._service["service"], describe(error))
            self.tally["folders_unreachable"] += 1
            self._warn(describe(error))
        return self.tally

    def _take_files(self, folder: Folder) -> None:
        # In the order in which they were written: what a later file says counts.
        in_order = sorted(folder.entries().items(), key=lambda item: (item[1].modified_at or LONG_AGO, item[0]))
        listed = {
            name: entry
            for name, entry in in_order
            if fnmatchcase(name, self._service["returns_pattern"])
            and not name.startswith(".")
            and not name.endswith(TEMPORARY_SUFFIXES)
            and self._is_text(name)
        }
        binds = {
            "service_id": self._service["service_id"],
            "names": list(listed),
            "sizes": [entry.byte_count for entry in listed.values()],
            "moments": [entry.modified_at for entry in listed.values()],
            "is_atomic": isinstance(folder, AtomicFolder),
        }
        with self._transaction() as connection:
            [waiting] = self._execute(connection, "note_returns.sql", binds)
        self.tally["files_settling"] += sum(not seen["is_settled"] for seen in waiting)
        for seen in waiting:
            if not seen["is_settled"]:
                continue
            try:
                self._take_file(folder, seen)
            except psycopg.Error:
                raise
            except Exception as error:  # one file that cannot be read stops no other
                log.warning("%s of %s: %s", seen["file_name"], self._service["provider"], describe(error))
                self.tally["files_settling"] += 1
                self._warn(f"{seen['file_name']}: {describe(error)}")

    def _is_text(self, name: str) -> bool:
        """Say whether a name can be put on record; one that is in another encoding than UTF-8 cannot."""
        if name.isprintable():
            return True
        self._warn(f"the file name {name!a} is no text in UTF-8: have the file renamed.")
        return False

    def _take_file(self, folder: Folder, seen: Row) -> None:
        with tempfile.TemporaryDirectory(prefix="campaign-answer-") as spool:
            path = Path(spool) / "answer"
            sha256 = self._fetch(folder, seen["file_name"], path)
            entry = folder.entries().get(seen["file_name"])
            if (
                entry is None
                or (entry.byte_count, entry.modified_at) != (seen["byte_count"], seen["modified_at"])
                or path.stat().st_size != seen["byte_count"]
            ):
                self.tally["files_settling"] += 1
                return
            with self._transaction() as connection:
                if not self._was_read(connection, seen, sha256):
                    self._read(connection, seen, path, sha256)

    def _fetch(self, folder: Folder, name: str, path: Path) -> str:
        """Copy a file to here; return its SHA-256."""
        digest, deadline = hashlib.sha256(), time.monotonic() + self._timeout
        with folder.open(name, "rb") as source, path.open("wb") as target:
            for chunk in chunks(source, deadline):
                target.write(chunk)
                digest.update(chunk)
        return digest.hexdigest()

    def _was_read(self, connection: Connection, seen: Row, sha256: str) -> bool:
        """Say whether this very content was read before under its name; then only its date is new."""
        known = connection.execute(
            """
            UPDATE campaign.provider_return SET modified_at = %s, seen_at = %s
            WHERE service_id = %s AND file_name = %s AND sha256 = %s AND status IN ('taken', 'refused')
            """,
            [
                seen["modified_at"],
                self._run.as_of,
                self._service["service_id"],
                seen["file_name"],
                sha256,
            ],
        )
        if known.rowcount:
            connection.execute("DELETE FROM campaign.provider_return WHERE id = %s", [seen["id"]])
        return bool(known.rowcount)

    def _read(self, connection: Connection, seen: Row, path: Path, sha256: str) -> None:
        """Take a file, or set it aside."""
        binds = {"service_id": self._service["service_id"], "seen_id": seen["id"], "sha256": sha256}
        delivery_id = None
        try:
            with _savepoint(connection):
                rows = _load(connection, path, seen["file_name"], self._service["returns_format"])
                [[verdict]] = self._execute(connection, "check_return.sql", binds)
                delivery_id = verdict["delivery_id"]
                if verdict["error"] is not None:
                    raise ReturnRefusedError(str(verdict["error"]))
                self._execute(connection, "take_return.sql", binds | {"delivery_id": delivery_id})
        except ReturnRefusedError as error:
            log.warning("%s of %s was set aside: %s", seen["file_name"], self._service["provider"], error)
            connection.execute(
                "SELECT campaign.refuse_return(%s, %s, %s, %s, %s, %s)",
                [seen["id"], sha256, str(error), delivery_id, self._run.as_of, self._run.run_id],
            )
            self.tally["files_refused"] += 1
            return
        self.tally["files_taken"] += 1
        self.tally["rows_taken"] += rows

    def _execute(self, connection: Connection, name: str, binds: dict[str, Any]) -> list[list[Row]]:
        return execute_statements(connection, read_statement(f"provider_mgt/{name}"), self._run.binds() | binds)

    def _warn(self, error: str) -> None:
        message = (
            f"The answers of {self._service['provider']} to the service {self._service['service']!r} cannot be "
            f"picked up: {error}"
        )
        with self._transaction() as connection:
            told = connection.execute(
                # Again after a day, as long as it lasts.
                "SELECT 1 FROM campaign.journal WHERE at > clock_timestamp() - interval '1 day' AND message = %s",
                [message],
            ).fetchone()
            if told is None:
                write_journal(connection, self._run, "warning", message)


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    with connection.transaction():
        yield


def _load(connection: Connection, path: Path, name: str, typed_format: dict[str, Any]) -> int:
    """Load the rows of an answer into the work table ``returned``; return how many.

    :raises ReturnRefusedError: when something is wrong with the file.
    """
    layout = ReturnLayout.from_format(typed_format)
    connection.execute(
        """
        CREATE TEMPORARY TABLE IF NOT EXISTS returned (
            row_number bigint, delivery_id bigint, recipient_id bigint, status text, reason text,
            printed bigint, posted bigint
        ) ON COMMIT DROP;
        """
    )
    connection.execute("TRUNCATE returned")
    count = 0
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY pg_temp.returned FROM STDIN (FORMAT csv, NULL '\\N')") as copy,
    ):
        for answers in read_answers(path, layout, name):
            copy.write(answers.to_csv(header=False, na_rep="\\N").encode())
            count += len(answers)
    connection.execute("ANALYZE returned")
    return count
