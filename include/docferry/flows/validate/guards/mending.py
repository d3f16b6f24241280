"""Mending guards while DynamoDB leads. The documents are DynamoDB's, and right; MongoDB says only where to look for them.

A guard that a document lacks is put with the least version that is above what is there, so that one which another document has
gained meanwhile is newer, and stays; then the document is read again, and if it has given the value up, the guard becomes a
tombstone of its own version, as the document's own write would have left it. A guard whose value no document holds becomes a
tombstone of its version. Between the two a value may be refused that is free, never given twice. Values that two documents hold
are for a person.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from docferry.core.compare.diff import is_tombstone
from docferry.core.mapping.items import Item, ItemKey, key_of, tombstone
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import decode_document, item_id
from docferry.core.versions import version_in
from docferry.errors import Stopped
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.budget import LedgerBudget, budget_of
from docferry.flows.ledger.modes import CLOCKS_S
from docferry.flows.ledger.rooms.reverse_stream import read_reverse
from docferry.flows.ledger.times import now_ms
from docferry.flows.validate.reverse_looks import Held, guard_keys_of, held_at, is_guard_of, places_of_guard
from docferry.ports.flows import Guard, Target

REACHED_WITHIN_S = 30.0
POLL_S = 0.25


@dataclass(slots=True)
class MendedGuards:
    """`put`: of documents that lacked them. `buried`: of values that no document holds. `kept`: two documents hold the value, or
    it could not be told whether one does, or it has changed meanwhile."""

    put: int = 0
    buried: int = 0
    kept: int = 0


class GuardMending:
    """`leased` raises once the lease is lost under which all of it is read and written; `floor` is that of the mode meanwhile."""

    def __init__(self, job: Job, target: Target, leased: Guard, floor: int) -> None:
        self.job, self.target, self.leased, self.floor = job, target, leased, floor
        self.done = MendedGuards()
        self.budget = LedgerBudget(job.ledger, "wcu", budget_of(job.migration), job.stop)

    def guard(self) -> None:
        if self.job.stop.is_set():
            raise Stopped("asked to stop; what was mended stays, repair again to continue")
        self.leased()

    async def documents(self, mapping: DocumentMapping, ids: Sequence[bytes]) -> None:
        """Put the guards that these documents lack. Raises: StoreError, Stopped."""
        for id_data in ids:
            for one in await self._held(mapping, [id_data]):
                wanted = guard_keys_of(one)
                stored = await self.target.get_all(mapping.table, list(wanted))
                for key in wanted:
                    if not is_guard_of(stored.get(key), one.place):
                        await self._put(mapping, one, key, stored.get(key))

    async def without_holder(self, table: str, keys: Sequence[ItemKey]) -> None:
        """Bury those of the guards whose value no document holds. Raises: StoreError, Stopped."""
        stored = await self.target.get_all(table, list(keys))
        live = {key: item for key, item in stored.items() if not is_tombstone(item)}
        if not live:
            return
        reached = await self._await_reached()
        again = await self.target.get_all(table, list(live))
        for key, item in live.items():
            mapping = self._mapping_of(key)
            id_data = item_id(item)
            held = await self._held(mapping, [id_data]) if id_data else []
            if any(key in guard_keys_of(one) for one in held):
                continue
            if not reached or again.get(key) != item:
                self.done.kept += 1  # its document may be on its way to MongoDB, where it would be looked for
            else:
                await self._bury(mapping, item)
                self.done.buried += 1

    # --- what is there -----------------------------------------------------------------------------------------------

    def _mapping_of(self, key: ItemKey) -> DocumentMapping:
        mappings = self.job.migration.mappings.values()
        return next(one for one in mappings if any(key[0].startswith(f"{name}#") for name in one.unique))

    async def _held(self, mapping: DocumentMapping, ids: Sequence[bytes]) -> list[Held]:
        places = await in_thread(places_of_guard, self.job, mapping, ids, stop=self.job.stop)
        return await held_at(self.target, places)

    async def _await_reached(self) -> bool:
        """Whether reverse replication has passed what had been written by now."""
        due_ms, ends = now_ms() + CLOCKS_S * 1000, time.monotonic() + REACHED_WITHIN_S
        while time.monotonic() < ends:
            self.guard()
            if (await in_thread(read_reverse, self.job.ledger, stop=self.job.stop)).reached_ms >= due_ms:
                return True
            await asyncio.sleep(POLL_S)
        return False

    # --- what is written ---------------------------------------------------------------------------------------------

    async def _put(self, mapping: DocumentMapping, one: Held, key: ItemKey, there: Item | None) -> None:
        if there is not None and not is_tombstone(there) and await self._is_held_by_another(mapping, there, key):
            self.done.kept += 1
            return
        assert one.data is not None
        version = max(
            self.floor, version_in(there) + 1 if there is not None else 0
        )  # the client's own are above the floor
        made = {key_of(item): item for item in mapping.guard_items(decode_document(one.data), version)}
        written = await self.target.put_newer(mapping.table, [made[key]], self.budget, self.guard)
        if (
            written.superseded
        ):  # gained or given up meanwhile: the next validation tells what is wrong with it, if anything is
            self.done.kept += 1
            return
        if not any(key in guard_keys_of(again) for again in await held_at(self.target, [one.place])):
            await self._bury(mapping, made[key])
            return
        self.done.put += 1

    async def _is_held_by_another(self, mapping: DocumentMapping, there: Item, key: ItemKey) -> bool:
        id_data = item_id(there)
        held = await self._held(mapping, [id_data]) if id_data else []
        return any(key in guard_keys_of(one) for one in held)

    async def _bury(self, mapping: DocumentMapping, item: Item) -> None:
        ttl = self.job.migration.table(mapping.table).ttl_attribute
        graves = [tombstone(item, version_in(item), ttl)]
        await self.target.put_newer(mapping.table, graves, self.budget, self.guard, or_same=True)
