"""The fence on MongoDB: what has been taken from whom, and since when it stands. `flows/fence/record` says what the
states mean for MongoDB."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.cutover.fence_plan import FencePlan
from docferry.flows.ledger.leases import Holder, holder_of
from docferry.flows.ledger.times import decode_time, encode_time
from docferry.ports.flows import Identity, Ledger, Record

FENCE = ("fence", "mongodb")
"""Section and key of the record, which is leased by the process that raises or lifts."""


class Recorded(StrEnum):
    """What the ledger says about the fence."""

    DOWN = "down"
    RAISING = "raising"
    UP = "up"
    LIFTING = "lifting"


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceRecord:
    """`plan` None: docferry has never fenced this MongoDB. `time`, while it is up: nothing of the application's is behind it.

    `late_by` noted that it would lift the fence, lost the lease, and is not proved dead: since `late_ms` its lift may arrive.
    """

    state: Recorded = Recorded.DOWN
    plan: FencePlan | None = None
    time: Timestamp | None = None
    holder: Holder = field(default_factory=Holder)
    late_by: str = ""
    late_ms: int = 0

    def late(self, identity: Identity) -> tuple[str, int] | None:
        """Whose lift may be on its way, and since when (ms since 1970): a holder's that was silent too long counts, too."""
        holder = self.holder
        if (
            self.state is Recorded.LIFTING
            and holder.owner
            and holder.expired(identity)
            and not identity.ended(holder.mark)
        ):
            return holder.owner, holder.until_ms
        return (self.late_by, self.late_ms) if self.late_by else None


def read_fence(ledger: Ledger) -> FenceRecord:
    record = ledger.read(*FENCE)
    return fence_in(record) if record is not None else FenceRecord()


def fence_in(record: Record) -> FenceRecord:
    """What the record says; `fence_in(lease.record)` of the one that is held."""
    body = record.body
    text = body.get("time", "")
    return FenceRecord(
        state=Recorded(body.get("state", Recorded.DOWN)),
        plan=FencePlan.from_body(body) if "kind" in body else None,
        time=decode_time(text) if text else None,
        holder=holder_of(record),
        late_by=str(body.get("late_by", "")),
        late_ms=int(body.get("late_at", 0)),
    )


def late_change(by: str, at_ms: int) -> dict[str, Any]:
    """What the lease writes of a lift that may be on its way."""
    return {"late_by": by, "late_at": at_ms}


def fence_change(state: Recorded, *, plan: FencePlan | None = None, time: Timestamp | None = None) -> dict[str, Any]:
    """What the lease writes: the new state, its time (none unless it is up), and the plan if that is new."""
    body: dict[str, Any] = plan.to_body() if plan is not None else {}
    return body | {"state": state.value, "time": encode_time(time) if time is not None else ""}
