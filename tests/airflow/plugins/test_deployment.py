"""The compose file and the image: valid, and pinned to what requirements.txt and the sandbox pin."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from docferry.sandbox.airflow import repository
from docferry.sandbox.tools import MINISTACK_VERSION

ROOT = repository()


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `docker-compose config` makes of the file; Debian's docker-compose needs no engine for that."""
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed (apt-get install docker-compose)")
    clone = tmp_path_factory.mktemp("clone")  # where there is no .env
    for name in ("docker-compose.yaml", "Dockerfile"):
        shutil.copy(ROOT / name, clone)
    done = subprocess.run(["docker-compose", "config"], cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "variable is not set" not in done.stderr
    content: dict[str, Any] = yaml.safe_load(done.stdout)
    return content


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", line)[0] for line in lines if re.match(r"[\w.-]+==", line))


def test_compose_has_airflow_with_celery_redis_postgres_mongodb_and_an_emulator(compose: dict[str, Any]) -> None:
    services = compose["services"]
    parts = {"apiserver", "scheduler", "dag-processor", "worker", "triggerer", "init"}
    assert {f"airflow-{part}" for part in parts} | {"postgres", "redis", "mongo", "ministack"} <= services.keys()
    environment = services["airflow-scheduler"]["environment"]
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert environment["AIRFLOW__CELERY__BROKER_URL"].startswith("redis://redis:")
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://airflow-apiserver:8080/execution/"
    assert "--replSet" in services["mongo"]["entrypoint"][2]


def test_every_lasting_service_has_a_health_check(compose: dict[str, Any]) -> None:
    lasting = {name for name, service in compose["services"].items() if service.get("restart") == "unless-stopped"}
    assert {name for name in lasting if "healthcheck" not in compose["services"][name]} == set()


def test_airflows_parts_share_keys_that_no_file_holds(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if name.startswith("airflow-"):
            commands = [service["environment"][key] for key in service["environment"] if key.endswith("_CMD")]
            assert sorted(commands) == ["cat /keys/fernet", "cat /keys/jwt", "cat /keys/session"]


def test_example_environment_names_every_variable_of_the_compose_file() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yaml").read_text().replace("$${", "")))
    named = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used == named


def test_images_are_those_that_everything_else_is_pinned_to(compose: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"FROM apache/airflow:{pins()['apache-airflow']}-python3.11" in dockerfile
    assert f"ministack=={MINISTACK_VERSION}" in dockerfile
    assert compose["services"]["airflow-worker"]["image"] == f"docferry-airflow:{pins()['apache-airflow']}"
    assert compose["services"]["ministack"]["image"] == f"docferry-ministack:{MINISTACK_VERSION}"


def test_dockerfile_copies_only_what_is_there() -> None:
    copied = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = [Path(word) for line in copied for word in line.split()]
    assert len(sources) > 5
    assert [str(path) for path in sources if not (ROOT / path).exists()] == []
