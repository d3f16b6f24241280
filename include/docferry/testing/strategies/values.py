"""Any BSON value, and any document."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from docferry.testing.strategies.edges import (
    DATE_EDGES,
    DECIMAL_EDGES,
    DOUBLE_EDGES,
    FIRST_MS,
    INT32_EDGES,
    INT64_EDGES,
    LAST_MS,
    TEXT_EDGES,
)
from docferry.testing.strategies.kinds import AWKWARD_NAMES, Document, real, real_value


def _letters(exclude: str = "") -> SearchStrategy[str]:
    surrogates: Literal["Cs"] = "Cs"
    return st.characters(exclude_categories=(surrogates,), exclude_characters=exclude)


def texts(max_size: int = 20) -> SearchStrategy[str]:
    """Strings that BSON takes (no lone surrogates), NUL and all of Unicode included, and some that look like others."""
    return st.one_of(st.sampled_from(TEXT_EDGES), st.text(_letters(), max_size=max_size))


def field_names() -> SearchStrategy[str]:
    """Field names: anything without NUL, and often one of AWKWARD_NAMES."""
    any_name = st.text(_letters(exclude="\0"), max_size=8)
    return st.one_of(st.sampled_from(AWKWARD_NAMES), any_name)


def names_but(*unwanted: str) -> SearchStrategy[str]:
    # Not a filter: hypothesis spells out a whole strategy, at great length, when a filter refuses a value.
    return field_names().map(lambda name: name + "!" if name in unwanted else name)


def int32s() -> SearchStrategy[int]:
    return st.one_of(st.sampled_from(INT32_EDGES), st.integers(-(2**31), 2**31 - 1))


def int64s() -> SearchStrategy[Int64]:
    return st.one_of(st.sampled_from(INT64_EDGES), st.integers(-(2**63), 2**63 - 1)).map(Int64)


def doubles() -> SearchStrategy[float]:
    """Everything that IEEE 754 has (each NaN, too), and the edges of what DynamoDB's numbers hold."""
    return st.one_of(st.sampled_from(DOUBLE_EDGES), st.floats())


def decimal128s() -> SearchStrategy[Decimal128]:
    """Every bit pattern: all exponents, -0, trailing zeros, NaNs with payloads and encodings that are not canonical."""
    usual = st.builds(
        lambda sign, digits, exponent: Decimal128(f"{'-' if sign else ''}{digits}E{exponent:+d}"),
        st.booleans(),
        st.one_of(st.integers(0, 10**34 - 1), st.integers(0, 10_000)),
        st.one_of(st.integers(-6176, 6111), st.integers(-8, 8)),
    )
    bits = st.binary(min_size=16, max_size=16).map(Decimal128.from_bid)
    return st.one_of(st.sampled_from(DECIMAL_EDGES).map(Decimal128), usual, bits)


def dates() -> SearchStrategy[datetime]:
    """Dates that Python's datetime holds, naive and in UTC as pymongo gives them, in milliseconds."""
    span_ms = (DATE_EDGES[1] - DATE_EDGES[0]) // timedelta(milliseconds=1)
    return st.one_of(
        st.sampled_from(DATE_EDGES),
        st.integers(0, span_ms).map(lambda ms: DATE_EDGES[0] + timedelta(milliseconds=ms)),
    )


def dates_out_of_range() -> SearchStrategy[DatetimeMS]:
    """Dates before year 1 and after year 9999: MongoDB holds them, datetime cannot."""
    edges = (FIRST_MS - 1, LAST_MS + 1, -(2**63), 2**63 - 1)
    before, after = st.integers(-(2**63), FIRST_MS - 1), st.integers(LAST_MS + 1, 2**63 - 1)
    return st.one_of(st.sampled_from(edges), before, after).map(DatetimeMS)


def binaries() -> SearchStrategy[bytes]:
    """Binary of each subtype; subtype 0 comes as bytes, as pymongo reads it."""
    data = st.one_of(st.binary(max_size=20), st.binary(min_size=16, max_size=16))
    return st.builds(Binary, data, st.one_of(st.integers(0, 255), st.sampled_from((0, 2, 3, 4, 5, 9, 128)))).map(
        real_value
    )


def regexes() -> SearchStrategy[Regex[str]]:
    pattern = st.text(_letters(exclude="\0"), max_size=10)
    flags = st.sets(st.sampled_from("ilmsux")).map(lambda letters: "".join(sorted(letters)))
    return st.builds(Regex, pattern, flags).map(real_value)


def timestamps() -> SearchStrategy[Timestamp]:
    return st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))


def object_ids() -> SearchStrategy[ObjectId]:
    return st.binary(min_size=12, max_size=12).map(ObjectId)


def scalars() -> SearchStrategy[Any]:
    """One value of any BSON type that holds no other value."""
    return st.one_of(*scalar_kinds().values())


def scalar_kinds() -> dict[str, SearchStrategy[Any]]:
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


def bson_values(max_leaves: int = 8) -> SearchStrategy[Any]:
    """Any value of any BSON type, nested as it comes; never deeper than DynamoDB stores."""
    return st.recursive(scalars(), _containers, max_leaves=max_leaves).map(real_value)


def _containers(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    documents = st.dictionaries(field_names(), inner, max_size=4)
    extras = st.dictionaries(names_but("$ref", "$id", "$db"), inner, max_size=2)
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
    allowed = {name: values for name, values in scalar_kinds().items() if name != "regex"}
    return st.one_of(object_ids(), *allowed.values(), subdocuments.map(real_value))


def documents(max_fields: int = 6) -> SearchStrategy[Document]:
    """Any document with an `_id`, for the generic mapping."""
    fields = st.dictionaries(names_but("_id"), bson_values(), max_size=max_fields)
    return st.builds(lambda key, rest: real({"_id": key, **rest}), ids(), fields)
