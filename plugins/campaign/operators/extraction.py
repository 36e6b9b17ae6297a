"""Write the files of deliveries: whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import psycopg
from airflow.sdk import ObjectStoragePath

from campaign.database import Connection, Row, execute_statements, workflow_transaction, write_journal
from campaign.extraction import ExtractionError
from campaign.extraction.file_name import make_file_name
from campaign.extraction.layout import EXTENSIONS
from campaign.extraction.preview import layout_of, load_facts
from campaign.extraction.storage import put_in_place, sync_to_disk, temporary_of
from campaign.extraction.stream import WrittenFile, write_rows
from campaign.operators.workflow_step import Summary, WorkflowStep
from campaign.run import Run
from campaign.statements import read_statement

if TYPE_CHECKING:
    from airflow.sdk import Context

    from campaign.extraction.layout import Layout


class StorageError(RuntimeError):
    """Files cannot be written although nothing is wrong with their deliveries; the next run tries again."""


class ExtractionStep(WorkflowStep):
    """Write the file of each delivery that is due, one after the other, each in transactions of its own.

    The name is committed first, and with it that the delivery is being extracted. Then the rows stream
    from COPY through encoding, compression and checksum into a temporary file; that is renamed, and in
    the same transaction recorded. A run that is killed leaves a delivery that is being extracted: the
    next run, once it has the workflow's lock, takes it up under the same name.

    The folder is ``CAMPAIGN_FILES_URL``; without it the step fails, and no delivery does.
    ``CAMPAIGN_FILES_CONN_ID`` names its Airflow connection, if it needs one.
    """

    def perform(self, run: Run, context: Context) -> Summary:
        """Extract all that is due; a delivery that fails does not stop the others."""
        counts = {"files_extracted": 0, "rows_extracted": 0, "bytes_written": 0, "deliveries_failed": 0}
        with workflow_transaction(run) as connection:
            due, abandoned = self._select(connection, run), self._select_abandoned(connection, run)
            if not due and not abandoned:
                return counts
            folder = _folder()
            self._remove_abandoned(connection, run, folder, abandoned)
        troubles = []
        for delivery in due:
            try:
                written = self._extract(run, delivery["id"], folder)
            except (ExtractionError, psycopg.DataError) as error:
                self._fail(run, delivery["id"], str(error))
                counts["deliveries_failed"] += 1
            except (OSError, psycopg.OperationalError) as error:
                self.log.exception("%s: the file could not be written", delivery["internal_name"])
                troubles.append(f"{delivery['internal_name']}: {error}".strip())
            else:
                if written:
                    counts["files_extracted"] += 1
                    counts["rows_extracted"] += written.row_count
                    counts["bytes_written"] += written.byte_count
        if troubles:
            raise StorageError("Not all files could be written; the next run tries again. " + "; ".join(troubles))
        return counts

    def rehearse(self, connection: Connection, run: Run, context: Context) -> Summary:
        """Say which files would be written, and with how many rows."""
        counts = {"files_extracted": 0, "rows_extracted": 0, "deliveries_failed": 0}
        for delivery in self._select(connection, run):
            row = load_facts(connection, delivery["id"])
            try:
                layout = layout_of(row)
                file_name = self._file_name(connection, run, row, layout)
            except ExtractionError as error:
                self.log.warning("%s would fail: %s", delivery["internal_name"], error)
                self._record_failure(connection, run, delivery["id"], str(error))
                counts["deliveries_failed"] += 1
                continue
            row_count = self._expected_rows(connection, delivery["id"])
            self.log.info("Would write %s with %d rows", file_name, row_count)
            counts["files_extracted"] += 1
            counts["rows_extracted"] += row_count
        return counts

    def _select(self, connection: Connection, run: Run) -> list[Row]:
        return execute_statements(connection, read_statement("operation_mgt/select_extractions.sql"), run.binds())[0]

    def _select_abandoned(self, connection: Connection, run: Run) -> list[Row]:
        statement = read_statement("operation_mgt/select_abandoned_extractions.sql")
        return execute_statements(connection, statement, run.binds())[0]

    def _extract(self, run: Run, delivery_id: int, folder: ObjectStoragePath) -> WrittenFile | None:
        """Write one file; None when the delivery was dealt with by somebody else meanwhile."""
        with workflow_transaction(run) as connection:
            row = load_facts(connection, delivery_id)
            layout = layout_of(row)
            if row["status"] == "extraction_pending":
                file_name = self._file_name(connection, run, row, layout)
                if row["attempted_file_name"] not in (None, file_name):
                    _remove_files(folder, row["attempted_file_name"])
                binds = run.binds() | {
                    "delivery_id": delivery_id, "version": row["version"], "file_name": file_name
                }  # fmt: skip
                execute_statements(connection, read_statement("operation_mgt/claim_extraction.sql"), binds)
        with workflow_transaction(run) as connection:
            row = load_facts(connection, delivery_id)
            if row["status"] != "extracting" or row["attempted_file_name"] is None:
                self.log.warning("%s is %s now: left alone", row["label"], row["status"])
                return None
            return self._write(connection, run, row, layout_of(row), folder)

    def _file_name(self, connection: Connection, run: Run, row: Row, layout: Layout) -> str:
        def is_taken(name: str) -> bool:
            found = connection.execute(
                """
                SELECT 1 FROM campaign.extraction_file WHERE lower(file_name) = lower(%(name)s)
                UNION ALL
                SELECT 1 FROM campaign.extraction_attempt
                WHERE lower(file_name) = lower(%(name)s) AND delivery_id <> %(id)s
                """,
                {"name": name, "id": row["id"]},
            ).fetchone()
            return found is not None

        if row["status"] == "extracting":
            return str(row["attempted_file_name"])
        # Of one that was sent back after a failure, the format may be another one since.
        return make_file_name(
            row["file_name_template"],
            row["facts"],
            as_of=run.as_of,
            version=row["version"],
            layout=layout,
            is_taken=is_taken,
        )

    def _write(
        self, connection: Connection, run: Run, row: Row, layout: Layout, folder: ObjectStoragePath
    ) -> WrittenFile | None:
        file_name = row["attempted_file_name"]
        target = folder / file_name
        temporary = temporary_of(target)
        folder.mkdir(parents=True, exist_ok=True)
        self.log.info("Writing %s for %s", target, row["label"])
        try:
            with temporary.open("wb") as opened:
                file = cast("BinaryIO", opened)
                written = write_rows(
                    connection,
                    layout.copy_statement(row["id"]).as_bytes(connection),
                    layout,
                    file,
                    inner_name=file_name.removesuffix(EXTENSIONS[layout.compression] or "\0"),
                    as_of=run.as_of,
                )
                sync_to_disk(file)
            put_in_place(temporary, target)
            recorded = self._record(connection, run, row, layout, str(target), written)
        except BaseException:
            _remove(temporary)
            raise
        if not recorded:
            _remove(target)
            self.log.warning("%s was canceled while its file was written: the file was removed", row["label"])
            return None
        self.log.info(
            "%s: %d rows, %d bytes, SHA-256 %s", target, written.row_count, written.byte_count, written.sha256
        )
        return written

    def _record(
        self, connection: Connection, run: Run, row: Row, layout: Layout, url: str, written: WrittenFile
    ) -> bool:
        binds = run.binds() | {
            "delivery_id": row["id"],
            "version": row["version"],
            "file_name": row["attempted_file_name"],
            "url": url,
            "row_count": written.row_count,
            "byte_count": written.byte_count,
            "sha256": written.sha256,
            "warnings": self._warnings(connection, row, layout, written),
        }
        results = execute_statements(connection, read_statement("operation_mgt/record_extraction.sql"), binds)
        return bool(results[-1][0]["recorded"])

    def _warnings(self, connection: Connection, row: Row, layout: Layout, written: WrittenFile) -> list[str]:
        """Return what a person should know about a file that is whole, but not as they may expect."""
        warnings = []
        expected = self._expected_rows(connection, row["id"])
        if written.row_count != expected:
            warnings.append(
                f"The target of {row['label']!r} has {expected} recipients, its file {written.row_count} "
                "rows: some recipients were deleted after the target was analysed. Target it again."
            )
        if written.replaced_count:
            warnings.append(
                f"{written.replaced_count} characters in the file of {row['label']!r} do not exist in "
                f"{layout.encoding} and became question marks. Use UTF-8 if the provider reads it."
            )
        if layout.is_fixed_width:
            counted = connection.execute(layout.truncation_query(row["id"])).fetchone()
            if counted and counted[0]:
                warnings.append(
                    f"{counted[0]} values in the file of {row['label']!r} are longer than their column and were cut."
                )
        return warnings

    def _expected_rows(self, connection: Connection, delivery_id: int) -> int:
        statement = read_statement("operation_mgt/count_extraction_rows.sql")
        return int(execute_statements(connection, statement, {"delivery_id": delivery_id})[0][0]["row_count"])

    def _fail(self, run: Run, delivery_id: int, reason: str) -> None:
        self.log.error("Delivery %d: %s", delivery_id, reason)
        with workflow_transaction(run) as connection:
            self._record_failure(connection, run, delivery_id, reason)

    def _record_failure(self, connection: Connection, run: Run, delivery_id: int, reason: str) -> None:
        binds = run.binds() | {"delivery_id": delivery_id, "reason": reason}
        execute_statements(connection, read_statement("operation_mgt/fail_extraction.sql"), binds)

    def _remove_abandoned(
        self, connection: Connection, run: Run, folder: ObjectStoragePath, abandoned: list[Row]
    ) -> None:
        """Remove what is left of files that were begun for deliveries that were canceled since."""
        for attempt in abandoned:
            try:
                _remove_files(folder, attempt["file_name"])
            # A folder in the place of the file is a ValueError.
            except (OSError, ValueError) as error:
                self._warn_of_leftover(connection, run, attempt, error)
                continue
            connection.execute(
                "DELETE FROM campaign.extraction_attempt WHERE delivery_id = %s", [attempt["delivery_id"]]
            )

    def _warn_of_leftover(self, connection: Connection, run: Run, attempt: Row, error: Exception) -> None:
        """Log that an old file stays where it is, and enter it in the journal unless it is there already."""
        message = (
            f"The file {attempt['file_name']}, which was begun for {attempt['label']!r}, cannot be removed: "
            f"{getattr(error, 'strerror', None) or error}. Each run tries again; if that does not help, remove it "
            "by hand."
        )
        self.log.warning("%s", message)
        told = connection.execute(
            "SELECT 1 FROM campaign.journal WHERE delivery_id = %s AND source = %s AND message = %s",
            [attempt["delivery_id"], run.dag_id, message],
        ).fetchone()
        if not told:
            write_journal(
                connection,
                run,
                "warning",
                message,
                campaign_id=attempt["campaign_id"],
                delivery_id=attempt["delivery_id"],
            )


def _folder() -> ObjectStoragePath:
    """Return where the files are kept.

    :raises StorageError: when the deployment does not say so, or names something that cannot be used.
    """
    url = os.environ.get("CAMPAIGN_FILES_URL")
    if not url:
        raise StorageError(
            "CAMPAIGN_FILES_URL is not set: it says where extraction files are kept, like file:///srv/campaign/files."
        )
    try:
        return ObjectStoragePath(url, conn_id=os.environ.get("CAMPAIGN_FILES_CONN_ID") or None)
    except ValueError as error:
        raise StorageError(f"CAMPAIGN_FILES_URL cannot be used: {error}.") from error


def _remove(path: Any) -> None:
    path.unlink(missing_ok=True)


def _remove_files(folder: ObjectStoragePath, file_name: str) -> None:
    """Remove a file that nobody wants any more, and what was begun of it."""
    _remove(folder / file_name)
    _remove(temporary_of(folder / file_name))
