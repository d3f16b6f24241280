"""The watch of the database that led before: from which place it is watched, how far that has come, and how it ended.

A change of leader opens the watch before the mode changes; who replicates carries it on; its end is recorded, or why a person
did not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.versions import parse_version, version_text
from docferry.errors import ConditionFailed
from docferry.flows.ledger.positions import position_body, position_in
from docferry.flows.ledger.times import decode_time, encode_time, now_ms
from docferry.ports.flows import Ledger, Record, StreamPosition

WATCH = "watch"
"""Section: one record for each database, of its last watch."""
_NEVER = Timestamp(0, 0)


class Old(StrEnum):
    """The database that led before."""

    MONGODB = "mongodb"
    DYNAMODB = "dynamodb"

    @property
    def label(self) -> str:
        return "MongoDB" if self is Old.MONGODB else "DynamoDB"

    @property
    def other(self) -> Old:
        return Old.DYNAMODB if self is Old.MONGODB else Old.MONGODB


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One watch. It lasts `least_s` from `begun_ms` at least, and is seen to as far as `seen_ms`; `ended_ms` 0: it goes on.

    `how` says how it ended. `floor` and `end` are the versions of the time that DynamoDB led. Of MongoDB: it is watched from
    `since` on, its own time, and read on at `position`; of DynamoDB: `tables` is where each table's stream is read on (as
    `flows/reverse/shards` encodes it).
    """

    old: Old
    begun_ms: int
    least_s: float
    seen_ms: int = 0
    ended_ms: int = 0
    how: str = ""
    since: Timestamp = _NEVER
    position: StreamPosition | None = field(default=None, repr=False)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    floor: int = 0
    end: int = 0
    record: Record | None = field(default=None, repr=False, compare=False)

    @property
    def until_ms(self) -> int:
        return self.begun_ms + int(self.least_s * 1000)

    @property
    def is_open(self) -> bool:
        return not self.ended_ms

    @property
    def left_s(self) -> float:
        """How long it is still to last, by what was seen."""
        return max(0.0, (self.until_ms - max(self.seen_ms, self.begun_ms)) / 1000)


def read_watch(ledger: Ledger, old: Old) -> Watch | None:
    """The last watch of this database; None if there has been none. Raises StoreError."""
    record = ledger.read(WATCH, old.value)
    return watch_in(record) if record is not None else None


def watch_in(record: Record) -> Watch:
    """What the record says."""
    body = record.body
    return Watch(
        old=Old(record.key),
        begun_ms=int(body["begun"]),
        least_s=float(body["least_ms"]) / 1000,
        seen_ms=int(body["seen"]),
        ended_ms=int(body["ended"]),
        how=str(body["how"]),
        since=decode_time(body["since"]),
        position=position_in(body) if "token" in body else None,
        tables=body.get("tables", {}),
        floor=parse_version(body["floor"]),
        end=parse_version(body["end"]),
        record=record,
    )


def begin_watch(ledger: Ledger, watch: Watch) -> None:
    """Open it, in the place of an earlier one. Raises StoreError."""
    while True:
        before = read_watch(ledger, watch.old)
        try:
            ledger.write(WATCH, watch.old.value, _body(watch), expect=before.record if before else None)
        except ConditionFailed:
            continue  # who replicated has just noted how far the earlier one is
        return


def note_watch(ledger: Ledger, watch: Watch) -> Watch:
    """Write down how far it is. Raises ConditionFailed if another process has, or another watch has begun; StoreError."""
    return watch_in(ledger.write(WATCH, watch.old.value, _body(watch), expect=watch.record))


def end_watch(ledger: Ledger, old: Old, how: str) -> bool:
    """End one that goes on, whatever it has seen; whether one did. Raises StoreError."""
    while (watch := read_watch(ledger, old)) is not None and watch.is_open:
        body = _body(watch) | {"ended": now_ms(), "how": how}
        try:
            ledger.write(WATCH, old.value, body, expect=watch.record)
        except ConditionFailed:
            continue
        return True
    return False


def _body(watch: Watch) -> dict[str, Any]:
    body: dict[str, Any] = position_body(watch.position) if watch.position is not None else {}
    return body | {
        "begun": watch.begun_ms,
        "least_ms": int(watch.least_s * 1000),
        "seen": watch.seen_ms,
        "ended": watch.ended_ms,
        "how": watch.how,
        "since": encode_time(watch.since),
        "tables": dict(watch.tables),
        "floor": version_text(watch.floor),
        "end": version_text(watch.end),
    }
