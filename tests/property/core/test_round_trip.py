"""to_document(to_items(d)) == d, by BSON type, through every form that an item takes on its way."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import bson
import orjson
import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from bson import Binary, DBRef, Decimal128, Int64
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.limits import item_bytes
from docferry.core.mapping.digest import digest
from docferry.core.mapping.items import Document, Item, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.versions import version_text
from docferry.errors import UnmappedField
from docferry.testing import strategies as draw
from hypothesis import assume, example, given, note, settings
from hypothesis import strategies as st
from support.mappings import DROPPING, GENERIC, ODD, REFUSING, REVERSIBLE

VERSION = 7 << 40


def assert_same(found: Any, expected: Any) -> None:
    """Equal in BSON and in Python, type by type; the order of fields is not kept."""
    assert draw.canonical_bson(found) == draw.canonical_bson(expected)
    assert shape(found) == shape(expected)


def shape(value: Any) -> Any:
    """The Python types of a value, level by level: int is not Int64, bytes are not Binary."""
    if isinstance(value, DBRef):
        return "DBRef", shape(dict(value.as_doc()))
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value)


DOCUMENTS = {
    name: draw.documents() if mapping is GENERIC else draw.documents_for(mapping)
    for name, mapping in REVERSIBLE.items()
}
every_mapping = pytest.mark.parametrize("name", REVERSIBLE)


def for_each_document(name: str, check: Callable[[DocumentMapping, Document], None], **options: Any) -> None:
    """Run a check with documents for one mapping, of which there are many: each has a third of the examples. (A strategy made
    anew for each example would take all the time.)"""
    chosen = settings(**{"max_examples": settings().max_examples // 3} | options)
    chosen(given(DOCUMENTS[name])(lambda document: check(REVERSIBLE[name], document)))()


def over_plain_values(mapping: DocumentMapping, document: Document) -> Document:
    return mapping.to_document(mapping.to_items(document, VERSION))


def over_wire_form(mapping: DocumentMapping, document: Document) -> Document:
    decoded = mapping.decode(mapping.encode(document, VERSION))
    assert decoded.misfits == 0
    return decoded.document


def over_json(mapping: DocumentMapping, document: Document) -> Document:
    items: list[Item] = orjson.loads(orjson.dumps(mapping.encode(document, VERSION)))
    return mapping.decode(list(reversed(items))).document


def over_boto3(mapping: DocumentMapping, document: Document) -> Document:
    """As an application sees it: boto3's resource takes the plain values, and gives Decimal and Binary back."""
    to_wire, from_wire = TypeSerializer().serialize, TypeDeserializer().deserialize
    items = [{name: to_wire(value) for name, value in item.items()} for item in mapping.to_items(document, VERSION)]
    return mapping.to_document([{name: from_wire(value) for name, value in item.items()} for item in items])


def over_the_table(mapping: DocumentMapping, document: Document) -> Document:
    """As the table keeps the items, whatever it calls their keys."""
    items = mapping.encode(document, VERSION)
    read = [mapping.layout.read(orjson.loads(orjson.dumps(mapping.layout.stored(item)))) for item in items]
    assert read == items
    return mapping.decode(read).document


WAYS = (over_plain_values, over_wire_form, over_json, over_boto3, over_the_table)


@every_mapping
def test_document_comes_back_equal_by_bson_type(name: str) -> None:
    def check(mapping: DocumentMapping, document: Document) -> None:
        for way in WAYS:
            note(f"by way of {way.__name__}")
            assert_same(way(mapping, document), document)

    for_each_document(name, check)


