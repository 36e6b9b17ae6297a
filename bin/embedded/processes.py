"""Processes that the stack starts: recorded with their start time, so that only they are ever ended.

Each runs in a session of its own. Airflow's services put their children into process groups of their own,
but a child stays in the session: the session is what is ended.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded.state import State

PROC = Path("/proc")


@dataclass(frozen=True)
class Running:
    """What the system says about a process."""

    pid: int
    session: int
    started: str
    is_zombie: bool


def look_up(pid: int) -> Running | None:
    """The process with this id, if there is one."""
    if PROC.joinpath("self/stat").exists():
        try:
            stat = PROC.joinpath(str(pid), "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
        return Running(pid, int(fields[3]), f"{_boot_id()} {fields[19]}", fields[0] == "Z")
    answer = subprocess.run(
        ["ps", "-o", "sess=,state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=2)
    if len(answer) < 3:
        return None
    return Running(pid, os.getsid(pid), answer[2].strip(), answer[1].startswith("Z"))


def _boot_id() -> str:
    try:
        return PROC.joinpath("sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "boot"


def record(state: State, name: str, pid: int) -> None:
    """Remember a process that we started."""
    running = look_up(pid)
    state.write(f"processes/{name}.json", {"pid": pid, "started": running.started if running else ""})


def recorded(state: State, name: str) -> Running | None:
    """The process that we started under this name, if it is still the same one and alive."""
    entry = state.read(f"processes/{name}.json")
    if not entry:
        return None
    running = look_up(entry["pid"])
    return running if running and running.started == entry["started"] and not running.is_zombie else None


def start(
    state: State,
    name: str,
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    prepare: Callable[[], None] | None = None,
) -> subprocess.Popen:
    """Start a process in its own session, its output in the log of its name, and remember it.

    :param prepare: runs in the new process before the command, for instance to change the user.
    """
    with (state.logs / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(  # a service: it outlives this command
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=prepare,
        )
    record(state, name, process.pid)
    return process


def _members(state: State, name: str) -> list[int]:
    """Ids of all processes in the session that we started under this name, also when its leader is gone."""
    entry = state.read(f"processes/{name}.json")
    if not entry:
        return []
    leader = look_up(entry["pid"])
    if leader and leader.started != entry["started"]:
        return []  # the number went to somebody else's process: none of ours is left
    if not PROC.joinpath("self/stat").exists():
        return [entry["pid"]] if leader else []
    if not leader and not entry["started"].startswith(_boot_id()):
        return []
    ids = (int(path.name) for path in PROC.iterdir() if path.name.isdigit())
    found = (look_up(pid) for pid in ids)
    alive = (process for process in found if process and not process.is_zombie)
    return [process.pid for process in alive if process.session == entry["pid"]]


def end(state: State, names: Sequence[str], patience: float) -> list[str]:
    """End the processes that we started under these names, and their children: TERM to all, later KILL.

    :param patience: seconds between the two.
    :returns: the names of which something was running.
    """
    ended = [name for name in names if _signal(state, name, signal.SIGTERM)]
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and any(_members(state, name) for name in ended):
        time.sleep(0.1)
    for name in ended:
        while _signal(state, name, signal.SIGKILL):
            time.sleep(0.05)
    for name in names:
        state.folder.joinpath("processes", f"{name}.json").unlink(missing_ok=True)
    return ended


def _signal(state: State, name: str, number: signal.Signals) -> bool:
    members = _members(state, name)
    for pid in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(members)
