"""One document and its items: the only place that knows both shapes.

A `DocumentMapping` is compiled once from the migration file. `encode` and `decode` speak wire form ({"PK": {"S": ...}, ...}),
which the writers send as `layout` says; `to_items` and `to_document` speak plain values, for applications and tests.

What a root item holds, besides the fields of its document:

| attribute | what |
| --- | --- |
| PK, SK, and XPK, XSK for each index X | keys from the templates; an index whose template lacks a field is left out |
| entityType | which kind of item this is |
| _id | the document's id, on every item |
| _v | the document's version (core.versions) |
| _t | the type hints that are needed (core.bson_codec), absent if none are |
| _digest | of its children, absent if there are none: a reader sees by it whether an item is missing or from another time |

A child carries its position in the array as `_i`. A field that bears one of these names is escaped with `~`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from bson.objectid import ObjectId

from docferry.core.bson_codec.encode import encode_id
from docferry.core.bson_codec.hints import Hints
from docferry.core.bson_codec.names import pointer_step
from docferry.core.bson_codec.plain import AttributeValue, from_plain, to_plain
from docferry.core.bson_codec.references import fields_of
from docferry.core.mapping.decoding import Decoded, decode_items
from docferry.core.mapping.digest import digest
from docferry.core.mapping.document_filter import compile_document_filter
from docferry.core.mapping.field_order import hints_of, orders_of, pointer_of
from docferry.core.mapping.guards import Guard, compile_guards, guard_item
from docferry.core.mapping.item_plan import (
    Branch,
    ItemPlan,
    add_index_keys,
    child_key,
    compile_item,
    elements_of,
    extract,
    refuse_unmapped,
    stub,
)
from docferry.core.mapping.items import SYSTEM, Document, Item, ItemKey, check_size, key_of
from docferry.core.mapping.key_templates import MISSING, check_length, lookup, render_value
from docferry.core.mapping.large.overflow import names_of
from docferry.core.mapping.shapes import encode_leaf
from docferry.core.mapping.table_layout import layout_of
from docferry.core.mql.index_entries import fields_needed
from docferry.core.settings import CollectionSettings
from docferry.core.transform import Transform, restored, stored_form
from docferry.core.versions import version_text
from docferry.errors import DocumentError, InvariantBroken, KeyCollision, KeyNotRepresentable, TransformFailed


@dataclass(frozen=True, slots=True)
class KeyFields:
    """The fields that the keys of a collection's items are made of, as dotted paths: the root's, and by the path of each
    array that becomes items, those of its elements. `whole` are fields of the top level of which all is needed."""

    root: tuple[str, ...]
    children: Mapping[str, tuple[str, ...]]
    whole: tuple[str, ...] = ()


class DocumentMapping:
    """The compiled mapping of one collection. Immutable; safe to share between threads.

    `transform` is what the settings name by `transform`: neither without the other.
    """

    def __init__(self, settings: CollectionSettings, transform: Transform | None = None) -> None:
        if (transform is None) != (settings.transform is None):
            raise InvariantBroken(
                f"{settings.name}: a mapping without the transform that its settings name, or the reverse"
            )
        self.settings = settings
        self.transform = transform
        self.collection = settings.name
        self.table = settings.table
        self.keeps_order = settings.order == "keep"  # of fields, those of subdocuments, too
        index_keys = frozenset(f"{index}{part}" for index in settings.index_names for part in ("PK", "SK"))
        self.layout = layout_of(settings)
        self._system = SYSTEM | index_keys | {settings.ttl_attribute} | self.layout.names
        self._system |= names_of(settings.overflow)
        children = {
            path: compile_item(
                child, self._system | {"_id"}, settings, parent=settings.item, path=tuple(path.split("."))
            )
            for path, child in settings.children.items()
        }
        self.root = compile_item(settings.item, self._system, settings, children=children)
        self.children = {plan.entity: plan for plan in children.values()}
        self.unique = {plan.entity: plan for plan in compile_guards(settings)}
        whole = {name for plan in self.unique.values() for name in fields_needed(plan.settings)}
        self.guard_fields = tuple(name.encode() for name in sorted(whole | {"_id"}))
        self.filter = compile_document_filter(settings.filter)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The `entityType` of all items that it makes, root first and guards last."""
        return (self.root.entity, *self.children, *self.unique)

    def __repr__(self) -> str:
        return f"Mapping({self.collection!r} -> {self.table!r})"

    # --- to items ----------------------------------------------------------------------------------------------------

    def encode(self, document: Document, version: int) -> list[Item]:
        """The items of a document in wire form, root first. Pure.

        Raises: DocumentError (its path, and the document's id) if the document cannot be stored; OutsideFilter, one of them, if
                it is none that is migrated.
        """
        try:
            if self.filter is not None:
                self.filter.require(document)
            return self._encode(document, version) if self.transform is None else self._transformed(document, version)
        except DocumentError as error:
            error.namespace = error.namespace or self.collection
            error.id = error.id or self.id_text(document)
            if error.path[:1] == "/":
                error.path = error.path[1:].replace("/", ".")
            raise

    def to_items(self, document: Document, version: int) -> list[dict[str, Any]]:
        """The same with plain attribute values (str, Decimal, bytes, list, dict, ...), and checked for size."""
        items = self.encode(document, version)
        self.check_sizes(items)
        stored = map(self.layout.stored, items)
        return [{name: to_plain(value) for name, value in item.items()} for item in stored]

    def check_sizes(self, items: Iterable[Item]) -> None:
        """Raises ItemTooLarge if DynamoDB would not take one of them."""
        for item in items:
            check_size(item if self.layout.plain else self.layout.cut(self.layout.stored(item))[0], item["SK"]["S"])

    def fitted(self, items: Iterable[Item]) -> list[Item]:
        """The items as large as the table keeps them, for what counts bytes. Raises ItemTooLarge, as `check_sizes`."""
        found = [self.layout.fitted(item) for item in items]
        for item in found:
            check_size(item if self.layout.plain else self.layout.cut(self.layout.named(item))[0], item["SK"]["S"])
        return found

    def id_text(self, document: Mapping[str, Any]) -> str:
        """The document's id as key text: what dead letters and reports call it by."""
        return render_value(document["_id"]) if "_id" in document else "(no _id)"

    @property
    def key_fields(self) -> KeyFields:
        """What of a document must be known to tell the keys of its items, and whether it has any."""
        root = self.root.pk.fields | self.root.sk.fields
        children = {".".join(plan.path): tuple(sorted(plan.sk.fields - {"index"})) for plan in self.children.values()}
        whole = {name.decode() for name in self.guard_fields} if self.unique else set()
        whole |= self.filter.top_fields if self.filter is not None else set()
        return KeyFields(tuple(sorted(root)), children, tuple(sorted(whole)))

    def keys(self, document: Document) -> list[ItemKey]:
        """The keys of a document's items, root first, guards left out, without encoding its content. Raises as `encode` does."""
        found = [self.root_key(document)]
        pk = found[0][0]
        for child in self.children.values():
            elements = elements_of(lookup(document, child.path))
            found += [child_key(child, pk, element, index) for index, element in enumerate(elements)]
        return found

    # --- guards ------------------------------------------------------------------------------------------------------

    def guards(self, document: Document) -> dict[ItemKey, Guard]:
        """What a document holds of MongoDB's unique indexes, by the keys of the guard items. Raises DocumentError."""
        return {key: one for plan in self.unique.values() for key, one in plan.guards(document).items()}

    def guard_items(self, document: Document, version: int | None = None) -> list[Item]:
        """The guard items of a document; without a version, as `stubs` are."""
        of_all = self._id_in(document) | ({} if version is None else {"_v": _stamp(version)})
        found = self.guards(document) if self.unique else {}
        return [guard_item(one, of_all) for one in found.values()]

    @staticmethod
    def _id_in(document: Document) -> Item:
        hints: Hints = {}
        found: Item = {"_id": encode_id(document["_id"], hints)}
        return found | ({"_t": hint_map(hints)} if hints else {})

    # --- keys --------------------------------------------------------------------------------------------------------

    def root_key(self, document: Document) -> ItemKey:
        """The key of the root item. Raises DocumentError."""
        pk = check_length(self.root.pk.render_key(document), False, "PK", self.root.pk.kind)
        return pk, check_length(self.root.sk.render_key(document), True, "SK", self.root.sk.kind)

    def key_values(self, document: Document) -> dict[str, Any]:
        """The fields that the root's key is made of, by their dotted paths, with their values."""
        fields = sorted(self.root.pk.fields | self.root.sk.fields)
        return {name: lookup(document, tuple(name.split("."))) for name in fields}

    def index_key(self, document: Document, index: str) -> ItemKey | None:
        """Where an index holds the root item; None: it leaves the document out."""
        item: Item = {}
        add_index_keys(self.root, document, item, None)
        return (item[f"{index}PK"]["S"], item[f"{index}SK"]["S"]) if f"{index}PK" in item else None

    def stubs(self, document: Document) -> list[Item]:
        """A document's items, root first, guards left out, as far as where they are and whose: PK, SK, entityType, _id and its
        hints.

        Needs only the fields of keys. Leaves out items whose key cannot be told, and all if the root's cannot: such a
        document has a dead letter, and no such item.
        """
        of_all = self._id_in(document)
        try:
            pk, sk = self.root_key(document)
        except DocumentError:
            return []
        found = [stub(pk, sk, self.root, of_all)]
        for child in self.children.values():
            for index, element in enumerate(elements_of(lookup(document, child.path))):
                with suppress(DocumentError):
                    found.append(stub(*child_key(child, pk, element, index), child, of_all))
        return found

    def _transformed(self, document: Document, version: int) -> list[Item]:
        """The items of what the transform makes of a document, under the keys of the document itself."""
        assert self.transform is not None
        stored = stored_form(self.transform, document, ordered=self.keeps_order)
        if self._places(stored) != self._places(document):
            raise TransformFailed("transform: forward changes a field that a key, an index or a condition is made of")
        return self._encode(stored, version)

    def _places(self, document: Document) -> list[Item]:
        """The keys of a document's items, those in indexes included."""
        places: list[Item] = [{}]
        add_index_keys(self.root, document, places[0], None)
        for child in self.children.values():
            for index, element in enumerate(elements_of(lookup(document, child.path))):
                places.append({})
                add_index_keys(child, element, places[-1], index)
        for item, (pk, sk) in zip(places, self.keys(document), strict=True):
            item |= {"PK": {"S": pk}, "SK": {"S": sk}}
        return places

    def _encode(self, document: Document, version: int) -> list[Item]:
        if "_id" not in document:
            raise KeyNotRepresentable("the document has no _id", path="_id")
        plan = self.root
        hints: Hints = {}
        stamp = _stamp(version)
        pk = plan.pk.render_key(document)
        id_hints: Hints = {}
        id_value = encode_id(document["_id"], id_hints)
        root: Item = {
            "PK": {"S": check_length(pk, False, "PK", plan.pk.kind)},
            "SK": {"S": check_length(plan.sk.render_key(document), True, "SK", plan.sk.kind)},
            "entityType": {"S": plan.entity},
            "_id": id_value,
            "_v": stamp,
        }
        hints.update(id_hints)
        branches: list[tuple[ItemPlan, list[Document]]] = []
        self._fields(plan, document, root, hints, branches)
        self._note_order(document, [child for child, _ in branches], hints)
        if type(document["_id"]) is ObjectId:  # nearly always, and then no need to make it again
            for name in plan.oid_copies:
                root[name] = id_value
        for copy in plan.copies:
            if copy.attribute in root:
                continue
            value = lookup(document, copy.path)
            if value is not MISSING:
                root[copy.attribute] = encode_leaf(value, copy, hints)
        if plan.indexes:
            add_index_keys(plan, document, root, None)
        children = [
            self._child(child, pk, element, index, id_value, id_hints, stamp)
            for child, elements in branches
            for index, element in enumerate(elements)
        ]
        if children:
            self._refuse_collisions(root, children)
            root["_digest"] = {"S": digest(children)}
        if hints:
            root["_t"] = hint_map(hints)
        return [root, *children]

    def _fields(
        self,
        plan: ItemPlan,
        document: Document,
        item: Item,
        hints: Hints,
        branches: list[tuple[ItemPlan, list[Document]]],
    ) -> None:
        shape = plan.shape_of(document)
        shape.fill(document, item, hints)
        for name, node in shape.special:
            self._nested(plan, name, document[name], node, item, hints, branches)

    def _nested(
        self,
        plan: ItemPlan,
        name: str,
        value: Any,
        node: Any,
        item: Item,
        hints: Hints,
        branches: list[tuple[ItemPlan, list[Document]]],
    ) -> None:
        if type(node) is Branch:
            if elements := elements_of(value):
                branches.append((node.child, elements))
                return
        elif (fields := fields_of(value)) is not None:
            rest, extracted = extract(plan, fields, node, item, hints, branches, pointer_step(name))
            if extracted and not rest:
                return
            value = rest if extracted or plan.unmapped != "keep" else value
        elif value and plan.unmapped != "keep":
            refuse_unmapped(plan, name)
            return
        leaf = plan.name_of(name)
        item[leaf.attribute] = encode_leaf(value, leaf, hints)

    def _note_order(self, document: Document, children: Sequence[ItemPlan], hints: Hints) -> None:
        if self.keeps_order:
            hints.update(hints_of(orders_of(document, [pointer_of(child.path) for child in children])))

    def _child(
        self,
        plan: ItemPlan,
        parent_pk: str,
        element: Document,
        index: int,
        id_value: AttributeValue,
        id_hints: Hints,
        stamp: AttributeValue,
    ) -> Item:
        pk, sk = child_key(plan, parent_pk, element, index)
        hints = dict(id_hints)
        item: Item = {
            "PK": {"S": pk},
            "SK": {"S": sk},
            "entityType": {"S": plan.entity},
            "_id": id_value,
            "_v": stamp,
            "_i": {"N": str(index)},
        }
        try:
            self._fields(plan, element, item, hints, [])
        except DocumentError as error:
            error.path = f"/{'/'.join(plan.path)}/{index}{error.path}"
            raise
        if self.keeps_order:
            hints.update(hints_of(orders_of(element, element=True)))
        if plan.indexes:
            add_index_keys(plan, element, item, index)
        if hints:
            item["_t"] = hint_map(hints)
        return item

    def _refuse_collisions(self, root: Item, children: list[Item]) -> None:
        seen = {key_of(root)}
        for child in children:
            key = key_of(child)
            if key in seen:
                plan = self.children[child["entityType"]["S"]]
                path = f"{'.'.join(plan.path)}.{child['_i']['N']}"
                raise KeyCollision(f"{path} would have the same key as another item of the document", path=path)
            seen.add(key)

    # --- to a document -----------------------------------------------------------------------------------------------

    def to_document(self, items: Iterable[Mapping[str, Any]]) -> Document:
        """The document again, BSON types included, from the items as plain values, in any order.

        Raises: InvariantBroken if there is no root item among them, or it has no `_id`.
        """
        wire = ({name: from_plain(value) for name, value in item.items()} for item in items)
        return self.decode([self.layout.read(item) for item in wire]).document

    def decode(self, items: Sequence[Item]) -> Decoded:
        """The same from wire form, with the number of hints and attributes that did not fit. Raises ItemsUnreadable, too."""
        found = decode_items(self.collection, self.root, self.children, self._system, items, ordered=self.keeps_order)
        return found if self.transform is None else replace(found, document=restored(self.transform, found.document))


@lru_cache(maxsize=64)
def _stamp(version: int) -> AttributeValue:
    """A version as attribute value. All documents of a page have the same."""
    return {"S": version_text(version)}


def hint_map(hints: Hints) -> AttributeValue:
    return {"M": {pointer: {"S": hint} for pointer, hint in hints.items()}}
