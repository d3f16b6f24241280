"""Applying changes: each in the lane of its document, conditionally, and the position behind what is applied.

Changes of one document are applied in stream order, those of different documents side by side. Order between documents
needs no care: versions do that (docs/architecture.md, "Versions"). A change that cannot be stored becomes a dead letter, and
the items of its document tombstones; the lane goes on.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from dataclasses import dataclass, replace

from docferry.config import Migration
from docferry.core.backoff import Backoff
from docferry.core.mapping.change_writes import DecodedChange, Writes
from docferry.core.mapping.items import is_guard
from docferry.core.mapping.raw import id_document, id_name
from docferry.core.versions import snapshot_version
from docferry.errors import ConditionFailed, DocumentError, FilterCrossed, ImagesLost, MigrationError, Unforeseen
from docferry.flows.kernel.books import Books
from docferry.flows.kernel.lane_scheduler import LaneScheduler
from docferry.flows.kernel.retry import retrying
from docferry.flows.kernel.threads import in_thread
from docferry.flows.kernel.unforeseen import AGAIN, foreseen
from docferry.flows.ledger.dead_letters import LetterWatch, close_letter, letter_key, open_letter, read_letter
from docferry.flows.replicate.report import ChangeOutcome
from docferry.ports.flows import Budget, ChangeEvent, Guard, Ledger, Source, StopSignal, StreamPosition, Target
from docferry.ports.tracing import span

LANES = 128
MOST_KINDS, NAMED_FIELDS = 100, 6
"""Of changes that are counted apart, and of an update's fields that are named."""
AT_ONCE = 32
"""Changes that are applied side by side: enough to keep the target's request slots (24 by default) busy, and few, because
under load the oldest change gets its share among these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applying:
    """What applying needs. `guard` is called before each request is signed; `again` is how an error that nothing foresees is
    tried again."""

    migration: Migration
    source: Source
    ledger: Ledger
    target: Target
    budget: Budget
    guard: Guard
    stop: StopSignal
    again: Backoff = AGAIN


class FirstWrites(Counter[str]):
    """What was written, by collection, operation and the fields that an update names: while the application writes to both
    databases, these are the changes that had not been written to DynamoDB before."""

    def note(self, change: ChangeEvent) -> None:
        what = describe_change(change)
        self[what if what in self or len(self) < MOST_KINDS else "others"] += 1


def describe_change(change: ChangeEvent) -> str:
    """Collection, operation, and which fields an update names: no value, and not what is inside a field."""
    fields = sorted({path.partition(".")[0] for path in change.touched or ()})
    names = ", ".join(fields[:NAMED_FIELDS]) + (", ..." if len(fields) > NAMED_FIELDS else "")
    return f"{change.collection} {change.operation}" + (f" {names}" if names else "")


@dataclass(slots=True, eq=False)
class _Pending:
    """A change on its way; `number` counts changes in stream order. Without an `outcome` it is not applied yet."""

    change: ChangeEvent
    number: int = 0
    outcome: ChangeOutcome | None = None


class Lanes:
    """Takes changes in stream order. Belongs to one event loop.

    `position` is behind the last change before which all are applied, `pending` counts those on their way, `failure` is the
    error that ended a lane: then nothing more is begun. `books` say what became of the changes behind the position.
    """

    def __init__(self, work: Applying, position: StreamPosition, books: Books[ChangeOutcome]) -> None:
        self.work, self.position, self.books = work, position, books
        self.mappings = {one.name: work.migration.mapping(one.name) for one in work.migration.collections}
        self.ttl = {table.name: table.ttl_attribute for table in work.migration.tables}
        self.first = FirstWrites()
        self.bytes = 0
        self._scheduler: LaneScheduler[int, _Pending] = LaneScheduler(self._serve, AT_ONCE)
        self.moved = self._scheduler.moved
        self._window: deque[_Pending] = deque()
        self._letters: dict[str, dict[str, int]] = {}
        self._watches = {name: LetterWatch(work.ledger, name) for name in self.mappings}

    @property
    def failure(self) -> BaseException | None:
        return self._scheduler.failure

    @property
    def pending(self) -> int:
        return len(self._window)

    def look_for_letters(self) -> None:
        """Read which dead letters are open: others open and close them, too."""
        for name in self.mappings:
            letters = self._watches[name].look() or ()
            # One that is closed meanwhile is forgotten when its document changes: then it is looked at.
            self._letters.setdefault(name, {}).update({letter.key: letter.version for letter in letters})

    async def end(self) -> None:
        """End the lanes. What was applied out of order will be read, and counted, again."""
        await self._scheduler.end()
        self.books.give_back(len(self._window))
        self._window.clear()

    def put(self, change: ChangeEvent) -> None:
        """Queue a change behind the others of its document."""
        pending = _Pending(change)
        self.books.take()
        self._window.append(pending)
        self.bytes += len(change.after or b"")
        self._scheduler.put(zlib.crc32(change.id, zlib.crc32(change.collection.encode())) % LANES, pending)

    async def _serve(self, place: int, waiting: deque[_Pending]) -> bool:
        """Apply the oldest change of a lane."""
        outcome = await self._apply(waiting[0].change)
        waiting.popleft().outcome = outcome
        self._advance()
        return True

    def _advance(self) -> None:
        """Move the position behind all that is applied."""
        while self._window and (outcome := self._window[0].outcome) is not None:
            change = self._window.popleft().change
            self.bytes -= len(change.after or b"")
            self.position = change.position
            self.books.enter(outcome)
            if outcome is ChangeOutcome.WRITTEN:
                self.first.note(change)

    # --- applying ----------------------------------------------------------------------------------------------------

    async def _apply(self, change: ChangeEvent) -> ChangeOutcome:
        """Apply a change, or account for it. An error that no code foresees, at each attempt, is a bug that this change brings
        out: it becomes a dead letter, or the stream would stand for ever. InvariantBroken is about the whole stream, and ends it.
        """
        try:
            with span("change", subject=change.collection):
                return await foreseen(lambda: self._apply_once(change), self.work.again)
        except Unforeseen as error:
            return await self._give_up(change, error)

    async def _give_up(self, change: ChangeEvent, error: Unforeseen) -> ChangeOutcome:
        try:
            writes = self._decode(change, change.version).burial(self._ttl_of(change), error)
        except MigrationError:
            raise
        except Exception:  # noqa: BLE001 - the same bug: told in the letter
            more = "; the keys of its items cannot be told either, so these hold what is out of date"
            writes = Writes([], None, Unforeseen(f"{error}{more}"))
        return await self._bury(change, change.version, writes, id_name(change.id))

    async def _apply_once(self, change: ChangeEvent) -> ChangeOutcome:
        name = id_name(change.id)
        letter = self._letters.get(change.collection, {}).get(letter_key(name))
        version = change.version
        if change.images_lost and change.operation != "delete":
            change, version = await self._fetch(change)
        touched = None if letter is not None or change.images_lost else change.touched
        decoded, ttl = self._decode(change, version), self._ttl_of(change)
        try:
            self._require_old_keys(change)
            writes = self._writes(decoded, ttl, touched)
            wrote = writes.error is None and await self._write(change.collection, writes)
        except DocumentError as error:  # DynamoDB refused an item, or the old keys are lost
            writes = decoded.burial(ttl, error)
        if writes.error is not None:
            return await self._bury(change, version, writes, name)
        if letter is not None and letter < version:
            await in_thread(self._close_letter, change.collection, name, version, change.after is None)
        if writes.outside:
            return ChangeOutcome.OUTSIDE
        if writes.finding is not None:
            await self._open_letter(change, version, writes.finding, name)
            return ChangeOutcome.DEAD
        return ChangeOutcome.WRITTEN if wrote else ChangeOutcome.SUPERSEDED

    def _ttl_of(self, change: ChangeEvent) -> str:
        return self.ttl[self.mappings[change.collection].table]

    def _decode(self, change: ChangeEvent, version: int) -> DecodedChange:
        """`version` is the change's own, or that of the read if it came without images."""
        mapping = self.mappings[change.collection]
        return DecodedChange.of(mapping, change.after, change.before, change.version, version)

    @staticmethod
    def _require_old_keys(change: ChangeEvent) -> None:
        if change.images_lost and change.before is None and change.operation != "insert":
            raise change.error or ImagesLost(
                "the change is too large to be read with its images, so its old keys are not known"
            )

    def _writes(self, decoded: DecodedChange, ttl: str, touched: tuple[str, ...] | None) -> Writes:
        return decoded.writes(ttl, touched)

    async def _fetch(self, change: ChangeEvent) -> tuple[ChangeEvent, int]:
        """The document as it is now, for a change that was too large to bring it; the version is that of the read."""

        def once() -> tuple[list[bytes], int]:
            at = max(self.work.source.cluster_time(), change.time)
            return self.work.source.read_ids(change.collection, [change.id], at), snapshot_version(at)

        call = f"read a document of {change.collection}"
        found, version = await in_thread(retrying, call, once, self.work.stop, stop=self.work.stop)
        return replace(change, after=found[0] if found else None), version

    async def _write(self, collection: str, writes: Writes, or_same: bool = False) -> bool:
        """Whether anything was written, or all of it is older than what is stored. Guards do not count: a dual write leaves
        them to us."""
        table = self.mappings[collection].table
        old = total = 0
        for items in (writes.first, [writes.root] if writes.root is not None else []):
            if not items:
                continue
            written = await self.work.target.put_newer(table, items, self.work.budget, self.work.guard, or_same=or_same)
            for refused in written.refused.values():
                raise refused
            own = {index for index, item in enumerate(items) if not is_guard(item)}
            old += len(written.superseded & own)
            total += len(own)
        return old < total

    async def _bury(self, change: ChangeEvent, version: int, writes: Writes, name: str) -> ChangeOutcome:
        """First the letter, then the tombstones: what is not there must be accounted for.

        They win over items of the same version, too: DynamoDB may have taken some before it refused another.
        """
        error = writes.error
        assert error is not None
        await self._open_letter(change, version, error, name)
        await self._write(change.collection, replace(writes, error=None), or_same=True)
        return ChangeOutcome.DEAD

    async def _open_letter(self, change: ChangeEvent, version: int, error: DocumentError, name: str) -> None:
        error.namespace, error.id = change.collection, name
        document = change.after if change.after is not None else change.before or id_document(change.id)
        await in_thread(open_letter, self.work.ledger, change.collection, error, document, version)
        self._letters.setdefault(change.collection, {})[letter_key(name)] = version

    def _close_letter(self, collection: str, name: str, version: int, gone: bool) -> None:
        """A later good change of the document: only strictly later, and only the letter that was looked at. That it has crossed
        the filter's border stays told until a person replays it, or it is `gone`."""
        letter = read_letter(self.work.ledger, collection, name)
        if letter is not None:
            if letter.reason == FilterCrossed.__name__ and not gone:
                return
            try:
                if letter.version >= version:
                    return  # a newer letter took its place: it stays known
                close_letter(self.work.ledger, letter)
            except ConditionFailed:
                return  # the same, just now
        self._letters.get(collection, {}).pop(letter_key(name), None)