@every_mapping
def test_drawn_documents_hold_every_bson_type_and_children(name: str) -> None:
    """The other tests here would pass vacuously on documents of strings."""
    seen: set[str] = set()
    sizes: list[int] = []

    def look(mapping: DocumentMapping, document: Document) -> None:
        seen.update(draw.kinds_in(document))
        sizes.append(len(mapping.encode(document, VERSION)))

    for_each_document(name, look, max_examples=200, derandomize=True, database=None)
    assert seen == draw.BSON_KINDS
    if REVERSIBLE[name].children:
        assert sum(size > 1 for size in sizes) > len(sizes) / 4


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@every_mapping
def test_each_edge_of_each_type_comes_back_from_each_place(name: str, way: Any) -> None:
    mapping = REVERSIBLE[name]
    keys = {"username": "ann", "slug": "s", "sku": "k", "type": "t"}
    for value in draw.EDGES:
        named = {path[-1]: value for path in mapping.root.sources.values() if path != ("_id",) and path[-1] not in keys}
        element = {"a": value, "_id": value, "type": "t", "product": {"sku": value, "b": value}, "price": value}
        everywhere = {
            "a": value,
            "homogeneous": [value] * 3,
            "mixed": [value, 1, value],
            "~/": {"": {"~1": [[value], {"x": value}]}},
        }
        document = {"_id": 1, **keys, **named, **everywhere, "swap1": value, "swap2": value, "n": value, "flag": value}
        document |= {"userId": value, "addresses": [element], "items": [element, element], "totalAmount": value}
        document |= {
            "a": {"b": {"c": value, "d": value, "list": [element]}},
            "cart": {"lines": [element, {}]},
            "contact": {"email": value},
        }
        document |= {
            "profile": {"firstName": value, "location": value},
            "expires": value,
            "PK": value,
            "slash/name": value,
            "who": value,
            "owner": DBRef("o", 1, "d"),
            "link": {"$ref": "k", "$id": value, "more": {"x": value}, "list": [element]},
            "friends": [DBRef("f", value), element],
        }
        document = draw.real(document)
        assert_same(way(mapping, document), document)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_binary_subtype_comes_back(way: Any) -> None:
    document = draw.real(
        {"_id": 1, "all": [Binary(b"x" * 16, n) for n in range(256)], "a": {str(n): Binary(b"", n) for n in range(256)}}
    )
    assert_same(way(GENERIC, document), document)


@given(st.lists(draw.bson_values(), max_size=5), st.sampled_from(list(draw.AWKWARD_NAMES)), draw.field_names())
def test_values_keep_their_type_under_any_name(values: list[Any], name: str, other: str) -> None:
    document = draw.real({"_id": 1, other: {name: values}, "again": {other: {name: {other: values}}}} | {"x": values})
    assert_same(over_wire_form(GENERIC, document), document)


@given(draw.bson_values(), draw.bson_values())
def test_values_of_other_types_than_declared_come_back(one: Any, other: Any) -> None:
    document = draw.real({"_id": 1, "swap1": one, "swap2": other, "n": one, "flag": other, "userId": [one, other]})
    assert_same(over_json(ODD, document), document)


@given(draw.ids())
def test_id_comes_back_with_the_order_of_its_fields(key: Any) -> None:
    document = draw.real({"_id": key})
    for mapping in REVERSIBLE.values():
        if not (mapping.root.pk.fields | mapping.root.sk.fields) - {"_id"}:
            assert bson.encode(over_json(mapping, document)) == bson.encode(document)


def test_shape_tells_apart_what_python_takes_for_equal() -> None:
    with pytest.raises(AssertionError):
        assert_same({"a": 5}, {"a": Int64(5)})
    with pytest.raises(AssertionError):
        assert_same({"a": 0.0}, {"a": -0.0})
    with pytest.raises(AssertionError):
        assert_same({"a": Decimal128("12.5")}, {"a": Decimal128("12.50")})


# --- what else holds of items ----------------------------------------------------------------------------------------


@every_mapping
def test_items_of_any_document_fit_together(name: str) -> None:
    def check(mapping: DocumentMapping, document: Document) -> None:
        before = bson.encode(document)
        items = mapping.encode(document, VERSION)
        keys = [key_of(item) for item in items]
        assert sorted(mapping.keys(document)) == sorted(keys)
        assert mapping.keys(document)[0] == keys[0]
        assert len(set(keys)) == len(keys)
        assert {item["_v"]["S"] for item in items} == {version_text(VERSION)}
        assert all(item["_id"] == items[0]["_id"] for item in items)
        assert ("_digest" in items[0]) == (len(items) > 1)
        assert "" not in {attribute for item in items for attribute in item}
        for item in items:
            assert item_bytes(item) <= len(orjson.dumps(item))
        assert bson.encode(document) == before
        assert mapping.encode(bson.decode(before, BSON_OPTIONS), VERSION) == items

    for_each_document(name, check)


@given(DOCUMENTS["odd"])
def test_declared_types_leave_a_hint_only_where_a_value_deviates(document: Document) -> None:
    document.update(swap2=bson.decode(bson.encode({"d": 1.5}))["d"], swap1=2.0, n=Int64(2**40), flag=7.25)
    hints = ODD.encode(draw.real(document), VERSION)[0].get("_t", {"M": {}})["M"]
    assert {"/swap2", "/n", "/flag"}.isdisjoint(hints)


# --- unmapped: drop, refuse ------------------------------------------------------------------------------------------

