"""Positions in MongoDB's change stream: from where to follow, and up to where all is applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson

from docferry.errors import ConditionFailed, InvariantBroken
from docferry.flows.ledger.times import decode_time, encode_time, now_ms
from docferry.ports.flows import Ledger, Source, StreamPosition


def recorded_position(ledger: Ledger) -> StreamPosition | None:
    """The stream position recorded before the first page was read, None if none has been yet."""
    record = ledger.read("position", "stream")
    if record is None:
        return None
    return position_in(record.body)


REPLICATION = ("replicate", "stream")
"""Section and key of the record that is the replicator's lease and holds the position up to which all is applied."""


def applied_position(ledger: Ledger) -> StreamPosition | None:
    """The position up to which replication has applied every change, None if it has not begun."""
    record = ledger.read(*REPLICATION)
    return None if record is None or "token" not in record.body else position_in(record.body)


def changes_applied(ledger: Ledger) -> int:
    """How many changes of documents replication has dealt with so far, written or not."""
    record = ledger.read(*REPLICATION)
    return 0 if record is None else sum(int(record.body.get(name, 0)) for name in ("written", "superseded", "dead"))


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
