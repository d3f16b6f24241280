"""One document and its items: the only place that knows both shapes.

A `DocumentMapping` is compiled once from the migration file. `encode` and `decode` speak wire form ({"PK": {"S": ...}, ...}),
which the writers send as it is; `to_items` and `to_document` speak plain values, for applications and tests.

What a root item holds, besides the fields of its document:

| attribute | what |
| --- | --- |
| PK, SK, and XPK, XSK for each index X | keys from the templates; an index whose template lacks a field is left out |
| entityType | which kind of item this is |
| _id | the document's id, on every item |
| _v | the document's version (core.versions) |
| _t | the type hints that are needed (core.codec), absent if none are |
| _digest | of its children, absent if there are none: a reader sees by it whether an item is missing or from another time |

A child carries its position in the array as `_i`. A field that bears one of these names is escaped with `~`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from docferry.core.bson_codec.codec import (
    AttributeValue,
    Hints,
    HintTree,
    decode_value,
    encode_id,
    escape_name,
    from_plain,
    parse_declared,
    plain_number,
    pointer_step,
    to_plain,
    unescape_name,
)
from docferry.core.limits import ITEM_BYTES, item_bytes
from docferry.core.mapping.key_templates import MISSING, Template, check_length, lookup, parse_template, render_value
from docferry.core.mapping.shapes import (
    MOST_FIELDS,
    MOST_SHAPES,
    Leaf,
    Shape,
    ShapeKey,
    encode_leaf,
    leaf_of,
    shape_key,
)
from docferry.core.settings import CollectionSettings, ItemSettings, Unmapped
from docferry.core.versions import version_text
from docferry.errors import (
    DocumentError,
    InvariantBroken,
    ItemTooLarge,
    KeyCollision,
    KeyNotRepresentable,
    UnmappedField,
)

Item = dict[str, AttributeValue]
ItemKey = tuple[str, str]
Document = dict[str, Any]

SYSTEM: Final = frozenset({"PK", "SK", "_v", "_t", "_i", "_ttl", "_deleted", "_digest", "entityType"})
"""Names that a document's own fields never get: they are escaped. `_ttl` also where the file names another TTL attribute."""
VOLATILE: Final = frozenset({"_v", "_ttl", "_digest"})
"""Attributes that say when an item was written, not what it holds."""


def key_of(item: Item) -> ItemKey:
    """(partition key, sort key) of an item in wire form."""
    return item["PK"]["S"], item["SK"]["S"]


@dataclass(frozen=True, slots=True)
class KeyFields:
    """The fields that the table keys of a collection are made of, as dotted paths: the root's, and by the path of each
    array that becomes items, those of its elements."""

    root: tuple[str, ...]
    children: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Branch:
    """An array that becomes items of its own."""

    child: ItemPlan


@dataclass(frozen=True, slots=True)
class _Index:
    pk_name: str
    sk_name: str
    pk: Template
    sk: Template
    when: tuple[tuple[tuple[str, ...], Any], ...]


@dataclass(frozen=True, slots=True)
class ItemPlan:
    """How one kind of item is made and read back."""

    entity: str
    pk: Template
    sk: Template
    indexes: tuple[_Index, ...]
    tree: dict[str, Any]
    copies: tuple[Leaf, ...]
    oid_copies: tuple[str, ...]
    declared: dict[str, str]
    sources: dict[str, tuple[str, ...]]
    reserved: frozenset[str]
    unmapped: Unmapped
    path: tuple[str, ...] = ()
    shapes: dict[ShapeKey, Shape] = field(default_factory=dict, compare=False, repr=False)

    def name_of(self, name: str) -> Leaf:
        """The attribute of a field that keeps its own name."""
        attribute = escape_name(name, self.reserved)
        return leaf_of(attribute, self.declared.get(attribute))

    def shape_of(self, document: Document) -> Shape:
        """How documents like this one are encoded. Raises UnmappedField where the file says so."""
        key = shape_key(document)
        found = self.shapes.get(key)
        if found is None:
            found = _compile_shape(self, document)
            if len(self.shapes) < MOST_SHAPES and len(document) <= MOST_FIELDS:
                self.shapes[key] = found
        return found


