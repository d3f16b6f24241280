"""Documents as DynamoDB holds them now: which ones a stream record speaks of, and each read whole.

The order of records says nothing about what a document is: those of one item key come in order, those of two keys of one
document do not. So a record only says where to look; what is applied is what a consistent read finds there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import DecimalException

import bson
from bson.errors import BSONError

from docferry.core.compare.diff import is_tombstone
from docferry.core.mapping.digest import digest
from docferry.core.mapping.items import Item, ItemKey, is_guard, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import decode_document, id_name, id_of, item_id, require_inside
from docferry.errors import DocumentError, ItemsUnreadable, MigrationError, TornDocument
from docferry.ports.flows import StreamRecord, Target

_UNREADABLE = (BSONError, DecimalException, ArithmeticError, KeyError, TypeError, ValueError, RecursionError)
"""What codec and BSON raise for what is no value of theirs; all of it is the item's fault, and none of it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a document may be: a partition if its collection has children, else one item. `id` is BSON of {"": id}."""

    mapping: DocumentMapping = field(repr=False)
    id: bytes = field(repr=False)
    name: str
    pk: str = field(repr=False)
    sk: str = field(repr=False)

    @property
    def document(self) -> tuple[str, str]:
        """(collection, id as text): equal for the int32 and the int64 of one value, which are one id in MongoDB, too."""
        return self.mapping.collection, self.name

    def is_at(self, other: Place) -> bool:
        return (self.pk, self.sk) == (other.pk, other.sk)


def place_of(mapping: DocumentMapping, id_data: bytes, key: ItemKey) -> Place:
    """The place of a document of which one item has, or had, this key."""
    return Place(mapping=mapping, id=id_data, name=id_name(id_data), pk=key[0], sk="" if mapping.children else key[1])


def places_of(record: StreamRecord, entities: Mapping[str, DocumentMapping]) -> Iterator[Place | str | ItemsUnreadable]:
    """The places that both images of a record name; for an image that names none the reason: its entityType if the file
    knows none of that name, ItemsUnreadable (its namespace the collection) if it is of one. Guards name none: passed over."""
    found: dict[tuple[str, str], Place] = {}
    for image in (record.old, record.new):
        if image is None:
            continue
        if is_guard(image):
            continue  # it says nothing that its document's own items do not
        mapping = entities.get(_entity(image))
        if mapping is None:
            yield _entity(image)
            continue
        id_data = _id_in(image)
        if id_data is None:
            text = f"an item of type {_entity(image)} names no document that MongoDB could hold"
            yield ItemsUnreadable(text, namespace=mapping.collection, path="_id")
            continue
        place = place_of(mapping, id_data, record.key)
        found[place.document] = place
    yield from found.values()


def _id_in(item: Item) -> bytes | None:
    """None if it cannot be told, whatever the reason: it becomes a dead letter, and the stream goes on."""
    try:
        return item_id(item)
    except (MigrationError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - the caller makes it a dead letter
        return None


def root_key_of(mapping: DocumentMapping, data: bytes) -> ItemKey | None:
    """The key of the root item that MongoDB's copy of a document maps to; None if it maps to none."""
    try:
        stubs = mapping.stubs(decode_document(data))
    except DocumentError:
        return None
    return key_of(stubs[0]) if stubs else None


def root_place(mapping: DocumentMapping, data: bytes) -> Place | None:
    """The place that MongoDB's copy of a document maps to; None if it maps to none."""
    key = root_key_of(mapping, data)
    return None if key is None else place_of(mapping, id_of(data), key)


def maps_to(data: bytes, place: Place) -> bool:
    """Whether MongoDB's copy of a document maps to this very place."""
    present = root_place(place.mapping, data)
    return present is not None and present.is_at(place)


async def read_document(target: Target, place: Place) -> bytes | None:
    """The document at a place, as BSON; None if no live root of it is there.

    Raises: as `document_in` does; StoreError.
    """
    return document_in(place, await items_at(target, place))


def document_in(place: Place, items: Sequence[Item]) -> bytes | None:
    """The document that these items of a place make, as BSON; None if no live root of it is among them.

    Raises: TornDocument if they do not fit together (it was written while it was read, perhaps, or they are not all: look
            again); ItemsUnreadable, naming no content; OutsideFilter: a writer has put there what is not to be migrated.
    """
    mapping = place.mapping
    live = [item for item in items if not is_tombstone(item) and is_of(item, place)]
    roots = [item for item in live if _entity(item) == mapping.root.entity]
    children = [item for item in live if _entity(item) in mapping.children]
    if not roots:
        return None
    if len(roots) > 1 or _is_torn(roots[0], children):
        what = f"{len(roots)} roots" if len(roots) > 1 else "the root's digest is not that of its children"
        raise TornDocument(f"the items do not fit together: {what}")
    data = _encoded(mapping, [roots[0], *children])
    if not maps_to(data, place):
        raise ItemsUnreadable("by its content the document would have another key than its items have", path="PK")
    require_inside(mapping, data)
    return data


async def items_at(target: Target, place: Place) -> list[Item]:
    """Every item at a place, of whichever document."""
    if place.mapping.children:
        return [item async for item in target.partition(place.mapping.table, place.pk)]
    return list((await target.get_all(place.mapping.table, [(place.pk, place.sk)])).values())


def _entity(item: Item) -> str:
    return str(item.get("entityType", {}).get("S", ""))


def is_of(item: Item, place: Place) -> bool:
    """Whether an item is of the document of this place; another program's item in the same partition may be of none at all."""
    id_data = _id_in(item)
    return id_data is not None and id_name(id_data) == place.name


def _is_torn(root: Item, children: Sequence[Item]) -> bool:
    said = root.get("_digest", {}).get("S")
    return bool(said != (digest(children) if children else None))


def _encoded(mapping: DocumentMapping, items: Sequence[Item]) -> bytes:
    try:
        return bson.encode(mapping.decode(items).document)
    except _UNREADABLE as error:
        raise ItemsUnreadable(f"the items make no BSON document: {type(error).__name__}") from None
