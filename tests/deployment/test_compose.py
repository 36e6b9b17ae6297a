"""docker-compose.yaml and .env.example, checked without a Docker daemon."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet
from psycopg.conninfo import conninfo_to_dict

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yaml"
ENV_EXAMPLE = ROOT / ".env.example"

AIRFLOW_SERVICES = {
    "airflow-init",
    "airflow-apiserver",
    "airflow-scheduler",
    "airflow-dag-processor",
    "airflow-triggerer",
}
TRY_SERVICES = {"mailpit", "sftp"}
ONLY_IN_INIT = {"AIRFLOW_ADMIN_USER", "AIRFLOW_ADMIN_EMAIL", "AIRFLOW_ADMIN_PASSWORD"}

# ${NAME}, ${NAME:-default}, ${NAME:?message}; $$ is an escaped dollar sign.
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<operator>[-?])(?P<text>[^}]*))?\}")


def is_secret(name: str) -> bool:
    """Tell whether a variable holds something that nobody else may know. A connection holds a password."""
    return name.endswith(("_PASSWORD", "_SECRET", "_KEY")) or name.startswith("AIRFLOW_CONN_")


def example_settings(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def text() -> str:
    return "\n".join(line for line in COMPOSE.read_text().splitlines() if not line.lstrip().startswith("#"))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    return example_settings(ENV_EXAMPLE.read_text())


@pytest.fixture(scope="module")
def environment(services: dict[str, Any]) -> dict[str, str]:
    """Return what an Airflow service sees when every variable has its own name as value."""
    seen = services["airflow-scheduler"]["environment"]
    return {name: VARIABLE.sub(r"\g<name>", value) for name, value in seen.items()}


def test_compose_file_follows_the_compose_specification() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, str(COMPOSE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_services_are_those_of_the_deployment(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres"} | AIRFLOW_SERVICES | TRY_SERVICES


def test_only_what_is_for_trying_out_has_a_profile(services: dict[str, Any]) -> None:
    profiles = {name: service["profiles"] for name, service in services.items() if "profiles" in service}
    assert profiles == {name: ["try"] for name in TRY_SERVICES}


@pytest.mark.parametrize("name", sorted(AIRFLOW_SERVICES))
def test_airflow_services_share_image_environment_and_volumes(services: dict[str, Any], name: str) -> None:
    service, scheduler = services[name], services["airflow-scheduler"]
    environment = {key: value for key, value in service["environment"].items() if key not in ONLY_IN_INIT}
    assert environment == scheduler["environment"]
    shared = ("image", "build", "volumes")
    assert {key: service[key] for key in shared} == {key: scheduler[key] for key in shared}


def test_logs_and_files_outlive_the_containers(services: dict[str, Any]) -> None:
    volumes = yaml.safe_load(COMPOSE.read_text())["volumes"]
    mounted = [volume.split(":", 1) for volume in services["airflow-scheduler"]["volumes"]]
    assert mounted == [["logs", "/opt/airflow/logs"], ["files", "/opt/airflow/files"]]
    assert set(volumes) == {"postgres", "logs", "files"}


def test_only_init_knows_the_administrators_password(services: dict[str, Any]) -> None:
    knowing = {name for name in AIRFLOW_SERVICES if ONLY_IN_INIT & set(services[name]["environment"])}
    assert knowing == {"airflow-init"}


def test_airflow_services_have_what_they_need_to_trust_each_other(environment: dict[str, str]) -> None:
    expected = {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": "http://airflow-apiserver:8080/execution/",
        "AIRFLOW__CORE__FERNET_KEY": "AIRFLOW_FERNET_KEY",
        "AIRFLOW__API__SECRET_KEY": "AIRFLOW_API_SECRET_KEY",
        "AIRFLOW__API_AUTH__JWT_SECRET": "AIRFLOW_JWT_SECRET",
        "PYTHONPATH": "/opt/airflow:/opt/airflow/plugins",
    }
    assert {name: environment.get(name) for name in expected} == expected


def test_auth_manager_is_not_the_one_for_trying_out(environment: dict[str, str]) -> None:
    assert environment["AIRFLOW__CORE__AUTH_MANAGER"].startswith("airflow.providers.fab.")


def test_workflows_and_migrations_use_the_same_database(environment: dict[str, str]) -> None:
    dsn = conninfo_to_dict(environment["CAMPAIGN_DSN"])
    assert dsn == conninfo_to_dict(environment["AIRFLOW_CONN_CAMPAIGN_DB"])
    assert dsn == {
        "user": "campaign",
        "password": "CAMPAIGN_DB_PASSWORD",
        "host": "postgres",
        "port": "5432",
        "dbname": "campaign",
    }


def test_airflow_waits_for_the_database_and_for_its_migration(services: dict[str, Any]) -> None:
    ready = {"postgres": {"condition": "service_healthy"}}
    migrated = ready | {"airflow-init": {"condition": "service_completed_successfully"}}
    waits = {name: services[name]["depends_on"] for name in AIRFLOW_SERVICES}
    assert waits == dict.fromkeys(AIRFLOW_SERVICES, migrated) | {"airflow-init": ready}


def test_init_migrates_both_databases(services: dict[str, Any]) -> None:
    shell, options, script = services["airflow-init"]["command"]
    assert (shell, options) == ("bash", "-ec")  # -e: a failed step must not let the services start
    assert script.startswith("airflow db migrate\n")
    assert script.endswith("python -m campaign.migrate\n")


def test_every_service_that_stays_up_has_a_health_check(services: dict[str, Any]) -> None:
    unchecked = {name for name, service in services.items() if "healthcheck" not in service}
    assert unchecked == {"airflow-init"}


def test_ports_are_published_on_the_loopback_address_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_images_are_pinned_by_tag(services: dict[str, Any]) -> None:
    images = {service["image"] for service in services.values()}
    images |= set(re.findall(r"^FROM (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert [image for image in images if not re.fullmatch(r"[\w./-]+:(?!latest)[\w.-]+", image)] == []


def test_image_has_the_airflow_that_the_requirements_pin() -> None:
    image = re.search(r"^FROM apache/airflow:([\d.]+)-", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    pin = re.search(r"^apache-airflow==([\d.]+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert image
    assert pin
    assert image[1] == pin[1]


def test_every_variable_is_in_the_example_and_the_other_way_round(text: str, example: dict[str, str]) -> None:
    assert {found["name"] for found in VARIABLE.finditer(text)} == set(example)


def test_secrets_have_no_default(text: str, example: dict[str, str]) -> None:
    operators = {found["operator"] for found in VARIABLE.finditer(text) if is_secret(found["name"])}
    assert operators == {"?"}
    assert {name: value for name, value in example.items() if is_secret(name) and value} == {}


def test_no_secret_is_written_into_the_file(services: dict[str, Any]) -> None:
    settings = {
        (service, name): str(value)
        for service, description in services.items()
        for name, value in description.get("environment", {}).items()
        if is_secret(name)
    }
    assert {where for where, value in settings.items() if not VARIABLE.search(value)} == set()


def test_defaults_are_the_values_of_the_example(text: str, example: dict[str, str]) -> None:
    defaults = {found["name"]: found["text"] for found in VARIABLE.finditer(text) if found["operator"] == "-"}
    assert defaults == {name: value for name, value in example.items() if not is_secret(name)}


def test_command_in_the_example_makes_every_secret_but_the_mail_connection(tmp_path: Path) -> None:
    lines = ENV_EXAMPLE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("#   (umask"))
    command = "\n".join(line.removeprefix("#") for line in lines[start : start + 2])
    (tmp_path / ".env.example").write_text(ENV_EXAMPLE.read_text())

    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True, timeout=60)

    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o777 == 0o600
    settings = example_settings(made.read_text())
    assert [name for name, value in settings.items() if not value] == ["AIRFLOW_CONN_SMTP_DEFAULT"]
    secrets = [value for name, value in settings.items() if is_secret(name) and value]
    assert len(set(secrets)) == len(secrets)
    assert min(len(value) for value in secrets) >= 24
    Fernet(settings["AIRFLOW_FERNET_KEY"])


def test_init_script_of_postgres_is_valid_shell_and_creates_both_databases(services: dict[str, Any]) -> None:
    script = ROOT / "docker" / "postgres-init.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    created = re.findall(r"^CREATE DATABASE (\w+) OWNER (\w+);$", script.read_text(), re.MULTILINE)
    assert created == [("airflow", "airflow"), ("campaign", "campaign")]
    asked = set(re.findall(r'^: "\$\{(\w+):\?', script.read_text(), re.MULTILINE))
    assert asked < set(services["postgres"]["environment"])
