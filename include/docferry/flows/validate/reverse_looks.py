"""One look at documents in both databases while DynamoDB leads: what it holds, and in what MongoDB's copy is not that.

DynamoDB is read first, then MongoDB. So a copy that is equal was brought by what DynamoDB held at that moment; one that differs
may only be on its way, and proves nothing yet (`reverse_recheck`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.bson_codec.deprecated_types import refuse_deprecated
from docferry.core.compare.diff import MISSING, Difference, DifferenceKind, compare_values, is_tombstone, shown
from docferry.core.compare.masking import Masks, is_masked, shown_id, shown_key, shown_key_of, shown_strange_key
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import decode_document, id_name, id_of, is_outside
from docferry.errors import DocumentError, ItemsUnreadable
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.reverse_letters import list_reverse_letters
from docferry.flows.reverse.places import Place, document_in, is_of, items_at, place_of, places_of, root_place
from docferry.flows.validate.common import mark_of, read_ids
from docferry.flows.validate.judging import NO_COLLECTION
from docferry.ports.flows import StreamRecord, Target

AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What DynamoDB holds at a place: a document as BSON, or `error`, or neither: no live item of it is there.

    `key` is its root's if there is one; `mark` is a digest of its items, tombstones and versions included.
    """

    place: Place
    data: bytes | None = field(default=None, repr=False)
    error: DocumentError | None = None
    key: ItemKey = field(repr=False)
    mark: bytes

    @property
    def is_live(self) -> bool:
        return self.data is not None or self.error is not None


def held_in(place: Place, items: Sequence[Item]) -> Held:
    """What these items of a place say of its document. If they may not be all, an error means no more than: read the place."""
    mine = sorted((item for item in items if is_of(item, place)), key=key_of)
    live = [item for item in mine if not is_tombstone(item)]
    roots = [key_of(item) for item in live if entity_of(item) == place.mapping.root.entity]
    error: DocumentError | None = None
    data = None
    try:
        data = document_in(place, mine)
    except DocumentError as found:
        error = found
    if data is None and error is None and any(entity_of(item) in place.mapping.children for item in live):
        error = ItemsUnreadable("there are live items, and no root")
    key = roots[0] if roots else (place.pk, place.sk)
    return Held(place=place, data=data, error=error, key=key, mark=mark_of(b"", mine))


async def held_at(target: Target, places: Iterable[Place]) -> list[Held]:
    """What DynamoDB holds at each of these places now, each named once (consistent reads). Raises StoreError."""
    named = list({(one.mapping.table, one.pk, one.sk, one.document): one for one in places}.values())
    plain: dict[str, list[Place]] = {}
    for place in named:
        if not place.mapping.children:
            plain.setdefault(place.mapping.table, []).append(place)
    found: list[Held] = []
    for table, wanted in plain.items():
        stored = await target.get_all(table, list({(one.pk, one.sk): None for one in wanted}))
        found += [held_in(one, [stored[key]] if (key := (one.pk, one.sk)) in stored else []) for one in wanted]
    return found + await _held_in_partitions(target, [one for one in named if one.mapping.children])


async def _held_in_partitions(target: Target, places: Sequence[Place]) -> list[Held]:
    found: list[Held] = []
    for start in range(0, len(places), AT_ONCE):
        some = places[start : start + AT_ONCE]
        items = await asyncio.gather(*(items_at(target, place) for place in some))
        found += [held_in(place, one) for place, one in zip(some, items, strict=True)]
    return found


def entity_of(item: Item) -> str:
    """The type that an item says it is of; "" if it says none."""
    return str(item.get("entityType", {}).get("S", ""))


def named_by(item: Item, entities: Mapping[str, DocumentMapping]) -> Place | ItemsUnreadable | None:
    """The place of the document that an item names; why it names none; None if it is of no collection of the file."""
    record = StreamRecord(sequence="", key=key_of(item), created_ms=0, new=item)
    for found in places_of(record, entities):
        return None if isinstance(found, str) else found
    return None


def by_id(documents: Iterable[bytes]) -> dict[str, bytes]:
    """Documents by their id as text, which is the same for the int32 and the int64 of one value."""
    return {id_name(id_of(data)): data for data in documents}


# --- in what a copy differs ------------------------------------------------------------------------------------------


def differences_of_copy(
    mapping: DocumentMapping, id_data: bytes, held: Sequence[Held], copy: bytes | None, masked: Masks
) -> list[Difference]:
    """Everything in which MongoDB's copy of one document is not what DynamoDB holds at the places that may be its own.

    A document that is alive at two places differs at one of them: MongoDB cannot hold both. A copy outside the collection's
    filter is MongoDB's alone, if DynamoDB holds none of its id.
    """
    apart = copy is not None and is_outside(mapping, copy)
    found = [difference for one in held for difference in _at_one_place(one, copy, masked)]
    if copy is not None and not apart and not any(one.is_live for one in held):
        key = held[-1].key if held else ("", "")
        found.append(
            _difference(mapping, id_data, key, DifferenceKind.EXTRA, masked, told=("no document", "a document"))
        )
    return found


