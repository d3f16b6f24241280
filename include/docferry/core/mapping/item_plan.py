"""How one kind of item is made: a collection's settings, compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bson.dbref import DBRef
from bson.decimal128 import Decimal128

from docferry.core.bson_codec.hints import NATURAL, Hints, parse_declared
from docferry.core.bson_codec.names import escape_name, pointer_step
from docferry.core.bson_codec.references import fields_of
from docferry.core.mapping.items import Document, Item, ItemKey
from docferry.core.mapping.key_templates import (
    MISSING,
    NO_SORT_KEY,
    Template,
    check_length,
    lookup,
    parse_key,
)
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
from docferry.core.settings import (
    CollectionSettings,
    ItemSettings,
    KeyDesign,
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


def extract(
    plan: ItemPlan,
    value: Mapping[str, Any],
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
        elif type(node) is Branch:
            if elements := elements_of(inner):
                branches.append((node.child, elements))
                taken = True
            else:
                rest[name] = inner
        elif node is not None and (fields := fields_of(inner)) is not None:
            inner_rest, inner_taken = extract(plan, fields, node, item, hints, branches, path + pointer_step(name))
            taken = taken or inner_taken
            if inner_rest or not inner_taken:
                rest[name] = inner_rest if inner_taken or plan.unmapped != "keep" else inner
        elif plan.unmapped == "keep" or (node is not None and not inner):
            rest[name] = inner
        else:
            refuse_unmapped(plan, name, path)
    return rest, taken


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
