"""Keys of numbers and dates sort as their values do, whatever BSON type these have, and say what they were."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from docferry.core.bson_codec.order import order_key
from docferry.core.bson_codec.sortable import (
    bounds_around,
    is_ambiguous,
    number_text,
    read_sortable,
    sortable_text,
    written,
)
from docferry.core.mapping.key_templates import parse_key
from docferry.testing import strategies as draw
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.examples import examples

_integers = st.integers(-(2**63), 2**63 - 1)
_decimals = st.builds(
    lambda digits, exponent: Decimal128(Decimal((int(digits < 0), tuple(map(int, str(abs(digits)))), exponent))),
    st.integers(-(10**34) + 1, 10**34 - 1),
    st.one_of(st.integers(-40, 40), st.integers(-6176, 6111)),
)
_special = st.sampled_from(
    [
        Decimal128("NaN"),
        Decimal128("Infinity"),
        Decimal128("-Infinity"),
        Decimal128("-0"),
        math.inf,
        -math.inf,
        math.nan,
        -0.0,
    ]
)
_short = st.builds(lambda n, digits: n / 10**digits, st.integers(-2000, 2000), st.integers(0, 3))
_close = st.builds(lambda number: Decimal128(repr(number)), _short)
NUMBERS = st.one_of(_integers, _integers.map(Int64), st.floats(), _decimals, _special, _short, _close)


def value_of(number: Any) -> Decimal | None:
    """What a number is written as; None is NaN, which sorts first."""
    found = written(number)
    assert found is not None
    return None if found[0].is_nan() else found[0]


def is_less(one: Any, other: Any) -> bool:
    mine, theirs = value_of(one), value_of(other)
    if mine is None or theirs is None:
        return mine is None and theirs is not None
    return mine < theirs


def text_of(number: Any, order: Any = "number") -> str:
    found = sortable_text(number, order)
    assert found is not None
    return found


@examples(100)
@given(NUMBERS, NUMBERS)
@example(10.0, 9.6)
@example(10, 9.6)
@example(9.6, Decimal128("9.6"))
@example(-9.6, -9.61)
@example(Decimal128("1E-6176"), 0)
@example(math.nan, -math.inf)
def test_order_of_texts_is_the_order_of_numbers_of_every_type(one: Any, other: Any) -> None:
    if is_less(one, other):
        assert text_of(one) < text_of(other)
        assert text_of(one, "-number") > text_of(other, "-number")
        assert f"{text_of(one)}#zzz" < f"{text_of(other)}#", "a segment behind them changes nothing"


@examples(100)
@given(NUMBERS, NUMBERS)
@example(1, Decimal128("1.00"))
@example(0.1, Decimal128("0.1"))
@example(0, -0.0)
def test_two_numbers_have_one_text_if_mongodb_takes_them_for_one(one: Any, other: Any) -> None:
    """MongoDB compares what they are exactly: 1 is 1.0, the double 0.1 is not the decimal 0.1."""
    assert (text_of(one) == text_of(other)) == (order_key(one) == order_key(other))


@examples(100)
@given(NUMBERS)
def test_text_says_which_number_it_was(number: Any) -> None:
    found, wanted = read_sortable(text_of(number)), value_of(number)
    assert found.is_nan() if wanted is None else found == wanted
    negated = read_sortable(text_of(number, "-number"))
    assert negated.is_nan() if wanted is None else negated == wanted.copy_negate()


@pytest.mark.parametrize("text", ["", "x", "1", "1abc", "10617", "3", "-1:", "~i1"])
def test_what_is_no_number_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ValueError, match="no sortable number"):
        read_sortable(text)


@examples(60)
@given(NUMBERS, NUMBERS)
@example(2**53 + 1, 2**53 + 2)
@example(-0.0, 1e-130)
def test_key_that_is_a_number_keeps_the_order_and_the_number(one: Any, other: Any) -> None:
    mine, theirs = number_text(one, "number"), number_text(other, "number")
    assume(mine is not None and theirs is not None)
    assert mine is not None
    assert theirs is not None
    assert Decimal(mine) == value_of(one)
    assert (Decimal(mine) < Decimal(theirs)) == is_less(one, other)
    assert Decimal(number_text(one, "-number") or "") == Decimal(mine).copy_negate()
    assert len(mine.strip("-0.").replace(".", "")) <= 38


@examples(60)
@given(NUMBERS, NUMBERS)
@example(9.6, Decimal128("9.5999999999999999"))
@example(Decimal128("9.5999999999999999"), 9.6)
def test_bounds_leave_out_nothing_that_a_range_asks_for(bound: Any, number: Any) -> None:
    """What lies above a number in MongoDB, which compares exactly, has a key that is not below the lower bound."""
    low, high = bounds_around(bound)
    assume(low is not None)
    mine, limit = order_key(number), order_key(bound)
    if mine >= limit:
        assert text_of(number) >= text_of(low)
        assert number_text(number, "") is None or number_text(low, "") is None or _n(number) >= _n(low)
    if mine <= limit and value_of(number) is not None:
        assert text_of(number) <= text_of(high)


def _n(number: Any) -> Decimal:
    return Decimal(number_text(number, "") or "")


@examples(60)
@given(NUMBERS, NUMBERS)
@example(9.6, Decimal128("9.6"))
def test_numbers_that_would_be_one_key_are_never_both_taken(one: Any, other: Any) -> None:
    mine, theirs = number_text(one, ""), number_text(other, "")
    if mine is not None and mine == theirs and order_key(one) != order_key(other):
        for decimals in (False, True):
            assert is_ambiguous(one, decimals=decimals) or is_ambiguous(other, decimals=decimals)


@examples(60)
@given(st.integers(-(2**60), 2**60), st.integers(-(2**60), 2**60))
def test_dates_descend(one: int, other: int) -> None:
    template = parse_key("D#{when:-date}")
    texts = [template.render({"when": DatetimeMS(ms)}) for ms in (one, other)]
    assert (texts[0] < texts[1]) == (one > other)  # type: ignore[operator]
    usual = datetime(2024, 1, 1), datetime(2024, 1, 1) + timedelta(milliseconds=abs(one) % 10**9 + 1)
    assert template.render({"when": usual[0]}) > template.render({"when": usual[1]})  # type: ignore[operator]
    assert parse_key("{when:date}", "N").render({"when": DatetimeMS(one)}) == str(one)


@examples(60)
@given(draw.bson_values(), NUMBERS)
@example("10617696.", 9.6)
@example(ObjectId("0" * 24), 0)
def test_what_is_no_number_sorts_behind_all_numbers_and_is_none_of_them(value: Any, number: Any) -> None:
    assume(written(value) is None and value is not None and value != "")
    text = parse_key("{f:number}").render({"f": value})
    assert text is not None
    assert text[0] == "~"
    assert text_of(number) < text
