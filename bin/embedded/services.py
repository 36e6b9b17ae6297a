"""The services of ``make up``: the sinks and Airflow; how they are started, watched and ended."""

import json
import shutil
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

from embedded import environment, processes, venv
from embedded.console import Problem, say, tail
from embedded.postgres import Postgres
from embedded.state import PORT_NAMES, PROJECT, UI_USERS, State, port_is_free

START_SECONDS = 240
# Name of each service, and the ports that it listens on. In the order of their start.
SERVICES = {
    "mail": ["mail"],
    "sftp": ["sftp"],
    "api-server": ["ui"],
    "scheduler": ["worker_logs"],
    "dag-processor": [],
    "triggerer": ["trigger_logs"],
}
# Names of Airflow's services in its report on health.
HEALTH_NAMES = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


def up(state: State) -> None:
    """Start what does not run yet, and wait until all of it works."""
    with state.lock("services"):
        variables = environment.prepare(state)
        missing = [name for name in SERVICES if processes.recorded(state, name) is None]
        since = datetime.now(UTC)
        if missing:
            processes.end(state, missing, patience=5)  # children that a killed service left behind
            _check_ports(state, missing)
            say(f"Starting {', '.join(missing)} (logs in {state.logs}) ...")
        elif _healthy(state, since, set()) == set(SERVICES):
            say("The stack is already running.")
        else:
            say(f"The stack is already starting (logs in {state.logs}) ...")
        for name in missing:
            processes.start(state, name, _command(state, name), variables)
        _wait_until_healthy(state, since, set(missing))
        _print_address(state)


def down(state: State) -> None:
    """End exactly the processes that were started for this state folder."""
    if not state.exists():
        say("Nothing is running.")
        return
    with state.lock("services"):
        ended = processes.end(state, list(reversed(SERVICES)), patience=15)
        if Postgres(state).stop():
            ended.append("PostgreSQL")
        say(f"Ended {', '.join(ended)}." if ended else "Nothing is running.")


def clean(state: State) -> None:
    """End everything and remove the state folder."""
    if state.folder.exists() and not state.exists():
        raise Problem(f"{state.folder} is no state folder; nothing was removed.")
    down(state)
    if state.exists():
        shutil.rmtree(state.folder)
        say(f"Removed {state.folder}.")


def status(state: State) -> bool:
    """Say what runs; True if all of it does."""
    running = {name: processes.recorded(state, name) for name in SERVICES}
    for name in SERVICES:
        process = running.get(name)
        say(f"  {name:14} {f'runs, process {process.pid}' if process else 'does not run'}")
    server = Postgres(state).socket_folder()
    say(f"  {'PostgreSQL':14} {f'runs, socket in {server}' if server else 'does not run'}")
    if running.get("api-server"):
        _print_address(state)
    return bool(server) and all(running.values())


def _command(state: State, name: str) -> list[str]:
    scripts = PROJECT / "bin"
    ports = state.ports()
    arguments = {
        "mail": [scripts / "mail_sink.py", state.mail, ports["mail"]],
        "sftp": [
            *(scripts / "sftp_sink.py", state.router, ports["sftp"]),
            *(state.sftp_host_key, state.folder / "secrets.json"),
        ],
    }
    return [str(part) for part in (venv.PYTHON, *arguments.get(name, ["-m", "airflow", name]))]


def _check_ports(state: State, services: list[str]) -> None:
    ports = state.ports()
    for name in (port_name for service in services for port_name in SERVICES[service]):
        if not port_is_free(ports[name]):
            raise Problem(
                f"Port {ports[name]}, kept for {PORT_NAMES[name]}, is in use by another process.\n"
                f"End that process, or remove the entry {name!r} from {state.folder / 'ports.json'}: "
                "the next start then chooses a free port."
            )


def _wait_until_healthy(state: State, since: datetime, started: set[str]) -> None:
    """Watch the services come up; say so of each, and when one ends instead."""
    begun = time.monotonic()
    waiting, last_word = set(SERVICES), begun
    while waiting:
        for name in waiting:
            if processes.recorded(state, name) is None:
                log = state.logs / f"{name}.log"
                raise Problem(
                    f"The {name} ended while it was starting. Its log, {log}, ends with:\n{tail(log)}\n"
                    "What else was started is still running: make down ends it."
                )
        for name in sorted(waiting & _healthy(state, since, started)):
            waiting.remove(name)
            last_word = time.monotonic()
            if name in started or last_word - begun > 1:
                say(f"  {name} works after {last_word - begun:.0f} s")
        if time.monotonic() - begun > START_SECONDS:
            raise Problem(
                f"Not working after {START_SECONDS} s: {', '.join(sorted(waiting))} (logs in {state.logs}).\n"
                "A slow machine may only need longer: make up continues to wait. make down ends everything."
            )
        if waiting and time.monotonic() - last_word > 10:
            last_word = time.monotonic()
            say(f"  waiting for {', '.join(sorted(waiting))} ({last_word - begun:.0f} s) ...")
        time.sleep(0.5 if waiting else 0)


def _healthy(state: State, since: datetime, new: set[str]) -> set[str]:
    """Services that work: a sink listens, the api-server answers, the others sent a heartbeat."""
    ports = state.ports()
    working = {name for name in ("mail", "sftp") if not port_is_free(ports[name])}
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://127.0.0.1:{ports['ui']}/api/v2/monitor/health", timeout=5) as answer:
            health = json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return working
    working.add("api-server")
    for name, key in HEALTH_NAMES.items():
        report = health.get(key) or {}
        heartbeat = report.get(f"latest_{key}_heartbeat")
        is_recent = name not in new or (heartbeat and datetime.fromisoformat(heartbeat) >= since)
        if report.get("status") == "healthy" and is_recent:
            working.add(name)
    return working


def _print_address(state: State) -> None:
    passwords = state.secrets()["ui_passwords"]
    say(f"Airflow UI: http://127.0.0.1:{state.ports()['ui']}")
    for user, role in UI_USERS.items():
        say(f"  login {user:7} ({role + ')':7}  password {passwords[user]}")
