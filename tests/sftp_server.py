"""A real SFTP server on the loopback address that is killed, filled up and slowed down as it is told."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import asyncssh

USER, PASSWORD = "router", "right"


class SftpServer:
    """An SFTP server whose root is a folder, in a thread of its own.

    :param folder: what the client sees as ``/``.
    :ivar free_bytes: how many bytes may still be written; None: no limit.
    :ivar is_read_only: whether nobody may write.
    :ivar seconds_a_write: how long each write takes.
    :ivar drop_after_writes: the connection is cut after so many writes; None: never.
    :ivar stop_after_writes: the server stops after so many writes; None: never.
    :ivar taken: files that were taken away as soon as they had their name, by that name; None: they stay.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = 0
        self.free_bytes: int | None = None
        self.is_read_only = False
        self.seconds_a_write = 0.0
        self.drop_after_writes: int | None = None
        self.stop_after_writes: int | None = None
        self.taken: dict[str, bytes] | None = None
        self.writes = 0
        self.connections: list[asyncssh.SSHServerConnection] = []
        self.opened: list[Any] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    def start(self) -> None:
        """Listen: on a free port the first time, then on the same."""

        async def listen() -> asyncssh.SSHAcceptor:
            return await asyncssh.create_server(
                lambda: _Auth(self),
                "127.0.0.1",
                self.port,
                server_host_keys=[self.key],
                sftp_factory=lambda channel: _Sftp(self, channel),
                reuse_address=True,
            )

        self._acceptor = self._await(listen())
        self.port = self._acceptor.get_port()

    def stop(self) -> None:
        """Stop listening, and cut the connections there are."""
        if self._acceptor is None:
            return

        async def close(acceptor: asyncssh.SSHAcceptor) -> None:
            acceptor.close()
            await acceptor.wait_closed()
            self.cut_connections()

        self._await(close(self._acceptor))
        self._acceptor = None

    def refuse_connections(self) -> None:
        """Cut the connections there are, and take no more, from inside the server."""
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        self.cut_connections()

    def cut_connections(self) -> None:
        """Cut the connections there are. What they had open asyncssh would leave to the garbage collector."""
        for connection in self.connections:
            connection.abort()
        for file in self.opened:
            file.close()
        self.connections.clear()
        self.opened.clear()

    def close(self) -> None:
        """Stop for ever."""
        self.stop()

        async def end_tasks() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._await(end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def airflow_connection(self, *, password: str = PASSWORD, key: Any = None) -> str:
        """Return the Airflow connection to it, with its host key or another."""
        host_key = (key or self.key).export_public_key().decode().strip()
        return json.dumps(
            {
                "conn_type": "sftp",
                "host": "127.0.0.1",
                "port": self.port,
                "login": USER,
                "password": password,
                "extra": {"host_key": " ".join(host_key.split()[:2]), "look_for_keys": False},
            }
        )

    def _await(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)


class _Auth(asyncssh.SSHServer):
    def __init__(self, owner: SftpServer) -> None:
        self.owner = owner

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.owner.connections.append(conn)

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)


class _Sftp(asyncssh.SFTPServer):
    def __init__(self, owner: SftpServer, channel: Any) -> None:
        super().__init__(channel, chroot=str(owner.folder).encode())
        self.owner = owner

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if self.owner.is_read_only and pflags & asyncssh.FXF_WRITE:
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        file = super().open(path, pflags, attrs)
        self.owner.opened.append(file)
        return file

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        super().rename(oldpath, newpath)
        if self.owner.taken is not None:
            path = Path(os.fsdecode(self.map_path(newpath)))
            self.owner.taken[path.name] = path.read_bytes()
            path.unlink()

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:  # type: ignore[override]
        owner = self.owner
        await asyncio.sleep(owner.seconds_a_write)
        owner.writes += 1
        if owner.drop_after_writes is not None and owner.writes > owner.drop_after_writes:
            owner.cut_connections()
            raise asyncssh.SFTPConnectionLost("cut")
        if owner.stop_after_writes is not None and owner.writes > owner.stop_after_writes:
            owner.refuse_connections()
            raise asyncssh.SFTPConnectionLost("stopped")
        if owner.free_bytes is not None:
            owner.free_bytes -= len(data)
            if owner.free_bytes < 0:
                raise asyncssh.SFTPNoSpaceOnFilesystem("No space left on device")
        written = super().write(file_obj, offset, data)
        return int(await written) if asyncio.iscoroutine(written) else int(written)  # type: ignore[call-overload]
