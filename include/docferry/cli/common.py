"""What all commands share: exit codes, errors told without a traceback, progress, signals, connections."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from docferry import errors
from docferry.cli.tracing import set_up_tracing
from docferry.config import Migration, load_migration
from docferry.flows.cost.counting import counted
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.budget import limit_reads
from docferry.ports.flows import Target
from docferry.wiring import Connections, connections_from_environment, who
from docferry.wiring_metrics import measured

T = TypeVar("T")
EXIT_DIFFERENT = EXIT_UNHEALTHY = 1
EXIT_USAGE, EXIT_REFUSED, EXIT_SERVER, EXIT_STOPPED, EXIT_BUG = 2, 3, 4, 5, 70
EXIT_CODES: tuple[tuple[type[errors.MigrationError], int], ...] = (
    (errors.ValidationFailed, EXIT_DIFFERENT),
    (errors.ConfigError, EXIT_USAGE),
    (errors.Stopped, EXIT_STOPPED),
    (errors.InvariantBroken, EXIT_BUG),
    (errors.StoreError, EXIT_SERVER),
    (errors.RetryExhausted, EXIT_SERVER),
    (errors.MigrationError, EXIT_REFUSED),
)

screen = Console(stderr=True)


class CliProgress:
    """Progress as bars on a terminal, as a line every few seconds elsewhere."""

    LINE_S = 10.0

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=screen,
            disable=not screen.is_terminal,
        )
        self._tasks: dict[str, Any] = {}
        self._told = time.monotonic()

    def __enter__(self) -> CliProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        screen.print(text, markup=False, highlight=False, soft_wrap=True)

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        task = self._tasks.get(subject)
        if task is None:
            task = self._tasks[subject] = self._bars.add_task(subject, total=max(total, done), note=note)
        self._bars.update(task, completed=done, total=max(total, done), note=note)
        if not screen.is_terminal and time.monotonic() - self._told > self.LINE_S:
            self._told = time.monotonic()
            self.say(f"{subject}: {done} of {max(total, done)} {note}".rstrip())


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """The first SIGINT or SIGTERM asks to stop; the second ends the process at once (nothing is lost then either)."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: Any) -> None:
        stop.set()
        screen.print("stopping; what was acknowledged is kept (press Ctrl-C again to quit at once)")
        signal.signal(number, signal.SIG_DFL)

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def explained(command: Callable[..., int | None]) -> Callable[..., None]:
    """Errors of ours end with their message and exit code, without a traceback.

    Anything else is a bug: its place is shown, but not its message, which may quote a document.
    """

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            code = command(*args, **options) or 0
        except errors.MigrationError as error:
            code = next(code for kind, code in EXIT_CODES if isinstance(error, kind))
            _tell_error(type(error).__name__, str(error), options.get("as_json", False), _problems_of(error))
        except Exception as error:  # noqa: BLE001 - the last stop: told, with an exit code of its own
            code = EXIT_BUG
            place = "".join(traceback.format_tb(error.__traceback__))
            _tell_error(
                type(error).__name__, f"a bug in docferry; please report it\n{place}", options.get("as_json", False)
            )
        sys.exit(code)

    return run


def _problems_of(error: errors.MigrationError) -> list[dict[str, Any]] | None:
    if isinstance(error, errors.ConfigError | errors.PreflightFailed):
        return [asdict(one) for one in error.problems]
    return None


def _tell_error(name: str, message: str, as_json: bool, problems: list[dict[str, Any]] | None = None) -> None:
    if as_json:
        answer(json.dumps({"error": name, "message": message} | ({"problems": problems} if problems else {})))
    screen.print(f"[red]{name}[/red]: ", end="")
    screen.print(message, markup=False, highlight=False, soft_wrap=True)


file_argument = click.argument("file", type=click.Path(dir_okay=False))
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
only_option = click.option("--only", multiple=True, metavar="COLLECTION", help="Only this collection; repeatable.")
dry_option = click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")

price_book_option = click.option(
    "--price-book",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="Prices of your region. [us-east-1, list prices]",
)


def show(body: Any, as_json: bool, text: str = "") -> None:
    """The result, for a machine or for a person."""
    answer(json.dumps(body, default=str) if as_json or not text else text)


def answer(text: str) -> None:
    """Print to standard output. A reader that has closed it (`| head`, `| true`) wants no more: that is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is buffered would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_migration(file: str) -> tuple[Migration, Connections]:
    """The file, and how to reach what it is about. Raises ConfigError."""
    migration = load_migration(file)
    return migration, connections_from_environment(migration)


@contextmanager
def opened_job(file: str) -> Iterator[tuple[Job, Connections]]:
    """The job of a command, which may be asked to stop from the beginning on; its connections are closed at the end."""
    set_up_tracing()
    with stop_on_signals() as stop, CliProgress() as progress:
        migration, connections = open_migration(file)
        with connections.job(migration, who(), progress, stop) as job:
            yield job, connections


_PORT = click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Serve metrics for Prometheus while this runs.",
)
_HOST = click.option("--metrics-host", default="127.0.0.1", metavar="ADDRESS", help="On which address. [127.0.0.1]")


def metrics_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of what runs long: its `metrics` are for `measured_job`."""

    @wraps(command)
    def run(*args: Any, metrics_port: int | None, metrics_host: str, **options: Any) -> Any:
        return command(*args, metrics=MetricsPage(metrics_port, metrics_host), **options)

    return _PORT(_HOST(run))


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """Where metrics are served; `port` None: nowhere."""

    port: int | None
    host: str


@contextmanager
def measured_job(file: str, metrics: MetricsPage) -> Iterator[tuple[Job, Connections]]:
    """As `opened_job`; metrics are measured and published meanwhile."""
    with (
        opened_job(file) as (job, connections),
        measured(connections, job, port=metrics.port, host=metrics.host),
    ):
        yield job, connections


def _limited(job: Job, target: Target, flow: Callable[[Target], Coroutine[Any, Any, T]]) -> Coroutine[Any, Any, T]:
    limit_reads(job, target)
    return flow(target)


def run_counted(
    connections: Connections,
    job: Job,
    name: str,
    flow: Callable[[Target], Coroutine[Any, Any, T]],
    *,
    dry: bool = False,
) -> T:
    """Run a flow to its end; what it consumes is kept in the ledger under its name, but by a dry run, which changes nothing else
    there than the share of reads that it takes."""
    if dry:
        return connections.run(job.migration, lambda target: _limited(job, target, flow))
    return connections.run(job.migration, lambda target: counted(job, target, name, flow(target)))
