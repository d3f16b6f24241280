"""Hypothesis strategies for whatever MongoDB can hold, to test a mapping with.

Every value has been through real BSON, so that only values are drawn that pymongo reads back (with
`docferry.core.bson_codec.codec.BSON_OPTIONS`): a document that DBRef's rules turn into a DBRef is drawn as one, and so on.

    @given(documents_for(load_migration("shop.yaml").mapping("users")))
    def test_users_come_back(document): ...
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeVar

import bson
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from docferry.core.bson_codec.codec import BSON_OPTIONS
from docferry.core.mapping.key_templates import Template
from docferry.core.mapping.mapping import DocumentMapping, ItemPlan

Document = dict[str, Any]
T = TypeVar("T")

BSON_KINDS: Final = frozenset({
    "double", "string", "document", "array", "binary", "object id", "bool", "date", "date out of range", "null", "regex",
    "code", "code with scope", "int32", "timestamp", "int64", "decimal128", "min key", "max key", "dbref",
})  # fmt: skip
"""Every kind of value that `bson_values` draws, in the words of `kind_of`."""

AWKWARD_NAMES: Final = (
    "", "~", "~~", "~0", "/", "a/b", ".", "a.b", "..", "$", "$set", "$id", "#", "PK", "SK", "~PK", "_v", "_t", "_i", "_id",
    "_ttl", "_digest", "_deleted", "GSI1PK", "GSI1SK", "GSI2PK", "entityType", "-", "0", "1", "index", "名前", "🦜", "Größe",
    "e\u0301", " ", "\n", "__proto__", "userId", "firstName", "type",
)  # fmt: skip
"""Field names that a mapping must not trip over: its own words, pointer and path syntax, nothing at all."""


def real(document: Mapping[str, Any]) -> Document:
    """The document as pymongo reads it back from BSON."""
    return bson.decode(bson.encode(document), BSON_OPTIONS)


def _real_value(value: T) -> T:
    found: T = real({"v": value})["v"]
    return found


def kind_of(value: Any) -> str:
    """The BSON type of a value that pymongo has read, in words; it tells everything apart that BSON does."""
    kind = _KINDS.get(type(value))
    if kind is None:
        raise TypeError(f"{type(value).__name__} is not what pymongo reads BSON as")
    return "code with scope" if kind == "code" and value.scope is not None else kind


_KINDS: Final[Mapping[type, str]] = {
    float: "double",
    str: "string",
    dict: "document",
    list: "array",
    bytes: "binary",
    Binary: "binary",
    ObjectId: "object id",
    bool: "bool",
    datetime: "date",
    DatetimeMS: "date out of range",
    type(None): "null",
    Regex: "regex",
    Code: "code",
    int: "int32",
    Timestamp: "timestamp",
    Int64: "int64",
    Decimal128: "decimal128",
    MinKey: "min key",
    MaxKey: "max key",
    DBRef: "dbref",
}


def kinds_in(value: Any) -> set[str]:
    """The kinds of a value and of everything inside it."""
    found = {kind_of(value)}
    inner: Iterable[Any] = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    elif isinstance(value, DBRef):
        inner = value.as_doc().values()
    elif isinstance(value, Code) and value.scope is not None:
        inner = value.scope.values()
    for one in inner:
        found |= kinds_in(one)
    return found


def canonical_bson(value: Any) -> bytes:
    """A document as BSON with its fields sorted at every level: equal bytes mean equal in BSON, types and all.

    What holds an order of its own stays as it is: arrays, and documents inside a Code's scope or in the `_id`.
    """
    return bson.encode({name: inner if name == "_id" else _sorted(inner) for name, inner in sorted(value.items())})


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_sorted(inner) for inner in value]
    if isinstance(value, DBRef):
        return _sorted(dict(value.as_doc()))
    return value


_TEXT_EDGES: Final = ("", "~", "#", "~h", "~s", "1", "-1", "007", "1.0", "NaN", "null", "true", "MinKey", "~i1", "a#b", "~~",
    "507f1f77bcf86cd799439011", "507F1F77BCF86CD799439011", "2024-01-15T15:45:00.000Z", "0:0", "²", "٣")  # fmt: skip
_INT32_EDGES: Final = (0, 1, -1, 2**31 - 1, -(2**31))
_INT64_EDGES: Final = (0, 1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63))
_DOUBLE_EDGES: Final = (0.0, -0.0, 1.0, 0.1, 1e15, 1e16, 1e22, 1e23, 2.0**53 + 2, 1e125, 9.999e125, 1e126, 1e300,
    1e-130, 1e-131, 5e-324,
    2.2250738585072014e-308, -1e-5, float("inf"), float("-inf"), float("nan"))  # fmt: skip
_DECIMAL_EDGES: Final = ("12.50", "12.5", "12", "0", "0.00", "-0", "-0.000", "0E-6176", "0E+6111", "1E+3",
    "1E-6176", "1E-130", "1E-131",
    "9.99E+125", "1E+126", "9.999999999999999999999999999999999E+6144", "NaN", "-NaN", "sNaN",
    "Infinity", "-Infinity")  # fmt: skip
_DATE_EDGES: Final = (datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_000), datetime(1970, 1, 1),  # noqa: DTZ001
    datetime(1969, 12, 31, 23, 59, 59, 999_000))  # noqa: DTZ001  # fmt: skip
_FIRST_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999

_EDGES: Final[tuple[Any, ...]] = (
        *_TEXT_EDGES, *_INT32_EDGES, *map(Int64, _INT64_EDGES), *_DOUBLE_EDGES, *map(Decimal128, _DECIMAL_EDGES), *_DATE_EDGES,
        *map(DatetimeMS, (_FIRST_MS - 1, _LAST_MS + 1, -(2**63), 2**63 - 1)), True, False, None, MinKey(), MaxKey(),
        *(Binary(b"x" * 16, n) for n in (0, 2, 3, 4, 5, 9, 128, 255)), *(Binary(b"", n) for n in (0, 2, 3, 4, 5, 9, 128, 255)),
        *(Regex(pattern, flags) for pattern in ("", "^a.*[b]$", "#") for flags in ("", "i", "ilmsux")),
        Timestamp(0, 0), Timestamp(2**32 - 1, 2**32 - 1), ObjectId("0" * 24), ObjectId("f" * 24), Code(""), Code("f()", {}),
        Code("f()", {"x": Code("g()", {"y": 1})}), DBRef("c", 1), DBRef("c", None), DBRef("c", ObjectId("0" * 24), "db", x=1),
        DBRef("c", {"$ref": "d"}, None, {"": DBRef("c", MinKey())}), {}, [], [{}], [[]], [None], {"": {"": ""}},
)  # fmt: skip
EDGES: Final[tuple[Any, ...]] = tuple(real({"v": value})["v"] for value in _EDGES)
"""Values of each BSON type at the ends of their ranges, or that could be taken for something else. All are drawn often;
a test that goes through them one by one leaves nothing to chance."""


# --- scalars ---------------------------------------------------------------------------------------------------------


def _letters(exclude: str = "") -> SearchStrategy[str]:
    surrogates: Literal["Cs"] = "Cs"
    return st.characters(exclude_categories=(surrogates,), exclude_characters=exclude)


def texts(max_size: int = 20) -> SearchStrategy[str]:
    """Strings that BSON takes (no lone surrogates), NUL and all of Unicode included, and some that look like others."""
    return st.one_of(st.sampled_from(_TEXT_EDGES), st.text(_letters(), max_size=max_size))


def field_names() -> SearchStrategy[str]:
    """Field names: anything without NUL, and often one of AWKWARD_NAMES."""
    any_name = st.text(_letters(exclude="\0"), max_size=8)
    return st.one_of(st.sampled_from(AWKWARD_NAMES), any_name)


def _names_but(*unwanted: str) -> SearchStrategy[str]:
    # Not a filter: hypothesis spells out a whole strategy, at great length, when a filter refuses a value.
    return field_names().map(lambda name: name + "!" if name in unwanted else name)


def int32s() -> SearchStrategy[int]:
    return st.one_of(st.sampled_from(_INT32_EDGES), st.integers(-(2**31), 2**31 - 1))


def int64s() -> SearchStrategy[Int64]:
    return st.one_of(st.sampled_from(_INT64_EDGES), st.integers(-(2**63), 2**63 - 1)).map(Int64)


def doubles() -> SearchStrategy[float]:
    """Everything that IEEE 754 has (each NaN, too), and the edges of what DynamoDB's numbers hold."""
    return st.one_of(st.sampled_from(_DOUBLE_EDGES), st.floats())


