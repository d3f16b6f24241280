"""The application that writes to MongoDB all the time while docferry works.

    DOCFERRY_MONGO_URI=... python -m demo.traffic --rate 100 --seed 7 [--report FILE]

It writes to the shop's collections (`w: majority`) until SIGTERM or Ctrl-C, ends within two seconds, and tells what it
did in a JSON report. Refused keys and write conflicts are part of its life; while there is no primary it waits. Exit
code 0 if it was stopped, 1 if MongoDB said anything else.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import click
from docferry.config import load_migration
from docferry.errors import MigrationError, Unavailable
from docferry.sandbox.processes import ChildProcess, start_child, wait_until
from docferry.wiring import MONGO_URI
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure, PyMongoError

from demo.traffic_operations import OPERATIONS, operation_kinds
from demo.traffic_shop import BusyShop

WRITING = "traffic: writing"
SHOP_FILE = Path(__file__).resolve().parents[2] / "migrations" / "shop.yaml"

OUTAGE_S = 120.0
"""How long there may be no primary."""
GRACE_S = 1.2
"""How long the operation that is under way when we are stopped may still take; two seconds are promised for all."""
DEBT_S = 0.1
"""How far behind its schedule the traffic may catch up. What is older is given up: an application does not burst."""

EXPECTED = frozenset({11000, 112, 246, 251})
"""DuplicateKey, WriteConflict, SnapshotUnavailable, NoSuchTransaction."""
FAILOVER = frozenset({6, 7, 64, 89, 91, 134, 189, 211, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436})
"""The codes that the driver's specification retries, WriteConcernTimeout, and KeyNotFound: a member that has just
started and cannot check the cluster's time yet.
Source: https://github.com/mongodb/specifications, retryable-writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficReport:
    """What was done. `documents_changed` counts as the server does: it is the number of change events caused.

    `failures` are expected refusals by MongoDB's code; `unknown` are operations whose outcome a fail-over hid, whose
    changes may come on top. `error` says what ended the run, '' if it was stopped.
    """

    operations: dict[str, int]
    documents_changed: int
    failures: dict[str, int]
    unknown: int
    seconds: float
    rate_reached: float
    error: str = ""

    @property
    def total(self) -> int:
        return sum(self.operations.values())

    def __str__(self) -> str:
        failed = ", ".join(f"{count} with code {code}" for code, count in self.failures.items()) or "none"
        return (
            f"{self.total:,} operations in {self.seconds:.1f} s ({self.rate_reached:.1f}/s), {self.documents_changed:,} "
            f"documents changed, refused: {failed}; unknown: {self.unknown}"
        )


class Traffic:
    """One writer. `step` does one operation; what it raises is what no application would survive."""

    def __init__(self, client: MongoClient[dict[str, Any]], database: str, seed: int, unstorable: float = 0.0) -> None:
        self._client = client
        self._shop = BusyShop(client[database], seed)
        self._kinds = operation_kinds(seed, unstorable)
        self._operations: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._unknown = 0
        self._began = time.monotonic()

    @property
    def changed(self) -> int:
        return self._shop.changed

    def step(self, going_on: Callable[[], bool] = lambda: True) -> None:
        """One operation. After one with an unknown outcome, wait for a primary as long as `going_on`.

        Raises: Unavailable if MongoDB refuses for a reason that is not expected, or has no primary for OUTAGE_S.
        """
        kind = next(self._kinds)
        self._operations[kind] += 1
        try:
            OPERATIONS[kind].run(self._shop)
        except PyMongoError as error:
            codes = _codes(error)
            if _outcome_unknown(error, codes):
                self._unknown += 1
                self._wait_for_primary(going_on)
            elif codes and codes <= EXPECTED:
                self._failures.update(str(code) for code in codes)
            else:
                raise Unavailable(f"{kind}: {_in_words(error)}") from error

    def _wait_for_primary(self, going_on: Callable[[], bool]) -> None:
        deadline = time.monotonic() + OUTAGE_S
        while going_on():
            if time.monotonic() > deadline:
                raise Unavailable(f"no primary for {OUTAGE_S:.0f} s")
            try:
                self._client.admin.command("ping")
                return
            except AutoReconnect:
                time.sleep(0.02)
            except OperationFailure as error:
                if not _codes(error) <= FAILOVER:
                    raise Unavailable(_in_words(error)) from error

    def abandon(self) -> None:
        """Count the operation that was cut off."""
        self._unknown += 1

    def report(self, error: str = "") -> TrafficReport:
        seconds = time.monotonic() - self._began
        return TrafficReport(
            operations=dict(sorted(self._operations.items())),
            documents_changed=self._shop.changed,
            failures=dict(sorted(self._failures.items())),
            unknown=self._unknown,
            seconds=round(seconds, 3),
            rate_reached=round(self._operations.total() / seconds, 1) if seconds else 0.0,
            error=error,
        )


