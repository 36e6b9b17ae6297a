"""An SFTP server for trying out: stands for the router's own.

Usage: sftp_sink.py FOLDER PORT HOST_KEY SECRETS.
One user, ``router``, who sees FOLDER as the root. SECRETS is the JSON file with ``sftp_password`` (a file,
because every user of the machine can read the arguments of a process).
"""

import asyncio
import hmac
import json
import signal
import sys
from pathlib import Path

import asyncssh

USER = "router"


class OneUser(asyncssh.SSHServer):
    """Lets the one user in, by password."""

    def __init__(self, password: str) -> None:
        self.password = password

    def begin_auth(self, username: str) -> bool:
        """Nobody comes in without a password."""
        return True

    def password_auth_supported(self) -> bool:
        """By password only."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Compare in constant time."""
        is_right = hmac.compare_digest(password.encode(), self.password.encode())
        return username == USER and is_right


async def serve(folder: Path, port: int, host_key: str, password: str) -> None:
    """Listen until a signal comes."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await asyncssh.create_server(
        lambda: OneUser(password),
        "127.0.0.1",
        port,
        server_host_keys=[host_key],
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(folder).encode()),
        process_factory=None,
        allow_scp=False,
    )
    async with server:
        print(f"SFTP sink on port {port}, user {USER}, files in {folder}", flush=True)
        await ended.wait()


if __name__ == "__main__":
    folder_name, port_number, host_key_name, secrets_name = sys.argv[1:]
    secret = json.loads(Path(secrets_name).read_text())["sftp_password"]
    asyncio.run(serve(Path(folder_name), int(port_number), host_key_name, secret))