def decimal128s() -> SearchStrategy[Decimal128]:
    """Every bit pattern: all exponents, -0, trailing zeros, NaNs with payloads and encodings that are not canonical."""
    usual = st.builds(
        lambda sign, digits, exponent: Decimal128(f"{'-' if sign else ''}{digits}E{exponent:+d}"),
        st.booleans(),
        st.one_of(st.integers(0, 10**34 - 1), st.integers(0, 10_000)),
        st.one_of(st.integers(-6176, 6111), st.integers(-8, 8)),
    )
    bits = st.binary(min_size=16, max_size=16).map(Decimal128.from_bid)
    return st.one_of(st.sampled_from(_DECIMAL_EDGES).map(Decimal128), usual, bits)


def dates() -> SearchStrategy[datetime]:
    """Dates that Python's datetime holds, naive and in UTC as pymongo gives them, in milliseconds."""
    span_ms = (_DATE_EDGES[1] - _DATE_EDGES[0]) // timedelta(milliseconds=1)
    return st.one_of(
        st.sampled_from(_DATE_EDGES),
        st.integers(0, span_ms).map(lambda ms: _DATE_EDGES[0] + timedelta(milliseconds=ms)),
    )


def dates_out_of_range() -> SearchStrategy[DatetimeMS]:
    """Dates before year 1 and after year 9999: MongoDB holds them, datetime cannot."""
    edges = (_FIRST_MS - 1, _LAST_MS + 1, -(2**63), 2**63 - 1)
    before, after = st.integers(-(2**63), _FIRST_MS - 1), st.integers(_LAST_MS + 1, 2**63 - 1)
    return st.one_of(st.sampled_from(edges), before, after).map(DatetimeMS)


