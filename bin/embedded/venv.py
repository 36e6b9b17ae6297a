"""The virtual environment of the project: made from the pinned requirements, renewed when they change."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from embedded.console import Problem, say
from embedded.state import PROJECT, check_disk

VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "made_from.json"
REQUIREMENTS = {"base": PROJECT / "requirements.txt", "dev": PROJECT / "requirements-dev.txt"}

# What pip says, and what it means to a person. The first that is found decides.
PIP_FAILURES = (
    (("No space left on device",), "The disk is full."),
    (
        ("ProxyError", "407 Proxy", "Tunnel connection failed"),
        "The proxy refused the connection to the package index.\n"
        "Check HTTPS_PROXY and its login, or name an index that you can reach: PIP_INDEX_URL=https://...",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED", "SSLError"),
        "The certificate of the package index is not trusted (a proxy that opens connections?).\n"
        "Name the certificates to trust: PIP_CERT=/path/to/certificates.pem",
    ),
    (
        ("Connection error", "ConnectionError", "NewConnectionError", "Max retries", "timed out"),
        "The package index cannot be reached. Is there a network? Behind a proxy, set HTTPS_PROXY;\n"
        "with an index of your own, set PIP_INDEX_URL.",
    ),
    (
        ("Failed building wheel", "Failed to build", "error: command", "subprocess-exited-with-error"),
        "A package has no ready-made wheel for this machine, and building it failed.\n"
        "Install a compiler and Python's headers (Debian: apt install build-essential python3-dev),\n"
        "or use Python 3.11.",
    ),
    (
        ("No matching distribution", "Could not find a version"),
        "The package index does not offer a pinned version for this Python and machine.\n"
        "An index of your own may lag behind; the pins are for Python 3.11 to 3.14 on Linux and macOS.",
    ),
)


def ensure(dev: bool = False) -> None:
    """Make the venv, or bring it up to date; at once if nothing changed.

    :param dev: with what tests and checks need.
    """
    groups = ["base", "dev"] if dev else ["base"]
    if not _missing(groups):
        return
    # Two commands may come at the same moment: the second waits, and finds the work done.
    with REQUIREMENTS["base"].open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = _missing(groups)
        if missing:
            _make(missing)


def _digest(group: str) -> str:
    """What an up-to-date venv was made from. It holds absolute paths, so a moved project needs a new one."""
    return hashlib.sha256(REQUIREMENTS[group].read_bytes() + os.fsencode(PROJECT)).hexdigest()


def _missing(groups: list[str]) -> list[str]:
    if not PYTHON.exists():
        return groups
    try:
        stamp = json.loads(STAMP.read_text())
    except (FileNotFoundError, ValueError):
        stamp = {}
    if stamp.get("project") != str(PROJECT):
        return groups
    return [group for group in groups if stamp.get(group) != _digest(group)]


def _make(groups: list[str]) -> None:
    started = time.monotonic()
    check_disk(PROJECT, "the virtual environment")
    stamp = _read_stamp()
    if stamp.get("project") != str(PROJECT):
        stamp = {"project": str(PROJECT)}
        _create()
    count = sum(_count(group) for group in groups)
    say(f"  installing {count} packages into {VENV.name} (the first time about a minute) ...")
    _install(groups)
    # Without bytecode every Airflow process compiles Airflow again, which costs it several seconds.
    say("  compiling them ...")
    subprocess.run(
        [PYTHON, "-m", "compileall", "-q", "-j", "0", VENV / "lib"],
        stdout=subprocess.DEVNULL,  # some packages carry templates that are no valid Python: of no importance
        stderr=subprocess.DEVNULL,
        check=False,
    )
    stamp.update({group: _digest(group) for group in groups})
    STAMP.write_text(json.dumps(stamp, indent=2))
    say(f"  virtual environment ready after {time.monotonic() - started:.0f} s")


def _read_stamp() -> dict:
    try:
        return json.loads(STAMP.read_text()) if PYTHON.exists() else {}
    except (FileNotFoundError, ValueError):
        return {}


def _count(group: str) -> int:
    return sum("==" in line for line in REQUIREMENTS[group].read_text().splitlines())


def _create() -> None:
    """A new, empty venv, made by the Python that runs this, or by the one behind it if that is a venv's."""
    python = getattr(sys, "_base_executable", None) or sys.executable
    say(f"  making the virtual environment with Python {sys.version.split()[0]} ...")
    if VENV.exists():
        shutil.rmtree(VENV)
    made = subprocess.run([python, "-m", "venv", VENV], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        said = (made.stdout + made.stderr).strip()
        if "No space left" in said:
            raise Problem("The disk is full.")
        if "ensurepip" in said or "No module named venv" in said:
            raise Problem(
                "This Python cannot make virtual environments: its venv module is not complete.\n"
                f"Debian and Ubuntu: apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            )
        raise Problem(f"Making the virtual environment failed:\n{said}")


def _install(groups: list[str]) -> None:
    """pip, with every package named and pinned: nothing left to resolve."""
    files = [part for group in groups for part in ("-r", str(REQUIREMENTS[group]))]
    log_path = VENV / "pip.log"
    with log_path.open("w") as log:
        options = ["--no-deps", "--no-compile", "--no-input", "--progress-bar", "off"]
        command = [PYTHON, "-m", "pip", "install", *options, *files]
        installed = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if installed.returncode == 0:
        return
    said = log_path.read_text(errors="replace")
    for signs, meaning in PIP_FAILURES:
        if any(sign in said for sign in signs):
            raise Problem(f"{meaning}\nWhat pip said is in {log_path}")
    raise Problem(f"pip failed:\n{''.join(said.splitlines(keepends=True)[-10:])}\nAll of it is in {log_path}")


def package_folder(package: str, *parts: str) -> Path:
    """A folder inside an installed package, without importing it."""
    found = list((VENV / "lib").glob(f"python3.*/site-packages/{package}"))
    if not found:
        raise Problem(f"The virtual environment lacks {package}. Remove .venv and try again.")
    return found[0].joinpath(*parts)


def installed_version(distribution: str) -> str:
    """Version of an installed distribution, without importing anything."""
    folder = package_folder(f"{distribution.replace('-', '_')}-*.dist-info")
    return folder.name.split("-")[1].removesuffix(".dist")
