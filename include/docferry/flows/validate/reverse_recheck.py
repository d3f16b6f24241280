"""Suspects of the way back are looked at again until they are proved different, or not.

A stream has no watermark, and DynamoDB shows no past. What proves a difference is that nothing is on its way any more: the
document's items have stayed as they were, reverse replication has reached what was written after they were seen so, `settle_s`
has passed, and MongoDB's copy still is another. Whatever moved meanwhile is looked at again. A copy that is once seen to be
what DynamoDB held a moment before is equal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from docferry.core.compare.diff import Difference, is_tombstone
from docferry.core.mapping.items import GUARD, Item, ItemKey, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import id_name, item_id
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.modes import CLOCKS_S
from docferry.flows.ledger.reports import shown_ms
from docferry.flows.ledger.rooms.reverse_stream import read_reverse
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import JUDGING_BEHIND_S, SEEN_S
from docferry.flows.reverse.places import Place, place_of, root_place
from docferry.flows.validate.common import PAGE_DOCUMENTS, mark_of, read_ids
from docferry.flows.validate.judging import Judging
from docferry.flows.validate.reverse_looks import (
    Held,
    by_id,
    differences_of_copy,
    differences_of_guard,
    guard_keys_of,
    held_at,
    named_by,
    places_of_guard,
    strange_item,
)
from docferry.flows.validate.suspects import Suspect, Suspects
from docferry.ports.flows import Target

START = "start it (docferry reverse, or the DAG reverse), and validate again"
AGAIN_S = 1.0
STILL_S = 60.0
"""Reverse replication that has not come any further for so long stands still."""
CLOSE_LOOKS = 10
CLOSE_S = 0.2
"""A document that is written all the time is never equal at once: its copy is awaited so often, so long apart."""


@dataclass(slots=True)
class _Look:
    """One suspect in a look: what DynamoDB held, and in what MongoDB's copy was not that.

    `strayed`: the copy maps to a place that was not looked at, for it has come there since: this look proves nothing.
    """

    one: Suspect
    held: list[Held] = field(default_factory=list)
    found: list[Difference] = field(default_factory=list)
    seen_ms: int = 0
    strayed: bool = False

    @property
    def mark(self) -> bytes:
        """What DynamoDB held, for telling whether it has moved since; never empty."""
        ordered = sorted(self.held, key=lambda held: (held.place.pk, held.place.sk))
        return b"held" + b"".join(held.mark for held in ordered)


class ReverseGenerations(Judging):
    """Judges by how far reverse replication has got."""

    expected = "what DynamoDB holds"

    def __init__(self, job: Job, target: Target, suspects: Suspects) -> None:
        super().__init__(job, target, suspects)
        self.reached_ms = 0
        self._began = self._moved = time.monotonic()
        self._waited_for = self._is_nobody = False

    async def generation(self) -> str:
        await asyncio.sleep(self._pause_s())
        await self._see_how_far()
        self.judged.generations += 1
        self._waited_for = False
        await self._look()
        return self._why_no_longer(time.monotonic() - self._began) if len(self.suspects) else ""

    # --- when --------------------------------------------------------------------------------------------------------

    def _pause_s(self) -> float:
        """Until something may have changed: a while, twice as long after each look, for what is on its way arrives soon; at most
        until what is proved has been so for long enough."""
        if any(not one.proved_ms for one in self.suspects):
            return AGAIN_S
        due_ms = min(one.proved_ms for one in self.suspects) + self.settle_s * 1000
        again_s: float = AGAIN_S * 2**self.judged.generations
        return min(again_s, max(AGAIN_S, (due_ms - now_ms()) / 1000))

    async def _see_how_far(self) -> None:
        state = await self.aside(read_reverse, self.job.ledger)
        noted_s = (now_ms() - state.at_ms) / 1000
        self._is_nobody = bool(state.at_ms) and noted_s > SEEN_S and state.holder.expired(self.job.identity)
        reached_ms = state.reached_ms
        if reached_ms > self.reached_ms:
            self.reached_ms, self._moved = reached_ms, time.monotonic()

    def _why_no_longer(self, seconds: float) -> str:
        """Why what is left cannot be judged; "" if it may still be."""
        if not self.reached_ms:
            return f"reverse replication has never run: {START}"
        if self._is_nobody:
            return f"no process replicates back, and {shown_ms(self.reached_ms)} is as far as it came: {START}"
        if time.monotonic() - self._moved > STILL_S:
            return f"reverse replication stands still at {shown_ms(self.reached_ms)}"
        if seconds > self.settle_s + JUDGING_BEHIND_S:
            if self._waited_for:
                return f"reverse replication is {(now_ms() - self.reached_ms) / 1000:.0f} s behind"
            return "some are written again before each look"
        return ""

    # --- a look ------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        documents, items = list(self.suspects.documents(PAGE_DOCUMENTS)), list(self.suspects.items(PAGE_DOCUMENTS))
        for collection, page in documents:
            await self._look_at_documents(self.job.migration.mapping(collection), page)
        for table, page in items:  # those that looking at documents has added have their turn in the next look
            await self._look_at_items(table, page)

    async def _look_at_documents(self, mapping: DocumentMapping, page: Sequence[Suspect]) -> None:
        self.judged.rechecked += len(page)
        looks = await self._hold(mapping, page)
        await self._compare(mapping, looks)
        for _ in range(CLOSE_LOOKS):
            moving = [look for look in looks if look.found and look.one.mark not in (b"", look.mark)]
            if not moving:
                break
            await asyncio.sleep(CLOSE_S)
            await self._compare(mapping, moving)
        for look in looks:
            self._note(look.one, look.found, b"" if look.strayed else look.mark, look.seen_ms)

    async def _hold(self, mapping: DocumentMapping, page: Sequence[Suspect]) -> list[_Look]:
        """What DynamoDB holds at all places that are known of these documents, and where MongoDB's copies map to."""
        copies = await self._copies(mapping, page)
        looks = {id_name(one.id): _Look(one) for one in page}
        for one in page:
            if looks[id_name(one.id)].one is not one:  # the int32 and the int64 of one value: one document in MongoDB
                self.suspects.drop(one)
        places: list[Place] = []
        for name, look in looks.items():
            copy = copies.get(name)
            own = root_place(mapping, copy) if copy is not None else None
            mine = [place_of(mapping, look.one.id, key) for key in look.one.keys]
            mine += [own] if own is not None and not any(own.is_at(place) for place in mine) else []
            look.one.keys = tuple((place.pk, place.sk) for place in mine)
            places += mine
        for held in await held_at(self.target, places):
            looks[held.place.name].held.append(held)
        for look in looks.values():
            look.seen_ms = now_ms()
        return list(looks.values())

    async def _compare(self, mapping: DocumentMapping, looks: Sequence[_Look]) -> None:
        copies = await self._copies(mapping, [look.one for look in looks])
        for look in looks:
            copy = copies.get(id_name(look.one.id))
            own = root_place(mapping, copy) if copy is not None else None
            look.strayed = own is not None and not any(own.is_at(held.place) for held in look.held)
            look.found = differences_of_copy(mapping, look.one.id, look.held, copy, self.masked)

    async def _copies(self, mapping: DocumentMapping, page: Sequence[Suspect]) -> dict[str, bytes]:
        return by_id(await self.aside(read_ids, self.job, mapping.collection, [one.id for one in page]))

    async def _look_at_items(self, table: str, page: Sequence[Suspect]) -> None:
        """Items that name no document. Once gone, or mended, they are none. Guards name one, and are looked at by themselves."""
        self.judged.rechecked += len(page)
        await self._look_at_guards(table, [one for one in page if _is_of_a_guard(one)])
        page = [one for one in page if not _is_of_a_guard(one)]
        entities = self.job.migration.entities(table)
        stored = await self.target.get_all(table, [one.key for one in page if one.key is not None])
        looked_ms = now_ms()
        for one in page:
            item = stored.get(one.key) if one.key is not None else None
            named = named_by(item, entities) if item is not None and not is_tombstone(item) else None
            if item is None or is_tombstone(item) or isinstance(named, Place):
                self.suspects.drop(one)
                continue
            strange = strange_item(list(entities.values()), item, named, self.masked)
            self._note(one, [strange], mark_of(b"", [item]), looked_ms)

    async def _look_at_guards(self, table: str, page: Sequence[Suspect]) -> None:
        """A guard is read, and then the documents that may hold its value: the one that it names, and the one that lacks it."""
        stored = await self.target.get_all(table, [one.key for one in page if one.key is not None])
        for one in page:
            assert one.key is not None
            mapping, item = self.job.migration.mapping(one.collection), stored.get(one.key)
            named = item_id(item) if item is not None and not is_tombstone(item) else None
            ids = list(dict.fromkeys(id_data for id_data in (one.id, named) if id_data))
            places = await self.aside(places_of_guard, self.job, mapping, ids)
            held = await held_at(self.target, [*places, *(place_of(mapping, one.id, key) for key in one.keys)])
            looked_ms = now_ms()
            holders = [each for each in held if one.key in guard_keys_of(each)]
            found = differences_of_guard(mapping, one.id, one.key, item, holders, self.masked)
            mark = mark_of(b"".join(sorted(each.mark for each in held)), [item])
            self._note(one, found, mark, looked_ms)

    # --- judging -----------------------------------------------------------------------------------------------------

    def _note(self, one: Suspect, found: list[Difference], mark: bytes, seen_ms: int) -> None:
        """What this look means for a suspect: it is none; or DynamoDB has moved (an empty `mark`: or may have); or what was
        proved for long enough, and is not on its way any more, is a mismatch.

        `reached_ms` was asked before the look: what it has passed had been applied by then.
        """
        if not found:
            self.suspects.drop(one)
            return
        moved, one.mark, one.found = one.mark != mark, mark, [found]
        if moved or not mark or not one.proved_ms:
            one.proved_ms = seen_ms
        elif seen_ms - one.proved_ms < self.settle_s * 1000:
            return
        elif self.reached_ms < one.proved_ms + CLOCKS_S * 1000:
            self._waited_for = True
        else:
            self.is_mismatch(one)


