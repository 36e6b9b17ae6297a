"""The state folder: where everything lives that the stack writes and must remember between starts."""

import base64
import contextlib
import fcntl
import json
import os
import random
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from embedded.console import Problem, say

PROJECT = Path(__file__).resolve().parents[2]
FREE_BYTES_NEEDED = 3 * 1024**3

# Below the range from which systems take ports for outgoing connections.
PORT_RANGE = range(20000, 32000)
PORT_NAMES = {
    "ui": "the Airflow UI",
    "worker_logs": "the logs of Airflow's tasks",
    "trigger_logs": "the logs of Airflow's triggers",
    "mail": "the mail sink",
    "sftp": "the SFTP sink",
}
# Users of the Airflow UI: an administrator, and staff of the sample with its internal names.
UI_USERS = {"admin": "admin", "olga": "op", "ursula": "user", "vera": "viewer"}


class State:
    """One state folder. Two of them share nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.airflow = folder / "airflow"
        self.files = folder / "files"
        self.logs = folder / "logs"
        self.mail = folder / "mail"
        self.processes = folder / "processes"
        self.postgres = folder / "postgres"
        self.router = folder / "router"
        self.passwords_file = self.airflow / "passwords.json"
        self.sftp_host_key = folder / "sftp_host_key"
        self.mark = folder / "stack.lock"

    @classmethod
    def from_environment(cls) -> "State":
        """The folder that CAMPAIGN_STATE_DIR names, else .local/ in the project."""
        named = os.environ.get("CAMPAIGN_STATE_DIR")
        return cls(Path(os.path.abspath(named)) if named else PROJECT / ".local")

    def exists(self) -> bool:
        """Whether the folder is there and was made by us."""
        return self.mark.exists()

    def create(self) -> None:
        """Make the folders; a second time it does nothing."""
        try:
            if not self.folder.exists():
                self.folder.mkdir(parents=True)
                # PostgreSQL never runs as root: its own user must get through, and nobody else may look.
                self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
            # Made before all else: it is how clean knows what it may remove.
            if not self.exists() and any(self.folder.iterdir()) and not self.exists():
                raise Problem(
                    f"{self.folder} holds other files. Give the state a folder of its own: "
                    "CAMPAIGN_STATE_DIR=/path/of/a/new/folder"
                )
            self.mark.touch()
            folders = (self.airflow, self.files, self.logs, self.mail, self.processes, self.router)
            # A router gives its customers a folder; ours is where the sample's provider looks.
            for path in (*folders, self.router / "inbox"):
                path.mkdir(exist_ok=True)
        except PermissionError as error:
            raise Problem(
                f"Cannot write to the state folder {self.folder}: it belongs to another user.\n"
                "Run as that user, or name another folder: CAMPAIGN_STATE_DIR=/path/of/yours"
            ) from error

    @contextlib.contextmanager
    def lock(self, purpose: str = "stack") -> Iterator[None]:
        """Let one process at a time work on the state folder. It ends with the process that holds it.

        :param purpose: ``stack`` guards a short preparation; ``services`` the whole of up, down and clean.
        """
        self.create()
        with (self.folder / f"{purpose}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("  waiting for another command that is preparing the same state folder ...")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self, name: str) -> dict:
        """A small JSON file of the state folder; empty if it is not there."""
        try:
            return json.loads((self.folder / name).read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise Problem(f"{self.folder / name} is damaged. Start over with: make clean") from error

    def write(self, name: str, content: dict) -> None:
        """Write a small JSON file, readable by its owner only, whole or not at all."""
        write_private(self.folder / name, json.dumps(content, indent=2) + "\n")

    def ports(self) -> dict[str, int]:
        """The ports of this state folder: free ones, chosen once and kept."""
        ports = self.read("ports.json")
        missing = [name for name in PORT_NAMES if name not in ports]
        if missing:
            for name in missing:
                ports[name] = free_port(taken=set(ports.values()))
            self.write("ports.json", ports)
        return ports

    def secrets(self) -> dict:
        """Keys and passwords, generated once."""
        known = self.read("secrets.json")
        if not known:
            known = {
                "fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
                "jwt_secret": secrets.token_urlsafe(72),
                "api_secret_key": secrets.token_urlsafe(48),
                "sftp_password": secrets.token_urlsafe(18),
                "ui_passwords": {user: secrets.token_urlsafe(9) for user in UI_USERS},
            }
            self.write("secrets.json", known)
        if not self.passwords_file.exists():
            write_private(self.passwords_file, json.dumps(known["ui_passwords"]))
        return known


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, under a temporary name first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(taken: set[int]) -> int:
    """A port that nobody uses now; at random, so that two state folders hardly ever choose the same."""
    for port in random.sample(PORT_RANGE, 200):
        if port not in taken and port_is_free(port):
            return port
    raise Problem(f"No free port found between {PORT_RANGE.start} and {PORT_RANGE.stop}.")


def check_disk(folder: Path, purpose: str) -> None:
    """Refuse to begin what would fill the disk.

    :param folder: where the room is needed; it need not exist yet.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_NEEDED:
        raise Problem(
            f"Not enough disk space for {purpose}: {folder} has {free / 1024**3:.1f} GB free, 3 GB are needed."
        )