def binaries() -> SearchStrategy[bytes]:
    """Binary of each subtype; subtype 0 comes as bytes, as pymongo reads it."""
    data = st.one_of(st.binary(max_size=20), st.binary(min_size=16, max_size=16))
    return st.builds(Binary, data, st.one_of(st.integers(0, 255), st.sampled_from((0, 2, 3, 4, 5, 9, 128)))).map(
        _real_value
    )


def regexes() -> SearchStrategy[Regex[str]]:
    pattern = st.text(_letters(exclude="\0"), max_size=10)
    flags = st.sets(st.sampled_from("ilmsux")).map(lambda letters: "".join(sorted(letters)))
    return st.builds(Regex, pattern, flags).map(_real_value)


def timestamps() -> SearchStrategy[Timestamp]:
    return st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))


def object_ids() -> SearchStrategy[ObjectId]:
    return st.binary(min_size=12, max_size=12).map(ObjectId)


def scalars() -> SearchStrategy[Any]:
    """One value of any BSON type that holds no other value."""
    return st.one_of(*_scalar_kinds().values())


def _scalar_kinds() -> dict[str, SearchStrategy[Any]]:
    return {
        "string": texts(),
        "bool": st.booleans(),
        "null": st.none(),
        "int32": int32s(),
        "int64": int64s(),
        "double": doubles(),
        "decimal128": decimal128s(),
        "object id": object_ids(),
        "date": dates(),
        "date out of range": dates_out_of_range(),
        "binary": binaries(),
        "timestamp": timestamps(),
        "regex": regexes(),
        "code": texts().map(Code),
        "min key": st.builds(MinKey),
        "max key": st.builds(MaxKey),
    }


# --- values that hold values -----------------------------------------------------------------------------------------


def bson_values(max_leaves: int = 8) -> SearchStrategy[Any]:
    """Any value of any BSON type, nested as it comes; never deeper than DynamoDB stores."""
    return st.recursive(scalars(), _containers, max_leaves=max_leaves).map(_real_value)


