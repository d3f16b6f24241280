"""Dual writes and the flip of the reads: what must be true first, and what is watched afterwards.

Neither changes the leader, so each is one conditional change of the ledger. Reads are flipped a share at a time; while a share
soaks, the application's own comparisons are watched, and what goes past a bound steps back by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.cutover.instances import Instance
from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import MoveRefused, PreflightFailed, Problem, SteppedBack, Stopped
from docferry.flows.cutover.flip_evidence import USUAL, FlipBounds, ReadCounts, counts_of, unserved_by
from docferry.flows.fence.marker import mark_leader
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.approvals import FLIP_READS, require_approval
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.flows.ledger.mapping_fingerprint import changed_mappings
from docferry.flows.ledger.modes import (
    change_mode,
    list_instances,
    live_instances,
    mode_in,
    mode_record,
    read_mode,
    unacknowledged,
)
from docferry.flows.ledger.positions import read_replication
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import COMPARED_WITHIN_S, FLIP_LAG_S, FOLLOWED_WITHIN_S, REPORT_AGE_S, SEEN_S
from docferry.flows.reporting.health import lacking_health
from docferry.flows.validate.first_pass import latest_report
from docferry.ports.flows import Ledger, Record

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
    _require(job, "dual writes", [*lacking_load(job), *lacking_replication(job.ledger)])
    return _move(job, Mode.DUAL_WRITE, compare, "dual writes begin")


def flip_reads(
    job: Job, percent: int, soak_s: float = 0.0, bounds: FlipBounds = USUAL, waived: Sequence[str] = ()
) -> FlipReport:
    """`percent` of the reads come from DynamoDB from now on; watched for `soak_s` seconds, and for as long again if the share has
    not served as many reads as the bounds ask for. `waived` are shapes of calls that no process will make any more.

    Raises: PreflightFailed with everything that keeps the reads from being flipped; MoveRefused; SteppedBack, if what was seen
            while it soaked went past its bound, or was too little: the mode is the former one; Stopped (the flip stays).
    """
    mode = read_mode(job.ledger)
    mode.move(Mode.DYNAMODB_READS, percent)
    require_approval(job.ledger, FLIP_READS)
    _await_comparisons(job, mode, bounds)
    lacking = [*lacking_replication(job.ledger), *_fresh_and_without_letters(job), *_served(job, waived)]
    lacking += [*_compared(job, mode, bounds), *_following(job)]
    _require(job, "reads from DynamoDB", [*lacking, *lacking_health(job, ("replica_set", "tables"))])
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


# --- what must be true -----------------------------------------------------------------------------------------------


def _require(job: Job, what: str, problems: Sequence[Problem]) -> None:
    if problems:
        raise PreflightFailed(f"{job.migration.name}: {what}", problems)


def lacking_load(job: Job) -> Iterator[Problem]:
    """Collections that are not loaded, or were by another mapping."""
    for one in job.migration.collections:
        header = LoadHeaders(job.ledger).read(one.name)
        if header is None or not header.complete:
            advice = f"docferry backfill --only {one.name}"
            yield Problem(where=f"collections.{one.name}", what="is not loaded", suggestion=advice)
    yield from changed_mappings(job.migration, job.ledger)


def lacking_replication(ledger: Ledger) -> Iterator[Problem]:
    """What keeps DynamoDB from following MongoDB closely; nothing if it does."""
    state = read_replication(ledger)
    lag_s = state.lag_s
    ended = "" if state.holder.owner else state.ended
    if state.position is None or state.noted_s_ago > SEEN_S or ended:
        what = f"does not run; its last run ended with: {ended}" if ended else "does not run"
        yield Problem(where="replication", what=what, suggestion="docferry replicate, or the DAG replicate")
    elif lag_s is None or lag_s > FLIP_LAG_S:
        what = f"lags {lag_s} s" if lag_s is not None else "does not know how far it is behind"
        yield Problem(where="replication", what=what, suggestion="wait until it has caught up")


def _fresh_and_without_letters(job: Job) -> Iterator[Problem]:
    """That the report says EQUAL is part of its approval."""
    report = latest_report(job.ledger)
    age_s = (now_ms() - report.at_ms) / 1000 if report else 0.0
    if report is not None and age_s > REPORT_AGE_S:
        yield Problem(where="full validation", what=f"is {age_s / 3600:.0f} h old", suggestion="docferry validate")
    for one in job.migration.collections:
        if letters := list_letters(job.ledger, one.name):
            what = f"has {len(letters)} open dead letter(s): DynamoDB does not hold these documents"
            yield Problem(where=f"collections.{one.name}", what=what, suggestion="docferry dead-letters")


def _served(job: Job, waived: Sequence[str] = ()) -> Iterator[Problem]:
    """What the application asked for that DynamoDB could not answer, also in processes that have ended."""
    for shape, count in sorted(unserved_by(list_instances(job.ledger), waived).items()):
        advice = f"declare an access pattern for it, or change the call; once no process makes it any more: --waive '{shape}'"
        yield Problem(where=shape, what=f"was called {count} time(s), and DynamoDB cannot answer it", suggestion=advice)


def _compared(job: Job, mode: ModeState, bounds: FlipBounds) -> Iterator[Problem]:
    """What the comparisons of DUAL_WRITE say. If it compares, little compared is no evidence."""
    if not mode.validate_writes:
        return
    live = live_instances(job.ledger, job.identity)
    seen = counts_of(live)
    if live and seen.compared + seen.mismatches < bounds.reads:
        few = f"{seen.compared + seen.mismatches} of the application's reads have been compared; {bounds.reads} are needed"
        none = "none of the application's reads has been compared yet"
        yield Problem(
            where="shadow reads",
            what=few if seen.compared + seen.mismatches else none,
            suggestion="let it read for a while; or ask for fewer: --reads; or, if it never reads, compare nothing: "
            "docferry dual-write --compare 0",
        )
    if seen.differing:
        advice = "docferry validate, and repair; then restart the application's processes, which count anew"
        yield Problem(where="shadow reads", what="; ".join([seen.differing, *_examples(live)]), suggestion=advice)


def _await_comparisons(job: Job, mode: ModeState, bounds: FlipBounds) -> None:
    """Processes tell what they have counted every few seconds: who flips right after dual writes began would be too quick."""
    until = time.monotonic() + COMPARED_WITHIN_S
    while mode.validate_writes and time.monotonic() < until and not job.stop.is_set():
        live = live_instances(job.ledger, job.identity)
        seen = counts_of(live)
        if not live or seen.compared + seen.mismatches >= bounds.reads:
            return
        time.sleep(LOOK_S)


def _examples(instances: Sequence[Instance]) -> list[str]:
    """Where, never what."""
    return [example for one in instances for example in one.examples][-5:]


def _following(job: Job) -> Iterator[Problem]:
    live = live_instances(job.ledger, job.identity)
    if not live:
        advice = "start the application with docferry.connect"
        yield Problem(where="application", what="no instance is registered: no process would follow", suggestion=advice)
    for one in unacknowledged(live, read_mode(job.ledger).epoch):
        yield Problem(
            where=f"instance {one.name}", what="has not followed the last change of mode", suggestion="see its log"
        )


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
    examples = _examples(list_instances(job.ledger))
    back = mode_in(record).move(before.mode, before.percent)
    change_mode(job.ledger, record, back, job.identity, f"stepped back: {why}")
    raise SteppedBack(why, str(back), examples)
