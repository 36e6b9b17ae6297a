"""The environment that bin/env gives to a command: what runs before it, and what is exported to it."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from embedded import postgres, venv
from embedded.console import Problem, Step, say, tail
from embedded.postgres import Postgres
from embedded.state import PROJECT, UI_USERS, State

AIRFLOW_DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
CONNECTION = "AIRFLOW_CONN_CAMPAIGN_DB"
DSN = "CAMPAIGN_DSN"
# Names that an outer bin/env exported, with a digest of each value: an inner one decides about them anew.
EXPORTED = "CAMPAIGN_ENV_EXPORTED"
# Fields of a connection's extra that libpq knows under the same name.
LIBPQ_EXTRAS = frozenset(
    [
        "application_name",
        "channel_binding",
        "connect_timeout",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "options",
        "passfile",
        "service",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslpassword",
        "sslrootcert",
        "target_session_attrs",
        "tcp_user_timeout",
    ]
)


def prepare(state: State) -> dict[str, str]:
    """Start and migrate what the environment needs, and return all variables of a command that runs in it."""
    venv.ensure()
    outside = given(os.environ)
    with state.lock():
        exports = _settings(state)
        if (DSN not in outside and CONNECTION not in outside) or AIRFLOW_DATABASE not in outside:
            server = Postgres(state)
            server.ensure_running()
            exports.update(_embedded_databases(server))
        exports.update(_derived(outside))
        environment = _merge(outside, exports)
        _migrate_campaign(state, environment)
        if AIRFLOW_DATABASE not in outside:
            _migrate_airflow(state, server, environment)
    return environment


def given(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what an outer bin/env put into it; an empty address is none."""
    exported = json.loads(environment.get(EXPORTED, "{}"))
    return {
        name: value
        for name, value in environment.items()
        if name != EXPORTED
        and exported.get(name) != _fingerprint(value)
        and (value or name not in (DSN, CONNECTION, AIRFLOW_DATABASE))
    }


def _merge(outside: dict[str, str], exports: dict[str, str]) -> dict[str, str]:
    """What is set outside wins. PATH, PYTHONPATH and the like are extended instead."""
    environment = {name: value for name, value in outside.items() if name != "PYTHONDONTWRITEBYTECODE"}
    added = {name: value for name, value in exports.items() if name not in outside}
    # PostgreSQL's programs last: a psql of the machine wins, and there is one on a machine without.
    added["PATH"] = _extended(outside, "PATH", [venv.VENV / "bin"], [postgres.bin_folder()])
    added["PYTHONPATH"] = _extended(outside, "PYTHONPATH", [PROJECT, PROJECT / "plugins"])
    # Airflow's services talk to each other over the loopback address: never through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        added[name] = ",".join(filter(None, [outside.get(name), "127.0.0.1,localhost"]))
    marks = {name: _fingerprint(value) for name, value in added.items() if name in exports}
    return {**environment, **added, EXPORTED: json.dumps(marks)}


def _extended(outside: dict[str, str], name: str, first: Sequence[Path], last: Sequence[Path] = ()) -> str:
    before, after = [str(path) for path in first], [str(path) for path in last]
    known = [part for part in outside.get(name, "").split(os.pathsep) if part and part not in before + after]
    return os.pathsep.join([*before, *known, *after])


