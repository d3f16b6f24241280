"""One Airflow home for all tests below: SQLite, our dags and plugins, connections to the sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docferry.sandbox import SandboxStack
from docferry.sandbox.airflow import aws_connection, mongo_connection
from support.airflow.home import ROOT, SETTINGS


@pytest.fixture(scope="session")
def airflow_home() -> Iterator[Path]:
    """A migrated database. Airflow must not have been imported before: it reads these variables then."""
    home = Path(tempfile.mkdtemp(prefix="docferry-test-airflow-"))
    os.environ.update(SETTINGS | {"AIRFLOW_HOME": str(home)})
    sys.path.insert(0, str(ROOT / "plugins"))
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, timeout=180)
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def connections(stack: SandboxStack, airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> SandboxStack:
    """mongo_default and aws_default lead to the stack; no AWS variable does."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", mongo_connection(stack.mongo.uri("docferry")))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(stack.aws.env()))
    return stack
