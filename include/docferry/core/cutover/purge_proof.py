"""The proof that nothing older than a tombstone can be written any more. Pure; `flows.purge` says why it is one.

The heart of it is a look at all writers: at MongoDB's time `at`, a process that was still to sign a request would sign it for
`version` or later. That stays true for ever, because positions only move on and reads are made at the time of the read. So
once every request that was signed before the look has died, tombstones older than `version` have nothing left to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bson.timestamp import Timestamp

from docferry.core.versions import version_of, version_text, version_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Ages:
    """In seconds. `dead` is how long ago the last older request must have been signed, so that it cannot arrive any more;
    `stale` how far behind a time may be that a primary gives."""

    dead: float
    stale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WritersSeen:
    """A look: at `at` no process was left that would sign a request for something before `version`.

    `at_ms` is the same moment on the clock of the process that looked, in ms since 1970.
    """

    at: Timestamp
    at_ms: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What ledger and MongoDB say. `began` and `ended` are MongoDB's times before the first fact was read and after the last,
    `ended_ms` is the latter on our own clock.

    `applied` is the version before which replication has applied everything, None if it never ran; `loads` and `writers` say
    in words who may be writing; `letters` counts the open dead letters by collection; `seen` are earlier looks.
    """

    began: Timestamp
    ended: Timestamp
    ended_ms: int
    applied: int | None
    lost: bool
    follower: str
    pending: int
    loads: Sequence[str]
    writers: Sequence[str]
    letters: Mapping[str, int]
    seen: Sequence[WritersSeen] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One part of the proof: what must hold, whether it does, by which evidence, and what to do if not."""

    name: str
    holds: bool
    evidence: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = "" if self.holds or not self.remedy else f" -> {self.remedy}"
        return f"[{'holds' if self.holds else 'DOES NOT HOLD'}] {self.name}: {self.evidence}{remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The conditions, and what follows: tombstones before `horizon` may go, none if it is None. `seen` is to be kept."""

    conditions: tuple[Condition, ...]
    horizon: int | None
    seen: tuple[WritersSeen, ...]

    @property
    def holds(self) -> bool:
        return all(condition.holds for condition in self.conditions)

    @property
    def broken(self) -> list[Condition]:
        return [condition for condition in self.conditions if not condition.holds]

    def render(self) -> str:
        """The proof for people, one line a condition."""
        lines = [f"{number}. {condition}" for number, condition in enumerate(self.conditions, start=1)]
        if self.horizon is None:
            return "\n".join([*lines, "So it is not proved, and no tombstone may go."])
        return "\n".join([*lines, f"So tombstones from before {shown_version(self.horizon)} may go."])


def prove(facts: Facts, ages: Ages) -> Proof:
    """The proof, or what is missing of it."""
    now = [_replication(facts), _loads(facts), _writers(facts)]
    seen = _looks(facts, ages, add=all(condition.holds for condition in now))
    old = [look for look in seen if age_s(look, facts) >= ages.dead]
    conditions = (*now, _requests(facts, ages, seen, old), instances(facts, ages), _letters(facts))
    holds = all(condition.holds for condition in conditions)
    horizon = min(old[-1].version, _seconds_before(facts.ended, ages.dead)) if holds else None
    return Proof(conditions=conditions, horizon=horizon, seen=seen)


def age_s(look: WritersSeen, facts: Facts) -> float:
    """How long ago a look was: by two clocks, so that one which jumps does not make a young look old."""
    return min(float(facts.ended.time - look.at.time), (facts.ended_ms - look.at_ms) / 1000)


def shown_version(version: int) -> str:
    """A version for people: its time, and itself."""
    return f"{_shown(version_time(version))} (_v {version_text(version)})"


def _shown(time: Timestamp) -> str:
    return f"{time.as_datetime():%Y-%m-%d %H:%M:%S} UTC"


def _seconds_before(time: Timestamp, seconds: float) -> int:
    return version_of(Timestamp(max(0, time.time - round(seconds)), time.inc), 0)


# --- the conditions --------------------------------------------------------------------------------------------------


