"""A transaction while DynamoDB leads: it is committed if nothing that it has read has changed meanwhile.

Reads are consistent, and their versions are remembered. Before a read is answered, all that the transaction has read before is
looked at once more: if none of it has changed, all of it was there at one time, between the last read and this look. So no two
states are seen that never were together. Writes are kept here, and shown to the transaction's own reads.

The commit is one TransactWriteItems: the changed documents' items and guards, the journal's entry, and a check for each document
that was read and not changed, each on condition that it is as it was read.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.client.items.putter import PreparedItems, Putter, requests_of
from docferry.client.items.reader import DocumentReader, StoredDocument
from docferry.client.journal.write import CommitTicket
from docferry.core.access.read_plan import ReadPlan
from docferry.core.bson_codec.order import same
from docferry.core.limits import TRANSACTION_BYTES
from docferry.core.mapping.items import Document, Item, ItemKey, key_of
from docferry.core.mapping.large.parts import sent_bytes
from docferry.core.mapping.mapping import DocumentMapping
from docferry.errors import CallRefused, KeyTaken
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard

LIVES_S = 60.0
"""As MongoDB's transactionLifetimeLimitSeconds."""

_Place = tuple[str, ItemKey]
"""A collection, and the key of a root item in it."""


@dataclass(slots=True)
class _Change:
    """One document as it was read, and as it shall be."""

    before: StoredDocument
    after: Document | None = field(repr=False)


class OptimisticTransaction:
    """What one transaction has read and shall write. After an error, and when it has ended, it can only be begun anew."""

    def __init__(
        self,
        calls: DynamoCalls,
        is_led: Callable[[], bool],
        conflict: Callable[[str], Exception],
        ended: Callable[[str], Exception],
    ) -> None:
        """`is_led`: whether the mode is still the one that the transaction has begun in. `conflict` and `ended` make the errors
        by which it may be begun anew."""
        self._calls, self._is_led, self._conflict, self._ended = calls, is_led, conflict, ended
        self._began = time.monotonic()
        self._over = ""
        self._read: dict[_Place, tuple[DocumentMapping, StoredDocument]] = {}
        self._changes: dict[_Place, _Change] = {}
        self._shown: dict[_Place, StoredDocument] = {}

    def __repr__(self) -> str:
        return f"OptimisticTransaction({len(self._read)} read, {len(self._changes)} changed)"

    def end(self, why: str) -> None:
        """Nothing more is read or written by it."""
        self._over = self._over or why

    def require_open(self) -> None:
        """Raises what `ended` makes, if it has ended, or must."""
        if not self._is_led():
            self.end("the mode has changed since it began")
        if time.monotonic() - self._began > LIVES_S:
            self.end(f"it was open for more than {LIVES_S:.0f} s")
        if self._over:
            raise self._ended(f"this transaction has ended: {self._over}; nothing of it was written")

    def writes_to(self, collection: str) -> bool:
        """Whether documents of it are shown otherwise than the table and its indexes have them."""
        return any(name == collection for name, _ in self._shown)

    # --- what is read ------------------------------------------------------------------------------------------------

    def seen(self, mapping: DocumentMapping, key: ItemKey) -> StoredDocument | None:
        """What the transaction knows to be there; None if it has not looked."""
        place = (mapping.collection, key)
        if place in self._shown:
            return self._shown[place]
        found = self._read.get(place)
        return found[1] if found is not None else None

    def shown(self, mapping: DocumentMapping) -> list[StoredDocument]:
        """What it has written."""
        return [one for (name, _), one in self._shown.items() if name == mapping.collection]

    async def remember(self, mapping: DocumentMapping, found: Sequence[StoredDocument]) -> None:
        """What has just been read. Raises what `conflict` makes, if it, or what was read before, has changed meanwhile."""
        new: list[_Place] = []
        for one in found:
            place = (mapping.collection, one.key)
            known = self._read.setdefault(place, (mapping, one))[1]
            if known is one:
                new.append(place)
            if known.version != one.version:
                raise self._changed(mapping)
        if new:
            await self._look_again(new[0] if len(new) == 1 else None)

    async def _look_again(self, last: _Place | None) -> None:
        """At all but `last`, which was read alone, and after all others."""
        before = {place: found for place, found in self._read.items() if place != last}
        for name, mapping in {mapping.collection: mapping for mapping, _ in before.values()}.items():
            known = {key: one.all.get(key) for (of, key), (_, one) in before.items() if of == name}
            there = await DocumentReader(mapping, self._calls).stored(list(known))
            if any(_version(there.get(key)) != _version(item) for key, item in known.items()):
                raise self._changed(mapping)

    def _changed(self, mapping: DocumentMapping) -> Exception:
        why = f"{mapping.collection}: a document was changed by others since this transaction has read it"
        self.end(why)
        return self._conflict(why)

    # --- what is written ---------------------------------------------------------------------------------------------

    async def write(self, putter: TransactionPutter, found: StoredDocument, after: Document | None) -> None:
        """Raises: KeyTaken, CallRefused, DocumentError; what `conflict` and `ended` make."""
        self.require_open()
        mapping = putter.mapping
        place = (mapping.collection, found.key)
        change = self._changes.get(place) or _Change(self._read[place][1], None)
        key = putter.root_key(after) if after is not None else found.key
        if key != found.key:
            await self._require_free(putter, key, after)
            self._changes.pop(place, None)
            self._shown[place] = StoredDocument(found.key, (), {})
            place = (mapping.collection, key)
        elif place in self._shown and place not in self._changes:
            raise _in_its_place(mapping)
        self._require_same_document(mapping, change.before, after)
        change.after = after
        self._changes[place] = change
        items = putter.items(after, 0) if after is not None else []
        self._shown[place] = StoredDocument(key, tuple(items), {key_of(item): item for item in items})

    async def _require_free(self, putter: TransactionPutter, key: ItemKey, after: Document | None) -> None:
        mapping = putter.mapping
        there = await putter.reader.place(key)
        if there.live:
            raise KeyTaken(mapping.collection, mapping.key_values(after or {}))
        if (mapping.collection, key) in self._shown:
            raise _in_its_place(mapping)

    def _require_same_document(self, mapping: DocumentMapping, before: StoredDocument, after: Document | None) -> None:
        old = DocumentReader(mapping, self._calls).document(before)
        if old is not None and after is not None and not same(old["_id"], after["_id"]):
            raise _in_its_place(mapping)

    # --- its commit --------------------------------------------------------------------------------------------------

    async def commit(self, putter_of: Callable[[DocumentMapping], Putter], floor: int, ticket: CommitTicket) -> None:
        """Raises: ConditionFailed, if what was read has changed; KeyTaken; CallRefused: in all three nothing was written, and so
        is where it raises what `ended` makes. Else as `Putter.commit`."""
        self.require_open()
        prepared: list[PreparedItems] = []
        putter: Putter | None = None
        for (name, key), change in self._changes.items():
            if change.after is None and not change.before.live:
                continue
            putter = putter_of(self._read[name, key][0])
            prepared.append(await putter.prepare(change.before, change.after, floor))
        if putter is None:
            return
        written = {(one.collection, key) for one in prepared for key in one.keys}
        checks = [
            putter_of(mapping).check(found)
            for (name, key), (mapping, found) in self._read.items()
            if (name, key) not in written
        ]
        _require_room(putter, prepared, checks)
        await putter.commit(prepared, checks, ticket)


