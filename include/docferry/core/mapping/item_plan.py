"""How one kind of item is made: a collection's settings, compiled once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from bson.dbref import DBRef
from bson.decimal128 import Decimal128

from docferry.core.bson_codec.hints import NATURAL, parse_declared
from docferry.core.bson_codec.names import escape_name, pointer_step
from docferry.core.bson_codec.order import NAN_KEY, order_key
from docferry.core.bson_codec.plain import EXACT
from docferry.core.bson_codec.references import fields_of
from docferry.core.limits import PARTITION_KEY_BYTES
from docferry.core.mapping.items import GUARD, Document, Item, ItemKey
from docferry.core.mapping.key_templates import (
    MISSING,
    NO_SORT_KEY,
    Template,
    check_length,
    lookup,
    parse_key,
    parse_template,
    render_value,
)
from docferry.core.mapping.shapes import (
    MOST_FIELDS,
    MOST_SHAPES,
    Leaf,
    Shape,
    ShapeKey,
    leaf_of,
    shape_key,
)
from docferry.core.mql.index_entries import EMPTY_ARRAY, Entry, IndexEntries, compile_index
from docferry.core.settings import (
    CollectionSettings,
    ItemSettings,
    KeyDesign,
    UniqueSettings,
    Unmapped,
    plain_index_key,
)
from docferry.errors import (
    UnmappedField,
)


@dataclass(frozen=True, slots=True)
class Branch:
    """An array that becomes items of its own."""

    child: ItemPlan


@dataclass(frozen=True, slots=True)
class AnyOf:
    """A condition of an index: the field has one of these values."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """A condition of an index: the field is there (null is), or is not."""

    there: bool


def condition_of(said: Any) -> Any:
    """What the file says under `when`: a value, several, or whether the field exists."""
    if isinstance(said, Mapping):
        return Exists(said["exists"])
    return AnyOf(tuple(said)) if isinstance(said, tuple | list) else said


def holds(value: Any, wanted: Any) -> bool:
    """Whether a field's value, or MISSING, is as a condition wants it: by MongoDB's equality."""
    if isinstance(wanted, Exists):
        return (value is not MISSING) == wanted.there
    return any(_same(value, one) for one in (wanted.values if isinstance(wanted, AnyOf) else (wanted,)))


def in_words(wanted: Any) -> Any:
    """A condition in MongoDB's query language."""
    if isinstance(wanted, Exists):
        return {"$exists": wanted.there}
    return {"$in": list(wanted.values)} if isinstance(wanted, AnyOf) else wanted


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
    natural: dict[str, str]
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
class Guard:
    """One value of a unique index that a document holds: the key of its guard item, and the fields with their values."""

    key: ItemKey
    plan: GuardPlan
    values: Mapping[str, Any] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class GuardPlan:
    """How the guards of one unique index are made."""

    entity: str
    sk: str
    entries: IndexEntries

    @property
    def settings(self) -> UniqueSettings:
        return self.entries.settings

    def guards(self, document: Document) -> dict[ItemKey, Guard]:
        """A document's guards, by their keys. Raises DocumentError."""
        found: dict[ItemKey, Guard] = {}
        for entry in self.entries.of(document):
            key = self.key_of(entry)
            if key not in found:
                shown = (None if value is EMPTY_ARRAY else value for value in entry)
                found[key] = Guard(key, self, dict(zip(self.settings.fields, shown, strict=True)))
        return found

    def key_of(self, entry: Entry) -> ItemKey:
        """Equal for entries that MongoDB holds equal. Values for which there is no room are written as their digests."""
        texts = [index_text(value) for value in entry]
        pk = "#".join((self.entity, *texts))
        if len(pk.encode()) > PARTITION_KEY_BYTES:
            pk = "#".join((self.entity, *map(_digest_text, texts)))
        return pk, self.sk


def guard_item(guard: Guard, of_all: Item) -> Item:
    """`of_all`: whose it is, and of which version."""
    pk, sk = guard.key
    return {"PK": {"S": pk}, "SK": {"S": sk}, "entityType": {"S": guard.plan.entity}} | of_all


def index_text(value: Any) -> str:
    """A value of a unique index inside a key: equal texts are equal values as MongoDB's indexes have it, whatever their types.

    Shape:  "a@b.c" -> a@b.c;  5, 5.0, Decimal128("5.00") -> ~i5;  0.5 -> ~d0.5;  null, missing -> ~n;  [] -> ~e
    Subdocuments are written as digests, in which the order of fields does not count: DynamoDB does not keep it.
    """
    if value is EMPTY_ARRAY:
        return "~e"
    if isinstance(value, list):
        return _digest_text(json.dumps(["array", *map(index_text, value)]))
    if (fields := fields_of(value)) is not None:
        return _digest_text(json.dumps(["document", *([name, index_text(fields[name])] for name in sorted(fields))]))
    if isinstance(value, int | float | Decimal128) and not isinstance(value, bool):
        return _number_text(value)
    return render_value(value)


def _number_text(value: Any) -> str:
    number = order_key(value)
    if number == NAN_KEY:
        return "~dNaN"
    exact = Decimal(number[-1])
    if exact == exact.to_integral_value() and exact.is_finite() and exact.adjusted() < INTEGER_DIGITS:
        return f"~i{int(exact)}"
    return f"~d{exact.normalize(EXACT)}"


INTEGER_DIGITS: Final = 19
"""A whole number with so many is written out in an index's text; a greater one with an exponent."""


def _digest_text(text: str) -> str:
    return "~k" + hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


