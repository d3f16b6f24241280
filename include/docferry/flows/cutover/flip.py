"""Dual writes and the flip of the reads: what must be true first, and what is watched afterwards.

Both change nobody's leader, so they are one conditional change of the ledger. Reads are flipped a share at a time; while a share
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
MOST_WRONG = 0.01
"""Of the reads that were compared, or answered by DynamoDB, while a share soaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCounts:
    """What the application's processes counted, all together."""

    served: int = 0
    fell_back: int = 0
    compared: int = 0
    mismatches: int = 0

    def since(self, before: ReadCounts) -> ReadCounts:
        return ReadCounts(**{name: getattr(self, name) - getattr(before, name) for name in self.__dataclass_fields__})

    @property
    def differing(self) -> str:
        """Differences past their bound, in words; empty if they are not."""
        if self.mismatches and self.mismatches > MOST_WRONG * (self.compared + self.mismatches):
            return f"{self.mismatches} of {self.compared + self.mismatches} compared reads differ"
        return ""

    @property
    def wrong(self) -> str:
        """What is past its bound, in words; empty if nothing is."""
        if self.differing:
            return self.differing
        asked = self.served + self.fell_back
        if self.fell_back and self.fell_back > MOST_WRONG * asked:
            return f"{self.fell_back} of {asked} reads from DynamoDB failed, and went to MongoDB"
        return ""


@dataclass(slots=True, kw_only=True)
class FlipReport:
    """A step of the ramp: the mode that it left, what was seen while it soaked, and for how long."""

    mode: str
    epoch: int
    soaked_s: float = 0.0
    seen: ReadCounts = field(default_factory=ReadCounts)

    def to_dict(self) -> dict[str, Any]:
        seen = {name: getattr(self.seen, name) for name in self.seen.__dataclass_fields__}
        return {"mode": self.mode, "epoch": self.epoch, "soaked_s": round(self.soaked_s, 1), "seen": seen}


def begin_dual_write(job: Job, compare: int = 100) -> FlipReport:
    """The application writes to both from now on; `compare` percent of its reads are compared.

    Raises: PreflightFailed with everything that keeps it from beginning; MoveRefused.
    """
    _require(job, "dual writes", [*_loaded(job), *lacking_replication(job.ledger)])
    return _move(job, Mode.DUAL_WRITE, compare, "dual writes begin")


def flip_reads(job: Job, percent: int, soak_s: float = 0.0) -> FlipReport:
    """`percent` of the reads come from DynamoDB from now on; watched for `soak_s` seconds.

    Raises: PreflightFailed with everything that keeps the reads from being flipped; MoveRefused; SteppedBack, if what was seen
            while it soaked went past its bound: the mode is the one of before; Stopped (the flip stays).
    """
    mode = read_mode(job.ledger)
    mode.move(Mode.DYNAMODB_READS, percent)
    require_approval(job.ledger, FLIP_READS)
    _await_comparisons(job, mode)
    lacking = [*lacking_replication(job.ledger), *_equal(job), *_served(job), *_compared(job, mode), *_following(job)]
    _require(job, "reads from DynamoDB", [*lacking, *lacking_health(job, ("replica_set", "tables"))])
    before = _seen(job)
    report = _move(job, Mode.DYNAMODB_READS, percent, f"{percent} % of the reads come from DynamoDB")
    _soak(job, report, mode, before, soak_s)
    return report


def back_to(job: Job, mode: Mode, why: str) -> FlipReport:
    """MONGO_ONLY, or DUAL_WRITE with all reads compared. Raises MoveRefused where that takes more than a change of mode."""
    return _move(job, mode, 100 if mode is Mode.DUAL_WRITE else 0, why)


def _move(job: Job, to: Mode, percent: int, why: str) -> FlipReport:
    record = mode_record(job.ledger)
    after = mode_in(record).move(to, percent)
    change_mode(job.ledger, record, after, job.identity, why)
    job.progress.say(f"the mode is {after}")
    _await_acknowledgements(job, after)
    return FlipReport(mode=str(after), epoch=after.epoch)


def _await_acknowledgements(job: Job, after: ModeState) -> None:
    """Every process follows within a moment; who does not is named, and changes nothing: nobody's leader has changed."""
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


def _loaded(job: Job) -> Iterator[Problem]:
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


def _equal(job: Job) -> Iterator[Problem]:
    report = latest_report(job.ledger)
    age_s = (now_ms() - report.at_ms) / 1000 if report else 0.0
    if report is not None and age_s > REPORT_AGE_S:
        yield Problem(where="full validation", what=f"is {age_s / 3600:.0f} h old", suggestion="docferry validate")
    for one in job.migration.collections:
        if letters := list_letters(job.ledger, one.name):
            what = f"has {len(letters)} open dead letter(s): these documents are MongoDB's alone"
            yield Problem(where=f"collections.{one.name}", what=what, suggestion="docferry dead-letters")


