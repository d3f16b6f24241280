"""The run of the DAG `playbook` in the demo: what it is at, and who answers what it asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from docferry.errors import RequestRefused, TimedOut, Unavailable
from docferry.sandbox.airflow_api import AirflowApi, HumanRequest, TaskState

from demo.teller import Teller

POLL_S = 1.0
PARKED_S = 3.0
"""Airflow loses an answer that comes before its scheduler has seen the task parked."""
TASK_S = 1_200.0
BY_HAND_S = 24 * 3600.0
WHY = "the demo has read the evidence"
NOT_BEGUN = ("none", "scheduled", "queued")


class Clerk:
    """Approves what is asked under Required Actions, by Airflow's API as the UI does; or, `by_hand`, says that you are asked."""

    def __init__(self, teller: Teller, api: AirflowApi, by_hand: bool) -> None:
        self._teller, self._api, self.by_hand = teller, api, by_hand
        self._seen: dict[HumanRequest, float] = {}
        self.seen = 0
        """So many requests so far."""

    def look(self) -> None:
        """Once a second is often enough."""
        now = time.monotonic()
        asked = {one: self._seen.get(one, now) for one in self._api.requests()}
        for request in asked.keys() - self._seen.keys():
            self.seen += 1
            self._tell(request)
        self._seen = asked
        for request, since in asked.items():
            if now - since >= PARKED_S and not self.by_hand:
                self._api.answer(request, "Approve", why=WHY)
                self._teller.say(f"{request.dag_id}: approved by the demo, as a person would")

    def _tell(self, request: HumanRequest) -> None:
        evidence = request.body.partition("\n")[0]
        self._teller.say(f"{request.dag_id} asks: {request.subject} {evidence}")
        if self.by_hand:
            self._teller.say(f"approve it, and say why: {self._api.url}/required_actions")


class Phases:
    """Runs of the migration's DAGs, watched to their ends. `meanwhile` is called once a second."""

    def __init__(self, teller: Teller, api: AirflowApi, migration: str, clerk: Clerk) -> None:
        self.teller, self.api, self.migration, self.clerk = teller, api, migration, clerk
        self.meanwhile: Callable[[], str] = lambda: ""
        """What else is to be told about the progress of now."""

    def run(self, phase: str, conf: Mapping[str, Any] | None = None) -> str:
        """A run of one DAG, to its end; its id. Raises: Unavailable, with the log of what failed; TimedOut."""
        dag_id, began = f"{self.migration}.{phase}", time.monotonic()
        run_id = self.api.trigger(dag_id, conf)
        self.teller.say(f"{dag_id}: started, see {self.api.url}/dags/{dag_id}")

        def watch(tasks: Sequence[TaskState]) -> None:
            self.clerk.look()
            self.teller.show(f"{dag_id}: {task_progress(tasks)}{self.meanwhile()}")

        state = self.api.wait_for_run(dag_id, run_id, watch=watch)
        self.teller.say(f"{dag_id}: {state} after {time.monotonic() - began:.0f} s")
        if state != "success":
            raise Unavailable(f"{dag_id} failed\n{failures(self.api, dag_id, run_id)}")
        return run_id

    def result(self, phase: str, run_id: str, task_id: str) -> Any:
        """What a task of a run returned."""
        return self.api.result(f"{self.migration}.{phase}", run_id, task_id)


