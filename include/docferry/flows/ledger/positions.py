"""Positions in MongoDB's change stream: from where to follow, and up to where all is applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import bson

from docferry.errors import ConditionFailed, InvariantBroken
from docferry.flows.ledger.dead_letters import bounded
from docferry.flows.ledger.leases import Holder, holder_of
from docferry.flows.ledger.times import decode_time, encode_time, now_ms
from docferry.ports.flows import Ledger, Record, Source, StreamPosition


def recorded_position(ledger: Ledger) -> StreamPosition | None:
    """The stream position recorded before the first page was read, None if none has been yet."""
    record = ledger.read("position", "stream")
    if record is None:
        return None
    return position_in(record.body)


REPLICATION = ("replicate", "stream")
"""Section and key of the record that is the replicator's lease and holds the position up to which all is applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationState:
    """Replication as of its last checkpoint, `at_ms`; its counters are over all runs.

    `opened`: it has begun once, so nothing may be loaded without conditions any more. `lost`: the oplog no longer holds the
    position. `lag_s` None is unknown. `ended` is what the last run ended with, "" if by itself; `waits`, which members of
    MongoDB it waits for. `first` counts since the mode's epoch `first_epoch` what no dual write had stored before.
    """

    opened: bool = False
    lost: bool = False
    position: StreamPosition | None = None
    holder: Holder = field(default_factory=Holder)
    at_ms: int = 0
    pending: int = 0
    lag_s: int | None = None
    rate: int = 0
    ended: str = ""
    waits: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    first_epoch: int = -1
    first: Mapping[str, int] = field(default_factory=dict)
    oplog_left_s: int | None = None
    in_danger: bool = False
    record: Record | None = field(default=None, repr=False, compare=False)

    @property
    def noted_s_ago(self) -> float:
        return (now_ms() - self.at_ms) / 1000


MOST_TOKEN_BYTES = 250_000
COUNTED = ("events", "written", "superseded", "dead", "passed", "outside")
"""What replication counts: events are the sum of the others."""


def read_replication(ledger: Ledger) -> ReplicationState:
    """As of now; all empty if replication has never run."""
    record = ledger.read(*REPLICATION)
    return replication_in(record) if record is not None else ReplicationState()


def replication_in(record: Record) -> ReplicationState:
    """What the record says; `replication_in(lease.record)` of the one that is held."""
    body = record.body
    lag_s, first = int(body.get("lag_s", -1)), body.get("first") or {"epoch": -1, "counts": {}}
    return ReplicationState(
        opened=bool(body.get("opened")),
        lost=bool(body.get("lost")),
        position=position_in(body) if "token" in body else None,
        holder=holder_of(record),
        at_ms=int(body.get("at", 0)),
        pending=int(body.get("pending", 0)),
        lag_s=lag_s if lag_s >= 0 else None,
        rate=int(body.get("rate", 0)),
        ended=str(body.get("ended", "")),
        waits=str(body.get("waits", "")),
        counts={name: int(body.get(name, 0)) for name in COUNTED},
        first_epoch=int(first["epoch"]),
        first={name: int(count) for name, count in first["counts"].items()},
        oplog_left_s=int(body["oplog_left_s"]) if "oplog_left_s" in body else None,
        in_danger=bool(body.get("in_danger")),
        record=record,
    )


def replication_checkpoint(state: ReplicationState) -> dict[str, Any]:
    """What the replicator's lease writes every few seconds: not what is set once (`opened`, `lost`, `ended`).

    A resume token holds the key of the last document: where it is too long for a record, the earlier position stays.
    """
    body: dict[str, Any] = position_body(state.position) if state.position is not None else {}
    if len(body.get("token", b"")) > MOST_TOKEN_BYTES:
        body = {}
    body |= {"at": state.at_ms, "pending": state.pending, **state.counts, "rate": state.rate, "waits": state.waits}
    body["first"] = {"epoch": state.first_epoch, "counts": dict(state.first)}
    body["lag_s"] = -1 if state.lag_s is None else state.lag_s
    if state.oplog_left_s is not None:
        body |= {"oplog_left_s": state.oplog_left_s, "in_danger": state.in_danger}
    return body


def replication_opened() -> dict[str, Any]:
    """What the lease writes when replication begins for the first time."""
    return {"opened": now_ms()}


def replication_ended(why: str, *, lost: bool = False) -> dict[str, Any]:
    """What the lease writes when a run ends; `lost` stays until all is loaded again."""
    return {"ended": bounded(why)} | ({"lost": True} if lost else {})


def replication_moved(position: StreamPosition) -> dict[str, Any]:
    """What the lease writes when everything is loaded again, from a new position."""
    return position_body(position) | {"lost": False}


def continue_replication_from(ledger: Ledger, position: StreamPosition) -> None:
    """Where forward replication goes on after DynamoDB led. Raises InvariantBroken, ConditionFailed if it is held."""
    follower = ledger.read(*REPLICATION)
    if follower is None:
        raise InvariantBroken("DynamoDB leads, but forward replication has never run")
    body = {**follower.body, **position_body(position), "owner": "", "pending": 0, "ended": ""}
    ledger.write(*REPLICATION, body, expect=follower)


def applied_position(ledger: Ledger) -> StreamPosition | None:
    """The position up to which replication has applied every change, None if it has not begun."""
    return read_replication(ledger).position


def changes_applied(ledger: Ledger) -> int:
    """How many changes of documents replication has dealt with so far, written or not."""
    counts = read_replication(ledger).counts
    return sum(counts.get(name, 0) for name in ("written", "superseded", "dead"))


def position_body(position: StreamPosition) -> dict[str, Any]:
    """A stream position for a ledger record."""
    return {
        "time": encode_time(position.time),
        "token": bson.encode(position.token),
        "scope": position.scope,
        "n": position.n,
    }


def position_in(body: Mapping[str, Any]) -> StreamPosition:
    """The inverse of `position_body`."""
    return StreamPosition(
        time=decode_time(body["time"]), token=bson.decode(body["token"]), scope=body["scope"], n=int(body.get("n", 0))
    )


def record_position(ledger: Ledger, source: Source) -> StreamPosition:
    """The recorded position; if there is none, the one of now is recorded. Never moved here once it is there."""
    found = recorded_position(ledger)
    if found is not None:
        return found
    position = source.stream_position()
    body = position_body(position) | {"at": now_ms()}
    try:
        ledger.write("position", "stream", body, expect=None)
    except ConditionFailed:
        found = recorded_position(ledger)
        if found is None:
            raise InvariantBroken("the stream position was recorded and is gone") from None
        return found
    return position
