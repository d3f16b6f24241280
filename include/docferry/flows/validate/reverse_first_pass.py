"""Validation while DynamoDB leads: does MongoDB hold what DynamoDB does, field by field, while the application writes?

This is the first generation. From DynamoDB: every item is scanned, put together to documents, and compared with MongoDB's
copies. A page of a scan may hold only some items of a document, and knows no transactions: where they do not fit together by
the root's digest, its partition is read. From MongoDB: every document must have its live root in DynamoDB.

Guards are DynamoDB's alone: each document's must be there, and its own. If the guards scanned are not exactly those of the
documents scanned (their number and the sum of their hashes), the document of each guard is looked at.

Whatever is found is only suspected: `reverse_recheck` looks at it again until it is proved different, or not. Nothing is written
but the report, so nothing is leased, and a killed one begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from docferry.core.compare.diff import is_tombstone
from docferry.core.compare.keysum import KeySum
from docferry.core.cutover.modes import Mode
from docferry.core.cutover.permitted import Flow
from docferry.core.mapping.items import Item, is_guard, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import id_name, id_of, is_outside, item_id
from docferry.errors import PreflightFailed
from docferry.flows.ledger.modes import not_permitted, read_mode
from docferry.flows.ledger.reports import Direction
from docferry.flows.preflight.mongodb import require_source
from docferry.flows.reverse.places import Place, is_of, place_of, root_key_of, root_place
from docferry.flows.validate.common import PAGE_DOCUMENTS, read_ids
from docferry.flows.validate.reverse_looks import (
    Held,
    by_id,
    differences_of_copy,
    entity_of,
    guard_keys_of,
    held_at,
    held_in,
    is_guard_of,
    named_by,
)
from docferry.flows.validate.reverse_recheck import ReverseGenerations, add_document, add_guard, add_item
from docferry.flows.validate.skeleton import DocumentPage, Validation, leader_changed, refused


class ReverseValidation(Validation):
    """DynamoDB leads: MongoDB must hold what it does."""

    direction, resumable = Direction.REVERSE, False

    async def begin(self) -> None:
        self.led_since = await self._leading()
        await self.aside(require_source, self.job.migration, self.job.source)

    async def first_pass(self) -> None:
        await self.from_dynamo()
        await self.from_mongo()

    def judging(self) -> ReverseGenerations:
        return ReverseGenerations(self.job, self.target, self.suspects)

    async def end(self) -> None:
        if await self._leading() != self.led_since:
            raise leader_changed()

    async def _leading(self) -> int:
        """Since when DynamoDB leads: no write of it has an earlier version. Raises PreflightFailed if MongoDB does not follow."""
        mode = await self.aside(read_mode, self.job.ledger)
        if (problem := not_permitted(mode, Flow.VALIDATE)) is not None:
            raise PreflightFailed(Flow.VALIDATE, [problem])
        if mode.leader is not Mode.DYNAMODB_ONLY:
            raise refused(f"is {mode}: MongoDB leads again")
        return int(mode.floor)

    # --- DynamoDB -> MongoDB -----------------------------------------------------------------------------------------

    async def scan_table(self, table: str) -> None:
        entities, kinds = self.job.migration.entities(table), self.job.migration.kinds(table)
        began, expected, scanned = time.monotonic(), KeySum(), KeySum()
        async with aclosing(self.scan(self.new_scan(table, owners=True))) as pages:
            async for items in pages:
                places = self._places(table, items, entities)
                seen = [held_in(place, found) for place, found in places.values()]
                unsure = [one.place for one in seen if one.error is not None]
                held = [one for one in seen if one.error is None] + await held_at(self.target, unsure)
                await self._compare_held(held)
                rooted = {
                    place.document for place, found in places.values() if any(_is_root(one, place) for one in found)
                }
                for one in held:
                    if one.place.document in rooted:
                        expected.add_all(guard_keys_of(one))
                scanned.add_all(key_of(item) for item, _ in self._guards(items, kinds))
        if expected != scanned and self.sample is None:
            await self._look_up_guards(table, kinds)
        seconds = time.monotonic() - began
        for mapping in self.mappings.values():
            self.so_far.results[mapping.collection].seconds += seconds if mapping.table == table else 0.0

    def _places(
        self, table: str, items: Sequence[Item], entities: Mapping[str, DocumentMapping]
    ) -> dict[tuple[Any, ...], tuple[Place, list[Item]]]:
        """The documents that live items of a page name, each with its items there. What names none is suspected at once."""
        places: dict[tuple[Any, ...], tuple[Place, list[Item]]] = {}
        for item in items:
            if is_tombstone(item) or is_guard(item):
                continue
            named = named_by(item, entities)
            if not isinstance(named, Place):
                if named is None or named.namespace in self.mappings:
                    add_item(self.suspects, table, named.namespace if named else "", item)
                continue
            if named.mapping.collection not in self.mappings:
                continue
            self._count_item(named, item)
            places.setdefault((named.document, named.pk, named.sk), (named, []))[1].append(item)
        return places

    def _count_item(self, place: Place, item: Item) -> None:
        result = self.so_far.results[place.mapping.collection]
        result.items += 1
        if self.sample is None:
            result.documents += entity_of(item) == place.mapping.root.entity

    async def _compare_held(self, held: Sequence[Held]) -> None:
        """Suspect every document whose copy is not what DynamoDB holds at one of these places."""
        by_collection: dict[str, list[Held]] = {}
        for one in held:
            if one.is_live:
                by_collection.setdefault(one.place.mapping.collection, []).append(one)
        for collection, found in by_collection.items():
            for start in range(0, len(found), PAGE_DOCUMENTS):
                await self._compare_some(self.mappings[collection], found[start : start + PAGE_DOCUMENTS])

    async def _compare_some(self, mapping: DocumentMapping, held: Sequence[Held]) -> None:
        await self._require_guards(mapping, held)
        copies = by_id(await self.aside(read_ids, self.job, mapping.collection, [one.place.id for one in held]))
        for one in held:
            if differences_of_copy(mapping, one.place.id, [one], copies.get(one.place.name), ()):
                add_document(self.suspects, mapping, one.place.id, one.place)

    # --- guards ------------------------------------------------------------------------------------------------------

    def _guards(
        self, items: Sequence[Item], kinds: Mapping[str, DocumentMapping]
    ) -> Iterator[tuple[Item, DocumentMapping]]:
        """The live ones of a page, of the collections that are compared."""
        for item in items:
            mapping = kinds.get(entity_of(item)) if is_guard(item) and not is_tombstone(item) else None
            if mapping is not None and mapping.collection in self.mappings:
                yield item, mapping

    async def _require_guards(self, mapping: DocumentMapping, held: Sequence[Held]) -> None:
        """Suspect each guard of these documents that is not there, or not their own."""
        wanted = [(key, one.place) for one in held for key in guard_keys_of(one)]
        stored = await self.target.get_all(mapping.table, list(dict.fromkeys(key for key, _ in wanted)))
        for key, place in wanted:
            if not is_guard_of(stored.get(key), place):
                add_guard(self.suspects, mapping, place.id, key, place)

    async def _look_up_guards(self, table: str, kinds: Mapping[str, DocumentMapping]) -> None:
        """Suspect each guard of which the document, where MongoDB's copy places it, does not hold its value."""
        async with aclosing(self.scan(self.new_scan(table, owners=True))) as pages:
            async for items in pages:
                found: dict[str, list[Item]] = {}
                for item, mapping in self._guards(items, kinds):
                    found.setdefault(mapping.collection, []).append(item)
                for collection, guards in found.items():
                    await self._look_up_owners(self.mappings[collection], guards)

    async def _look_up_owners(self, mapping: DocumentMapping, guards: Sequence[Item]) -> None:
        ids = {key_of(item): item_id(item) for item in guards}
        copies = await self.aside(read_ids, self.job, mapping.collection, sorted({one for one in ids.values() if one}))
        places = [place for copy in copies if (place := root_place(mapping, copy)) is not None]
        held = await held_at(self.target, places)
        owned = {(key, one.place.name) for one in held for key in guard_keys_of(one)}
        for key, id_data in ids.items():
            if id_data is None or (key, id_name(id_data)) not in owned:
                add_guard(self.suspects, mapping, id_data or b"", key)

    # --- MongoDB -> DynamoDB -----------------------------------------------------------------------------------------

    async def compare(self, mapping: DocumentMapping, page: DocumentPage) -> DocumentPage:
        migrated = [data for data in page.raw if not is_outside(mapping, data)]
        page.outside = len(page.raw) - len(migrated)
        await (self._require_roots if self.sample is None else self._compare_sampled)(mapping, migrated)
        return page

    def count(self, mapping: DocumentMapping, page: DocumentPage) -> None:
        result = self.so_far.results[mapping.collection]
        result.outside += page.outside
        if self.sample is not None:
            result.documents += len(page.raw) - page.outside

    async def _require_roots(self, mapping: DocumentMapping, page: Sequence[bytes]) -> None:
        """Suspect every document that has no live root item where it maps to. What that one holds, the scan has compared."""
        keys = {id_of(data): root_key_of(mapping, data) for data in page}
        wanted = dict.fromkeys(key for key in keys.values() if key is not None)
        stored = await self.target.get_all(mapping.table, list(wanted))
        for id_data, key in keys.items():
            item = stored.get(key) if key is not None else None
            if key is None or item is None or not _is_root(item, place_of(mapping, id_data, key)):
                add_document(self.suspects, mapping, id_data)

    async def _compare_sampled(self, mapping: DocumentMapping, page: Sequence[bytes]) -> None:
        keys = {id_of(data): root_key_of(mapping, data) for data in page}
        places = [place_of(mapping, id_data, key) for id_data, key in keys.items() if key is not None]
        held = await held_at(self.target, places)
        await self._compare_held(held)
        live = {one.place.name for one in held if one.is_live}
        for id_data in keys:
            if id_name(id_data) not in live:
                add_document(self.suspects, mapping, id_data)


def _is_root(item: Item, place: Place) -> bool:
    return not is_tombstone(item) and is_of(item, place) and entity_of(item) == place.mapping.root.entity
