"""Is everything well that this migration rests on? Part by part; reads only.

What cannot be told is `unknown`, and that is not healthy. A part that fails says so and keeps no other part from being told.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from docferry.core.cutover.modes import Mode
from docferry.core.estate.values import TableState
from docferry.core.settings import TableSettings
from docferry.errors import MigrationError, Problem
from docferry.flows.fence.watch import misfit
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.approvals import of_another_leader
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.mapping_fingerprint import changed_mappings
from docferry.flows.ledger.modes import list_moves, live_instances, read_mode, unacknowledged
from docferry.flows.ledger.positions import read_replication
from docferry.flows.ledger.rooms.owners import not_owned
from docferry.flows.ledger.rooms.reverse_stream import read_reverse
from docferry.flows.ledger.rooms.strays import list_strays
from docferry.flows.ledger.times import encode_time, now_ms
from docferry.flows.preflight.mongodb import lacking_majority
from docferry.flows.preflight.thresholds import FOLLOWED_WITHIN_S, HEALTHY_LAG_S, REPORT_AGE_S, SEEN_S
from docferry.flows.preflight.windows import windows_of
from docferry.flows.reverse.report import KEEP_S
from docferry.flows.validate.first_pass import latest_report
from docferry.flows.watch.ready import watch_in_mode


class Status(StrEnum):
    """Of a part, or of all. In order: the last is the worst."""

    HEALTHY = "healthy"
    UNKNOWN = "unknown"
    UNHEALTHY = "unhealthy"


_WORSE = tuple(Status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part: plain facts for machines, and why it has this status for people."""

    status: Status
    why: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """All parts by name."""

    migration: str
    at_ms: int
    parts: Mapping[str, Part]

    @property
    def status(self) -> Status:
        """The worst of all parts."""
        return max((one.status for one in self.parts.values()), key=_WORSE.index, default=Status.UNKNOWN)

    @property
    def ok(self) -> bool:
        return self.status is Status.HEALTHY

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        parts = {
            name: {"status": one.status.value, "why": one.why, "facts": dict(one.facts)}
            for name, one in self.parts.items()
        }
        return {"migration": self.migration, "at_ms": self.at_ms, "status": self.status.value, "parts": parts}

    def render(self) -> str:
        """The report for a person."""
        lines = [f"{one.status.value:<10}{name}: {one.why}" for name, one in self.parts.items()]
        return "\n".join([*lines, f"{self.migration} is {self.status.value}"])


def health_of(job: Job, only: Sequence[str] = (), more: Mapping[str, Callable[[], Part]] | None = None) -> HealthReport:
    """Ask every part, or those of these names, and of `more`, one after the other. Raises nothing that a part may raise."""
    asked: dict[str, Callable[[], Part]] = {
        "replica_set": lambda: _replica_set(job),
        "tables": lambda: _tables(job),
        "lag_forward": lambda: _lag_forward(job),
        "lag_reverse": lambda: _lag_reverse(job),
        "consistency": lambda: _consistency(job),
        "letters": lambda: _letters(job),
        "watch": lambda: _watch(job),
        "application": lambda: _application(job),
        "fence": lambda: _fence(job),
        "mapping": lambda: _mapping(job),
        **(more or {}),
    }
    parts = {name: _told(ask) for name, ask in asked.items() if not only or name in only}
    return HealthReport(migration=job.migration.name, at_ms=now_ms(), parts=parts)


def lacking_health(job: Job, parts: Sequence[str]) -> Iterator[Problem]:
    """What of these parts is not well, for a flow that must not begin then: what cannot be told is not well either."""
    for name, part in health_of(job, parts).parts.items():
        if part.status is not Status.HEALTHY:
            yield Problem(where=name, what=f"is {part.status.value}: {part.why}", suggestion="docferry health")


def _mapping(job: Job) -> Part:
    """Whether what is loaded was loaded by the file's mapping, into tables that are the migration's."""
    wrong = [*changed_mappings(job.migration, job.ledger), *not_owned(job.migration, job.ledger)]
    return _part(list(map(str, wrong)), [], "what is loaded fits the file")


def _fence(job: Job) -> Part:
    """Whether the fence on MongoDB fits the mode."""
    if found := misfit(job):
        return Part(status=Status.UNHEALTHY, why=found)
    return Part(status=Status.HEALTHY, why="the fence on MongoDB is as the mode asks")


