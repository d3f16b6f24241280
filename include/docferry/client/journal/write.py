"""A write and its entry in the journal, in one transaction (docs/protocol.md, section 14)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.client.journal.lanes import InstanceLanes
from docferry.core.cutover.journal import (
    Answer,
    Entry,
    EntryKind,
    Lane,
    LaneName,
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


@dataclass(slots=True)
class CommitTicket:
    """What was sent last for one transaction, so that it can be found out later whether it has happened.

    With a journal its slot and its nonce; without one the request itself, which bears a token.
    """

    lane: LaneName | None = None
    slot: int = 0
    nonce: str = ""
    request: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def sent(self) -> bool:
        return bool(self.nonce)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteJournal:
    """The journal of one instance."""

    table: str
    migration: str
    lanes: InstanceLanes

    async def commit(
        self,
        calls: DynamoCalls,
        guard: Guard,
        requests: Sequence[dict[str, Any]],
        wrote: Sequence[Wrote],
        ticket: CommitTicket | None = None,
    ) -> None:
        """Carry out these requests of a transaction, and put an entry: all or none.

        Raises: ConditionFailed, if an item is not as it was read any more: nothing was written; InstanceStruck: nothing was, the
                call may be made again; else what `calls` raises: then it is unknown, and the lane's next entry will tell.
        """
        lane = await self._lane(calls)
        try:
            while await self._try(lane, calls, guard, requests, wrote, ticket) is Answer.BEHIND:
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

    async def happened(self, calls: DynamoCalls, guard: Guard, ticket: CommitTicket) -> bool:
        """Whether what was sent with this ticket has happened; if not, it never will.

        Its slot tells. One that is empty yet gets a void, as any later write of the lane would take it. Without a slot the
        request is sent again, which bears its token. Raises StoreError.
        """
        if ticket.lane is None:
            try:
                await calls.call("TransactWriteItems", ticket.request or {}, guard)
            except ConditionFailed:
                return False
            return True
        partition = ticket.lane.partition(self.migration)
        found = await self._read(calls, partition, ticket.slot)
        while found is None:
            void = Entry(kind=EntryKind.VOID, nonce=self.lanes.void(ticket.lane, ticket.slot))
            item = entry_item(partition, ticket.slot, void, int(time.time()))
            try:
                await calls.call("PutItem", put_if_empty(self.table, item), guard)
                return False
            except ConditionFailed:
                found = await self._read(calls, partition, ticket.slot)
        return found.nonce == ticket.nonce

    async def _try(
        self,
        lane: Lane,
        calls: DynamoCalls,
        guard: Guard,
        requests: Sequence[dict[str, Any]],
        wrote: Sequence[Wrote],
        ticket: CommitTicket | None,
    ) -> Answer:
        nonce, slot = uuid.uuid4().hex, lane.next
        entry = Entry(kind=EntryKind.WRITE, nonce=nonce, wrote=tuple(wrote))
        item = entry_item(lane.name.partition(self.migration), slot, entry, int(time.time()))
        request = {
            "TransactItems": [*requests, {"Put": put_if_empty(self.table, item)}],
            "ClientRequestToken": nonce,
        }
        if ticket is not None:
            ticket.lane, ticket.slot, ticket.nonce = lane.name, slot, nonce
        lane.send(nonce)
        try:
            await calls.call("TransactWriteItems", request, guard)
        except ConditionFailed:
            found = await self._read(calls, lane.name.partition(self.migration), slot)
            if found is None:
                raise  # a document has changed; a copy of the request may still come: the slot is the lane's next write's
            answer = lane.meet(found, nonce)
            if answer in (Answer.SEALED, Answer.FOREIGN):
                self.lanes.abandon()
                raise InstanceStruck(f"{lane.name.instance}: {answer}") from None
            return answer
        lane.take()
        return Answer.HAPPENED

    async def _read(self, calls: DynamoCalls, partition: str, slot: int) -> Entry | None:
        """What is in a slot. Which of a transaction's conditions failed is asked of the table, not read out of a message."""
        key = {"PK": {"S": partition}, "SK": {"S": slot_key(slot)}}
        reply = await calls.call("GetItem", {"TableName": self.table, "Key": key, "ConsistentRead": True})
        return entry_in(reply["Item"])[1] if "Item" in reply else None