def _replication(facts: Facts) -> Condition:
    name = "replication goes on from a position of its own"
    if facts.applied is None:
        evidence = "it has never begun, so it would go on from the position recorded before the backfill"
        return Condition(name=name, holds=False, evidence=evidence, remedy="docferry replicate, until it has caught up")
    place = f"all before {shown_version(facts.applied)} is applied, held by {facts.follower or 'no process'}"
    if facts.lost:
        remedy = "docferry backfill --again, then replicate, then repair"
        return Condition(name=name, holds=False, evidence=f"its position is lost; {place}", remedy=remedy)
    return Condition(
        name=name, holds=True, evidence=f"{place}; a crash reads again from there; {facts.pending} pending, all later"
    )


def _loads(facts: Facts) -> Condition:
    evidence = _some(facts.loads) or "every load is complete, and no process holds a chunk"
    return Condition(
        name="no load is under way", holds=not facts.loads, evidence=evidence, remedy="end it: docferry backfill"
    )


def _writers(facts: Facts) -> Condition:
    evidence = _some(facts.writers) or "no process holds a lease for it"
    name, remedy = "no repair and no replay is under way", "wait for its end; the lease of one that was killed runs out"
    return Condition(name=name, holds=not facts.writers, evidence=evidence, remedy=remedy)


def _requests(facts: Facts, ages: Ages, seen: Sequence[WritersSeen], old: Sequence[WritersSeen]) -> Condition:
    name = f"requests of older versions are dead (signed over {ages.dead:.0f} s ago)"
    if old:
        look = old[-1]
        ago = f"{age_s(look, facts):.0f} s ago"
        evidence = f"at {_shown(look.at)}, {ago}, nothing before {shown_version(look.version)} was left to sign"
        return Condition(name=name, holds=True, evidence=evidence)
    if not seen:
        return Condition(name=name, holds=False, evidence="no look at the writers is noted: see above")
    look = seen[0]
    evidence = f"what was signed before {_shown(look.at)} is only {age_s(look, facts):.0f} s old: it is too young"
    remedy = f"run again in {max(1, round(ages.dead - age_s(look, facts)))} s (it counts from a run that is no dry run)"
    return Condition(name=name, holds=False, evidence=evidence, remedy=remedy)


def instances(facts: Facts, ages: Ages) -> Condition:
    """Application instances that write to both databases. This is where their leases join in.

    There is no such client yet. Once there is, an instance holds a lease and looks at it when it signs: then a look at the
    writers must find no instance that began a write before it and has not acknowledged its end, and this condition says who
    has not. Until then age alone decides: a tombstone must be older than any request.
    """
    limit = _seconds_before(facts.ended, ages.dead)
    evidence = f"no instance can register yet, so by age alone: only what is from before {shown_version(limit)}"
    return Condition(name="writes of application instances are dead", holds=True, evidence=evidence)


def _letters(facts: Facts) -> Condition:
    named = _some([f"{count} of {name}" for name, count in facts.letters.items() if count])
    evidence = f"open: {named}; the tombstones of their documents stay" if named else "none is open"
    return Condition(name="documents with a dead letter are left alone", holds=True, evidence=evidence)


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


# --- looks -----------------------------------------------------------------------------------------------------------


def _looks(facts: Facts, ages: Ages, add: bool) -> tuple[WritersSeen, ...]:
    """The looks worth keeping, oldest first: the last that is old enough, and the first that is not yet.

    (A later one in its place would never get old if purge were run often.) One that is later than the position is dropped:
    replication was moved back.
    """
    applied = facts.applied if facts.applied is not None else -1
    known = sorted((look for look in facts.seen if look.version <= applied), key=lambda look: (look.at, look.version))
    if add:
        known.append(look_of(facts, ages))
    old = [look for look in known if age_s(look, facts) >= ages.dead]
    young = [look for look in known if look not in old]
    return (*old[-1:], *young[:1])


def look_of(facts: Facts, ages: Ages) -> WritersSeen:
    """What these facts say about what is still to be signed.

    Replication signs for its position or later. A process that begins to read after the first fact was read reads at MongoDB's
    time then, or at what a primary that has lost its place takes for it.
    """
    assert facts.applied is not None
    return WritersSeen(
        at=facts.ended, at_ms=facts.ended_ms, version=min(facts.applied, _seconds_before(facts.began, ages.stale))
    )