def _told(ask: Callable[[], Part]) -> Part:
    """The part, or why it cannot be told. The message of an error that is not ours may quote a document: its place is told."""
    try:
        return ask()
    except MigrationError as error:
        return _part([], [f"{type(error).__name__}: {error}"])
    except Exception as error:  # noqa: BLE001 - told as the part's status
        place = traceback.extract_tb(error.__traceback__)[-1]
        return _part([], [f"{type(error).__name__}, a bug of ours, in {place.name} (line {place.lineno})"])


def _part(wrong: list[str], unknown: list[str], well: str = "", **facts: Any) -> Part:
    """What is wrong counts before what is not known."""
    status = Status.UNHEALTHY if wrong else Status.UNKNOWN if unknown else Status.HEALTHY
    return Part(status=status, why="; ".join([*wrong, *unknown]) or well, facts=facts)


# --- the parts -------------------------------------------------------------------------------------------------------


def _replica_set(job: Job) -> Part:
    facts = job.source.server_facts()
    members = {one.name: one.state for one in facts.members}
    away = [
        f"{name} is {state_}" for name, state_ in members.items() if state_ not in ("PRIMARY", "SECONDARY", "ARBITER")
    ]
    wrong = [one for one in (lacking_majority(facts), *away) if one]
    if facts.replica_set is None:
        wrong.append("MongoDB is no replica set")
    unseen = [] if members else ["docferry's user may not see the members: grant it clusterMonitor"]
    follow = sum(one.follows for one in facts.members)
    well = f"{follow} data-bearing members are up, {facts.write_majority} make a majority"
    return _part(wrong, unseen, well, members=members, write_majority=facts.write_majority, following=follow)


def _tables(job: Job) -> Part:
    ledger = TableSettings(name=job.migration.ledger.table, stream=False)
    found = {one.name: job.estate.fetch_table(one.name) for one in (*job.migration.tables, ledger)}
    wrong: list[str] = []
    for settings in (*job.migration.tables, ledger):
        wrong += [f"{settings.name} {what}" for what in _table(settings, found[settings.name])]
    states = {name: "missing" if table is None else table.status for name, table in found.items()}
    return _part(wrong, [], f"{len(states)} tables with their indexes are active", tables=states)


def _table(settings: TableSettings, table: TableState | None) -> list[str]:
    if table is None:
        return ["does not exist: run `docferry provision`"]
    wrong = [] if table.status in ("ACTIVE", "UPDATING") else [f"is {table.status}"]
    indexes = {one.name: one.status for one in table.indexes}
    wrong += [f"has no index {name}" for name in settings.indexes if name not in indexes]
    wrong += [
        f"'s index {name} is {status}" for name, status in indexes.items() if status not in ("ACTIVE", "UPDATING")
    ]
    wrong += [f"'s replica in {region} is {status}" for region, status in table.replicas.items() if status != "ACTIVE"]
    if settings.stream and table.stream is None:
        wrong.append("has no stream, without which nothing can go back to MongoDB")
    return wrong


def _lag_forward(job: Job) -> Part:
    if (mode := read_mode(job.ledger)).leader.dynamodb_leads:
        return _part([], [], f"nothing goes forward: the mode is {mode}")
    state = read_replication(job.ledger)
    if state.position is None:
        return _part([], ["replication has not begun"])
    applied, now = state.position.time, job.source.cluster_time()
    lag_s, noted_s = max(0, now.time - applied.time), state.noted_s_ago
    windows = windows_of(job.source, applied)
    wrong: list[str] = []
    if state.lost:
        wrong.append("the oplog no longer holds its position: load again (`docferry backfill --again`)")
    if state.holder.expired(job.identity):
        ended = f", and its last run ended with: {state.ended}" if state.ended else ""
        wrong.append(f"no process replicates{ended}")
    elif noted_s > SEEN_S:
        wrong.append(f"{state.holder.owner} has not recorded its position for {noted_s:.0f} s")
    if lag_s > HEALTHY_LAG_S:
        wrong.append(f"it is {lag_s} s behind")
    if windows.in_danger:
        wrong.append("half of the time for which the oplog holds its position is used up")
    if state.waits:
        wrong.append(f"it waits: MongoDB {state.waits}")
    facts = {
        "lag_s": lag_s,
        "applied_up_to": encode_time(applied),
        "owner": state.holder.owner,
        "pending": state.pending,
    }
    return _part(wrong, [], f"{lag_s} s behind MongoDB", **facts, windows=windows.to_dict())