def _containers(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    documents = st.dictionaries(field_names(), inner, max_size=4)
    extras = st.dictionaries(_names_but("$ref", "$id", "$db"), inner, max_size=2)
    return st.one_of(
        documents,
        st.lists(inner, max_size=4),
        st.lists(object_ids(), max_size=4),  # homogeneous arrays have one hint for all
        st.builds(lambda value, size: [value] * size, inner, st.integers(1, 3)),
        st.builds(Code, texts(), documents),
        st.builds(DBRef, texts(), inner, st.one_of(st.none(), texts()), extras),
    )


def ids() -> SearchStrategy[Any]:
    """Whatever MongoDB takes as an `_id`: anything but an array, a regular expression and undefined."""
    subdocuments = st.dictionaries(st.sampled_from(("a", "b", "tenant", "n")), scalars(), max_size=3)
    allowed = {name: values for name, values in _scalar_kinds().items() if name != "regex"}
    return st.one_of(object_ids(), *allowed.values(), subdocuments.map(_real_value))


def documents(max_fields: int = 6) -> SearchStrategy[Document]:
    """Any document with an `_id`, for the generic mapping."""
    fields = st.dictionaries(_names_but("_id"), bson_values(), max_size=max_fields)
    return st.builds(lambda key, rest: real({"_id": key, **rest}), ids(), fields)


def raw_element(kind: int, name: str, value: bytes = b"") -> bytes:
    """One BSON element by hand, for types that no driver writes any more."""
    return bytes([kind]) + name.encode() + b"\0" + value


def raw_document(*elements: bytes) -> bytes:
    """A BSON document of elements made by hand."""
    content = b"".join(elements)
    return struct.pack("<i", len(content) + 5) + content + b"\0"


# --- documents for a mapping -----------------------------------------------------------------------------------------


def documents_for(mapping: DocumentMapping) -> SearchStrategy[Document]:
    """Documents that hit what a mapping names, and what it does not expect there.

    One half is rich: every field that the mapping names is there, and every array of children has some. The other half is
    sparse: mapped fields are missing, null, '' or of any other type; subdocuments on the way to one are missing, null,
    empty or of another type; arrays of children are missing, empty, null, mixed, or hold elements with few of their
    fields. Fields beside the mapped ones are in both, and fields of table keys are always there.
    """
    rich, sparse = (st.builds(_whole, ids(), _named(mapping, rich), _strangers()) for rich in (True, False))
    return st.one_of(rich, sparse).map(real)


def _named(mapping: DocumentMapping, rich: bool) -> SearchStrategy[Document]:
    root = mapping.root
    key_paths = {part.path for template in (root.pk, root.sk) for part in template.placeholders} - {("_id",)}
    index_paths = {part.path for index in root.indexes for part in (*index.pk.placeholders, *index.sk.placeholders)}
    when_values = {path: wanted for index in root.indexes for path, wanted in index.when}
    tree: dict[str, Any] = {}
    for path in sorted({*index_paths, *when_values, *root.sources.values()}):
        if path[0] != "_id":
            _plant(tree, path, _mapped_value(when_values.get(path)))
    for child in mapping.children.values():
        _plant(tree, child.path, _children(child, rich))
    for path in key_paths:
        _plant(tree, path, _key_values())
    return _subdocument(tree, key_paths, rich)


def _whole(key: Any, mapped: Document, strangers: Document) -> Document:
    return {"_id": key, **strangers, **mapped}


def _plant(tree: dict[str, Any], path: tuple[str, ...], values: SearchStrategy[Any]) -> None:
    for step in path[:-1]:
        inner = tree.setdefault(step, {})
        tree = inner if isinstance(inner, dict) else tree  # a field that is mapped as a whole and inside: the whole one
    if not isinstance(tree.get(path[-1]), dict):
        tree[path[-1]] = values


def _strangers() -> SearchStrategy[Document]:
    names = _names_but("_id")
    return st.dictionaries(names, bson_values(max_leaves=3), max_size=3)


def _mapped_value(usual: Any = None) -> SearchStrategy[Any]:
    ordinary = [texts(), dates(), object_ids(), decimal128s()] if usual is None else [st.just(usual)]
    return st.one_of(*ordinary, st.none(), st.just(""), bson_values(max_leaves=3))


def _key_values() -> SearchStrategy[Any]:
    """What a table key can be made of: anything but null, '', arrays and subdocuments."""
    kinds = {name: values for name, values in _scalar_kinds().items() if name not in ("null", "string")}
    return st.one_of(texts().map(lambda text: text or "x"), *kinds.values())


def _subdocument(
    tree: Mapping[str, Any], required: set[tuple[str, ...]], rich: bool, path: tuple[str, ...] = ()
) -> SearchStrategy[Document]:
    there: dict[str, SearchStrategy[Any]] = {}
    perhaps: dict[str, SearchStrategy[Any]] = {}
    for name, node in tree.items():
        here = (*path, name)
        needed = rich or any(one[: len(here)] == here for one in required)
        values: SearchStrategy[Any] = node if not isinstance(node, dict) else _subdocument(node, required, rich, here)
        if isinstance(node, dict) and not needed:
            values = st.one_of(values, st.just({}), st.none(), bson_values(max_leaves=3))
        (there if needed else perhaps)[name] = values
    named = st.fixed_dictionaries(there, optional=perhaps)
    return st.builds(lambda strangers, fields: {**strangers, **fields}, _strangers(), named) if path else named


def _children(plan: ItemPlan, rich: bool) -> SearchStrategy[Any]:
    needed = {part.path for part in _own_placeholders(plan.sk)}
    tree: dict[str, Any] = {}
    for source in plan.sources.values():
        _plant(tree, source, _mapped_value())
    for path in needed:
        _plant(tree, path, _key_values())
    element = st.builds(
        lambda strangers, fields: {**strangers, **fields}, _strangers(), _subdocument(tree, needed, rich)
    )
    full = st.lists(element, min_size=1, max_size=3)
    if rich:
        return full
    if not needed:
        full = st.lists(st.one_of(element, st.just({})), min_size=1, max_size=3)
    return st.one_of(full, st.just([]), st.none(), _mixed_array(element), bson_values(max_leaves=3).map(_odd))


def _mixed_array(element: SearchStrategy[Document]) -> SearchStrategy[list[Any]]:
    """An array that makes no children: not all of its elements are subdocuments."""
    return st.builds(lambda one, other: [one, other], element, scalars())


def _odd(value: Any) -> Any:
    """Not an array of subdocuments: random ones would lack the fields of the children's key."""
    makes_children = isinstance(value, list) and value and all(isinstance(element, dict) for element in value)
    return {"children": value} if makes_children else value


def _own_placeholders(template: Template) -> list[Any]:
    return [part for part in template.placeholders if part.source != "index"]