def _fingerprint(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _settings(state: State) -> dict[str, str]:
    """Everything but the databases."""
    ports, secrets = state.ports(), state.secrets()
    if not state.sftp_host_key.exists():
        _make_host_key(state)
    ui = f"http://127.0.0.1:{ports['ui']}"
    return {
        "VIRTUAL_ENV": str(venv.VENV),
        "CAMPAIGN_STATE_DIR": str(state.folder),
        # As it is, not percent-encoded: ObjectStoragePath takes what follows file:// literally.
        "CAMPAIGN_FILES_URL": f"file://{state.files}",
        # Airflow's own use of another library; nothing that this project could change.
        "PYTHONWARNINGS": "ignore:GitWildMatchPattern:DeprecationWarning",
        "AIRFLOW_HOME": str(state.airflow),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",  # the default forks 32 idle workers of about 28 MB each
        "AIRFLOW__CORE__MAX_TEMPLATED_FIELD_LENGTH": "20000",  # so that the UI shows whole statements
        "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "5",
        "AIRFLOW__CORE__FERNET_KEY": secrets["fernet_key"],
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{ui}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(map(":".join, UI_USERS.items())),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(state.passwords_file),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(ports["ui"]),
        "AIRFLOW__API__BASE_URL": ui,
        "AIRFLOW__API__SECRET_KEY": secrets["api_secret_key"],
        "AIRFLOW__API__INSTANCE_NAME": "Campaign Workflows",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets["jwt_secret"],
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(ports["worker_logs"]),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports["trigger_logs"]),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",  # a chain of tasks in half the time
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",  # a new file is seen after seconds, not minutes
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(
            {
                "conn_type": "smtp",
                "host": "127.0.0.1",
                "port": ports["mail"],
                "extra": {
                    "disable_ssl": True,
                    "disable_tls": True,
                    "from_email": "campaigns@example.com",
                    "timeout": 10,
                    "retry_limit": 0,
                },
            }
        ),
        # With it operationMgt stops the run of a canceled workflow.
        "AIRFLOW_CONN_AIRFLOW_API": json.dumps(
            {
                "conn_type": "http",
                "host": ui,
                "login": "admin",
                "password": secrets["ui_passwords"]["admin"],
            }
        ),
        "AIRFLOW_CONN_ROUTER_SFTP": json.dumps(
            {
                "conn_type": "sftp",
                "host": "127.0.0.1",
                "port": ports["sftp"],
                "login": "router",
                "password": secrets["sftp_password"],
                "extra": {"no_host_key_check": True},  # our own server, on the loopback address
            }
        ),
    }


def _embedded_databases(server: Postgres) -> dict[str, str]:
    connection = {
        "conn_type": "postgres",
        # The socket's folder, in the host field: engine URLs that the hook builds ignore a host in the extra.
        "host": str(server.socket_folder()),
        "port": 5432,
        "login": "campaign",
        "schema": "campaign",
    }
    return {
        DSN: server.url("campaign"),
        CONNECTION: json.dumps(connection),
        AIRFLOW_DATABASE: server.url("airflow", "postgresql+psycopg2"),
    }


def _derived(outside: dict[str, str]) -> dict[str, str]:
    """The address of the campaign database that is not given, from the one that is."""
    if DSN in outside and CONNECTION not in outside:
        return {CONNECTION: connection_from_dsn(outside[DSN])}
    if CONNECTION in outside and DSN not in outside:
        return {DSN: dsn_from_connection(outside[CONNECTION])}
    return {}