@dataclass(frozen=True, slots=True)
class Decoded:
    """A document read back; `misfits` counts hints and attributes that did not fit and were ignored."""

    document: Document
    misfits: int


class DocumentMapping:
    """The compiled mapping of one collection. Immutable; safe to share between threads."""

    def __init__(self, settings: CollectionSettings) -> None:
        self.settings = settings
        self.collection = settings.name
        self.table = settings.table
        index_keys = frozenset(f"{index}{part}" for index in settings.index_names for part in ("PK", "SK"))
        self._system = SYSTEM | index_keys | {settings.ttl_attribute}
        children = {
            path: _compile(child, self._system | {"_id"}, settings, parent=settings.item, path=tuple(path.split(".")))
            for path, child in settings.children.items()
        }
        self.root = _compile(settings.item, self._system, settings, children=children)
        self.children = {plan.entity: plan for plan in children.values()}

    def __repr__(self) -> str:
        return f"Mapping({self.collection!r} -> {self.table!r})"

    # --- to items ----------------------------------------------------------------------------------------------------

    def encode(self, document: Document, version: int) -> list[Item]:
        """The items of a document in wire form, root first. Pure.

        Raises: DocumentError (its path, and the document's id) if the document cannot be stored.
        """
        try:
            return self._encode(document, version)
        except DocumentError as error:
            error.namespace = error.namespace or self.collection
            error.id = error.id or self.id_text(document)
            if error.path[:1] == "/":
                error.path = error.path[1:].replace("/", ".")
            raise

    def to_items(self, document: Document, version: int) -> list[dict[str, Any]]:
        """The same with plain attribute values (str, Decimal, bytes, list, dict, ...), and checked for size."""
        items = self.encode(document, version)
        for item in items:
            check_size(item)
        return [{name: to_plain(value) for name, value in item.items()} for item in items]

    def id_text(self, document: Mapping[str, Any]) -> str:
        """The document's id as key text: what dead letters and reports call it by."""
        return render_value(document["_id"]) if "_id" in document else "(no _id)"

    @property
    def key_fields(self) -> KeyFields:
        """What of a document must be known to tell the keys of its items."""
        root = self.root.pk.fields | self.root.sk.fields
        children = {".".join(plan.path): tuple(sorted(plan.sk.fields - {"index"})) for plan in self.children.values()}
        return KeyFields(tuple(sorted(root)), children)

    def keys(self, document: Document) -> list[ItemKey]:
        """The keys of a document's items, root first, without encoding its content. Raises as `encode` does."""
        found = [self.root_key(document)]
        pk = found[0][0]
        for child in self.children.values():
            value = lookup(document, child.path)
            if _is_branch(value):
                found += [_child_key(child, pk, element, index) for index, element in enumerate(value)]
        return found

    def root_key(self, document: Document) -> ItemKey:
        """The key of the root item. Raises DocumentError."""
        pk = check_length(self.root.pk.render_key(document), False, "PK")
        return pk, check_length(self.root.sk.render_key(document), True, "SK")

    def key_values(self, document: Document) -> dict[str, Any]:
        """The fields that the root's key is made of, by their dotted paths, with their values."""
        fields = sorted(self.root.pk.fields | self.root.sk.fields)
        return {name: lookup(document, tuple(name.split("."))) for name in fields}

    def index_key(self, document: Document, index: str) -> ItemKey | None:
        """Where an index holds the root item; None: it leaves the document out."""
        item: Item = {}
        _add_index_keys(self.root, document, item, None)
        return (item[f"{index}PK"]["S"], item[f"{index}SK"]["S"]) if f"{index}PK" in item else None

    def stubs(self, document: Document) -> list[Item]:
        """A document's items, root first, as far as where they are and whose: PK, SK, entityType, _id and its hints.

        Needs only the fields of keys. Leaves out items whose key cannot be told, and all if the root's cannot: such a
        document has a dead letter, and no such item.
        """
        hints: Hints = {}
        of_all: Item = {"_id": encode_id(document["_id"], hints)} | ({"_t": _hint_map(hints)} if hints else {})
        try:
            pk, sk = self.root_key(document)
        except DocumentError:
            return []
        found = [_stub(pk, sk, self.root, of_all)]
        for child in self.children.values():
            value = lookup(document, child.path)
            for index, element in enumerate(value if _is_branch(value) else ()):
                with suppress(DocumentError):
                    found.append(_stub(*_child_key(child, pk, element, index), child, of_all))
        return found

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
            "PK": {"S": check_length(pk, False, "PK")},
            "SK": {"S": check_length(plan.sk.render_key(document), True, "SK")},
            "entityType": {"S": plan.entity},
            "_id": id_value,
            "_v": stamp,
        }
        hints.update(id_hints)
        branches: list[tuple[ItemPlan, list[Document]]] = []
        self._fields(plan, document, root, hints, branches)
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
            _add_index_keys(plan, document, root, None)
        children = [
            self._child(child, pk, element, index, id_value, id_hints, stamp)
            for child, elements in branches
            for index, element in enumerate(elements)
        ]
        if children:
            self._refuse_collisions(root, children)
            root["_digest"] = {"S": digest(children)}
        if hints:
            root["_t"] = _hint_map(hints)
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
        if type(node) is _Branch:
            if _is_branch(value):
                branches.append((node.child, value))
                return
        elif isinstance(value, dict):
            value, extracted = _extract(plan, value, node, item, hints, branches, pointer_step(name))
            if extracted and not value:
                return
        elif value and plan.unmapped != "keep":
            _refuse_unmapped(plan, name)
            return
        leaf = plan.name_of(name)
        item[leaf.attribute] = encode_leaf(value, leaf, hints)

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
        pk, sk = _child_key(plan, parent_pk, element, index)
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
        if plan.indexes:
            _add_index_keys(plan, element, item, index)
        if hints:
            item["_t"] = _hint_map(hints)
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
        wire = [{name: from_plain(value) for name, value in item.items()} for item in items]
        return self.decode(wire).document

    def decode(self, items: Sequence[Item]) -> Decoded:
        """The same from wire form, with the number of hints and attributes that did not fit."""
        roots = [item for item in items if item.get("entityType", {}).get("S") == self.root.entity]
        if len(roots) != 1:
            raise InvariantBroken(f"{self.collection}: {len(roots)} root items among {len(items)}, expected one")
        root = roots[0]
        if "_id" not in root:
            raise InvariantBroken(f"{self.collection}: a root item without _id")
        tree = _hint_tree(root)
        document: Document = {}
        id_node = tree.root.get("_id")
        document["_id"] = decode_value(root["_id"], id_node, tree, "oid")
        misfits = self._read_fields(self.root, root, document, tree)
        arrays: dict[tuple[str, ...], list[tuple[Decimal, Document]]] = {}
        for item in items:
            plan = self.children.get(item.get("entityType", {}).get("S", ""))
            if plan is None:
                continue
            child_tree = _hint_tree(item)
            element: Document = {}
            misfits += self._read_fields(plan, item, element, child_tree) + child_tree.misfits
            position = item.get("_i", {}).get("N")
            misfits += position is None
            arrays.setdefault(plan.path, []).append((Decimal(position or "Infinity"), element))
        for path, elements in arrays.items():
            elements.sort(key=lambda pair: pair[0])
            misfits += not _set(document, path, [element for _, element in elements])
        return Decoded(document, misfits + tree.misfits)

    def _read_fields(self, plan: ItemPlan, item: Item, document: Document, tree: HintTree) -> int:
        moved: list[tuple[tuple[str, ...], Any]] = []
        for attribute, value in item.items():
            if attribute in self._system or attribute == "_id":
                continue
            source = plan.sources.get(attribute)
            if source is not None and source[0] == "_id" and not plan.path:
                continue  # a copy: the id itself is `_id`
            decoded = decode_value(value, tree.root.get(attribute), tree, plan.declared.get(attribute))
            if source is None:
                document[unescape_name(attribute)] = decoded
            else:
                moved.append((source, decoded))
        # Moved fields last: the rest of their subdocument may have stayed under its own name.
        return sum(not _set(document, path, value) for path, value in moved)


