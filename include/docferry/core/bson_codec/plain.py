"""Attribute values in wire form ({"S": "x"}, {"N": "1.5"}, ...) and as the plain values that boto3 gives."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Final

from docferry.errors import UnsupportedType

AttributeValue = dict[str, Any]
EXACT: Final = Context(prec=60, Emax=999_999, Emin=-999_999)
NULL: Final[AttributeValue] = {"NULL": True}
TRUE: Final[AttributeValue] = {"BOOL": True}
FALSE: Final[AttributeValue] = {"BOOL": False}


def plain_number(number: Decimal) -> str:
    """A finite number as DynamoDB gives it back: no exponent, no trailing zeros, no -0."""
    if not number:
        return "0"
    return format(number.normalize(EXACT), "f")


def base64_text(data: bytes) -> str:
    """Bytes as wire form has them."""
    return binascii.b2a_base64(data, newline=False).decode()


def single_value(tag: str, content: Any) -> Any:
    """The value of BOOL, NULL or B. Raises UnsupportedType for a tag that DynamoDB does not have."""
    if tag == "BOOL":
        return bool(content)
    if tag == "NULL":
        return None
    if tag == "B":
        return base64.b64decode(content)
    raise UnsupportedType(f"{tag} is not a DynamoDB type")


def to_plain(wire: AttributeValue) -> Any:
    """Wire form to the plain values that boto3's resource gives: str, Decimal, bytes, bool, None, list, dict, set."""
    ((tag, content),) = wire.items()
    if tag == "M":
        return {name: to_plain(inner) for name, inner in content.items()}
    if tag == "L":
        return [to_plain(inner) for inner in content]
    if tag == "N":
        # 1E+100 is written out with 101 digits; boto3's serialiser takes 38, and means the significant ones.
        return Decimal(content) if len(content) <= 38 else Decimal(content).normalize(EXACT)
    if tag in ("SS", "NS", "BS"):
        return {to_plain({tag[0]: inner}) for inner in content}
    return content if tag == "S" else single_value(tag, content)


def from_plain(value: Any) -> AttributeValue:
    """The inverse of `to_plain`. Integers are taken as numbers, boto3's Binary as bytes; floats are refused."""
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return TRUE if value else FALSE
    if value is None:
        return NULL
    if isinstance(value, int | Decimal):
        return {"N": plain_number(Decimal(value))}
    if isinstance(value, Mapping):
        return {"M": {name: from_plain(inner) for name, inner in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [from_plain(inner) for inner in value]}
    if isinstance(value, set | frozenset):
        inner = [next(iter(from_plain(element).items())) for element in value]
        return {inner[0][0] + "S": sorted(content for _, content in inner)}
    data = getattr(value, "value", value)
    if isinstance(data, bytes | bytearray):
        return {"B": base64_text(bytes(data))}
    raise UnsupportedType(f"{type(value).__name__} is not an attribute value")


def iso_date(value: datetime) -> str:
    """2024-01-15T15:45:00.000Z. A naive datetime is UTC, as in pymongo; BSON has milliseconds, so the rest is cut."""
    if value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return f"{value.isoformat('T', 'milliseconds')}Z"