class TransactionReader(DocumentReader):
    """Reads the documents of one collection as a transaction sees them."""

    def __init__(
        self,
        mapping: DocumentMapping,
        calls: DynamoCalls,
        transaction: OptimisticTransaction,
        count: Callable[[str, int], None] | None = None,
    ) -> None:
        super().__init__(mapping, calls)
        self._table, self._transaction = DocumentReader(mapping, calls, count=count), transaction

    async def find(self, plan: ReadPlan, *, whole: bool = False) -> AsyncIterator[StoredDocument]:
        """As a DocumentReader, and what the transaction has written, in no order: what does not match is the caller's to see."""
        self._transaction.require_open()
        if plan.query is None and not plan.scan:
            found = await self.places(plan.keys)
        else:
            read = [one async for one in self._table.find(plan, whole=True)]
            await self._transaction.remember(self._mapping, read)
            found = [self._transaction.seen(self._mapping, one.key) or one for one in read]
        keys = {one.key for one in found}
        more = [one for one in self._transaction.shown(self._mapping) if one.key not in keys]
        for one in (*found, *more):
            if one.live:
                yield one

    async def places(self, keys: Sequence[ItemKey]) -> list[StoredDocument]:
        self._transaction.require_open()
        unknown = [key for key in dict.fromkeys(keys) if self._transaction.seen(self._mapping, key) is None]
        if unknown:
            await self._transaction.remember(self._mapping, await self._table.places(unknown))
        return [self._transaction.seen(self._mapping, key) or StoredDocument(key, (), {}) for key in keys]

    async def place(self, key: ItemKey) -> StoredDocument:
        (found,) = await self.places([key])
        return found


class TransactionPutter(Putter):
    """Keeps the writes to one collection for a transaction's commit."""

    def __init__(
        self, mapping: DocumentMapping, calls: DynamoCalls, guard: Guard, transaction: OptimisticTransaction
    ) -> None:
        super().__init__(mapping, calls, guard)
        self.mapping, self._transaction = mapping, transaction
        self.reader = TransactionReader(mapping, calls, transaction)

    async def replace(self, before: StoredDocument | None, after: Document | None, floor: int) -> None:
        if before is None:
            raise CallRefused("a write of a transaction that has read nothing", "read the document first")
        await self._transaction.write(self, before, after)


def _require_room(putter: Putter, prepared: Sequence[PreparedItems], checks: Sequence[dict[str, Any]]) -> None:
    """Raises: CallRefused, KeyTaken, ConditionFailed."""
    puts = requests_of(prepared)
    number, size = len(puts) + len(checks), sum(sent_bytes(one["Put"]["Item"]) for one in puts)
    if number > putter.most_items:
        raise CallRefused(
            what=f"a transaction that changes {len(puts)} items and has read {len(checks)} documents that it does not "
            f"change; one takes {putter.most_items} of both. Nothing was written",
            suggestion="read and change less in one transaction, or read before it begins what need not stay as it is",
        )
    if size > TRANSACTION_BYTES:
        raise CallRefused(
            what=f"a transaction of {size} bytes; one takes {TRANSACTION_BYTES}. Nothing was written",
            suggestion="split it where the documents need not appear together",
        )


def _version(item: Item | None) -> str:
    return item.get("_v", {}).get("S", "?") if item is not None else ""


def _in_its_place(mapping: DocumentMapping) -> CallRefused:
    return CallRefused(
        what=f"{mapping.collection}: a transaction that puts one document in the place of another that it removes or moves",
        suggestion="make it two transactions: first the one goes, then the other comes",
    )