_ROOT_ID: Final = object()


def _compile(
    settings: ItemSettings,
    system: frozenset[str],
    collection: CollectionSettings,
    *,
    parent: ItemSettings | None = None,
    children: Mapping[str, ItemPlan] | None = None,
    path: tuple[str, ...] = (),
) -> ItemPlan:
    declared = {name: parse_declared(text) for name, text in settings.types.items()}
    sources = {name: tuple(source.split(".")) for name, source in settings.attributes.items()}
    tree: dict[str, Any] = {} if parent else {"_id": _ROOT_ID}
    copies: list[Leaf] = []
    for name, source in sources.items():
        leaf = leaf_of(name, declared.get(name), source)
        if source[0] == "_id" and not parent:
            copies.append(leaf)
        else:
            _graft(tree, source, leaf)
    for dotted, child in (children or {}).items():
        _graft(tree, tuple(dotted.split(".")), _Branch(child))
    pk = settings.key.get("PK") or (parent.key["PK"] if parent else "")
    own = frozenset(name for name, source in sources.items() if source != (name,))
    return ItemPlan(
        entity=settings.entity,
        pk=parse_template(pk),
        sk=parse_template(settings.key["SK"]),
        indexes=tuple(_compile_index(settings, name) for name in settings.index),
        tree=tree,
        copies=tuple(copies),
        oid_copies=tuple(copy.attribute for copy in copies if copy.path == ("_id",) and copy.declared == "oid"),
        declared=declared,
        sources=sources,
        reserved=system | own,
        unmapped=collection.unmapped,
        path=path,
    )


