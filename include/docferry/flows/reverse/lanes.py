"""Making MongoDB hold what DynamoDB holds: one document at a time, from a consistent read, never from a stream's image.

Each document has a lane of its own across all shards, so that reading and writing one document is never interleaved with
another attempt at it. What a lane does:

- Live root at the place: MongoDB's copy becomes that document, if it is another.
- No live root: MongoDB's copy goes, but only while it maps to that very place: else its document has moved.
- A document that the collection's filter leaves out is MongoDB's alone: it is neither replaced nor removed.
- Items that do not fit together are read again; a unique index that is in the way is waited for, after the document that
  holds it had its turn. Both have a bound, then there is a dead letter, and the lane goes on; as after an error that nothing
  foresees.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

from docferry.core.backoff import Backoff
from docferry.core.compare.diff import is_tombstone
from docferry.core.mapping.items import ItemKey
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import id_name, is_outside, same_content
from docferry.errors import (
    ConditionFailed,
    DocumentError,
    DuplicateKey,
    ItemsUnreadable,
    OutsideFilter,
    Stopped,
    TornDocument,
    TransientStoreError,
)
from docferry.flows.kernel.lane_scheduler import LaneScheduler
from docferry.flows.kernel.threads import in_thread, to_its_end
from docferry.flows.kernel.unforeseen import AGAIN, foreseen
from docferry.flows.ledger.dead_letters import letter_id
from docferry.flows.ledger.reverse_letters import (
    ReverseLetter,
    close_reverse_letter,
    item_name,
    list_reverse_letters,
    open_reverse_letter,
)
from docferry.flows.reverse.places import Place, maps_to, place_of, places_of, read_document, root_place
from docferry.flows.reverse.shards import Pending, ShardOutcome
from docferry.ports.flows import Guard, Ledger, Sink, StopSignal, StreamRecord, Target

AT_ONCE = 32
TORN_READS = 6
TORN_WAIT_S = 0.05
"""Before the second read; twice as long before each further one."""
DUPLICATE_TRIES = 8
DUPLICATE_WAIT_S = 0.05
BACKOFF = Backoff(for_s=120.0, first_s=0.1, cap_s=5.0)

Lane = tuple[str, str]
"""Collection and id of a document; the id as its letter holds it, if it is a long one."""


def lane_of(document: tuple[str, str]) -> Lane:
    collection, id_text = document
    return collection, letter_id(id_text)


Look = Callable[[], Awaitable[ShardOutcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Returning:
    """What following a document back needs. `guard` is called right before each write to MongoDB; `entities` are the item
    types of each table; `again` is how an error that nothing foresees is tried again."""

    entities: Mapping[str, Mapping[str, DocumentMapping]]
    target: Target
    sink: Sink
    ledger: Ledger
    guard: Guard
    stop: StopSignal
    again: Backoff = AGAIN


@dataclass(slots=True, eq=False)
class _Part:
    """One document to look at, for a record or (None) for its own sake. `holder`: it is looked at because it is in another
    one's way. `key` is where to look again if it becomes a dead letter, of a document if there is `id_data`."""

    lane: Lane
    table: str
    key: ItemKey
    id_data: bytes
    look: Look
    pending: Pending | None
    number: int = 0
    place: Place | None = None
    holder: bool = False
    set_aside: bool = False
    tries: int = 0


