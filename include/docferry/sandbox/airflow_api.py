"""The few calls of Airflow's REST API that the demo and the tests need."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from docferry.errors import RequestRefused, TimedOut, Unavailable
from docferry.sandbox.processes import wait_until

USER = "admin"
START_TIMEOUT_S = 240.0
RUN_TIMEOUT_S = 1800.0
ANSWER_TIMEOUT_S = 90.0
"""Long: the API server of a busy machine takes its time."""
POLL_S = 1.0
ATTEMPTS = 4
FINISHED = ("success", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """One task instance: `label` is the range a mapped one covers, `id` is in the title of its process."""

    id: str
    task_id: str
    map_index: int
    state: str
    label: str
    try_number: int

    @property
    def name(self) -> str:
        return f"{self.task_id} [{self.label or self.map_index}]" if self.map_index >= 0 else self.task_id


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanRequest:
    """A task that waits for a person's answer."""

    dag_id: str
    run_id: str
    task_id: str
    subject: str
    body: str = field(repr=False)

    @property
    def phase(self) -> str:
        """Of the DAG `<migration>.<phase>`."""
        return self.dag_id.rpartition(".")[2]

    @classmethod
    def of(cls, detail: Mapping[str, Any]) -> HumanRequest:
        task = detail["task_instance"]
        return cls(
            dag_id=task["dag_id"],
            run_id=task["dag_run_id"],
            task_id=task["task_id"],
            subject=detail["subject"],
            body=detail["body"] or "",
        )


