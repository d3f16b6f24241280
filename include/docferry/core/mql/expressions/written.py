"""Numbers and dates as texts. Of a double MongoDB writes six digits, as C's %g does: 1234567.0 is '1.23457e+06'."""

from __future__ import annotations

import math
from typing import Any

from bson import Decimal128

from docferry.core.mql.expressions.compiling import refuse
from docferry.core.mql.expressions.dates import in_utc


def written(name: str, value: Any) -> str:
    """`name` is the operator that asks.

    Raises: CallRefused for a date outside the years 1 to 9999, and a double that is no number.
    """
    if isinstance(value, Decimal128):
        return str(value)
    if isinstance(value, int):
        return str(int(value))
    if not isinstance(value, float):
        at = in_utc(name, value)
        return f"{at.year:04d}-{at:%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    if math.isnan(value):
        raise refuse(f"{name} of NaN")  # MongoDB's has a sign at times
    return f"{value:g}"