def compile_guards(collection: CollectionSettings) -> tuple[GuardPlan, ...]:
    """Of the unique indexes for which the table key does not stand already. Raises as `compile_index` does."""
    key = frozenset().union(*(parse_template(one).fields for one in collection.item.key.values()))
    return tuple(
        GuardPlan(
            entity=f"{GUARD}#{collection.name}.{one.name}",
            sk=GUARD if collection.key.SK is not None else "",
            entries=compile_index(one),
        )
        for one in collection.unique
        if not key <= set(one.fields)
    )


ROOT_ID: Final = object()


def compile_item(
    settings: ItemSettings,
    system: frozenset[str],
    collection: CollectionSettings,
    *,
    parent: ItemSettings | None = None,
    children: Mapping[str, ItemPlan] | None = None,
    path: tuple[str, ...] = (),
) -> ItemPlan:
    declared = {name: parse_declared(text) for name, text in settings.types.items() if text not in NATURAL}
    sources = {name: tuple(source.split(".")) for name, source in settings.attributes.items()}
    tree: dict[str, Any] = {} if parent else {"_id": ROOT_ID}
    copies: list[Leaf] = []
    for name, source in sources.items():
        leaf = leaf_of(name, declared.get(name), source)
        if source[0] == "_id" and not parent:
            copies.append(leaf)
        else:
            _graft(tree, source, leaf)
    for dotted, child in (children or {}).items():
        _graft(tree, tuple(dotted.split(".")), Branch(child))
    key = collection.key
    pk = parse_key(settings.key.get("PK") or (parent.key["PK"] if parent else ""), key.PK.type)
    sk = parse_key(settings.key.get("SK"), key.SK.type) if key.SK is not None else NO_SORT_KEY
    pk, sk = (_telling_apart(one, pk, sources, declared) for one in (pk, sk))
    own = frozenset(name for name, source in sources.items() if source != (name,))
    return ItemPlan(
        entity=settings.entity,
        pk=pk,
        sk=sk,
        indexes=tuple(_compile_index(settings, name, collection.index_keys.get(name)) for name in settings.index),
        tree=tree,
        copies=tuple(copies),
        oid_copies=tuple(copy.attribute for copy in copies if copy.path == ("_id",) and copy.declared == "oid"),
        declared=declared,
        natural={name: text for name, text in settings.types.items() if text in NATURAL},
        sources=sources,
        reserved=system | own,
        unmapped=collection.unmapped,
        path=path,
    )


def _telling_apart(
    template: Template, pk: Template, sources: Mapping[str, tuple[str, ...]], declared: Mapping[str, str]
) -> Template:
    """A number in the table key must not be the same for two numbers that MongoDB holds apart, unless the _id is in the key."""
    if template.kind != "N" or (template is not pk and "_id" in pk.fields):
        return template
    path = template.placeholders[0].path
    names = [name for name, source in sources.items() if source == path] or [".".join(path)]
    return replace(template, apart="decimal" if declared.get(names[0], "").startswith("decimal") else "double")


def _compile_index(settings: ItemSettings, name: str, design: KeyDesign | None) -> _Index:
    keys = settings.index[name]
    design = design or plain_index_key(name)
    pk = parse_key(keys["PK"], design.PK.type)
    sk = parse_key(keys.get("SK"), design.SK.type) if design.SK is not None else NO_SORT_KEY
    when = tuple((tuple(path.split(".")), condition_of(said)) for path, said in settings.when.get(name, {}).items())
    return _Index(name + "PK", name + "SK", pk, sk, when)


def _graft(tree: dict[str, Any], path: tuple[str, ...], leaf: Leaf | Branch) -> None:
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
            refuse_unmapped(plan, name)
        elif node is not ROOT_ID:
            shape.special.append((name, node))
    return shape


_SUBDOCUMENT: Final = frozenset({dict, DBRef})


def elements_of(value: Any) -> list[Document]:
    """What children are made of: a filled array of subdocuments. Empty for any other value, which stays a field of the root."""
    if type(value) is not list or not _SUBDOCUMENT.issuperset(map(type, value)):
        return []
    return [element if type(element) is dict else dict(element.as_doc()) for element in value]


def refuse_unmapped(plan: ItemPlan, name: str, path: str = "") -> None:
    if plan.unmapped == "refuse":
        text = f"the field {name} is not in the mapping, and unmapped fields are refused"
        raise UnmappedField(text, path=f"{path}{pointer_step(name)}")


def stub(pk: str, sk: str, plan: ItemPlan, of_all: Item) -> Item:
    return {"PK": {"S": pk}, "SK": {"S": sk}, "entityType": {"S": plan.entity}} | of_all


def child_key(plan: ItemPlan, parent_pk: str, element: Document, index: int) -> ItemKey:
    prefix = f"{'.'.join(plan.path)}.{index}."
    return parent_pk, check_length(plan.sk.render_key(element, index, prefix), True, f"{prefix}SK", plan.sk.kind)


def add_index_keys(plan: ItemPlan, document: Document, item: Item, position: int | None) -> None:
    for index in plan.indexes:
        if index.when and not all(holds(lookup(document, path), wanted) for path, wanted in index.when):
            continue
        pk = index.pk.render(document, position)
        sk = index.sk.render(document, position)
        if pk is not None and sk is not None:
            item[index.pk_name] = {"S": check_length(pk, False, index.pk_name, index.pk.kind)}
            item[index.sk_name] = {"S": check_length(sk, True, index.sk_name, index.sk.kind)}


def _same(value: Any, wanted: Any) -> bool:
    """MongoDB's equality: 1 is 1.0 and Decimal128("1"), but true is not 1."""
    if isinstance(value, Decimal128):
        value = value.to_decimal()
        return not value.is_nan() and not isinstance(wanted, bool) and bool(value == wanted)
    return value is not MISSING and isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)
