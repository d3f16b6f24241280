"""Dual writes and the flip of the reads: what must be true first, and what is watched afterwards.

Neither changes the leader, so each is one conditional change of the ledger. Reads are flipped a share at a time; while a share
soaks, the application's own comparisons are watched, and what goes past a bound steps back by itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import MoveRefused, SteppedBack, Stopped
from docferry.flows.cutover.flip_evidence import USUAL, FlipBounds, ReadCounts, counts_of
from docferry.flows.cutover.flip_reasons import await_comparisons, examples
from docferry.flows.cutover.phases import DUAL, FLIP
from docferry.flows.cutover.refusals import Asked
from docferry.flows.fence.marker import mark_leader
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.modes import (
    change_mode,
    list_instances,
    live_instances,
    mode_in,
    mode_record,
    read_mode,
    unacknowledged,
)
from docferry.flows.preflight.thresholds import FOLLOWED_WITHIN_S
from docferry.ports.flows import Record

RAMP = (1, 10, 50, 100)
LOOK_S = 0.5


@dataclass(slots=True, kw_only=True)
class FlipReport:
    """A step of the ramp: the mode that it left, what was seen while it soaked, and for how long."""

    mode: str
    epoch: int
    soaked_s: float = 0.0
    seen: ReadCounts = field(default_factory=ReadCounts)

    def to_dict(self) -> dict[str, Any]:
        soaked_s = round(self.soaked_s, 1)
        return {"mode": self.mode, "epoch": self.epoch, "soaked_s": soaked_s, "seen": self.seen.to_dict()}


def begin_dual_write(job: Job, compare: int = 100) -> FlipReport:
    """The application writes to both from now on; `compare` percent of its reads are compared.

    Raises: PreflightFailed with everything that keeps it from beginning; MoveRefused.
    """
    plan_dual_write(job, compare)
    return _move(job, Mode.DUAL_WRITE, compare, "dual writes begin")


def plan_dual_write(job: Job, compare: int = 100) -> str:
    """What `begin_dual_write` would do now, in words. Raises as that does before anything is touched."""
    DUAL.require(Asked(job=job, percent=compare))
    return f"the application writes to both databases, MongoDB leads; {compare} % of its reads are compared"


def plan_flip(job: Job, percent: int, bounds: FlipBounds = USUAL, waived: Sequence[str] = ()) -> str:
    """What `flip_reads` would do now, in words. Raises as that does before anything is touched."""
    asked = Asked(job=job, waived=waived, percent=percent, bounds=bounds)
    read_mode(job.ledger).move(Mode.DYNAMODB_READS, percent)
    await_comparisons(asked)
    FLIP.require(asked)
    return f"{percent} % of the reads come from DynamoDB"


def flip_reads(
    job: Job, percent: int, soak_s: float = 0.0, bounds: FlipBounds = USUAL, waived: Sequence[str] = ()
) -> FlipReport:
    """`percent` of the reads come from DynamoDB from now on; watched for `soak_s` seconds, and for as long again if the share has
    not served as many reads as the bounds ask for. `waived` are shapes of calls that no process will make any more.

    Raises: PreflightFailed with everything that keeps the reads from being flipped; MoveRefused; SteppedBack, if what was seen
            while it soaked went past its bound, or was too little: the mode is the former one; Stopped (the flip stays).
    """
    plan_flip(job, percent, bounds, waived)
    mode = read_mode(job.ledger)
    before = _seen(job)
    told = [f"{percent} % of the reads come from DynamoDB", bounds.described(), "" if soak_s else "not watched"]
    told += [f"waived: {shape}" for shape in waived]
    report = _move(job, Mode.DYNAMODB_READS, percent, "; ".join(filter(None, told)))
    _soak(job, report, _Soak(before=mode, at_start=before, soak_s=soak_s, percent=percent, bounds=bounds))
    return report


def back_to(job: Job, mode: Mode, why: str) -> FlipReport:
    """MONGO_ONLY, or DUAL_WRITE with all reads compared. Raises MoveRefused where that takes more than a change of mode."""
    return _move(job, mode, 100 if mode is Mode.DUAL_WRITE else 0, why)


def _move(job: Job, to: Mode, percent: int, why: str) -> FlipReport:
    mark_leader(
        job
    )  # before the first dual write: a process that is cut off from the ledger then asks MongoDB who leads
    record = mode_record(job.ledger)
    after = mode_in(record).move(to, percent)
    change_mode(job.ledger, record, after, job.identity, why)
    job.progress.say(f"the mode is {after}")
    _await_acknowledgements(job, after)
    return FlipReport(mode=str(after), epoch=after.epoch)


def _await_acknowledgements(job: Job, after: ModeState) -> None:
    """Every process follows within a moment; one that does not is named, and changes nothing: the leader is the same."""
    until = time.monotonic() + FOLLOWED_WITHIN_S
    while left := unacknowledged(live_instances(job.ledger, job.identity), after.epoch):
        if time.monotonic() > until or job.stop.is_set():
            names = ", ".join(one.name for one in left[:5])
            job.progress.say(f"{len(left)} instance(s) have not followed yet: {names}")
            return
        time.sleep(0.05)


# --- what is watched -------------------------------------------------------------------------------------------------


def _seen(job: Job) -> ReadCounts:
    return counts_of(list_instances(job.ledger))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Soak:
    """A share under watch: the mode to step back to, what was counted at its start, and what it is asked for."""

    before: ModeState
    at_start: ReadCounts
    soak_s: float
    percent: int
    bounds: FlipBounds

    def too_little(self, seen: ReadCounts) -> str:
        """Why what was seen proves nothing, in words; "" if it is enough."""
        least = self.bounds.served_by(self.percent)
        if seen.served >= least:
            return ""
        return (
            f"only {seen.served} reads came from DynamoDB while {self.percent} % soaked, of {least} at least: let it soak "
            "longer, take a larger share, or ask for fewer (--reads)"
        )


def _soak(job: Job, report: FlipReport, soak: _Soak) -> None:
    began, soak_s = time.monotonic(), soak.soak_s
    while (left_s := began + soak_s - time.monotonic()) > 0:
        if job.stop.is_set():
            raise Stopped("asked to stop while the flip soaked; the flip stays")
        time.sleep(min(LOOK_S, left_s))
        now = _seen(job)
        report.seen, report.soaked_s = now.since(soak.at_start), time.monotonic() - began
        record = _ours(job, report)
        seen = report.seen
        too_little = soak.too_little(seen) if report.soaked_s >= soak.soak_s else ""
        soak_s = 2 * soak.soak_s if too_little else soak.soak_s
        at_last = too_little if report.soaked_s >= soak_s else ""
        if why := seen.wrong or seen.too_slow(now, soak.bounds) or at_last:
            _step_back(job, record, soak.before, why)
        note = f"{seen.served} served, {seen.fell_back} fell back, {seen.mismatches} of {seen.compared} compared differ"
        job.progress.advance("soak", int(report.soaked_s), int(soak_s), note)


def _ours(job: Job, report: FlipReport) -> Record:
    """The mode that soaks. Raises MoveRefused once another process has changed it: then it belongs to that one."""
    record = mode_record(job.ledger)
    now = mode_in(record)
    if now.epoch != report.epoch:
        raise MoveRefused(f"the mode has changed while {report.mode} soaked: it is {now}, and stays so")
    return record


def _step_back(job: Job, record: Record, before: ModeState, why: str) -> None:
    """To the mode that it was. Raises SteppedBack; MoveRefused."""
    found = examples(list_instances(job.ledger))
    back = mode_in(record).move(before.mode, before.percent)
    change_mode(job.ledger, record, back, job.identity, f"stepped back: {why}")
    raise SteppedBack(why, str(back), found)
