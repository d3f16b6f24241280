"""What every flow takes: one `Job`, made by `wiring` (tests: `docferry.testing.jobs`), and passed on as it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from docferry.config import Migration
from docferry.errors import InvariantBroken, Stopped
from docferry.ports.flows import (
    Clients,
    Estate,
    Fence,
    Identity,
    Journal,
    LeaderMarker,
    Ledger,
    Progress,
    Sink,
    Source,
    StopSignal,
    Streams,
)
from docferry.ports.rollback_points import PointPorts

P = TypeVar("P")


class Ports:
    """The databases and services of a job. Each is opened when a flow first uses it, once for all threads."""

    def __init__(self, openers: Mapping[str, Callable[[], Any]]) -> None:
        self._openers = dict(openers)
        self._opened: dict[str, Any] = {}
        self._lock = threading.RLock()

    def get(self, name: str) -> Any:
        """Raises InvariantBroken for a port that this job was not given."""
        with self._lock:
            if name not in self._opened:
                if name not in self._openers:
                    raise InvariantBroken(f"this job has no port '{name}'")
                self._opened[name] = self._openers[name]()
            return self._opened[name]

    def replacing(self, openers: Mapping[str, Callable[[], Any]]) -> Ports:
        """These ports with others in place of some. Those that are open are shared."""
        with self._lock:
            other = Ports(self._openers | dict(openers))
            other._opened.update({name: port for name, port in self._opened.items() if name not in openers})
        return other

    def close(self) -> None:
        """Close what was opened, the last first."""
        with self._lock:
            opened, self._opened = list(self._opened.values()), {}
        for port in reversed(opened):
            if close := getattr(port, "close", None):
                close()


class _Port(Generic[P]):
    """`job.source` is the port of that name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, job: Job, owner: type | None = None) -> P:
        port: P = job.ports.get(self._name)
        return port


@dataclass(frozen=True, slots=True)
class Run:
    """The run of a load to which this process belongs.

    `mark` is the mark of the process that is the whole run, empty where a run has many processes (Airflow): by it a run that
    was killed is told from one that is alive.
    """

    name: str
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One migration, and one process that works at it."""

    migration: Migration
    ledger: Ledger
    identity: Identity
    progress: Progress
    stop: StopSignal
    run: Run
    ports: Ports

    source = _Port[Source]()
    fence = _Port[Fence]()
    leader = _Port[LeaderMarker]()
    clients = _Port[Clients]()
    sink = _Port[Sink]()
    streams = _Port[Streams]()
    journal = _Port[Journal]()
    estate = _Port[Estate]()
    points = _Port[PointPorts]()

    def check(self) -> None:
        """Raises Stopped, once the process has been asked to stop."""
        if self.stop.is_set():
            raise Stopped("asked to stop; run again")