@dataclass(slots=True)
class AirflowApi:
    """The few calls of Airflow's REST API that the demo and the tests need."""

    url: str
    user: str
    password: str = field(repr=False)
    _token: str = field(default="", repr=False)

    def is_healthy(self) -> bool:
        """Whether scheduler and DAG processor say that they are well."""
        try:
            health = self._call("GET", "/api/v2/monitor/health", authenticated=False)
        except Unavailable:
            return False
        return all((health.get(part) or {}).get("status") == "healthy" for part in ("scheduler", "dag_processor"))

    def import_errors(self) -> list[str]:
        """What the UI shows about DAG files that could not be read."""
        return [error["stack_trace"] for error in self.get("/api/v2/importErrors")["import_errors"]]

    def wait_for_dags(self, dag_ids: Sequence[str], timeout_s: float = START_TIMEOUT_S) -> None:
        """Until the DAG processor has read them. Raises: Unavailable with the import errors, TimedOut."""

        def there() -> bool:
            known = self._dag_ids()
            if errors := self.import_errors():
                raise Unavailable("Airflow cannot read a DAG file:\n" + "\n".join(errors))
            return known >= set(dag_ids)

        wait_until(there, timeout_s=timeout_s, what=f"the DAGs {', '.join(dag_ids)}", every_s=POLL_S / 2)

    def _dag_ids(self) -> set[str]:
        found: set[str] = set()
        while True:
            page = self.get(f"/api/v2/dags?limit=100&offset={len(found)}&order_by=dag_id")
            found |= {dag["dag_id"] for dag in page["dags"]}
            if not page["dags"] or len(found) >= page["total_entries"]:
                return found

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run and return its id."""
        # The id is ours, so that a second attempt after a lost answer makes no second run.
        run_id = f"manual__{datetime.now(UTC).isoformat()}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        self._insist("POST", f"/api/v2/dags/{_part(dag_id)}/dagRuns", body)
        return run_id

    def set_paused(self, dag_id: str, paused: bool) -> None:
        """Switch a DAG off, or on: then its schedule counts, and its runs go on."""
        self._insist("PATCH", f"/api/v2/dags/{_part(dag_id)}?update_mask=is_paused", {"is_paused": paused})

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The latest hundred runs of a DAG, latest first, as Airflow has them: `dag_run_id`, `state`, `run_type`, ..."""
        query = urlencode({"limit": 100, "order_by": "-run_after"})
        found: list[dict[str, Any]] = self.get(f"/api/v2/dags/{_part(dag_id)}/dagRuns?{query}")["dag_runs"]
        return found

    def end_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a run as `success` or `failed`, as a person does: Airflow ends its tasks."""
        self._insist(
            "PATCH", f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}?update_mask=state", {"state": state}
        )

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.get(f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """The task instances of a run, by name."""
        path = f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}/taskInstances"
        rows: list[dict[str, Any]] = []
        while True:
            page = self.get(f"{path}?{urlencode({'limit': 100, 'offset': len(rows)})}")
            rows += page["task_instances"]
            if not page["task_instances"] or len(rows) >= page["total_entries"]:
                break
        states = [
            TaskState(
                id=row["id"],
                task_id=row["task_id"],
                map_index=row["map_index"],
                state=row["state"] or "none",
                label=row["rendered_map_index"] or "",
                try_number=row["try_number"],
            )
            for row in rows
        ]
        return sorted(states, key=lambda one: (one.task_id, one.map_index))

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What an unmapped task returned."""
        run = f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"
        return self.get(f"{run}/taskInstances/{_part(task_id)}/xcomEntries/return_value?deserialize=true")["value"]

    def requests(self) -> list[HumanRequest]:
        """What is under Required Actions: tasks that wait for a person's answer, and hold no slot meanwhile."""
        query = urlencode({"response_received": "false", "state": "awaiting_input", "limit": 100})
        found = self.get(f"/api/v2/dags/~/dagRuns/~/hitlDetails?{query}")["hitl_details"]
        return [HumanRequest.of(one) for one in found]

    def answer(self, request: HumanRequest, option: str, **inputs: str) -> None:
        """Answer a request, as a person does in the UI. Raises: RequestRefused if it has an answer."""
        body = {"chosen_options": [option], "params_input": inputs}
        run = f"/api/v2/dags/{_part(request.dag_id)}/dagRuns/{_part(request.run_id)}"
        self._insist("PATCH", f"{run}/taskInstances/{_part(request.task_id)}/-1/hitlDetails", body)

    def log(self, dag_id: str, run_id: str, task: TaskState) -> str:
        """The log of a task's last attempt, as text."""
        run = f"/api/v2/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"
        query = urlencode({"map_index": task.map_index, "full_content": "true"})
        reply = self.get(f"{run}/taskInstances/{_part(task.task_id)}/logs/{max(1, task.try_number)}?{query}")
        return "\n".join(_log_line(entry) for entry in reply["content"])

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        watch: Callable[[Sequence[TaskState]], None] | None = None,
        timeout_s: float = RUN_TIMEOUT_S,
    ) -> str:
        """The state in which a run ends. `watch` is told about its tasks meanwhile. Raises: TimedOut."""
        deadline = time.monotonic() + timeout_s
        while (state := self.run_state(dag_id, run_id)) not in FINISHED:
            if time.monotonic() > deadline:
                raise TimedOut(f"{dag_id} has not finished in {timeout_s:.0f} s", operation="dag run")
            if watch is not None:
                watch(self.tasks(dag_id, run_id))
            time.sleep(POLL_S)
        if watch is not None:
            watch(self.tasks(dag_id, run_id))
        return state

    def get(self, path: str) -> Any:
        return self._insist("GET", path)

    def _insist(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer, of a few attempts: `standalone` keeps its state in SQLite, where a writer now and then finds it locked."""
        for attempt in range(ATTEMPTS):
            try:
                return self._call(method, path, body)
            except Unavailable:
                if attempt == ATTEMPTS - 1 or not self.is_healthy():
                    raise
                time.sleep(POLL_S)
            except RequestRefused as error:
                if attempt and error.code == "409":
                    return {}  # an attempt before had been carried out
                raise
        raise AssertionError("unreachable")

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None, authenticated: bool = True) -> Any:
        headers = {"Content-Type": "application/json"}
        if authenticated:
            headers["Authorization"] = f"Bearer {self.access_token()}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            text = f"Airflow answered {method} {path} with {error.code}: {error.read()[:500].decode(errors='replace')}"
            kind = Unavailable if error.code >= 500 else RequestRefused
            raise kind(text, operation=path, code=str(error.code)) from error
        except (OSError, ValueError) as error:
            raise Unavailable(f"Airflow does not answer {method} {path}: {error}", operation=path) from error

    def access_token(self) -> str:
        """A JSON web token; the UI takes the same one as the cookie `_token`."""
        if not self._token:
            login = {"username": self.user, "password": self.password}
            self._token = str(self._call("POST", "/auth/token", login, authenticated=False)["access_token"])
        return self._token


def _part(text: str) -> str:
    return quote(text, safe="")


def _log_line(entry: Any) -> str:
    """One entry; an exception's type and words with it, which Airflow keeps beside the event."""
    if not isinstance(entry, dict):
        return str(entry)
    errors = [f"{one.get('exc_type')}: {one.get('exc_value')}" for one in entry.get("error_detail") or ()]
    return "\n".join([str(entry.get("event", entry)), *errors])
