"""Jobs for tests: what a flow takes, with whatever ports the test has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from docferry.config import Migration
from docferry.flows.kernel.job import Job, Ports, Run
from docferry.ports.flows import Identity, Ledger, Progress, StopSignal
from docferry.testing.fakes import FakeEstate, FakeLeader, FakeLedger


class Quiet:
    """Progress that tells nothing."""

    def say(self, text: str) -> None: ...

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


def make_job(
    *,
    migration: Migration,
    ledger: Ledger | None = None,
    identity: Identity | None = None,
    progress: Progress | None = None,
    stop: StopSignal | None = None,
    run: str = "test",
    run_mark: str = "",
    **ports: Any,
) -> Job:
    """A job with these ports (`source=`, `fence=`, `clients=`, `sink=`, `streams=`, `journal=`, `estate=`, `points=`), which stay
    the caller's to close. Without `leader=` or `estate=` these are fakes of its own."""
    return Job(
        migration=migration,
        ledger=FakeLedger() if ledger is None else ledger,
        identity=identity or Identity(name="test", mark="test", ended=lambda mark: False),
        progress=progress or Quiet(),
        stop=stop or threading.Event(),
        run=Run(run, run_mark),
        ports=Ports({"leader": FakeLeader, "estate": FakeEstate} | _openers(ports)),
    )


def change_job(job: Job, **changes: Any) -> Job:
    """The job with other fields or ports."""
    fields = {name: changes.pop(name) for name in Job.__dataclass_fields__ if name in changes}
    return replace(job, **fields, ports=job.ports.replacing(_openers(changes)))


def _openers(ports: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    return {name: partial(_same, port) for name, port in ports.items()}


def _same(port: Any) -> Any:
    return port