def _compile_index(settings: ItemSettings, name: str) -> _Index:
    keys = settings.index[name]
    when = tuple((tuple(path.split(".")), value) for path, value in settings.when.get(name, {}).items())
    return _Index(name + "PK", name + "SK", parse_template(keys["PK"]), parse_template(keys["SK"]), when)


def _graft(tree: dict[str, Any], path: tuple[str, ...], leaf: Leaf | _Branch) -> None:
    for step in path[:-1]:
        tree = tree.setdefault(step, {})
    tree[path[-1]] = leaf


def _compile_shape(plan: ItemPlan, document: Document) -> Shape:
    shape = Shape()
    for name, value in document.items():
        node = plan.tree.get(name)
        if type(node) is Leaf:
            shape.add(name, type(value), node)
        elif node is None and plan.unmapped == "keep":
            shape.add(name, type(value), plan.name_of(name))
        elif node is None:
            _refuse_unmapped(plan, name)
        elif node is not _ROOT_ID:
            shape.special.append((name, node))
    return shape


@lru_cache(maxsize=64)
def _stamp(version: int) -> AttributeValue:
    """A version as attribute value. All documents of a page have the same."""
    return {"S": version_text(version)}


def _is_branch(value: Any) -> bool:
    """Children are made of a filled array of subdocuments; any other value stays a field of the root."""
    return type(value) is list and bool(value) and all(type(element) is dict for element in value)


def _extract(
    plan: ItemPlan,
    value: Document,
    tree: dict[str, Any],
    item: Item,
    hints: Hints,
    branches: list[tuple[ItemPlan, list[Document]]],
    path: str,
) -> tuple[Document, bool]:
    """(what stays of a subdocument, whether anything was taken out); the mapped fields go into `item`."""
    rest: Document = {}
    taken = False
    for name, inner in value.items():
        node = tree.get(name)
        if type(node) is Leaf:
            item[node.attribute] = encode_leaf(inner, node, hints)
            taken = True
        elif type(node) is _Branch:
            if _is_branch(inner):
                branches.append((node.child, inner))
                taken = True
            else:
                rest[name] = inner
        elif node is not None and isinstance(inner, dict):
            inner_rest, inner_taken = _extract(plan, inner, node, item, hints, branches, path + pointer_step(name))
            taken = taken or inner_taken
            if inner_rest or not inner_taken:
                rest[name] = inner_rest
        elif plan.unmapped == "keep" or (node is not None and not inner):
            rest[name] = inner
        else:
            _refuse_unmapped(plan, name, path)
    return rest, taken


def _set(document: Document, path: tuple[str, ...], value: Any) -> bool:
    """Put a value at a path, making subdocuments on the way; False if something else stands there."""
    for step in path[:-1]:
        document = document.setdefault(step, {})
        if not isinstance(document, dict):
            return False
    document[path[-1]] = value
    return True