class Playbook:
    """The one run of the DAG `playbook`."""

    def __init__(self, phases: Phases, conf: Mapping[str, Any], began: Callable[[str], None]) -> None:
        """`began` is told the name of each task as it begins."""
        self._phases, self._began = phases, began
        self._api, self.dag_id = phases.api, f"{phases.migration}.playbook"
        self.run_id = self._api.trigger(self.dag_id, conf)
        phases.teller.say(f"{self.dag_id}: started, see {self._api.url}/dags/{self.dag_id}")
        self._since: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        """How long each task took, from its beginning."""

    def await_task(self, task_id: str) -> None:
        """Until this task has succeeded. Raises: Unavailable, with the log of what failed; TimedOut."""
        self._await(task_id, lambda: task_id in self.seconds)

    def stay_at(self, task_id: str) -> None:
        """Until the run that this task has started has succeeded; the playbook then stays where it is, until `go_on`: it is
        paused as soon as the task has begun. Raises as `await_task`."""
        self._await(task_id, lambda: task_id in self._since)
        self._api.set_paused(self.dag_id, True)
        self._await(task_id, lambda: self._has_succeeded(task_id))
        self._note_end(task_id)

    def go_on(self) -> None:
        """After `stay_at`."""
        self._api.set_paused(self.dag_id, False)

    def _has_succeeded(self, task_id: str) -> bool:
        phase, child = self._phase_of(task_id), self.child_of(task_id)
        try:
            found = self._api.run_state(phase, child)
        except RequestRefused:
            return False  # its run has not been made yet
        if found == "failed":
            raise Unavailable(f"{phase} failed\n{failures(self._api, phase, child)}")
        return found == "success"

    def _await(self, task_id: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + (BY_HAND_S if self._phases.clerk.by_hand else TASK_S)
        self._look()
        while not done():
            if time.monotonic() > deadline:
                raise TimedOut(f"{self.dag_id}: {task_id} has not ended in {TASK_S:.0f} s")
            time.sleep(POLL_S)
            self._look()

    def child_of(self, task_id: str) -> str:
        """The id of the run that a phase's task has started first."""
        return f"playbook__{self.run_id}__1__{task_id}"

    def _look(self) -> None:
        """What the tasks are at."""
        tasks = self._api.tasks(self.dag_id, self.run_id)
        for task in tasks:
            self._note(task)
        self._phases.clerk.look()
        at_work = [task.task_id for task in tasks if task.task_id in self._since and task.task_id not in self.seconds]
        told = "; ".join(self._told(task_id) for task_id in at_work)
        self._phases.teller.show(f"{self.dag_id}: {told or 'between two phases'}{self._phases.meanwhile()}")

    def _note(self, task: TaskState) -> None:
        if task.state not in NOT_BEGUN and task.task_id not in self._since:
            self._since[task.task_id] = time.monotonic()
            self._phases.teller.say(f"{self.dag_id}: {task.task_id} begins")
            self._began(task.task_id)
        if task.state == "success" and task.task_id not in self.seconds:
            self._note_end(task.task_id)
        if task.state in ("failed", "upstream_failed"):
            raise Unavailable(f"{self.dag_id}: {task.task_id} failed\n{self._why(task)}")

    def _note_end(self, task_id: str) -> None:
        self.seconds[task_id] = time.monotonic() - self._since[task_id]
        self._phases.teller.say(f"{self.dag_id}: {task_id}, {self.seconds[task_id]:.0f} s")

    def _told(self, task_id: str) -> str:
        phase = self._phase_of(task_id)
        if not phase:
            return task_id
        try:
            return f"{task_id}: {task_progress(self._api.tasks(phase, self.child_of(task_id)))}"
        except RequestRefused:
            return task_id  # its run has not been made yet; told again in a second

    def _phase_of(self, task_id: str) -> str:
        """The DAG of which a task starts a run; empty for one that waits."""
        if task_id.startswith("wait_") or task_id == "soak":
            return ""
        return f"{self._phases.migration}.{'validate' if task_id.startswith('validate') else task_id}"

    def _why(self, task: TaskState) -> str:
        phase = self._phase_of(task.task_id)
        try:
            own = self._api.log(self.dag_id, self.run_id, task)[-2000:]
        except RequestRefused:
            own = "it has no log: it never ran"
        return f"{own}\n{failures(self._api, phase, self.child_of(task.task_id))}" if phase else own


def task_progress(tasks: Sequence[TaskState]) -> str:
    done = sum(task.state in ("success", "skipped") for task in tasks)
    running = [task.name for task in tasks if task.state == "running"]
    failed = [task.name for task in tasks if task.state in ("failed", "up_for_retry")]
    text = f"{done} of {len(tasks)} tasks done"
    text += f"; running {', '.join(running)}" if running else ""
    return text + (f"; failed {', '.join(failed)}" if failed else "")


def failures(api: AirflowApi, dag_id: str, run_id: str) -> str:
    """The ends of the failed tasks' logs."""
    failed = [task for task in api.tasks(dag_id, run_id) if task.state == "failed"]
    return "\n".join(f"--- {task.name}\n{api.log(dag_id, run_id, task)[-3000:]}" for task in failed)
