"""Values at the ends of their ranges, or that could be taken for something else."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from docferry.testing.strategies.kinds import real

TEXT_EDGES: Final = ("", "~", "#", "~h", "~s", "1", "-1", "007", "1.0", "NaN", "null", "true", "MinKey", "~i1", "a#b", "~~",
    "507f1f77bcf86cd799439011", "507F1F77BCF86CD799439011", "2024-01-15T15:45:00.000Z", "0:0", "²", "٣")  # fmt: skip
INT32_EDGES: Final = (0, 1, -1, 2**31 - 1, -(2**31))
INT64_EDGES: Final = (0, 1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63))
DOUBLE_EDGES: Final = (0.0, -0.0, 1.0, 0.1, 1e15, 1e16, 1e22, 1e23, 2.0**53 + 2, 1e125, 9.999e125, 1e126, 1e300,
    1e-130, 1e-131, 5e-324,
    2.2250738585072014e-308, -1e-5, float("inf"), float("-inf"), float("nan"))  # fmt: skip
DECIMAL_EDGES: Final = ("12.50", "12.5", "12", "0", "0.00", "-0", "-0.000", "0E-6176", "0E+6111", "1E+3",
    "1E-6176", "1E-130", "1E-131",
    "9.99E+125", "1E+126", "9.999999999999999999999999999999999E+6144", "NaN", "-NaN", "sNaN",
    "Infinity", "-Infinity")  # fmt: skip
DATE_EDGES: Final = (datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_000), datetime(1970, 1, 1),  # noqa: DTZ001
    datetime(1969, 12, 31, 23, 59, 59, 999_000))  # noqa: DTZ001  # fmt: skip
FIRST_MS: Final = -62_135_596_800_000
LAST_MS: Final = 253_402_300_799_999
_EDGES: Final[tuple[Any, ...]] = (
        *TEXT_EDGES, *INT32_EDGES, *map(Int64, INT64_EDGES), *DOUBLE_EDGES, *map(Decimal128, DECIMAL_EDGES), *DATE_EDGES,
        *map(DatetimeMS, (FIRST_MS - 1, LAST_MS + 1, -(2**63), 2**63 - 1)), True, False, None, MinKey(), MaxKey(),
        *(Binary(b"x" * 16, n) for n in (0, 2, 3, 4, 5, 9, 128, 255)), *(Binary(b"", n) for n in (0, 2, 3, 4, 5, 9, 128, 255)),
        *(Regex(pattern, flags) for pattern in ("", "^a.*[b]$", "#") for flags in ("", "i", "ilmsux")),
        Timestamp(0, 0), Timestamp(2**32 - 1, 2**32 - 1), ObjectId("0" * 24), ObjectId("f" * 24), Code(""), Code("f()", {}),
        Code("f()", {"x": Code("g()", {"y": 1})}), DBRef("c", 1), DBRef("c", None), DBRef("c", ObjectId("0" * 24), "db", x=1),
        DBRef("c", {"$ref": "d"}, None, {"": DBRef("c", MinKey())}), {}, [], [{}], [[]], [None], {"": {"": ""}},
)  # fmt: skip
EDGES: Final[tuple[Any, ...]] = tuple(real({"v": value})["v"] for value in _EDGES)
"""Values of each BSON type at the ends of their ranges, or that could be taken for something else. All are drawn often;
a test that goes through them one by one leaves nothing to chance."""