def connection_from_dsn(dsn: str) -> str:
    """Airflow's JSON form of a libpq URL or key-value string; libpq's own parser reads it."""
    script = "import json, sys; from psycopg.conninfo import conninfo_to_dict as read; "
    script += "print(json.dumps(read(sys.stdin.read())))"
    done = subprocess.run([venv.PYTHON, "-c", script], input=dsn, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Problem(f"{DSN} is no valid libpq address: {done.stderr.strip().splitlines()[-1]}")
    fields = json.loads(done.stdout)
    connection = {
        "conn_type": "postgres",
        "host": fields.pop("host", None),
        "port": int(port) if (port := fields.pop("port", None)) else None,
        "login": fields.pop("user", None),
        "password": fields.pop("password", None),
        "schema": fields.pop("dbname", None),
        "extra": fields or None,
    }
    return json.dumps({name: value for name, value in connection.items() if value is not None})


def dsn_from_connection(connection: str) -> str:
    """Address for libpq (a URL) of an Airflow connection in its JSON or its URI form."""
    try:
        fields = json.loads(connection) if connection.lstrip().startswith("{") else _fields_of_uri(connection)
        extra = fields.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
    except ValueError as error:
        raise Problem(f"{CONNECTION} is neither valid JSON nor a valid URI: {error}") from error
    login, password = (quote(fields.get(name) or "", safe="") for name in ("login", "password"))
    user = f"{login}:{password}@" if password else f"{login}@" if login else ""
    port = f":{fields['port']}" if fields.get("port") else ""
    database = quote(fields.get("schema") or "", safe="")
    query = {name: str(value) for name, value in extra.items() if name in LIBPQ_EXTRAS}
    options = f"?{urlencode(query, quote_via=quote)}" if query else ""
    host = quote(fields.get("host") or "", safe=".-[]:,")
    return f"postgresql://{user}{host}{port}/{database}{options}"


def _fields_of_uri(uri: str) -> dict:
    parts = urlsplit(uri)
    query = dict(parse_qsl(parts.query))
    address = parts.netloc.rpartition("@")[2]
    host, _, port = address.rpartition(":") if address.rpartition(":")[2].isdigit() else (address, "", "")
    return {
        "host": unquote(host),
        "port": port,
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "schema": unquote(parts.path.lstrip("/")),
        "extra": query.get("__extra__") or query,
    }


def _migrate_campaign(state: State, environment: dict[str, str]) -> None:
    """Bring the campaign schema up to date, whoever's database it is."""
    done = subprocess.run(
        [venv.PYTHON, "-m", "campaign.migrate"],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        log = state.logs / "campaign_migrate.log"
        log.write_text(done.stderr)
        # From the last line that names an exception: before it is the traceback, after it PostgreSQL's hints.
        said = re.split(r"^(?=[\w.]+\.\w+: )", done.stderr.strip(), flags=re.MULTILINE)[-1]
        raise Problem(f"The campaign schema could not be brought up to date:\n{said}\nAll of it is in {log}")
    if "brought" in done.stdout:
        say(f"  {done.stdout.strip()}")


def _migrate_airflow(state: State, server: Postgres, environment: dict[str, str]) -> None:
    """Make or upgrade Airflow's own database, unless the state folder remembers that it is as it must be."""
    exists = server.query("airflow", "SELECT to_regclass('alembic_version') IS NOT NULL")
    revision = server.query("airflow", "SELECT version_num FROM alembic_version") if exists == ["t"] else []
    wanted = {"airflow": venv.installed_version("apache-airflow-core"), "revision": "".join(revision)}
    if revision and state.read("airflow_database.json") == wanted:
        return
    log = state.logs / "airflow_migrate.log"
    with Step("preparing Airflow's own database"), log.open("ab") as output:
        done = subprocess.run(
            [venv.PYTHON, "-m", "airflow", "db", "migrate"],
            env=environment,
            cwd=state.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            raise Problem(f"Airflow could not prepare its database. {log} ends with:\n{tail(log, 8)}")
    wanted["revision"] = "".join(server.query("airflow", "SELECT version_num FROM alembic_version"))
    state.write("airflow_database.json", wanted)


def _make_host_key(state: State) -> None:
    script = "import asyncssh, sys; "
    script += "asyncssh.generate_private_key('ssh-ed25519').write_private_key(sys.argv[1])"
    temporary = state.sftp_host_key.with_suffix(".new")
    subprocess.run([venv.PYTHON, "-c", script, temporary], check=True)
    temporary.chmod(0o600)
    temporary.replace(state.sftp_host_key)


def run(state: State, command: list[str]) -> None:
    """Become the command, inside the environment: its signals and its exit code are its own."""
    environment = prepare(state)
    sys.stdout.flush()
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 (no shell: the point of it)
    except FileNotFoundError:
        say(f"bin/env: {command[0]}: command not found")
        raise SystemExit(127) from None
    except PermissionError:
        say(f"bin/env: {command[0]}: may not be executed")
        raise SystemExit(126) from None
