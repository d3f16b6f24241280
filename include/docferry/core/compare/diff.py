"""Comparing what is stored with what should be: field by field, through the mapping, numbers as numbers. Pure.

Two attributes are equal if both of their readers find the same: docferry, which reads them through the hints, and the
application, which sees the attribute itself. `{"S": "12.50"}` may read back as the right Decimal128, and is no number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from bson.code import Code
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.regex import Regex

from docferry.core.bson_codec.decode import decode_value
from docferry.core.bson_codec.hints import HintTree
from docferry.core.bson_codec.names import unescape_name
from docferry.core.bson_codec.plain import AttributeValue
from docferry.core.compare.masking import MASKED, Masks, is_masked, is_masked_key, shown_id, shown_key_of
from docferry.core.mapping.field_order import Orders, is_order, stored_orders
from docferry.core.mapping.item_plan import ItemPlan
from docferry.core.mapping.items import Item, key_of
from docferry.core.mapping.large.overflow import names_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.values import bson_type


class Told(Enum):
    """What stands for a value where there is none to show."""

    MISSING = "missing"
    AN_ITEM = "an item"
    A_VERSION = "a version"
    READABLE = "fields that can be read"
    UNREADABLE = "compressed, and cannot be read"


MISSING, AN_ITEM, A_VERSION = Told.MISSING, Told.AN_ITEM, Told.A_VERSION
SHOWN_CHARACTERS = 120
_VERSION = re.compile(r"[0-9a-f]{22}")


class DifferenceKind(Enum):
    """How an item can be wrong; or, while DynamoDB leads, a document of MongoDB: then read it with the databases exchanged."""

    MISSING = "missing"
    """MongoDB has the document (or child); DynamoDB has no item, or only a tombstone."""
    DIFFERENT = "different"
    """Both are there; a field, a type or a key is not the same."""
    EXTRA = "extra"
    """DynamoDB has an item that no document accounts for."""
    UNACCOUNTED = "unaccounted"
    """The document cannot be stored, and no dead letter says so; or, while DynamoDB leads, items make no document."""
    PENDING = "pending"
    """It looked different, and could not be judged: replication is behind, or it changes at every look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is wrong. `path` is the document's, `expected` and `actual` are for reading, masked where asked.

    `first_seen_ms` (since 1970) and `age_s` say for how long it has been seen.
    """

    kind: DifferenceKind
    collection: str
    id: str
    pk: str
    sk: str
    path: str = ""
    expected: str = ""
    actual: str = ""
    first_seen_ms: int = 0
    age_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return found | {"kind": self.kind.value}


@dataclass(frozen=True, slots=True)
class FieldsInOrder:
    """Where two documents hold the same in another order: their names in order; of items, the hint that tells of it."""

    told: str


def is_tombstone(item: Item | None) -> bool:
    """Deleted, and kept so that nothing older can come back."""
    return item is not None and "_deleted" in item


def compare_item(mapping: DocumentMapping, expected: Item, stored: Item | None) -> Iterator[tuple[str, Any, Any]]:
    """(path, expected, actual) for everything in which the stored item is not the expected one; nothing if equal.

    A missing item gives one entry whose actual is MISSING. Paths are document paths, `_digest` and keys their own names.
    """
    if stored is not None and "_deleted" not in stored and _equal_quickly(expected, stored):
        return
    plan = mapping.children.get(expected["entityType"]["S"], mapping.root)
    prefix = _prefix(plan, expected)
    if stored is None or is_tombstone(stored):
        yield prefix.rstrip("."), AN_ITEM, MISSING
        return
    if left := sorted(names_of(mapping.settings.overflow) & stored.keys()):
        yield prefix + left[0], Told.READABLE, Told.UNREADABLE
        return
    found = list(_compare_attributes(plan, prefix, expected, stored))
    if mapping.keeps_order and not found:
        found += _compare_orders(prefix, stored_orders(expected), stored_orders(stored))
    yield from found


def _equal_quickly(expected: Item, stored: Item) -> bool:
    """The usual case. Everything but the version is as expected, spelling included."""
    version = stored.get("_v")
    return version is not None and {**expected, "_v": version} == stored and is_version(version)


def is_version(value: AttributeValue) -> bool:
    """Whether the version rules can work with it: any other text or type would win, or lose, for ever."""
    return _VERSION.fullmatch(value.get("S", "")) is not None


def _prefix(plan: ItemPlan, item: Item) -> str:
    return f"{'.'.join(plan.path)}.{item['_i']['N']}." if plan.path else ""


def _compare_attributes(plan: ItemPlan, prefix: str, expected: Item, stored: Item) -> Iterator[tuple[str, Any, Any]]:
    ours, theirs = _tree(expected), _tree(stored)
    if "_v" not in stored or not is_version(stored["_v"]):
        yield prefix + "_v", A_VERSION, Wire(stored["_v"]) if "_v" in stored else MISSING
    for name in [*expected, *(name for name in stored if name not in expected)]:
        if name in ("_v", "_t"):
            continue
        path = prefix + _document_path(plan, name)
        if name not in stored or name not in expected:
            yield path, _shown_attribute(expected, name, ours, plan), _shown_attribute(stored, name, theirs, plan)
            continue
        mine = _decode(expected[name], name, ours, plan)
        other = _decode(stored[name], name, theirs, plan)
        found = list(compare_values(mine, other, path))
        yield from found or compare_wire(expected[name], stored[name], path)


def _compare_orders(prefix: str, expected: Orders, stored: Orders) -> Iterator[tuple[str, Any, Any]]:
    """Where items of one content tell of other orders of fields."""
    for pointer in sorted(expected.keys() | stored.keys()):
        mine, other = (FieldsInOrder(one.get(pointer, "of their names")) for one in (expected, stored))
        if mine != other:
            yield (prefix + pointer[1:].replace("/", ".")).rstrip("."), mine, other


def _shown_attribute(item: Item, name: str, tree: HintTree, plan: ItemPlan) -> Any:
    return _decode(item[name], name, tree, plan) if name in item else MISSING


def _decode(value: Any, name: str, tree: HintTree, plan: ItemPlan) -> Any:
    declared = "oid" if name == "_id" else plan.declared.get(name)
    return decode_value(value, tree.root.get(name), tree, declared)


def _tree(item: Item) -> HintTree:
    hints: Mapping[str, Any] = item.get("_t", {}).get("M", {})
    return HintTree({pointer: hint["S"] for pointer, hint in hints.items() if "S" in hint and not is_order(pointer)})


def _document_path(plan: ItemPlan, attribute: str) -> str:
    source = plan.sources.get(attribute)
    return ".".join(source) if source else unescape_name(attribute)


def compare_values(expected: Any, actual: Any, path: str, *, ordered: bool = False) -> Iterator[tuple[str, Any, Any]]:
    """(path, expected, actual) for every leaf that differs in value or BSON type; 1 and 1.0 differ, NaN equals NaN.

    `ordered`: so do documents whose fields are the same in another order; of them FieldsInOrder is given.
    """
    if ordered and isinstance(expected, DBRef) and isinstance(actual, DBRef):
        expected, actual = dict(expected.as_doc()), dict(actual.as_doc())
    if isinstance(expected, dict) and isinstance(actual, dict):
        if ordered and expected.keys() == actual.keys() and list(expected) != list(actual):
            yield path, FieldsInOrder(", ".join(expected)), FieldsInOrder(", ".join(actual))
        for name in [*expected, *(name for name in actual if name not in expected)]:
            inner = f"{path}.{name}"
            yield from compare_values(expected.get(name, MISSING), actual.get(name, MISSING), inner, ordered=ordered)
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, (mine, other) in enumerate(zip(expected, actual, strict=True)):
            yield from compare_values(mine, other, f"{path}.{index}", ordered=ordered)
    elif not same_value(expected, actual):
        yield path, expected, actual


@dataclass(frozen=True, slots=True)
class Wire:
    """An attribute as DynamoDB holds it, where that is what differs."""

    value: AttributeValue


def compare_wire(expected: AttributeValue, actual: AttributeValue, path: str) -> Iterator[tuple[str, Wire, Wire]]:
    """(path, expected, actual) wherever an application sees another attribute: type, text, number (1.50 is 1.5)."""
    ((tag, mine),), ((other_tag, other),) = expected.items(), actual.items()
    if tag == other_tag == "M" and mine.keys() == other.keys():
        for name in mine:
            yield from compare_wire(mine[name], other[name], f"{path}.{unescape_name(name)}")
    elif tag == other_tag == "L" and len(mine) == len(other):
        for index, (one, another) in enumerate(zip(mine, other, strict=True)):
            yield from compare_wire(one, another, f"{path}.{index}")
    elif tag != other_tag or not (Decimal(mine) == Decimal(other) if tag == "N" else mine == other):
        yield path, Wire(expected), Wire(actual)


def same_value(one: Any, other: Any) -> bool:
    """Equal in value and in BSON type."""
    if told_type(one) != told_type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(float(other))  # tells -0.0 from 0.0, and finds NaN equal to NaN
    if isinstance(one, Decimal128):
        return bool(one.bid == other.bid)
    if isinstance(one, Code):
        return str(one) == str(other) and same_value(one.scope, other.scope)
    if isinstance(one, DBRef):
        return not list(compare_values(dict(one.as_doc()), dict(other.as_doc()), ""))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, dict):
        return not list(compare_values(one, other, ""))
    if isinstance(one, Regex):
        return bool(one.pattern == other.pattern and one.flags == other.flags)
    return bool(one == other)


def told_type(value: Any) -> str:
    """The BSON type's name, for reports."""
    return "missing" if value is MISSING else bson_type(value)


