"""Decimal128 as a DynamoDB number, and the hint that says what the number does not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Final

import bson
from bson.decimal128 import Decimal128

from docferry.core.bson_codec.hints import own_exponent
from docferry.core.bson_codec.plain import AttributeValue, base64_text, plain_number
from docferry.core.limits import NUMBER_MAX_ADJUSTED, NUMBER_MIN_ADJUSTED

_TWO_WORDS = struct.Struct("<QQ").unpack
_USUAL_EXPONENTS: Final = {6176 + exponent << 49: exponent for exponent in range(-18, 1)}
"""The upper word of a positive Decimal128 whose coefficient has at most 64 bits, to its exponent."""


def decimal_parts(bid: bytes) -> tuple[AttributeValue, str]:
    """(wire form, hint) of a Decimal128.

    The usual price is read from the bits of the format (IEEE 754-2008, binary integer decimal: sign, 14 bits of biased
    exponent, coefficient); pymongo's own conversion costs ten times as much and takes the rest.
    """
    low, high = _TWO_WORDS(bid)
    exponent = _USUAL_EXPONENTS.get(high)
    if exponent is None or not low:
        return _any_decimal(bid)
    digits = str(low)
    if not exponent:
        return {"N": digits}, "decimal"
    if len(digits) <= -exponent:
        digits = digits.rjust(1 - exponent, "0")
    if digits[-1] != "0":
        return {"N": f"{digits[:exponent]}.{digits[exponent:]}"}, "decimal"
    fraction = digits[exponent:].rstrip("0")
    plain = f"{digits[:exponent]}.{fraction}" if fraction else digits[:exponent]
    return {"N": plain}, f"decimal:{exponent}"


def _any_decimal(bid: bytes) -> tuple[AttributeValue, str]:
    value = Decimal128.from_bid(bid)
    number = value.to_decimal()
    if Decimal128(number).bid != bid:
        return {"B": base64_text(bson.encode({"": value}))}, "bson"
    if not number.is_finite():
        return {"S": str(number)}, "decimal"
    if number and not NUMBER_MIN_ADJUSTED <= number.adjusted() <= NUMBER_MAX_ADJUSTED:
        return {"S": str(number)}, "decimal"
    plain = plain_number(number)
    exponent = number.as_tuple().exponent
    hint = "decimal" if Decimal(plain).as_tuple().exponent == exponent else f"decimal:{exponent}"
    if not number and number.is_signed():
        hint = "-" + hint
    return {"N": plain}, hint


DecimalEncoder = Callable[[bytes], tuple[AttributeValue, str]]


@lru_cache(maxsize=64)
def decimal_encoder(declared: str | None) -> DecimalEncoder:
    """What encodes the Decimal128s of an attribute, given as their bits: (wire form, hint or '')."""

    def encode(bid: bytes) -> tuple[AttributeValue, str]:
        wire, hint = decimal_parts(bid)
        as_declared = hint == "decimal" and digits and own_exponent(wire) == f"-{digits}"
        return wire, "" if as_declared or hint == declared else hint

    digits = int(declared[9:]) if declared is not None and declared[:9] == "decimal:-" else 0
    if not digits:
        return encode
    usual = 6176 - digits << 49

    def encode_usual(bid: bytes) -> tuple[AttributeValue, str]:
        """With exactly the digits declared, which needs no hint."""
        low, high = _TWO_WORDS(bid)
        if high != usual or not low:
            return encode(bid)
        text = str(low)
        if len(text) <= digits:
            text = text.rjust(digits + 1, "0")
        if text[-1] != "0":
            return {"N": f"{text[:-digits]}.{text[-digits:]}"}, ""
        fraction = text[-digits:].rstrip("0")
        return {"N": f"{text[:-digits]}.{fraction}" if fraction else text[:-digits]}, ""

    return encode_usual