_KEPT = object()
_LINE = {"qty": _KEPT, "product": {"sku": _KEPT}}
_NAMED: dict[str, Any] = {
    "_id": _KEPT,
    "whole": _KEPT,
    "profile": {"first": _KEPT, "home": {"zip": _KEPT}},
    "cart": {"lines": [_LINE]},
}


def only_named(document: Document, named: dict[str, Any]) -> Document:
    """What a document holds of the fields that DROPPING names; written without looking at the mapping."""
    out: Document = {}
    for name, held in document.items():
        node = named.get(name)
        value = _document(held) if isinstance(held, DBRef) and isinstance(node, dict) else held
        if node is _KEPT or (isinstance(node, list) and not _all_documents(value)):
            out[name] = value
        elif isinstance(node, list):
            out[name] = [only_named(_document(element), node[0]) for element in value]
        elif isinstance(node, dict) and isinstance(value, dict):
            out[name] = only_named(value, node)
        elif isinstance(node, dict) and not value:
            out[name] = value
    return out


def _all_documents(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(element, dict | DBRef) for element in value)


def _document(value: Any) -> Any:
    """A DBRef is a subdocument."""
    return value.as_doc() if isinstance(value, DBRef) else value


def named_documents() -> st.SearchStrategy[Document]:
    """With and without strangers: a document of named fields alone would be rare otherwise."""
    return st.one_of(
        draw.documents_for(DROPPING), draw.documents_for(DROPPING).map(lambda d: draw.real(only_named(d, _NAMED)))
    )


@given(named_documents())
def test_dropping_keeps_named_fields_exactly(document: Document) -> None:
    assert_same(over_json(DROPPING, document), only_named(document, _NAMED))


@given(named_documents())
def test_refusing_refuses_exactly_the_documents_that_dropping_would_change(document: Document) -> None:
    if draw.canonical_bson(only_named(document, _NAMED)) == draw.canonical_bson(document):
        assert_same(over_json(REFUSING, document), document)
    else:
        with pytest.raises(UnmappedField):
            REFUSING.encode(document, VERSION)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"x": 1}, "x"),
        ({"profile": {"first": 1, "x": 2}}, "profile.x"),
        ({"profile": {"home": {"x": 1}}}, "profile.home.x"),
        ({"cart": {"lines": [{"qty": 1}, {"qty": 1, "x": 1}]}}, "cart.lines.1.x"),
        ({"cart": {"lines": [{"product": {"sku": 1, "x": 1}}]}}, "cart.lines.0.product.x"),
    ],
)
def test_refused_field_is_named_by_its_path(document: Document, path: str) -> None:
    with pytest.raises(UnmappedField) as caught:
        REFUSING.encode({"_id": 1, **document}, VERSION)
    assert caught.value.path == path


# --- digests ---------------------------------------------------------------------------------------------------------


def _respelled(value: Any) -> Any:
    """The same numbers, as another writer might spell them."""
    ((tag, content),) = value.items()
    if tag == "N":
        sign, digits = ("-", content[1:]) if content.startswith("-") else ("", content)
        return {"N": f"{sign}00{digits}" + ("000" if "." in digits else ".000" if len(digits) % 2 else "")}
    if tag == "M":
        return {"M": {name: _respelled(inner) for name, inner in reversed(content.items())}}
    if tag == "L":
        return {"L": [_respelled(inner) for inner in content]}
    return value


children = DOCUMENTS["odd"].map(lambda document: ODD.encode(document, VERSION)[1:])


@given(children, st.randoms(use_true_random=False))
@example(ODD.encode({"_id": 1, "cart": {"lines": [{"n": 1, "m": 12, "x": 1.5}, {}]}}, VERSION)[1:], Random(1))
def test_digest_does_not_depend_on_order_versions_or_spelling(items: list[Item], random: Any) -> None:
    others = [{name: _respelled(value) for name, value in item.items()} for item in items]
    random.shuffle(others)
    for item in others:
        item["_v"] = {"S": version_text(random.randrange(1 << 64))}
        item["_ttl"] = {"N": "1"}
    assert digest(others) == digest(items)


@given(children, st.randoms(use_true_random=False))
def test_digest_changes_with_the_content(items: list[Item], random: Any) -> None:
    assume(items)
    position = random.randrange(len(items))
    attribute = random.choice(sorted(items[position].keys() - {"_v"}))
    changed = [dict(item) for item in items]
    changed[position][attribute] = {"S": "something else"}
    without = [dict(item) for item in items]
    del without[position][attribute]
    if attribute not in ("PK", "SK"):
        assert digest(without) != digest(items)
    assert len({digest(items), digest(changed), digest(items[:position] + items[position + 1 :])}) == 3
