"""How BSON is read everywhere, the ranges of its integers, and what is the same whatever the order of fields."""

from __future__ import annotations

from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

BSON_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
"""How documents are read everywhere: dates outside datetime's range come as DatetimeMS, int64 as Int64."""
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def sorted_bytes(document: dict[str, Any]) -> bytes:
    """BSON of a document with all fields in the order of their names: the same for what holds the same, types included."""
    return bson.encode(sorted_fields(document), codec_options=BSON_OPTIONS)


def sorted_fields(value: Any) -> Any:
    """A copy of a value whose documents have their fields in the order of their names. Arrays keep theirs."""
    if isinstance(value, dict):
        return {name: sorted_fields(value[name]) for name in sorted(value)}
    return [sorted_fields(inner) for inner in value] if isinstance(value, list) else value
