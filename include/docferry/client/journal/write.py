"""A write and its entry in the journal, in one transaction (docs/protocol.md, section 14)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from docferry.client.journal.lanes import InstanceLanes
from docferry.core.cutover.journal import (
    Answer,
    Entry,
    EntryKind,
    Lane,
    Wrote,
    entry_in,
    entry_item,
    put_if_empty,
    slot_key,
)
from docferry.errors import ConditionFailed, InstanceStruck, Unavailable
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard

STEP_S = 0.002
LANE_WAIT_S = 10.0
"""For a lane without a write in flight; as long as a write is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteJournal:
    """The journal of one instance."""

    table: str
    migration: str
    lanes: InstanceLanes

    async def commit(
        self, calls: DynamoCalls, guard: Guard, puts: Sequence[dict[str, Any]], wrote: Sequence[Wrote]
    ) -> None:
        """Write these items and an entry: all or none.

        Raises: ConditionFailed, if an item is not as it was read any more: nothing was written; InstanceStruck: nothing was, the
                call may be made again; else what `calls` raises: then it is unknown, and the lane's next entry will tell.
        """
        lane = await self._lane(calls)
        try:
            while await self._try(lane, calls, guard, puts, wrote) is Answer.BEHIND:
                continue
        finally:
            self.lanes.give_back(lane)

    async def _lane(self, calls: DynamoCalls) -> Lane:
        began = time.monotonic()
        while (lane := self.lanes.take()) is None:
            if time.monotonic() - began > LANE_WAIT_S:
                raise Unavailable(
                    f"each of this process's {self.lanes.granted} lanes of the journal had a write in flight for "
                    f"{LANE_WAIT_S:.0f} s: nothing was written",
                    operation="write",
                )
            await calls.sleep(STEP_S)
        return lane

    async def _try(
        self, lane: Lane, calls: DynamoCalls, guard: Guard, puts: Sequence[dict[str, Any]], wrote: Sequence[Wrote]
    ) -> Answer:
        nonce, slot = uuid.uuid4().hex, lane.next
        entry = Entry(kind=EntryKind.WRITE, nonce=nonce, wrote=tuple(wrote))
        item = entry_item(lane.name.partition(self.migration), slot, entry, int(time.time()))
        request = {
            "TransactItems": [{"Put": put} for put in (*puts, put_if_empty(self.table, item))],
            "ClientRequestToken": nonce,
        }
        lane.send(nonce)
        try:
            await calls.call("TransactWriteItems", request, guard)
        except ConditionFailed:
            found = await self._read(calls, lane, slot)
            if found is None:
                raise  # a document has changed; a copy of the request may still come: the slot is the lane's next write's
            answer = lane.meet(found, nonce)
            if answer in (Answer.SEALED, Answer.FOREIGN):
                self.lanes.abandon()
                raise InstanceStruck(f"{lane.name.instance}: {answer}") from None
            return answer
        lane.take()
        return Answer.HAPPENED

    async def _read(self, calls: DynamoCalls, lane: Lane, slot: int) -> Entry | None:
        """What is in a slot. Which of a transaction's conditions failed is asked of the table, not read out of a message."""
        key = {"PK": {"S": lane.name.partition(self.migration)}, "SK": {"S": slot_key(slot)}}
        reply = await calls.call("GetItem", {"TableName": self.table, "Key": key, "ConsistentRead": True})
        return entry_in(reply["Item"])[1] if "Item" in reply else None
