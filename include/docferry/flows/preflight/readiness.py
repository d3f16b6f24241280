"""What a phase asks before it begins, beside what it alone knows: are the parts well that it rests on? Who else uses MongoDB?"""

from __future__ import annotations

from collections.abc import Iterator

from docferry.core.cutover.mongodb_clients import Client, Doing
from docferry.errors import Problem
from docferry.flows.kernel.job import Job
from docferry.flows.preflight.mongodb_clients import ForeignReport, foreigners
from docferry.ports.flows import Progress

LOOK_S = 3.0
"""For so long MongoDB's connections are looked at before a phase that some of them would not survive."""


def foreign_writers(job: Job, look_s: float = LOOK_S) -> Iterator[Problem]:
    """The programs that write to MongoDB without docferry's client: behind the fence their writes fail. Raises StoreError."""
    for one in _looked(job, look_s).writers:
        yield _problem(one, "writes", "waived_writers")


def foreign_readers(job: Job, look_s: float = LOOK_S) -> Iterator[Problem]:
    """The programs that still use MongoDB, which is not kept up to date from now on. Raises StoreError."""
    for one in _looked(job, look_s).foreign:
        if one.does is not Doing.IDLE:
            yield _problem(one, "reads" if one.does is Doing.READ else "writes", "waived_readers")


def _looked(job: Job, look_s: float) -> ForeignReport:
    report = foreigners(job, look_s)
    _tell_idle(job.progress, report)
    return report


def _tell_idle(progress: Progress, report: ForeignReport) -> None:
    """Connections that were never met at work do not refuse a phase, but the operator is told of them."""
    for one in report.foreign:
        if one.does is Doing.IDLE:
            progress.say(f"connected to MongoDB without docferry's client, and not met at work: {_name(one)}")
    progress.say(report.limits)


def _problem(one: Client, does: str, setting: str) -> Problem:
    where = f" to {', '.join(sorted(one.namespaces)[:5])}" if one.namespaces else ""
    name = one.app or one.user
    advice = f"move it to docferry.connect, or waive it by name in the file: cutover.{setting}: [{name}]"
    return Problem(where=_name(one), what=f"{does}{where} without docferry's client", suggestion=advice)


def _name(one: Client) -> str:
    return f"{one.app or 'no appName'} (user {one.user or 'unknown'}, {one.host}, {one.driver or 'unknown driver'})"
