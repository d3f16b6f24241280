"""MongoDB's codes for an update that it refuses. Source: error_codes.yml of MongoDB 6.0, read 2026-11-24."""

from __future__ import annotations

from typing import Final

BAD_VALUE: Final = 2
FAILED_TO_PARSE: Final = 9
TYPE_MISMATCH: Final = 14
PATH_NOT_VIABLE: Final = 28
CANNOT_BACKFILL_ARRAY: Final = 34
CONFLICTING_UPDATE_OPERATORS: Final = 40
DOLLAR_PREFIXED_FIELD_NAME: Final = 52
INVALID_ID_FIELD: Final = 53
NOT_SINGLE_VALUE_FIELD: Final = 54
EMPTY_FIELD_NAME: Final = 56
IMMUTABLE_FIELD: Final = 66