def _refuse_unmapped(plan: ItemPlan, name: str, path: str = "") -> None:
    if plan.unmapped == "refuse":
        text = f"the field {name} is not in the mapping, and unmapped fields are refused"
        raise UnmappedField(text, path=f"{path}{pointer_step(name)}")


def _stub(pk: str, sk: str, plan: ItemPlan, of_all: Item) -> Item:
    return {"PK": {"S": pk}, "SK": {"S": sk}, "entityType": {"S": plan.entity}} | of_all


def _child_key(plan: ItemPlan, parent_pk: str, element: Document, index: int) -> ItemKey:
    prefix = f"{'.'.join(plan.path)}.{index}."
    return parent_pk, check_length(plan.sk.render_key(element, index, prefix), True, f"{prefix}SK")


def _add_index_keys(plan: ItemPlan, document: Document, item: Item, position: int | None) -> None:
    for index in plan.indexes:
        if index.when and not all(_same(lookup(document, path), wanted) for path, wanted in index.when):
            continue
        pk = index.pk.render(document, position)
        sk = index.sk.render(document, position)
        if pk is not None and sk is not None:
            item[index.pk_name] = {"S": check_length(pk, False, index.pk_name)}
            item[index.sk_name] = {"S": check_length(sk, True, index.sk_name)}


def _same(value: Any, wanted: Any) -> bool:
    """MongoDB's equality: 1 is 1.0 and Decimal128("1"), but true is not 1."""
    if isinstance(value, Decimal128):
        value = value.to_decimal()
        return not value.is_nan() and not isinstance(wanted, bool) and bool(value == wanted)
    return value is not MISSING and isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _hint_map(hints: Hints) -> AttributeValue:
    return {"M": {pointer: {"S": hint} for pointer, hint in hints.items()}}


def _hint_tree(item: Item) -> HintTree:
    stored = item.get("_t", {}).get("M", {})
    return HintTree({pointer: hint["S"] for pointer, hint in stored.items() if "S" in hint})


def check_size(item: Item) -> None:
    """Raises ItemTooLarge if DynamoDB would not take the item."""
    size = item_bytes(item)
    if size > ITEM_BYTES:
        raise ItemTooLarge(
            f"the item would have {size} bytes, more than the {ITEM_BYTES} allowed", path=item["SK"]["S"]
        )


# --- digests and comparison ------------------------------------------------------------------------------------------


def digest(children: Sequence[Item]) -> str:
    """Of the children's keys and content (never their versions: those move without the content). 32 hex digits.

    BLAKE2b of 16 bytes over each child as JSON, in the order of their keys: docs/protocol.md tells it to other languages.
    """
    state = hashlib.blake2b(digest_size=16)
    for item in sorted(children, key=key_of):
        state.update(_canonical(item))
    return state.hexdigest()


def _canonical(item: Item) -> bytes:
    """An item's content in one spelling, whoever wrote it: JSON. Flat strings and numbers, the usual case, are quick."""
    parts: list[str] = []
    for name in sorted(item):
        if name in VOLATILE:
            continue
        ((tag, content),) = item[name].items()
        if tag == "S":
            parts.append(f'{_json_text(name)}:{{"S":{_json_text(content)}}}')
        elif tag == "N":
            plain = content if content.isdigit() and content[0] != "0" else plain_number(Decimal(content))
            parts.append(f'{_json_text(name)}:{{"N":"{plain}"}}')
        else:
            parts.append(f"{_json_text(name)}:{_json(_canonical_value(item[name]))}")
    return f"{{{','.join(parts)}}}".encode()


_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_json_text: Callable[[str], str] = json.encoder.encode_basestring_ascii


def _canonical_value(value: AttributeValue) -> AttributeValue:
    """Numbers in one spelling, whoever wrote them."""
    ((tag, content),) = value.items()
    if tag == "N" and (content[0] == "0" or not content.isdigit()):
        return {"N": plain_number(Decimal(content))}
    if tag in ("SS", "NS", "BS"):
        return {tag: sorted(plain_number(Decimal(inner)) if tag == "NS" else inner for inner in content)}
    if tag == "M":
        return {"M": {name: _canonical_value(inner) for name, inner in content.items()}}
    if tag == "L":
        return {"L": [_canonical_value(inner) for inner in content]}
    return value
