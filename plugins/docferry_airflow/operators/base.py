"""What all operators share: connections, identity, progress in the task's log, stopping, and retries by error type.

An operator is: hook -> one flow -> a small summary. The flow is the library's; nothing here decides anything about data.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator, BaseOperatorLink, RetryDecision, RetryPolicy
from docferry.errors import LeaseLost, MigrationError, PreflightFailed, Problem, RetryExhausted

from docferry_airflow.reports import LettersLink, RoomLink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from docferry.config import Migration
    from docferry.flows.kernel.job import Job
    from docferry.ports.flows import Identity, Target
    from docferry.wiring import Connections

T = TypeVar("T")

SAY_EVERY_S = 5.0
"""Progress comes several times a second; one line in five seconds is enough for a log."""


class RetryByErrorType(RetryPolicy):
    """Retry what may work later, fail at once what will not: the error's type knows.

    RetryExhausted and LeaseLost end an attempt, and a later attempt goes on where it stopped. Errors that are not
    docferry's are left to Airflow's own rule.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        if not isinstance(exception, MigrationError):
            return RetryDecision.default()
        kind = type(exception).__name__
        if exception.retryable or isinstance(exception, RetryExhausted | LeaseLost):
            return RetryDecision.retry(reason=f"{kind}: a later attempt continues")
        return RetryDecision.fail(reason=f"{kind}: trying again would not help")


class TaskProgress:
    """Progress as lines of the task's log. It is never given a document.

    :param log: The task's logger.
    :param every_s: Seconds between two lines about the same subject; the first and the last always come.
    """

    def __init__(self, log: Any, every_s: float = SAY_EVERY_S) -> None:
        self._log, self._every_s = log, every_s
        self._subjects: dict[str, tuple[float, int, float]] = {}

    def say(self, text: str) -> None:
        self._log.info(text)

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        began, base, told = self._subjects.setdefault(subject, (now, done, 0.0))
        if now - told < self._every_s and not note:
            return
        self._subjects[subject] = (began, base, now)
        rate = (done - base) / (now - began) if now > began else 0.0
        self._log.info(_progress_text(subject, done, total, rate, note))


def _progress_text(subject: str, done: int, total: int, rate: float, note: str) -> str:
    share = f" of about {total:,} ({min(1.0, done / total):.0%})" if total else ""
    speed = f", {rate:,.0f}/s" if rate else ""
    left = f", about {(total - done) / rate:,.0f} s left" if rate and total > done and not note else ""
    return f"{subject}: {done:,}{share}{speed}{left}" + (f", {note}" if note else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a flow needs, put together for one attempt at a task."""

    migration: Migration
    connections: Connections
    identity: Identity
    progress: TaskProgress
    stop: threading.Event
    run: str

    @contextmanager
    def job(self) -> Iterator[Job]:
        """The library's job; its connections are closed at the end. What a load claims belongs to the DAG run: all tasks of
        a run share it. Metrics are measured meanwhile, as the file and Airflow's own configuration say."""
        from docferry.wiring_metrics import measured

        from docferry_airflow.stats import airflow_stats

        with (
            self.connections.job(self.migration, self.identity, self.progress, self.stop, self.run) as job,
            measured(self.connections, job, local=airflow_stats()),
        ):
            yield job

    def with_target(self, flow: Callable[[Target], Coroutine[Any, Any, T]]) -> T:
        """Run an asynchronous flow to its end; its connections live as long as its event loop."""
        return self.connections.run(self.migration, flow)

    def counted(self, job: Job, name: str, flow: Callable[[Target], Coroutine[Any, Any, T]]) -> T:
        """The same; what the flow consumes is kept in the ledger under its name."""
        from docferry.flows.cost.counting import counted

        return self.with_target(lambda target: counted(job, target, name, flow(target)))


class MigrationOperator(BaseOperator):
    """Base of docferry's operators. A subclass carries out one flow.

    :param migration_file: Path of the migration file. It is read again when the task runs.
    """

    template_fields: Sequence[str] = ("migration_file",)
    ui_color = "#eef3f8"
    operator_extra_links: tuple[BaseOperatorLink, ...] = (RoomLink(), LettersLink())

    def __init__(self, *, migration_file: str, **kwargs: Any) -> None:
        kwargs.setdefault("retry_policy", RetryByErrorType())
        super().__init__(**kwargs)
        self.migration_file = migration_file
        self._stop: threading.Event | None = None

    def execute(self, context: Context) -> Any:
        """Open the connections and carry out the flow. Returns a summary for XCom: counts and names only."""
        from docferry.config import load_migration

        from docferry_airflow.hooks.connections import connections_from_airflow

        # Made here, not in __init__: Airflow copies operators, and a lock cannot be copied.
        self._stop = threading.Event()
        for noisy in ("pymongo", "botocore"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        migration = load_migration(self.migration_file)
        work = Work(
            migration=migration,
            connections=connections_from_airflow(migration),
            identity=identity_of(context),
            progress=TaskProgress(self.log),
            stop=self._stop,
            run=run_of(context),
        )
        return self.carry_out(work)

    def carry_out(self, work: Work) -> Any:
        """The one flow of this operator."""
        raise NotImplementedError

    def on_kill(self) -> None:
        """Airflow sends SIGKILL five seconds after this; every loop looks at the event at least once a second."""
        if self._stop is not None:
            self.log.info("asked to stop: giving back what is leased")
            self._stop.set()


class ConfirmedOperator(MigrationOperator):
    """Base of those that mend: a dry run, until a person switches that off and types the migration's name.

    :param confirmed: The migration's name, typed; not needed for a dry run.
    :param plan_only: Only say what would be done.
    """

    template_fields: Sequence[str] = ("migration_file", "confirmed", "plan_only")

    def __init__(self, *, confirmed: str = "", plan_only: bool | str = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.confirmed = confirmed
        self.plan_only = plan_only

    def require_confirmed(self, subject: str, work: Work) -> None:
        """Raises PreflightFailed, unless this is a dry run."""
        if not self.plan_only:
            require_typed(subject, self.confirmed, work.migration.name)


def require_typed(subject: str, typed: str, name: str) -> None:
    """What a person types before data or leadership is changed. Raises PreflightFailed, if it is not the migration's name."""
    if typed != name:
        what = f"'{typed}' is not the migration's name"
        raise PreflightFailed(subject, [Problem(where="confirm", what=what, suggestion=name)])


def run_of(context: Context) -> str:
    """The name under which all tasks of a DAG run claim things in the ledger."""
    run = context["dag_run"]
    return f"{run.dag_id} {run.run_id}"


def identity_of(context: Context) -> Identity:
    """Who works, in words that lead to the task's log."""
    from docferry.wiring import who

    ti = context["ti"]
    place = f"[{ti.map_index}]" if ti.map_index is not None and ti.map_index >= 0 else ""
    return who(f"airflow {run_of(context)} {ti.task_id}{place} try {ti.try_number}")
