"""A throw-away Airflow: the real `airflow standalone` in a home of its own, from a clone of the repository.

For `make demo` and tests. SQLite, LocalExecutor and SimpleAuthManager are what `standalone` has; production uses none.
This module needs no Airflow: the process that it starts does.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import sys
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from pymongo.uri_parser import parse_uri

from docferry.errors import PreflightFailed, Problem, Unavailable
from docferry.sandbox import airflow_guard as guard
from docferry.sandbox.airflow_api import POLL_S, START_TIMEOUT_S, USER, AirflowApi
from docferry.sandbox.processes import ChildProcess, ReservedPort, start_child, wait_until
from docferry.sandbox.tools import Say, say_nothing

PREFIX = "docferry-airflow-"
STOP_S = 15.0

PASSED_ON = ("LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH")
"""All that Airflow's processes get of our environment: no AWS variable, no setting of another Airflow."""


def repository() -> Path:
    """Where dags/ and plugins/ are: this is run from a clone. Raises: PreflightFailed if it is not."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "dags").is_dir() or not (root / "plugins" / "docferry_airflow").is_dir():
        problem = Problem(where=str(root), what="holds no dags/ and plugins/", suggestion="run this from a clone")
        raise PreflightFailed("Airflow", [problem])
    return root


def mongo_connection(uri: str) -> str:
    """An Airflow connection (JSON) to what a MongoDB URI names."""
    parts = parse_uri(uri)
    hosts = ",".join(f"{host}:{port}" for host, port in parts["nodelist"])
    extra = {name: value for name, value in parts["options"].items() if isinstance(value, str | int | bool)}
    names = {"conn_type": "mongo", "host": hosts, "login": parts["username"], "password": parts["password"]}
    return json.dumps(names | {"extra": extra})


def aws_connection(env: Mapping[str, str]) -> str:
    """An Airflow connection (JSON) to what the AWS variables name, endpoints in its extra."""
    prefix = "AWS_ENDPOINT_URL_"
    services = {
        name.removeprefix(prefix).lower().replace("_", "-"): {"endpoint_url": value}
        for name, value in env.items()
        if name.startswith(prefix) and value != env.get("AWS_ENDPOINT_URL")
    }
    extra = {"region_name": env["AWS_REGION"], "endpoint_url": env["AWS_ENDPOINT_URL"], "service_config": services}
    keys = {"login": env["AWS_ACCESS_KEY_ID"], "password": env["AWS_SECRET_ACCESS_KEY"]}
    return json.dumps({"conn_type": "aws", **keys, "extra": extra})


class SandboxAirflow:
    """`airflow standalone` for as long as the `with` block, or until close().

    `migrations` is where the migration files are, `connections` maps connection id -> JSON, `settings` adds Airflow's
    own variables. It ends when this process ends, however that ends, unless `keep`; the home goes with it.
    Raises: PreflightFailed without Airflow, Unavailable, TimedOut; nothing is left running then.
    """

    def __init__(
        self,
        *,
        migrations: Path,
        connections: Mapping[str, str],
        settings: Mapping[str, str] | None = None,
        keep: bool = False,
        say: Say = say_nothing,
    ) -> None:
        self._migrations, self._connections = migrations, dict(connections)
        self._settings, self._keep, self._say = dict(settings or {}), keep, say
        self.home = Path()
        self.url = ""
        self.password = secrets.token_urlsafe(9)
        self._ports: list[ReservedPort] = []
        self._guard: ChildProcess | None = None

    def __repr__(self) -> str:
        return f"SandboxAirflow({self.url!r})"

    def __enter__(self) -> SandboxAirflow:
        self.start()
        self.wait_until_ready()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def process(self) -> ChildProcess:
        """The process above all of Airflow's."""
        if self._guard is None:
            raise Unavailable("Airflow has not been started")
        return self._guard

    @property
    def api(self) -> AirflowApi:
        return AirflowApi(self.url, USER, self.password)

    def start(self) -> None:
        """Start it; it takes half a minute to be ready."""
        root = repository()
        self.home = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            self._ports = [ReservedPort() for _ in range(3)]
            self.url = f"http://127.0.0.1:{self._ports[0].number}"
            self._write_password()
            owner = 0 if self._keep else os.getpid()
            command: list[str | Path] = [sys.executable, "-I", "-S", guard.__file__, str(owner), self.home]
            command += [sys.executable, "-m", "airflow", "standalone"]
            # The guard ends with us by itself, after everything below it; being killed first, it could not.
            self._guard = start_child(
                command, name="airflow", log=self.home / "standalone.log", env=self._env(root), outlive_parent=True
            )
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    def wait_until_ready(self) -> None:
        """Until scheduler and DAG processor are healthy. Raises: Unavailable, TimedOut, with the log's end."""
        self._say(f"waiting for Airflow at {self.url}")
        try:
            wait_until(
                self.api.is_healthy, timeout_s=START_TIMEOUT_S, what="Airflow", child=self.process, every_s=POLL_S / 2
            )
        except BaseException:
            self.close()
            raise

    def leave_running(self) -> None:
        """Do not stop it when this process ends (with `keep`)."""
        atexit.unregister(self.close)

    def close(self) -> None:
        """Stop everything and remove the home. Idempotent."""
        atexit.unregister(self.close)
        process, self._guard = self._guard, None
        if process is not None:
            process.stop(grace_s=STOP_S)
        for port in self._ports:
            port.close()
        if self.home.name.startswith(PREFIX):
            shutil.rmtree(self.home, ignore_errors=True)

    def _write_password(self) -> None:
        path = self.home / "passwords.json"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({USER: self.password}, file)

    def _env(self, root: Path) -> dict[str, str]:
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        # `airflow standalone` finds its own parts by name.
        env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        env |= {"AIRFLOW_HOME": str(self.home), "DOCFERRY_MIGRATIONS": str(self._migrations), "NO_COLOR": "1"}
        env |= {f"AIRFLOW_CONN_{name.upper()}": value for name, value in self._connections.items()}
        env |= {f"AIRFLOW__{name}": value for name, value in self._defaults(root).items()}
        return env | self._settings

    def _defaults(self, root: Path) -> dict[str, str]:
        api, logs, trigger_logs = (str(port.number) for port in self._ports)
        return {
            "CORE__DAGS_FOLDER": str(root / "dags"),
            "CORE__PLUGINS_FOLDER": str(root / "plugins"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",  # LocalExecutor keeps that many processes; the default is 32
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "API__HOST": "127.0.0.1",
            "API__PORT": api,
            "API__BASE_URL": self.url,
            "API__SECRET_KEY": secrets.token_hex(32),
            "API__WORKERS": "1",
            "API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "LOGGING__WORKER_LOG_SERVER_PORT": logs,
            "LOGGING__TRIGGER_LOG_SERVER_PORT": trigger_logs,
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            # No file changes meanwhile; read again every half minute, they take a fifth of a processor.
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "900",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",  # a task follows another sooner than with 1 s
            # A task's process that closes its sockets a moment before it ends is waited for so long. With 5 s, a task that is
            # resumed meanwhile is taken for one that has died.
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
        }