def add_document(suspects: Suspects, mapping: DocumentMapping, id_data: bytes, place: Place | None = None) -> None:
    """A document whose copy is not what DynamoDB holds at this place; without one, that DynamoDB may not have at all."""
    keys = ((place.pk, place.sk),) if place is not None else ()
    suspect = Suspect(table=mapping.table, collection=mapping.collection, id=id_data, keys=keys, first_seen_ms=now_ms())
    suspects.add(suspect)
    known = suspects.by_name.get(suspect.name, suspect)
    known.keys = tuple(dict.fromkeys((*known.keys, *keys)))


def add_guard(
    suspects: Suspects, mapping: DocumentMapping, id_data: bytes, key: ItemKey, place: Place | None = None
) -> None:
    """A guard that is not that of a document which holds its value; `id_data` is whose it should be, or says that it is."""
    keys = ((place.pk, place.sk),) if place is not None else ()
    suspects.add(
        Suspect(
            table=mapping.table, collection=mapping.collection, id=id_data, key=key, keys=keys, first_seen_ms=now_ms()
        )
    )


def _is_of_a_guard(one: Suspect) -> bool:
    return one.key is not None and one.key[0].startswith(f"{GUARD}#")


def add_item(suspects: Suspects, table: str, collection: str, item: Item) -> None:
    """An item that names no document; "" is no collection."""
    suspects.add(Suspect(table=table, collection=collection, key=key_of(item), first_seen_ms=now_ms()))
