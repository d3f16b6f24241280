"""MongoDB, while DynamoDB leads: whatever its change stream shows from the time of the fence on, and docferry did not write.

Nothing is put right here: MongoDB's copy stays until the next change of the document comes from DynamoDB, and a person decides
what the write is worth. Both copies are in its letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from bson.timestamp import Timestamp

from docferry.core.cutover.modes import ModeState
from docferry.core.mapping.raw import id_name, is_outside
from docferry.core.versions import version_time
from docferry.errors import ConditionFailed, DocumentError, ResumeTokenLost, TornDocument
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.rooms.strays import Stray, open_stray
from docferry.flows.ledger.rooms.watch import Old, Watch, begin_watch, note_watch, read_watch
from docferry.flows.ledger.times import encode_time, now_ms
from docferry.flows.reverse.places import Place, read_document, root_place
from docferry.ports.flows import OthersFeed, OthersWrite, Target

NOTE_MS = 5_000
"""How often its place is written down while nothing happens."""
TORN_READS, TORN_WAIT_S = 6, 0.1
ANSWER_S = 45.0
CLOSE_S = 2.0


def open_mongodb_watch(job: Job, since: Timestamp, floor: int) -> None:
    """Called by the change of leader, before DynamoDB leads: MongoDB is watched from the time of the fence on. `floor` is that of
    the mode to come. Raises: ResumeTokenLost, StoreError."""
    begin_watch(job.ledger, _begun(job, since, floor))


def _begun(job: Job, since: Timestamp, floor: int) -> Watch:
    return Watch(
        old=Old.MONGODB,
        begun_ms=now_ms(),
        least_s=job.migration.cutover.watch_s,
        since=since,
        position=job.source.stream_position(since),
        floor=floor,
    )


class MongoWatch:
    """Reads on from the place in the ledger. Belongs to one event loop; another process may do the same at the same time."""

    def __init__(self, job: Job, target: Target) -> None:
        self.job, self.target = job, target
        self.found = 0
        self._feed: OthersFeed | None = None
        self._watch: Watch | None = None
        self._noted_ms = 0

    async def look(self, mode: ModeState, wait_s: float) -> None:
        """One look at what others have written, while DynamoDB leads in `mode`. Raises StoreError; Stopped."""
        stop = self.job.stop
        if self._watch is None:
            self._watch = await in_thread(self._opened, mode, stop=stop)
        watch = self._watch
        try:
            if self._feed is None:
                assert watch.position is not None
                names = list(self.job.migration.mappings)
                self._feed = await in_thread(
                    self.job.source.writes_of_others, watch.position, names, stop=stop, within_s=ANSWER_S
                )
            batch = await in_thread(self._feed.read, wait_s, stop=stop, within_s=ANSWER_S)
        except ResumeTokenLost as error:
            await self._begin_anew(watch, error)
            return
        for write in batch.writes:
            if not self._is_apart(write):
                await self._note(write)
        seen_ms = max(watch.seen_ms, _seen_ms(watch, batch.position.time))
        await self._write_down(replace(watch, position=batch.position, seen_ms=seen_ms), bool(batch.writes))

    async def until(self, mode: ModeState, time: Timestamp, wait_s: float = 0.1) -> int:
        """Read up to and including that time; how many stray writes that brought. Raises as `look`."""
        before = self.found
        at: Timestamp | None = None
        while at is None or at < time:
            await self.look(mode, wait_s)
            at = self._watch.position.time if self._watch is not None and self._watch.position is not None else None
        await self.look(mode, wait_s)  # those of one time may come in several batches
        return self.found - before

    async def close(self) -> None:
        feed, self._feed, self._watch = self._feed, None, None
        if feed is not None:
            with suppress(Exception):  # a MongoDB that is silent is not waited for
                await in_thread(feed.close, within_s=CLOSE_S)

    # --- the record --------------------------------------------------------------------------------------------------

    def _opened(self, mode: ModeState) -> Watch:
        """The watch of this time that DynamoDB leads. A change of leader by an older docferry has opened none."""
        watch = read_watch(self.job.ledger, Old.MONGODB)
        if watch is not None and watch.floor == mode.floor and watch.position is not None:
            return watch
        begin_watch(self.job.ledger, self._from(mode))
        found = read_watch(self.job.ledger, Old.MONGODB)
        assert found is not None
        return found

    def _from(self, mode: ModeState) -> Watch:
        try:
            return _begun(self.job, version_time(mode.floor), mode.floor)
        except ResumeTokenLost as error:
            self._note_gap(f"fence-{mode.floor}", error)
            return _begun(self.job, self.job.source.cluster_time(), mode.floor)

    async def _begin_anew(self, watch: Watch, error: ResumeTokenLost) -> None:
        """What was written since cannot be told: that is told, and the time of watching begins again."""
        at = encode_time(watch.position.time) if watch.position is not None else ""
        await in_thread(self._note_gap, f"place-{at}", error, stop=self.job.stop)
        since = await in_thread(self.job.source.cluster_time, stop=self.job.stop)
        anew = await in_thread(_begun, self.job, since, watch.floor, stop=self.job.stop)
        await in_thread(begin_watch, self.job.ledger, anew, stop=self.job.stop)
        await self.close()

    def _note_gap(self, place: str, error: ResumeTokenLost) -> None:
        stray = Stray(
            old=Old.MONGODB, place=place, collection="*", id="*", operation="not known", at="", remark=f"{error}: validate"
        )  # fmt: skip
        if open_stray(self.job.ledger, stray):
            self.found += 1
            self.job.progress.say(f"ALARM: {error}")

    async def _write_down(self, watch: Watch, at_once: bool) -> None:
        before, watch = self._watch, _ended(watch)
        ends = before is not None and before.is_open and not watch.is_open
        if not (at_once or ends or now_ms() - self._noted_ms >= NOTE_MS):
            self._watch = watch
            return
        try:
            self._watch = await in_thread(note_watch, self.job.ledger, watch, stop=self.job.stop)
        except ConditionFailed:
            await self.close()  # another process watches, too, or another watch has begun: on from there
            return
        self._noted_ms = now_ms()
        if ends:
            self.job.progress.say(f"the watch of MongoDB has ended: {watch.how}; it goes on while DynamoDB leads")

    # --- one write ---------------------------------------------------------------------------------------------------

    async def _note(self, write: OthersWrite) -> None:
        held, remark = await self._held(write)
        stray = Stray(
            old=Old.MONGODB,
            place=write.place,
            collection=write.collection or "*",
            id=id_name(write.id) if write.id else "*",
            operation=write.operation,
            at=encode_time(write.time),
            remark=remark,
            copies=(write.after, held),
        )
        if await in_thread(open_stray, self.job.ledger, stray, stop=self.job.stop):
            self.found += 1
            self.job.progress.say(
                f"ALARM: {stray.operation} of {stray.collection} {stray.id[:60]} in MongoDB at {stray.at} by a client other "
                "than docferry, while DynamoDB leads: both copies are kept (docferry strays)"
            )

    def _is_apart(self, write: OthersWrite) -> bool:
        """Whether it is of a document that the collection's filter leaves out, before and behind it: that is MongoDB's alone. One
        whose image is missing may be any."""
        mapping = self.job.migration.mappings.get(write.collection)
        images = [one for one in (write.before, write.after) if one is not None]
        wanted = 2 if write.operation in ("update", "replace") else 1
        return mapping is not None and len(images) == wanted and all(is_outside(mapping, one) for one in images)

    async def _held(self, write: OthersWrite) -> tuple[bytes | None, str]:
        """What DynamoDB holds of the document now; it is looked for where MongoDB's copies say that it is."""
        for place in self._places(write):
            try:
                found = await self._whole(place)
            except DocumentError as error:
                return None, f"what DynamoDB holds could not be read: {error.reason}"
            if found is not None:
                return found, ""
        return None, "DynamoDB holds no such document where MongoDB's copies place it"

    def _places(self, write: OthersWrite) -> Iterator[Place]:
        mapping = self.job.migration.mappings.get(write.collection)
        images = [one for one in (write.after, write.before) if one is not None]
        for image in images if mapping is not None else ():
            if mapping is not None and (place := root_place(mapping, image)) is not None:
                yield place

    async def _whole(self, place: Place) -> bytes | None:
        for _ in range(TORN_READS):
            try:
                return await read_document(self.target, place)
            except TornDocument:
                await asyncio.sleep(TORN_WAIT_S)
        return await read_document(self.target, place)


def _seen_ms(watch: Watch, time: Timestamp) -> int:
    """Up to when it is seen, by MongoDB's own clock from the beginning on."""
    return watch.begun_ms + max(0, time.time - watch.since.time) * 1000


def _ended(watch: Watch) -> Watch:
    if watch.is_open and watch.seen_ms >= watch.until_ms:
        return replace(watch, ended_ms=now_ms(), how=f"watched for {watch.least_s:.0f} s")
    return watch
