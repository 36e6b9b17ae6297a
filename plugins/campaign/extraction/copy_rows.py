"""The rows of a COPY as large blocks of bytes."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import errors, pq

from campaign.database import Connection

# Large enough for whoever takes the blocks, small enough that the server does not wait meanwhile.
BLOCK_BYTES = 256 * 1024
CANCEL_SECONDS = 5


class CopyRows:
    """The rows of a COPY ... TO STDOUT as blocks of bytes, each of whole rows.

    psycopg's own ``copy()`` hands out one row at a time through Python; this joins them.

    :param is_crlf: rows end with CR LF instead of LF.
    """

    def __init__(self, connection: Connection, statement: bytes, *, is_crlf: bool) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._statement = statement
        self._is_crlf = is_crlf
        self.row_count = 0

    def __iter__(self) -> Iterator[bytearray]:
        """Yield the blocks; afterwards ``row_count`` is known."""
        self._pgconn.send_query(self._statement)
        self._require(self._pgconn.get_result(), pq.ExecStatus.COPY_OUT)
        block = bytearray()
        # The loop that every row goes through: nothing in it that need not be. Adding to one block costs half
        # of collecting rows and joining them.
        get_copy_data, is_crlf = self._pgconn.get_copy_data, self._is_crlf
        while True:
            length, row = get_copy_data(1)
            if length > 0:
                block += row
                if is_crlf:
                    # Only the end of a row: a line end inside a quoted value stays as it is.
                    block[-1:] = b"\r\n"
            elif length == 0:
                # What the server has sent is taken up: the moment to hand over, and to wait for more.
                if len(block) >= BLOCK_BYTES:
                    yield block
                    block = bytearray()
                select.select([self._pgconn.socket], [], [])
                self._pgconn.consume_input()
            else:
                break
        self.row_count = self._require(self._pgconn.get_result(), pq.ExecStatus.COMMAND_OK).command_tuples or 0
        while self._pgconn.get_result():
            pass
        if block:
            yield block

    def abandon(self) -> None:
        """End a COPY that nobody reads any more, so that its connection can roll back."""
        with suppress(psycopg.Error):
            if self._pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self._connection.cancel_safe(timeout=CANCEL_SECONDS)
                while (result := self._pgconn.get_result()) and result.status == pq.ExecStatus.COPY_OUT:
                    while self._pgconn.get_copy_data(0)[0] > 0:
                        pass
                while self._pgconn.get_result():
                    pass

    def _require(self, result: Any, status: pq.ExecStatus) -> Any:
        if result is None or result.status != status:
            if result is None:
                raise errors.OperationalError("the connection to the database was lost")
            while self._pgconn.get_result():
                pass
            raise errors.error_from_result(result)
        return result
