"""How far reverse replication is: its lease, and for each table the place in its stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from docferry.errors import ConditionFailed, LeaseHeld
from docferry.flows.ledger.dead_letters import bounded
from docferry.flows.ledger.leases import Holder, holder_of
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

REVERSE = ("reverse", "stream")
"""Section and key of the record that is the lease, and holds the positions."""
COUNTERS = ("records", "applied", "same", "removed", "ignored", "dead", "healed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseState:
    """As of the last checkpoint, `at_ms`. All that was written to DynamoDB before `reached_ms` is in MongoDB; `begun_ms` is
    since when it is followed, 0 if no start is recorded.

    `tables`: each table's place in its stream, as `flows/reverse/shards` encodes it. `ended`: what the last run ended with.
    """

    begun_ms: int = 0
    reached_ms: int = 0
    at_ms: int = 0
    holder: Holder = field(default_factory=Holder)
    pending: int = 0
    letters: int = 0
    lag_s: int = 0
    rate: int = 0
    in_danger: bool = False
    ended: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    record: Record | None = field(default=None, repr=False, compare=False)

    @property
    def started(self) -> bool:
        """A start is recorded."""
        return bool(self.begun_ms)


def read_reverse(ledger: Ledger) -> ReverseState:
    """As of now; all empty if DynamoDB has never led."""
    record = ledger.read(*REVERSE)
    return reverse_in(record) if record is not None else ReverseState()


def reverse_in(record: Record) -> ReverseState:
    """What the record says; `reverse_in(lease.record)` of the one that is held."""
    body = record.body
    return ReverseState(
        begun_ms=int(body.get("begun", 0)),
        reached_ms=int(body.get("reached", 0)),
        at_ms=int(body.get("at", 0)),
        holder=holder_of(record),
        pending=int(body.get("pending", 0)),
        letters=int(body.get("letters", 0)),
        lag_s=int(body.get("lag_s", 0)),
        rate=int(body.get("rate", 0)),
        in_danger=bool(body.get("in_danger")),
        ended=str(body.get("ended", "")),
        counts={name: int(body.get(name, 0)) for name in COUNTERS},
        tables=body.get("tables", {}),
        record=record,
    )


def reverse_checkpoint(state: ReverseState) -> dict[str, Any]:
    """What the lease writes while changes are followed: not `begun` and `ended`."""
    return {
        **state.counts,
        "at": state.at_ms,
        "pending": state.pending,
        "letters": state.letters,
        "reached": state.reached_ms,
        "lag_s": state.lag_s,
        "in_danger": state.in_danger,
        "rate": state.rate,
        "tables": state.tables,
    }


def reverse_ended(why: str) -> dict[str, Any]:
    """What the lease writes when a run ends."""
    return {"ended": bounded(why)}


def require_unheld(ledger: Ledger) -> ReverseState:
    """As of now. Raises LeaseHeld while a process follows."""
    state = read_reverse(ledger)
    if state.holder.owner and state.holder.until_ms > now_ms():
        raise LeaseHeld("/".join(REVERSE), state.holder.owner, state.holder.left_s)
    return state


def start_reverse(ledger: Ledger, before: ReverseState, begun_ms: int, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Follow from `begun_ms` on, in the place of any earlier start. Raises LeaseHeld if a process has just begun."""
    fence = int(before.record.body.get("fence", 0)) if before.record is not None else 0
    body = {
        "owner": "",
        "mark": "",
        "until": 0,
        "reached": begun_ms,
        "begun": begun_ms,
        "fence": fence,
        "tables": tables,
    }
    try:
        ledger.write(*REVERSE, body, expect=before.record)
    except ConditionFailed:
        raise LeaseHeld("/".join(REVERSE), "a process that has just begun", 60.0) from None