def shown(value: Any, masked: bool) -> str:
    """A value for a report: its BSON type, and the value itself unless it is masked."""
    if isinstance(value, Told):
        return value.value
    if isinstance(value, FieldsInOrder):
        return _shortened("fields in order", value.told, masked)
    kind = told_type(value)
    if isinstance(value, Wire):
        ((tag, value),) = value.value.items()
        kind = f"attribute {tag}"
    return _shortened(kind, value if isinstance(value, str) else repr(value), masked)


def _shortened(kind: str, text: str, masked: bool) -> str:
    if masked:
        return f"{kind} {MASKED}"
    return f"{kind} {text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + '…'}"


def differences_of(
    mapping: DocumentMapping, expected: Item, stored: Item | None, id_text: str, masked: Masks
) -> list[Difference]:
    """`compare_item` as entries of a report."""
    compared = list(compare_item(mapping, expected, stored))
    if not compared:
        return []
    entity = expected["entityType"]["S"]
    plan = mapping.children.get(entity, mapping.root)
    pk, sk = shown_key_of(mapping, entity, key_of(expected), masked)
    found: list[Difference] = []
    for path, mine, other in compared:
        hide = is_masked(path, masked) or is_masked_key(plan, path.rpartition(".")[2], masked)
        found.append(
            Difference(
                kind=DifferenceKind.MISSING if mine is AN_ITEM else DifferenceKind.DIFFERENT,
                collection=mapping.collection,
                id=shown_id(id_text, masked),
                pk=pk,
                sk=sk,
                path=path,
                expected=shown(mine, hide),
                actual=shown(other, hide),
            )
        )
    return found
