"""A real OpenSSH server on the loopback address: killed, filled up, slowed down, given other keys, as it is told."""

from __future__ import annotations

import json
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def why_not() -> str | None:
    """Return why there can be no server here, or None."""
    if SSHD is None:
        return "there is no sshd: apt-get install openssh-server. tests/sftp_server.py tries the same with asyncssh"
    if os.geteuid() == 0 and not any(user.pw_name == "sshd" for user in pwd.getpwall()):
        return "sshd wants a user sshd when root starts it: apt-get install openssh-server"
    return None


def make_key(path: Path) -> Path:
    """Make a key without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


class OpenSshServer:
    """sshd with its SFTP server, for the user who runs the tests.

    :param folder: for keys and configuration.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host_key = make_key(folder / "host_key")
        self.user_key = make_key(folder / "user_key")
        (folder / "authorized_keys").write_text((folder / "user_key.pub").read_text())
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, file_bytes: int | None = None, host_key: Path | None = None) -> None:
        """Listen.

        :param file_bytes: no file may grow beyond this, as on a disk that is full.
        """
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {host_key or self.host_key}\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nPasswordAuthentication no\nUsePAM no\n"
            "KbdInteractiveAuthentication no\nStrictModes no\nPermitRootLogin prohibit-password\n"
            "Subsystem sftp internal-sftp\nMaxStartups 100\n"
        )

        def limit() -> None:
            if file_bytes is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(SSHD), "-D", "-e", "-f", str(config)], preexec_fn=limit, start_new_session=True, stderr=log
            )
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < until, self.log()
                time.sleep(0.05)
            else:
                return

    def log(self) -> str:
        """Return what it said."""
        return (self.folder / "sshd.log").read_text()

    def sessions(self) -> list[int]:
        """Return the processes that serve connections, which are in process groups of their own."""
        assert self._process is not None
        found = subprocess.run(
            ["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout.split()
        parents = dict(zip(map(int, found[::2]), map(int, found[1::2]), strict=True))
        wanted, mine = {self._process.pid}, set[int]()
        while fresh := {pid for pid, parent in parents.items() if parent in wanted | mine} - mine:
            mine |= fresh
        return sorted(mine)

    def signal_sessions(self, number: int) -> None:
        """Send the processes of its connections a signal."""
        for pid in self.sessions():
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(pid, number)

    def stop(self) -> None:
        """End it and its connections."""
        if self._process is not None:
            self.signal_sessions(signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            self._process = None

    def airflow_connection(self, *, key: Path | None = None, host_key: Path | None = None) -> str:
        """Return the Airflow connection to it."""
        public = (host_key or self.host_key).with_suffix(".pub").read_text().split()[:2]
        extra: dict[str, Any] = {
            "key_file": str(key or self.user_key),
            "host_key": " ".join(public),
            "look_for_keys": False,
            "no_host_key_check": False,
        }
        login = pwd.getpwuid(os.geteuid()).pw_name
        return json.dumps({"conn_type": "sftp", "host": "127.0.0.1", "port": self.port, "login": login, "extra": extra})