def _at_one_place(held: Held, copy: bytes | None, masked: Masks) -> Iterator[Difference]:
    def differs(kind: DifferenceKind, expected: str, actual: str, path: str = "") -> Difference:
        place = held.place
        return _difference(place.mapping, place.id, held.key, kind, masked, path, told=(expected, actual))

    if held.error is not None:
        yield differs(DifferenceKind.UNACCOUNTED, "items that make a document", str(held.error), held.error.path)
    elif held.data is not None and copy is None:
        yield differs(DifferenceKind.MISSING, "a document", MISSING.value)
    elif held.data is not None and copy is not None and held.data != copy:
        try:
            ordered = held.place.mapping.keeps_order
            compared = list(compare_values(decode_document(held.data), _decoded(copy), "", ordered=ordered))
        except DocumentError as error:
            yield differs(DifferenceKind.DIFFERENT, "a value that DynamoDB can hold", error.reason, error.path)
            return
        for path, mine, other in ((path.removeprefix("."), mine, other) for path, mine, other in compared):
            hide = is_masked(path, masked)
            yield differs(DifferenceKind.DIFFERENT, shown(mine, hide), shown(other, hide), path)


def _decoded(copy: bytes) -> dict[str, Any]:
    """Raises DocumentError for what cannot have come from DynamoDB."""
    document = decode_document(copy)
    refuse_deprecated(copy, document)
    return document


def _difference(
    mapping: DocumentMapping,
    id_data: bytes,
    key: ItemKey,
    kind: DifferenceKind,
    masked: Masks,
    path: str = "",
    *,
    told: tuple[str, str],
) -> Difference:
    pk, sk = shown_key(mapping.root, key, masked)
    return Difference(
        kind=kind, collection=mapping.collection, id=shown_id(id_name(id_data), masked), pk=pk, sk=sk, path=path,
        expected=told[0], actual=told[1],
    )  # fmt: skip


# --- guards ----------------------------------------------------------------------------------------------------------


def guard_keys_of(held: Held) -> frozenset[ItemKey]:
    """What a document that DynamoDB holds has of unique values, by the keys of their guards. One that cannot be told of is an
    unreadable document, and found as such."""
    mapping = held.place.mapping
    if held.data is None or not mapping.unique:
        return frozenset()
    try:
        return frozenset(mapping.guards(decode_document(held.data)))
    except DocumentError:
        return frozenset()


def places_of_guard(job: Job, mapping: DocumentMapping, ids: Sequence[bytes]) -> list[Place]:
    """Where the documents of these ids may be: where MongoDB's copies are, and where a dead letter of the way back says. Raises
    StoreError."""
    copies = read_ids(job, mapping.collection, ids)
    found = [place for copy in copies if (place := root_place(mapping, copy)) is not None]
    for letter in list_reverse_letters(job.ledger):
        if letter.collection == mapping.collection and letter.id_data in ids:
            found.append(place_of(mapping, letter.id_data, letter.key))
    return found


def is_guard_of(item: Item | None, place: Place) -> bool:
    """Whether a guard is alive, and says that the document of this place holds its value."""
    return item is not None and not is_tombstone(item) and is_of(item, place)


def differences_of_guard(
    mapping: DocumentMapping, id_data: bytes, key: ItemKey, item: Item | None, holders: Sequence[Held], masked: Masks
) -> list[Difference]:
    """In what a guard is not that of the documents which hold its value now: of one, or of none."""
    entity = next(name for name in mapping.unique if key[0].startswith(f"{name}#"))
    names = sorted({one.place.name for one in holders})
    shown = [shown_id(name, masked) for name in names]
    live = item is not None and not is_tombstone(item)
    if len(names) > 1:
        told = (DifferenceKind.UNACCOUNTED, "one document with this value", f"{len(names)}: {', '.join(shown)}")
    elif names and not live:
        told = (DifferenceKind.MISSING, "a guard", MISSING.value)
    elif names and not is_guard_of(item, holders[0].place):
        told = (DifferenceKind.DIFFERENT, f"a guard of {shown[0]}", "a guard of another document")
    elif not names and live:
        told = (DifferenceKind.EXTRA, "no guard", "a guard")
    else:
        return []
    kind, expected, actual = told
    pk, sk = shown_key_of(mapping, entity, key, masked)
    return [
        Difference(
            kind=kind, collection=mapping.collection, id=shown_id(id_name(id_data), masked), pk=pk, sk=sk,
            path="_id" if kind is DifferenceKind.DIFFERENT else "", expected=expected, actual=actual,
        )
    ]  # fmt: skip


def strange_item(
    mappings: Sequence[DocumentMapping], item: Item, error: ItemsUnreadable | None, masked: Masks
) -> Difference:
    """An item of which MongoDB can hold nothing: it is of no collection (no `error`), or names no document."""
    pk, sk = shown_strange_key(mappings, key_of(item), masked)
    return Difference(
        kind=DifferenceKind.UNACCOUNTED, collection=error.namespace if error else NO_COLLECTION, id="", pk=pk, sk=sk,
        path=error.path if error else "", expected="an item of a document of the migration",
        actual=str(error) if error else "an item of none",
    )  # fmt: skip