def _served(job: Job) -> Iterator[Problem]:
    """What the application asks for that DynamoDB could not answer."""
    shapes: dict[str, int] = {}
    for one in live_instances(job.ledger, job.identity):
        for shape, count in one.unserved.items():
            shapes[shape] = shapes.get(shape, 0) + count
    for shape, count in sorted(shapes.items()):
        advice = "declare an access pattern for it, or change the call; processes count anew when they are restarted"
        yield Problem(where=shape, what=f"was called {count} time(s), and DynamoDB cannot answer it", suggestion=advice)


def _compared(job: Job, mode: ModeState) -> Iterator[Problem]:
    """What the comparisons of DUAL_WRITE say. If it compares, nothing compared is no evidence."""
    if not mode.validate_writes:
        return
    live = live_instances(job.ledger, job.identity)
    seen = _sum(live)
    if live and not seen.compared + seen.mismatches:
        advice = "let it read for a while; or, if it never reads, compare nothing: docferry dual-write --compare 0"
        yield Problem(
            where="shadow reads", what="none of the application's reads has been compared yet", suggestion=advice
        )
    if seen.differing:
        advice = "docferry validate, and repair; then restart the application's processes, which count anew"
        yield Problem(where="shadow reads", what="; ".join([seen.differing, *_examples(live)]), suggestion=advice)


def _await_comparisons(job: Job, mode: ModeState) -> None:
    """Processes tell what they have counted every few seconds: who flips right after dual writes began would be too quick."""
    until = time.monotonic() + COMPARED_WITHIN_S
    while mode.validate_writes and time.monotonic() < until and not job.stop.is_set():
        live = live_instances(job.ledger, job.identity)
        seen = _sum(live)
        if not live or seen.compared + seen.mismatches:
            return
        time.sleep(LOOK_S)


def _examples(instances: Sequence[Instance]) -> list[str]:
    """Where, never what."""
    return [example for one in instances for example in one.examples][-5:]


def _following(job: Job) -> Iterator[Problem]:
    live = live_instances(job.ledger, job.identity)
    if not live:
        advice = "start the application with docferry.connect"
        yield Problem(where="application", what="no instance is registered: nobody would follow", suggestion=advice)
    for one in unacknowledged(live, read_mode(job.ledger).epoch):
        yield Problem(
            where=f"instance {one.name}", what="has not followed the last change of mode", suggestion="see its log"
        )


# --- what is watched -------------------------------------------------------------------------------------------------


def _seen(job: Job) -> ReadCounts:
    return _sum(list_instances(job.ledger))


def _sum(instances: Sequence[Instance]) -> ReadCounts:
    def total(*names: str, prefix: str = "\0") -> int:
        return sum(
            count for one in instances for name, count in one.counts.items() if name in names or name.startswith(prefix)
        )

    return ReadCounts(
        served=total("read.served"),
        fell_back=total(prefix="read.fell_back."),
        compared=total("shadow.equal"),
        mismatches=total("shadow.mismatch"),
    )


def _soak(job: Job, report: FlipReport, before: ModeState, at_start: ReadCounts, soak_s: float) -> None:
    began = time.monotonic()
    while (left_s := began + soak_s - time.monotonic()) > 0:
        if job.stop.is_set():
            raise Stopped("asked to stop while the flip soaked; the flip stays")
        time.sleep(min(LOOK_S, left_s))
        report.seen, report.soaked_s = _seen(job).since(at_start), time.monotonic() - began
        record = _ours(job, report)
        if why := report.seen.wrong:
            _step_back(job, record, before, why)
        seen = report.seen
        note = f"{seen.served} served, {seen.fell_back} fell back, {seen.mismatches} of {seen.compared} compared differ"
        job.progress.advance("soak", int(report.soaked_s), int(soak_s), note)


def _ours(job: Job, report: FlipReport) -> Record:
    """The mode that soaks. Raises MoveRefused once somebody else has changed it: then it is his."""
    record = mode_record(job.ledger)
    now = mode_in(record)
    if now.epoch != report.epoch:
        raise MoveRefused(f"the mode has changed while {report.mode} soaked: it is {now}, and stays so")
    return record


def _step_back(job: Job, record: Record, before: ModeState, why: str) -> None:
    """To the mode of before. Raises SteppedBack; MoveRefused."""
    examples = _examples(list_instances(job.ledger))
    back = mode_in(record).move(before.mode, before.percent)
    change_mode(job.ledger, record, back, job.identity, f"stepped back: {why}")
    raise SteppedBack(why, str(back), examples)
