"""Writes to DynamoDB: beside MongoDB while that leads, and in its place once DynamoDB leads.

While MongoDB leads, a dual put only makes DynamoDB fresh sooner: all items of a document at once, each on condition that nothing
newer is stored; several in one transaction, which costs twice their write units, a single one without. Replication does the
same a moment later, and heals whatever a dual put left out.

A dual put writes no guards: it does not know which of them are another document's by now, and replication does.

While DynamoDB leads, `_v` is the lock: a write is taken only if what is stored still has the version that was read. What goes
away becomes a tombstone, so that a process which missed the change of leader cannot bring anything back.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from docferry.client.items.guards import (
    GuardChanges,
    PreparedGuard,
    ValueHolder,
    guard_changes,
    is_anothers,
    is_own,
    netted,
    taken,
)
from docferry.client.items.reader import DocumentReader, StoredDocument
from docferry.client.journal.write import CommitTicket, WriteJournal
from docferry.core.compare.diff import is_tombstone
from docferry.core.cutover.journal import ENTRY_ITEMS, Wrote
from docferry.core.limits import ITEM_BYTES, TRANSACTION_BYTES, TRANSACTION_ITEMS
from docferry.core.mapping.items import VOLATILE, Document, Item, ItemKey, key_of, tombstone
from docferry.core.mapping.large.parts import sent_bytes
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.versions import version_in
from docferry.errors import CallRefused, ConditionFailed, DocumentError, InvariantBroken, KeyTaken, OutsideFilter
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard


class PutOutcome(StrEnum):
    """What became of a dual put. All but WRITTEN are left to replication."""

    WRITTEN = "written"
    SUPERSEDED = (
        "superseded"  # something newer is stored, or the same: by replication, or by a first attempt without an answer
    )
    TOO_MANY = "too_many"  # more items than a transaction takes, or more bytes
    NOTHING = "nothing"  # the document has no items: it is a dead letter


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedItems:
    """The change of one document, as items of a transaction."""

    collection: str
    puts: Sequence[dict[str, Any]] = field(repr=False)
    keys: Sequence[ItemKey] = field(repr=False)
    wrote: Sequence[Wrote] = field(repr=False)
    guards: Sequence[PreparedGuard] = ()
    holder: ValueHolder | None = None


def requests_of(prepared: Sequence[PreparedItems]) -> list[dict[str, Any]]:
    """One transaction, of any collections: a guard that one document gives up and another gains is put once.

    Raises: KeyTaken; ConditionFailed: read again.
    """
    puts = [put for one in prepared for put in one.puts]
    holders = [one.holder for one in prepared if one.holder is not None]
    guards = netted([guard for one in prepared for guard in one.guards], holders)
    return [{"Put": put} for put in (*puts, *guards)]


class Putter:
    """Writes the documents of one collection to DynamoDB."""

    def __init__(
        self,
        mapping: DocumentMapping,
        calls: DynamoCalls,
        guard: Guard,
        journal: WriteJournal | None = None,
        count: Callable[[str], None] = lambda name: None,
    ) -> None:
        """With a `journal`, each write of a leading DynamoDB has an entry there. `count` is told of what should not be."""
        self._mapping, self._calls, self._guard, self._journal = mapping, calls, guard, journal
        self._count = count
        self._reader = DocumentReader(mapping, calls)
        self._ttl = mapping.settings.ttl_attribute

    def __repr__(self) -> str:
        return f"Putter({self._mapping!r})"

    def items(self, document: Document, version: int) -> list[Item]:
        """A document as items. Raises DocumentError, naming the collection, for what DynamoDB cannot hold."""
        with self._naming():
            items = self._mapping.encode(document, version)
            self._mapping.check_sizes(items)
        return items

    @property
    def most_items(self) -> int:
        """Of documents and their guards, in one transaction while DynamoDB leads."""
        return TRANSACTION_ITEMS - (ENTRY_ITEMS if self._journal is not None else 0)

    def root_key(self, document: Document) -> ItemKey:
        """Where a document's root goes. Raises as `items`."""
        with self._naming():
            return self._mapping.root_key(document)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OutsideFilter as error:
            what = (
                f"this document of {self._mapping.collection} would be outside the part that is migrated, by {error.path} "
                "(collections.<name>.filter): DynamoDB does not take it, and nothing was written"
            )
            raise OutsideFilter(what, namespace=self._mapping.collection, path=error.path) from error
        except DocumentError as error:
            what = f"DynamoDB cannot hold this document of {self._mapping.collection}: {error}"
            raise type(error)(what, namespace=self._mapping.collection, path=error.path) from error

    # --- while MongoDB leads -----------------------------------------------------------------------------------------

    async def put_newer(self, document: Document, version: int) -> PutOutcome:
        """Put all items of a document where nothing newer is stored, or none. Raises DocumentError, StoreError."""
        return await self._if_newer(self.items(document, version))

    async def bury_newer(self, document: Document, version: int) -> PutOutcome:
        """Put tombstones in the places of a document's items where nothing newer is stored, or none."""
        return await self._if_newer([tombstone(stub, version, self._ttl) for stub in self._mapping.stubs(document)])

    async def _if_newer(self, items: Sequence[Item]) -> PutOutcome:
        if not items or len(items) > TRANSACTION_ITEMS:
            return PutOutcome.TOO_MANY if items else PutOutcome.NOTHING
        puts = [
            self._put(
                item,
                {
                    "ConditionExpression": "attribute_not_exists(#v) OR #v < :v",
                    "ExpressionAttributeNames": {"#v": "_v"},
                    "ExpressionAttributeValues": {":v": item["_v"]},
                },
            )
            for item in items
        ]
        if _bytes_of(puts) > TRANSACTION_BYTES:
            return PutOutcome.TOO_MANY
        try:
            if len(puts) == 1:
                await self._calls.call("PutItem", puts[0], self._guard)
            else:
                await self._transact([{"Put": put} for put in puts])
        except ConditionFailed:
            return PutOutcome.SUPERSEDED
        return PutOutcome.WRITTEN

    # --- while DynamoDB leads ----------------------------------------------------------------------------------------

    async def replace(self, before: StoredDocument | None, after: Document | None, floor: int) -> None:
        """One document from what was found to what it shall be; None is no document. Raises as `prepare` and `commit` do."""
        await self.commit([await self.prepare(before, after, floor)])

    async def prepare(self, before: StoredDocument | None, after: Document | None, floor: int) -> PreparedItems:
        """What `replace` writes, for a transaction that may hold more.

        Holds:  all items in one transaction, those of guards that it gains or gives up included; each place still as it was
                read; versions rise, and are above `floor`.
        Raises: KeyTaken, if the key is another document's; CallRefused, if it takes more than 100 items; DocumentError;
                StoreError. That a value of a unique index is another's is told by `commit`, or `requests_of`: one of the other
                documents of the transaction may give it up.
        """
        there = dict(before.all) if before else {}
        stored = before.version if before else 0
        if after is not None:
            key = self._mapping.root_key(after)
            if before is None or key != before.key:
                place = await self._reader.place(key)
                if place.live:
                    raise KeyTaken(self._mapping.collection, self._mapping.key_values(after))
                there |= place.all
                stored = max(stored, place.version)
        past = self._reader.document(before) if before and self._mapping.unique else None
        with self._naming():
            changes = guard_changes(self._mapping, past, after)
        stored_guards = await self._reader.stored(changes.keys) if changes.keys else {}
        stored = max(stored, *(version_in(item) for item in stored_guards.values()), 0)
        version = max(stored, floor) + 1
        wanted = self._wanted(before, after, version)
        guards = list(self._guards(changes, stored_guards, past, after, version))
        self._refuse_too_many(len(wanted) + len(guards))
        name = self._mapping.collection
        return PreparedItems(
            guards=guards,
            holder=ValueHolder(collection=name, id=past["_id"], held=changes.held) if past else None,
            collection=name,
            keys=[key_of(item) for item in wanted],
            puts=[self._as_read(item, there.get(key_of(item))) for item in wanted],
            wrote=[self._wrote(item) for item in wanted if self._is_root(item)],
        )

    async def commit(
        self,
        prepared: Sequence[PreparedItems],
        checks: Sequence[dict[str, Any]] = (),
        ticket: CommitTicket | None = None,
    ) -> None:
        """Write what was prepared, of any collection, if all `checks` hold: all or none.

        Raises: KeyTaken, if a value of a unique index is another document's; ConditionFailed, if another writer was quicker: read
                again; CallRefused, if it takes more than 4 MB; InstanceStruck: nothing was written; StoreError.
        """
        puts = requests_of(prepared)
        if (size := _bytes_of([one["Put"] for one in puts])) > TRANSACTION_BYTES:
            raise CallRefused(
                what=f"this write takes {size} bytes, and a transaction {TRANSACTION_BYTES}. Nothing was written",
                suggestion="change fewer elements at once, or smaller ones",
            )
        requests = [*puts, *checks]
        if self._journal is None:
            await self._transact(requests, ticket)
        else:
            wrote = [wrote for one in prepared for wrote in one.wrote]
            await self._journal.commit(self._calls, self._guard, requests, wrote, ticket)

    def check(self, found: StoredDocument) -> dict[str, Any]:
        """A request of a transaction: the root's place is as it was found."""
        key = {"TableName": self._mapping.table, "Key": self._mapping.layout.wire_key(found.key)}
        return {"ConditionCheck": key | self._condition(found.all.get(found.key))}

    def _is_root(self, item: Item) -> bool:
        return bool(item["entityType"]["S"] == self._mapping.root.entity)

    def _wrote(self, item: Item) -> Wrote:
        expires = "0" if is_tombstone(item) else item.get(self._ttl, {}).get("N", "0")  # a tombstone outlives its entry
        return Wrote(
            table=self._mapping.table, key=key_of(item), version=item["_v"]["S"], expires_s=int(Decimal(expires))
        )

    def _wanted(self, before: StoredDocument | None, after: Document | None, version: int) -> list[Item]:
        """The items to be put: root, changed children, and tombstones for what goes away."""
        old = {key_of(item): item for item in before.live} if before else {}
        new = self.items(after, version) if after is not None else []
        kept = {key_of(item) for item in new}
        changed = [item for item in new[1:] if not _same(item, old.get(key_of(item)))]
        graves = [tombstone(item, version, self._ttl) for key, item in old.items() if key not in kept]
        return [*new[:1], *changed, *graves]

    def _guards(
        self,
        changes: GuardChanges,
        stored: Mapping[ItemKey, Item],
        before: Document | None,
        after: Document | None,
        version: int,
    ) -> Iterator[PreparedGuard]:
        """A value to give up that is not the document's own is left: as long as the root is as it was read, that stays so."""
        name = self._mapping.collection
        live = {key_of(item): item for item in self._mapping.guard_items(after, version)} if after is not None else {}
        for key in changes.keys:
            there = stored.get(key)
            gained = changes.gained.get(key)
            table = self._mapping.table
            if gained is not None:
                put, told = self._as_read(live[key], there), taken(name, gained)
                error = told if is_anothers(there, before) else None
                yield PreparedGuard(table=table, key=key, put=put, there=there, gained=told, error=error)
            elif there is not None and is_own(there, before):
                put = self._as_read(tombstone(there, version, self._ttl), there)
                yield PreparedGuard(table=table, key=key, put=put, there=there)
            else:
                self._count("guards.not_its_own")
                yield PreparedGuard(table=table, key=key, put=None, there=there)

    def _refuse_too_many(self, items: int) -> None:
        most = self.most_items
        if items > most:
            raise CallRefused(
                what=f"this write changes {items} items of one document, and a transaction takes {most}",
                suggestion="change fewer elements at once",
            )

    def _as_read(self, item: Item, there: Item | None) -> dict[str, Any]:
        return self._put(item, self._condition(there))

    def _condition(self, there: Item | None) -> dict[str, Any]:
        """That a place is as it was read."""
        if there is None:
            name = self._mapping.layout.name_of("PK")
            if name == "PK":
                return {"ConditionExpression": "attribute_not_exists(PK)"}
            return {"ConditionExpression": "attribute_not_exists(#k)", "ExpressionAttributeNames": {"#k": str(name)}}
        if "_v" not in there:
            return {"ConditionExpression": "attribute_not_exists(#v)", "ExpressionAttributeNames": {"#v": "_v"}}
        values = {":v": there["_v"]}
        return {
            "ConditionExpression": "#v = :v",
            "ExpressionAttributeNames": {"#v": "_v"},
            "ExpressionAttributeValues": values,
        }

    # --- the request -------------------------------------------------------------------------------------------------

    def _put(self, item: Item, condition: dict[str, Any]) -> dict[str, Any]:
        return {"TableName": self._mapping.table, "Item": self._mapping.layout.stored(item), **condition}

    async def _transact(self, requests: Sequence[dict[str, Any]], ticket: CommitTicket | None = None) -> None:
        """All or none. The token makes a request whose answer was lost the same one when it is sent again."""
        if not requests:
            raise InvariantBroken("a write without an item")
        token = str(uuid.uuid4())
        request = {"TransactItems": list(requests), "ClientRequestToken": token}
        if ticket is not None:
            ticket.nonce, ticket.request = token, request
        await self._calls.call("TransactWriteItems", request, self._guard)


def _bytes_of(puts: Sequence[Mapping[str, Any]]) -> int:
    """How much a transaction holds; 0 if that is too few items to be too much, which need not be counted."""
    few = len(puts) <= TRANSACTION_BYTES // ITEM_BYTES
    return 0 if few else sum(sent_bytes(put["Item"]) for put in puts)


def _same(item: Item, other: Item | None) -> bool:
    """Whether two items hold the same, whenever they were written."""
    if other is None:
        return False
    return _content(item) == _content(other)


def _content(item: Item) -> Item:
    return {name: value for name, value in item.items() if name not in VOLATILE}
