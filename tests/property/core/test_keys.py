"""Keys: two documents never own one key, and the file's checks know which templates could ever meet."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from docferry.core.bson_codec.names import escape_name, pointer_step, unescape_name
from docferry.core.compare.key_sets import disjoint
from docferry.core.limits import PARTITION_KEY_BYTES, SORT_KEY_BYTES
from docferry.core.mapping.key_templates import (
    MISSING,
    Placeholder,
    Template,
    check_length,
    lookup,
    parse_template,
    render_value,
)
from docferry.core.versions import N_MAX, VERSION_MAX, parse_version, version_of, version_text, version_time
from docferry.errors import KeyNotRepresentable, KeyTooLong
from docferry.testing import strategies as draw
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.examples import examples

INTEGERS = (int, Int64)


def equal_in_mongodb(one: Any, other: Any) -> bool:
    """What a unique index takes for one value, as far as rendering may: BSON, numbers of one kind by value, any NaN."""
    if type(one) in INTEGERS and type(other) in INTEGERS:
        return int(one) == int(other)
    if isinstance(one, Decimal128) and isinstance(other, Decimal128):
        left, right = one.to_decimal(), other.to_decimal()
        return (left.is_nan() and right.is_nan()) or (not left.is_nan() and not right.is_nan() and left == right)
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (one != one and other != other)
    return bson.encode({"": one}) == bson.encode({"": other})


def lookalikes(value: Any) -> list[Any]:
    """The value, and others that could be mistaken for it."""
    text = render_value(value)
    found = [value, text, "~" + text, text.lstrip("~"), text.replace("~", "~~"), text[2:]]
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 2**31:
        found += [
            int(value),
            Int64(int(value)),
            float(value),
            Decimal128(str(int(value))),
            str(int(value)),
            bool(value),
        ]
    if isinstance(value, str):
        found += [value.encode(), value + "#", "#" + value, bson.Code(value.replace("\0", ""))]
        if len(value) == 24 and ObjectId.is_valid(value):
            found.append(ObjectId(value))
    return [draw.real({"_": one})["_"] for one in found]


def nothing_shares_a_text(values: list[Any], texts: list[str]) -> None:
    owners: dict[str, Any] = {}
    for value, text in zip(values, texts, strict=True):
        assert equal_in_mongodb(owners.setdefault(text, value), value), (text, owners[text], value)


@given(st.lists(draw.ids(), min_size=1, max_size=4))
@examples(3)
def test_values_with_one_text_are_one_value_for_mongodb(values: list[Any]) -> None:
    every = [other for value in values for other in lookalikes(value)]
    nothing_shares_a_text(every, [render_value(value) for value in every])


@pytest.mark.parametrize("source", ["{n:d}", "{n:03d}", "{n:012d}", "{n:019d}"])
@given(
    st.lists(
        st.one_of(draw.ids(), draw.int64s(), st.integers(-2000, 2000), st.from_regex(r"-?[0-9]{1,24}")), max_size=5
    )
)
def test_padded_integers_are_mistaken_for_nothing(source: str, values: list[Any]) -> None:
    (placeholder,) = parse_template(source).placeholders
    every = [other for value in values for other in lookalikes(value)]
    every += [placeholder.render(value) for value in every]
    nothing_shares_a_text(every, [placeholder.render(value) for value in every])


@given(draw.ids())
def test_rendered_value_holds_no_bare_separator(value: Any) -> None:
    assert "#" not in render_value(value)


@given(draw.dates(), draw.dates())
def test_rendered_dates_sort_by_time(one: Any, other: Any) -> None:
    assert (render_value(one) < render_value(other)) == (one < other)


# --- templates -------------------------------------------------------------------------------------------------------

_literals = st.text("AB#-.", max_size=4)
_holes = st.sampled_from(("{a}", "{b}", "{a:d}", "{b:03d}", "{c.d}", "{_id}"))


@st.composite
def templates(pick: st.DrawFn) -> Template:
    """Templates of few letters, so that they meet."""
    source = pick(_literals)
    for position in range(pick(st.integers(0, 3))):
        source += (pick(_literals) + "#" if position else "") + pick(_holes) + pick(_literals)
    assume(source)
    return parse_template(source)


_few_values = st.one_of(
    st.text("AB#-~.", min_size=1, max_size=3), st.integers(-2, 12), st.sampled_from(("1", "-1", "003", None, True))
)


@st.composite
def few_documents(pick: st.DrawFn) -> dict[str, Any]:
    plain = _few_values.filter(lambda value: value is not None)
    return {"a": pick(plain), "b": pick(plain), "c": {"d": pick(plain)}, "_id": pick(_few_values)}


@given(templates(), few_documents(), few_documents())
@examples(5)
def test_one_template_gives_one_text_to_one_set_of_values(template: Template, one: Any, other: Any) -> None:
    if template.render(one) == template.render(other):
        for placeholder in template.placeholders:
            assert equal_in_mongodb(lookup(one, placeholder.path), lookup(other, placeholder.path))


@given(templates(), templates(), st.lists(few_documents(), min_size=1, max_size=8))
@examples(7)
@example(parse_template("A#{a}"), parse_template("{a}#{b}"), [{"a": "A", "b": "A", "c": {"d": 1}, "_id": 1}])
def test_templates_called_disjoint_never_meet(one: Template, other: Template, documents: list[Any]) -> None:
    meet = {one.render(document) for document in documents} & {other.render(document) for document in documents} - {
        None
    }
    assert not (meet and disjoint(one, other)), meet
    assert disjoint(one, other) == disjoint(other, one)
    assert not disjoint(one, one)


@pytest.mark.parametrize(
    ("one", "other"), [("USER#{a}", "ORDER#{a}"), ("A", "B"), ("X#{a}", "X#{a}#{b}"), ("P{a}", "Q{a}"), ("AB", "B{a}")]
)
def test_templates_that_differ_in_a_word_or_in_length_are_disjoint(one: str, other: str) -> None:
    assert disjoint(parse_template(one), parse_template(other))


@given(st.lists(st.sampled_from((*"{}:#~ab0d.", "{a}", "{a:d}", "{index:03d}", "#")), max_size=8).map("".join))
@examples(5)
def test_template_is_compiled_as_written_or_refused(source: str) -> None:
    try:
        template = parse_template(source)
    except ValueError:
        return
    assert "".join(part if isinstance(part, str) else _spelled(part) for part in template.parts) == source
    assert template.render({"a": 1, "b": 2, "index": 3}) is None or source


def _spelled(placeholder: Placeholder) -> str:
    form = f":0{placeholder.width}d" if placeholder.width else ":d" if placeholder.integer else ""
    return "{" + placeholder.source + form + "}"


@given(st.sampled_from((MISSING, None, "", [], {}, [1], {"x": 1})), st.sampled_from(("a", "b.c", "b.c.d")))
def test_table_key_without_its_field_names_the_field(value: Any, path: str) -> None:
    template = parse_template("K#{" + path + "}")
    document: Any = {} if value is MISSING else value
    for step in reversed(path.split(".")[1 if value is MISSING else 0 :]):
        document = {step: document}
    with pytest.raises(KeyNotRepresentable) as caught:
        template.render_key(document)
    assert caught.value.path == path
    if value in (MISSING, None, ""):
        assert template.render(document) is None


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=3), st.integers(-3, 3), st.booleans())
def test_key_size_is_counted_in_bytes(letters: str, over: int, sort_key: bool) -> None:
    limit = SORT_KEY_BYTES if sort_key else PARTITION_KEY_BYTES
    size = len(letters.encode())
    text = letters * ((limit + over) // size)
    text += "x" * (limit + over - len(text.encode()))
    if over > 0:
        with pytest.raises(KeyTooLong) as caught:
            check_length(text, sort_key, "here")
        assert caught.value.path == "here"
    else:
        assert check_length(text, sort_key, "here") == text


reserved_names = st.frozensets(st.sampled_from([name for name in draw.AWKWARD_NAMES if name and name[0] != "~"]))


# --- names and versions ----------------------------------------------------------------------------------------------


@given(draw.field_names(), draw.field_names(), reserved_names)
def test_escaped_name_is_free_and_comes_back(name: str, other: str, reserved: frozenset[str]) -> None:
    escaped = escape_name(name, reserved)
    assert escaped
    assert escaped not in reserved
    assert unescape_name(escaped) == name
    assert (escape_name(other, reserved) == escaped) == (other == name)


@given(st.lists(draw.field_names(), max_size=4), st.lists(draw.field_names(), max_size=4))
def test_pointers_of_two_places_differ(one: list[str], other: list[str]) -> None:
    left, right = ("".join(pointer_step(escape_name(name)) for name in names) for names in (one, other))
    assert (left == right) == (one == other)


@given(st.integers(0, VERSION_MAX), st.integers(0, VERSION_MAX))
def test_text_order_of_versions_is_their_order(one: int, other: int) -> None:
    assert (version_text(one) < version_text(other)) == (one < other)
    assert parse_version(version_text(one)) == one


@given(draw.timestamps(), draw.timestamps(), st.integers(0, N_MAX), st.integers(0, N_MAX))
def test_versions_follow_the_clock_and_then_the_event(one: Any, other: Any, n: int, m: int) -> None:
    assert (version_of(one, n) < version_of(other, m)) == (((one.time, one.inc), n) < ((other.time, other.inc), m))
    assert version_time(version_of(one, n)) == one