def make_events(uri: str, database: str, count: int, seed: int, *, unstorable: float = 0.0) -> TrafficReport:
    """The same operations as fast as they go, until they have caused `count` change events or a few more.

    Raises: Unavailable, as Traffic.step does.
    """
    with _client(uri) as client:
        traffic = Traffic(client, database, seed, unstorable)
        while traffic.changed < count:
            traffic.step()
        return traffic.report()


def _client(uri: str) -> MongoClient[dict[str, Any]]:
    """Short times: a thread that waits for a dead server cannot be stopped. Dates beyond datetime's range are read as well."""
    return MongoClient(
        uri,
        w="majority",
        serverSelectionTimeoutMS=1_000,
        connectTimeoutMS=2_000,
        socketTimeoutMS=10_000,
        datetime_conversion="DATETIME_AUTO",
        appname="shop-traffic",
    )


# --- what went wrong ------------------------------------------------------------------------------------------------


def _codes(error: PyMongoError) -> set[int]:
    """MongoDB's codes of an error; several for a bulk write, none for a broken connection."""
    if isinstance(error, BulkWriteError):
        parts = [*error.details.get("writeErrors", ()), *error.details.get("writeConcernErrors", ())]
        return {part["code"] for part in parts}
    code = getattr(error, "code", None)
    return set() if code is None else {code}


def _outcome_unknown(error: PyMongoError, codes: set[int]) -> bool:
    if isinstance(error, AutoReconnect) or error.has_error_label("UnknownTransactionCommitResult"):
        return True
    return bool(codes & FAILOVER) and codes <= FAILOVER | EXPECTED


def _in_words(error: PyMongoError) -> str:
    """Type and codes. Not MongoDB's own words: those quote the document."""
    details = getattr(error, "details", None) or {}
    codes = ", ".join(map(str, sorted(_codes(error)))) or "no code"
    return f"{type(error).__name__} ({codes} {details.get('codeName', '')})".replace(" )", ")")


# --- the process ----------------------------------------------------------------------------------------------------


class _Abandoned(BaseException):
    """The operation under way took too long after we were told to stop."""


class _Brake:
    """SIGTERM and SIGINT ask to stop; GRACE_S later whatever still goes on is cut off (_Abandoned)."""

    def __init__(self) -> None:
        self.pulled = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pull)
        signal.signal(signal.SIGALRM, self._cut_off)

    def released(self) -> bool:
        return not self.pulled

    def disarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _pull(self, _: int, __: FrameType | None) -> None:
        if not self.pulled:
            self.pulled = True
            signal.setitimer(signal.ITIMER_REAL, GRACE_S)

    def _cut_off(self, _: int, __: FrameType | None) -> None:
        raise _Abandoned


def _ticks(rate: float, going_on: Callable[[], bool]) -> Iterator[None]:
    """One item each time an operation is due, `rate` a second, until no longer `going_on`."""
    due = time.monotonic()
    while going_on():
        left = due - time.monotonic()
        if left > 0:
            time.sleep(min(left, 0.2))
            continue
        yield
        due = max(due + 1 / rate, time.monotonic() - DEBT_S)


def _run(traffic: Traffic, rate: float, brake: _Brake) -> str:
    """Write until stopped. Returns what ended it, '' if it was the brake."""
    announced = False
    try:
        for _ in _ticks(rate, brake.released):
            traffic.step(brake.released)
            if traffic.changed and not announced:
                print(WRITING, flush=True)
                announced = True
    except _Abandoned:
        traffic.abandon()
    except MigrationError as error:
        return str(error)
    finally:
        brake.disarm()
    return ""