def _consistency(job: Job) -> Part:
    report = latest_report(job.ledger)
    if report is None:
        return _part([], ["the two databases have never been compared: run `docferry validate`"])
    age_s = (now_ms() - report.at_ms) / 1000
    facts = {"verdict": report.verdict, "age_s": round(age_s), "digest": report.digest}
    equal = report.equal_up_to_date
    told = f"the last validation, {age_s / 3600:.1f} h ago, found them {report.verdict}"
    wrong = [told] if report.verdict == "DIFFERENT" else []
    unknown = [told] if report.verdict not in ("EQUAL", "DIFFERENT") else []
    if other := of_another_leader(report, read_mode(job.ledger)):
        unknown.append(other)
    if age_s > REPORT_AGE_S:
        unknown.append(f"it is older than {REPORT_AGE_S / 3600:.0f} h: run `docferry validate`")
    return _part(wrong, unknown, told, **facts, equal_up_to=equal)


def _letters(job: Job) -> Part:
    counts = {name: len(list_letters(job.ledger, name)) for name in job.migration.mappings}
    open_ = [f"{name} has {count} open" for name, count in counts.items() if count]
    return _part(open_ and [*open_, "see `docferry dead-letters`"], [], "no dead letters", open=counts)


def _watch(job: Job) -> Part:
    """Whether the database that led before is watched, and what has reached it since."""
    mode, strays = read_mode(job.ledger), list_strays(job.ledger)
    old, watch = watch_in_mode(job.ledger, mode)
    told = [f"{len(strays)} stray write(s), such as the {strays[0]}: see `docferry strays`"] if strays else []
    if mode.leader is Mode.DYNAMODB_ONLY and watch is None:
        return _part([*told, f"{old.label} is not watched: run `docferry reverse`"], [], strays=len(strays))
    if watch is None or mode.leader is Mode.FINAL:
        return _part(told, [], "no database is watched", strays=len(strays))
    silent_s = (now_ms() - max(watch.seen_ms, watch.begun_ms)) / 1000
    if watch.is_open and silent_s > SEEN_S:
        told.append(f"no process has watched {old.label} for {silent_s:.0f} s")
    well = f"{old.label} is watched for {watch.left_s:.0f} s more" if watch.is_open else f"{old.label}: {watch.how}"
    return _part(told, [], well, strays=len(strays), watched=old.value, left_s=round(watch.left_s), ended=watch.how)


def _lag_reverse(job: Job) -> Part:
    if (mode := read_mode(job.ledger)).leader is not Mode.DYNAMODB_ONLY:
        return _part([], [], f"nothing goes back: the mode is {mode}")
    state = read_reverse(job.ledger)
    if not state.started:
        return _part(["no start is recorded: what was written since DynamoDB leads would not reach MongoDB"], [])
    at_ms = now_ms()
    behind_s, noted_s = (at_ms - state.reached_ms) / 1000, (at_ms - (state.at_ms or state.begun_ms)) / 1000
    wrong: list[str] = []
    if state.holder.expired(job.identity):
        ended = f", and its last run ended with: {state.ended}" if state.ended else ""
        wrong.append(f"no process replicates in reverse{ended}")
    elif noted_s > SEEN_S:
        wrong.append(f"{state.holder.owner} has not recorded its position for {noted_s:.0f} s")
    if behind_s > HEALTHY_LAG_S:
        wrong.append(f"it is {behind_s:.0f} s behind")
    if behind_s > KEEP_S / 2:
        wrong.append("half of the 24 hours is used up for which a stream keeps its records")
    if letters := state.letters:
        wrong.append(f"{letters} document(s) cannot be written to MongoDB: see `docferry status`")
    facts = {"lag_s": round(behind_s, 1), "owner": state.holder.owner, "letters": letters}
    return _part(wrong, [], f"{behind_s:.0f} s behind DynamoDB", **facts)


def _application(job: Job) -> Part:
    """By what its processes note of themselves. While MongoDB alone serves, there need not be any."""
    mode, live = read_mode(job.ledger), live_instances(job.ledger, job.identity)
    changed_s = (now_ms() - max((one.at_ms for one in list_moves(job.ledger)), default=0)) / 1000
    behind = unacknowledged(live, mode.epoch) if changed_s > FOLLOWED_WITHIN_S else []
    wrong = [f"{one.name} has not followed the change to {mode} {changed_s:.0f} s ago" for one in behind]
    unserved = sum(sum(one.unserved.values()) for one in live)
    if unserved and mode.leader is not Mode.MONGO_ONLY:
        wrong.append(f"{unserved} call(s) that DynamoDB cannot answer: see `docferry mode`")
    none = f"no instance is registered, and the mode is {mode}: is the application down, or does it not use the client?"
    unknown = [none] if not live and mode.mode is not Mode.MONGO_ONLY else []
    well = f"{len(live)} instance(s) follow" if live else "no instance is registered, and none need be"
    return _part(wrong, unknown, well, instances=len(live), mode=str(mode), unserved=unserved)