class ReverseLanes:
    """Takes records in any order. Belongs to one event loop.

    `parts` counts the documents still to be looked at, `healed` the dead letters closed; `failure` is the error that ended a
    lane: then nothing more is begun.
    """

    def __init__(self, work: Returning) -> None:
        self.work = work
        self.parts = self.healed = 0
        self.letters: dict[Lane, ReverseLetter] = {}
        self._scheduler: LaneScheduler[Lane, _Part] = LaneScheduler(self._serve, AT_ONCE)
        self.moved = self._scheduler.moved
        self._waiting: set[asyncio.TimerHandle] = set()

    @property
    def failure(self) -> BaseException | None:
        return self._scheduler.failure

    # --- what there is to do -----------------------------------------------------------------------------------------

    def put(self, table: str, record: StreamRecord, pending: Pending) -> Iterator[str]:
        """Queue the documents that a record names; gives the reasons why it is (also) passed over."""
        if record.new is None and is_tombstone(record.old):
            yield "a tombstone's own end"
            return
        for found in places_of(record, self.work.entities[table]):
            if isinstance(found, Place):
                self._put(self._part_of(found, record.key, pending))
            elif isinstance(found, ItemsUnreadable):
                self._put(self._part_of_item(found.namespace, table, record.key, pending))
            else:
                yield f"entityType {found}" if found else "no entityType"

    def retry_letters(self) -> None:
        """Look again at every document that has a dead letter, and at nothing else that is queued twice."""
        for letter in self.letters.values():
            if letter.lane in self._scheduler:
                continue
            mapping = self._mapping(letter)
            if letter.id_data and mapping is not None:
                self._put(self._part_of(place_of(mapping, letter.id_data, letter.key), letter.key, None))
            elif not letter.id_data:
                self._put(self._part_of_item(letter.collection, letter.table, letter.key, None))

    def _mapping(self, letter: ReverseLetter) -> DocumentMapping | None:
        """None if the file does not know the collection any more."""
        found = self.work.entities.get(letter.table, {}).values()
        return next((mapping for mapping in found if mapping.collection == letter.collection), None)

    def _part_of(self, place: Place, key: ItemKey, pending: Pending | None) -> _Part:
        return _Part(
            lane_of(place.document),
            place.mapping.table,
            key,
            place.id,
            lambda: self._follow(place),
            pending,
            place=place,
        )

    def _part_of_item(self, collection: str, table: str, key: ItemKey, pending: Pending | None) -> _Part:
        lane = (collection, item_name(key))
        return _Part(lane, table, key, b"", lambda: self._look_at_item(table, key), pending)

    def _put(self, part: _Part) -> None:
        self.parts += 1
        if part.pending is not None:
            part.pending.left += 1
        self._scheduler.put(part.lane, part)

    # --- doing it ----------------------------------------------------------------------------------------------------

    async def _serve(self, name: Lane, waiting: deque[_Part]) -> bool:
        """Look at the oldest document of a lane; False if it must wait for another document's turn."""
        part = waiting[0]
        # A look finds what is there now: it counts for all that asked for the same before it began.
        served = [part, *(one for one in waiting if one is not part and part.place and one.place == part.place)]
        outcome = await self._outcome(part)
        if outcome is None:
            self._wait_for_turn(name, part.tries)
            return False
        for one in served:
            waiting.remove(one)
            self._finish(one, outcome if one is part or outcome is ShardOutcome.DEAD else ShardOutcome.SAME)
        return True

    def _finish(self, part: _Part, outcome: ShardOutcome) -> None:
        self.parts -= 1
        if part.pending is not None:
            part.pending.left -= 1
            part.pending.outcome = max(part.pending.outcome, outcome)

    def _wait_for_turn(self, name: Lane, tries: int) -> None:
        def begin() -> None:
            self._waiting.discard(handle)
            self._scheduler.wake(name)

        handle = asyncio.get_running_loop().call_later(DUPLICATE_WAIT_S * 2**tries / 2, begin)
        self._waiting.add(handle)

    async def _outcome(self, part: _Part) -> ShardOutcome | None:
        """None: it must wait for another document's turn."""
        try:
            outcome = await foreseen(lambda: self._steadily(part.look), self.work.again)
        except DuplicateKey as error:
            if part.tries < DUPLICATE_TRIES:
                await self._make_way(part, error)
                part.tries += 1
                return None
            await self._bury(part, error)
            return ShardOutcome.DEAD
        except DocumentError as error:
            await self._bury(part, error)
            return ShardOutcome.DEAD
        await self._close_letter(part)
        return outcome

    async def _steadily(self, look: Look) -> ShardOutcome:
        """All of it again while a server does not answer: what was read before is old by then."""
        attempts = BACKOFF.attempts("write a document to MongoDB")
        while True:
            try:
                return await look()
            except TransientStoreError as error:
                if self.work.stop.is_set():
                    raise Stopped("asked to stop while a server does not answer; run again to continue") from error
                await asyncio.sleep(attempts.failed(error))

    async def _follow(self, place: Place) -> ShardOutcome:
        data = await self._read_whole(place)
        collection = place.mapping.collection
        current = await in_thread(self.work.sink.current, collection, place.id, stop=self.work.stop)
        apart = current is not None and is_outside(place.mapping, current)
        if data is None:
            if current is None or apart or not self._maps_to(current, place):
                return ShardOutcome.SAME
            self.work.guard()
            await to_its_end(self.work.sink.delete, collection, place.id)
            return ShardOutcome.REMOVED
        if apart:
            raise OutsideFilter(
                "MongoDB holds another document of this _id, outside the collection's filter", path="_id"
            )
        if current is not None and same_content(current, data, ordered=place.mapping.keeps_order):
            return ShardOutcome.SAME
        self.work.guard()
        await to_its_end(self.work.sink.put, collection, data)
        return ShardOutcome.APPLIED

    async def _read_whole(self, place: Place) -> bytes | None:
        for attempt in range(TORN_READS - 1):
            try:
                return await read_document(self.work.target, place)
            except TornDocument:
                await asyncio.sleep(TORN_WAIT_S * 2**attempt)
        return await read_document(self.work.target, place)

    @staticmethod
    def _maps_to(current: bytes, place: Place) -> bool:
        return maps_to(current, place)

    # --- documents in each other's way -------------------------------------------------------------------------------

    async def _make_way(self, part: _Part, error: DuplicateKey) -> None:
        """Let the document that holds the same have its turn; and one that is itself in another's way, and cannot become what
        it is to be, leave MongoDB until it can.

        It comes back: MongoDB's copy is not what DynamoDB holds, so a record of it is still to be applied, or it has a
        letter; and the record that `part` is of stays unapplied until this one has been looked at again.
        """
        mapping = next(one for one in self.work.entities[part.table].values() if one.collection == part.lane[0])
        if not part.set_aside and any(one.holder for one in self._scheduler.waiting(part.lane)):
            part.set_aside = True
            self.work.guard()
            await to_its_end(self.work.sink.delete, mapping.collection, part.id_data)
        if error.holder is not None and error.holder != part.id_data:
            self._put(await self._part_of_holder(mapping, error.holder, part.pending))

    async def _part_of_holder(self, mapping: DocumentMapping, holder: bytes, pending: Pending | None) -> _Part:
        """It is looked at where MongoDB's copy says that it is: no record of it may have come yet."""
        current = await in_thread(self.work.sink.current, mapping.collection, holder, stop=self.work.stop)
        place = None if current is None else root_place(mapping, current)
        lane = lane_of((mapping.collection, id_name(holder)))
        if place is None:
            return _Part(lane, mapping.table, ("", ""), holder, self._nothing, pending)
        part = self._part_of(place, (place.pk, place.sk), pending)
        part.holder = True
        return part

    async def _nothing(self) -> ShardOutcome:
        return ShardOutcome.SAME

    # --- dead letters ------------------------------------------------------------------------------------------------

    def look_for_letters(self) -> None:
        """Read which dead letters are open."""
        self.letters = {letter.lane: letter for letter in list_reverse_letters(self.work.ledger)}

    async def _look_at_item(self, table: str, key: ItemKey) -> ShardOutcome:
        """An item that named no document: gone, or mended, it is its record's affair again."""
        item = (await self.work.target.get_all(table, [key])).get(key)
        if item is not None and not is_tombstone(item):
            record = StreamRecord(sequence="", key=key, created_ms=0, new=item)
            for found in places_of(record, self.work.entities[table]):
                if isinstance(found, ItemsUnreadable):
                    raise found
        return ShardOutcome.SAME

    async def _bury(self, part: _Part, error: DocumentError) -> None:
        error.namespace, error.id = part.lane
        known = self.letters.get(part.lane)
        if known is not None and part.pending is None and self._is_at(known, part):
            return  # looked at again, and it is still so
        self.letters[part.lane] = await in_thread(
            open_reverse_letter, self.work.ledger, part.table, part.key, part.id_data, error
        )

    async def _close_letter(self, part: _Part) -> None:
        """Only by a look at the place that the letter names: another place of the document says nothing of that one."""
        record = self.letters.get(part.lane)
        if record is None or not self._is_at(record, part):
            return
        del self.letters[part.lane]
        try:
            await in_thread(close_reverse_letter, self.work.ledger, record)
        except ConditionFailed:
            return  # another process has, or opened another letter: `look_for_letters` finds it
        self.healed += 1

    @staticmethod
    def _is_at(letter: ReverseLetter, part: _Part) -> bool:
        if part.place is None or not letter.id_data:
            return letter.key == part.key
        return place_of(part.place.mapping, letter.id_data, letter.key).is_at(part.place)

    async def end(self) -> None:
        """End the lanes. A write that has begun is waited for; what was not finished is to be read again."""
        for handle in self._waiting:
            handle.cancel()
        await self._scheduler.end()
        self._waiting.clear()
        self.parts = 0