def _write_report(path: Path, report: TrafficReport) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    beside.write_text(json.dumps(asdict(report), indent=1) + "\n")
    beside.replace(path)  # so that a reader sees all of it or none


@click.command(help=(__doc__ or "").partition("\n\n")[0])
@click.option(
    "--rate", default=100.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Operations/s."
)
@click.option("--seed", default=7, show_default=True, help="The same seed makes the same operations.")
@click.option("--report", "report_file", type=click.Path(dir_okay=False, path_type=Path), help="Where the report goes.")
@click.option("--database", help="Default: the migration file's.")
@click.option("--file", default=SHOP_FILE, type=click.Path(dir_okay=False, path_type=Path), help="The migration file.")
@click.option(
    "--unstorable", default=0.0, type=click.FloatRange(0, 0.9), help="Share of operations that break documents."
)
def main(rate: float, seed: int, report_file: Path | None, database: str | None, file: Path, unstorable: float) -> None:
    brake = _Brake()
    uri = os.environ.get(MONGO_URI, "")
    if not uri:
        sys.exit(f"{MONGO_URI} is not set")
    client = _client(uri)
    traffic = Traffic(client, database or load_migration(file).source.database, seed, unstorable)
    report = traffic.report(_run(traffic, rate, brake))
    if report_file is not None:
        _write_report(report_file, report)
    short = "" if report.rate_reached > 0.95 * rate else f"; {rate:g}/s were asked for"
    print(f"traffic: {report.error or 'stopped'}: {report}{short}", file=sys.stderr, flush=True)
    # No goodbye to the server: a dead one would keep us, and its sessions end by themselves.
    os._exit(1 if report.error else 0)


# --- for its parent -------------------------------------------------------------------------------------------------


class TrafficProcess:
    """The traffic as a child: it ends when it is stopped, or when this process ends, however that happens.

    `directory` takes its log and its report. Use as a context manager, or start() and stop().
    """

    def __init__(
        self,
        uri: str,
        directory: Path,
        *,
        database: str = "myapp",
        rate: float = 100.0,
        seed: int = 7,
        unstorable: float = 0.0,
    ) -> None:
        self._uri, self._directory, self._rate = uri, directory, rate
        self._options = {"database": database, "rate": rate, "seed": seed, "unstorable": unstorable}
        self._child: ChildProcess | None = None

    def __repr__(self) -> str:
        return f"TrafficProcess({self._rate:g}/s, {self._child!r})"

    def __enter__(self) -> TrafficProcess:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._child is not None and self._child.is_alive():
            self._child.stop(grace_s=5)

    @property
    def process(self) -> ChildProcess:
        """Raises: Unavailable before start()."""
        if self._child is None:
            raise Unavailable("the traffic was not started")
        return self._child

    @property
    def _report(self) -> Path:
        return self._directory / "traffic-report.json"

    def start(self) -> None:
        words = [word for name, value in self._options.items() for word in (f"--{name}", str(value))]
        self._report.unlink(missing_ok=True)
        log = self._directory / "traffic.log"
        log.unlink(missing_ok=True)  # the line that is awaited must be this process's own
        self._child = start_child(
            [sys.executable, "-m", "demo.traffic", *words, "--report", self._report],
            name="traffic",
            log=log,
            env={**os.environ, MONGO_URI: self._uri},
        )

    def await_writing(self, timeout_s: float = 30) -> None:
        """Return once its first write has been acknowledged. Raises: Unavailable if it has ended, TimedOut."""
        process = self.process
        wait_until(lambda: WRITING in _text(process.log), timeout_s=timeout_s, what="the first write", child=process)

    def stop(self) -> TrafficReport:
        """End it and return its report. Raises: Unavailable if it had not been going on until now."""
        process = self.process
        process.stop(grace_s=30)
        if process.exit_code() != 0:
            raise Unavailable(f"the traffic ended with {process.exit_code()}\n{process.log_tail()}")
        return TrafficReport(**json.loads(self._report.read_text()))


def _text(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    return ""


if __name__ == "__main__":
    main()
