"""What one request takes, in request units.

Source: AWS, "DynamoDB read and write operations" and the pricing pages, read 2026-11-29: a read of up to 4 KB is one unit
if it is strongly consistent, half if eventually, two in a transaction; a write of up to 1 KB is one, two in a transaction.
"""

from __future__ import annotations

from typing import Literal

from docferry.core import limits

READ_UNIT_BYTES = 4096
Consistency = Literal["eventual", "strong", "transactional"]
_FACTOR: dict[Consistency, float] = {"eventual": 0.5, "strong": 1.0, "transactional": 2.0}


def read_units(size_bytes: float, consistency: Consistency = "eventual") -> float:
    """Units of one read of an item, or of one page of a query, of that many bytes. A read of nothing costs as the smallest."""
    return _FACTOR[consistency] * max(1, -(-int(size_bytes) // READ_UNIT_BYTES))


def write_units(size_bytes: float, *, transactional: bool = False) -> float:
    """Units of one write of an item of that many bytes (the larger of old and new), without its indexes."""
    return (2.0 if transactional else 1.0) * limits.write_units(int(size_bytes))


def index_write_units(size_bytes: float, *, key_changes: bool = False) -> float:
    """Units of what one write does to one index that holds that many bytes of the item. A changed index key is a delete
    and a put. An index costs the same in a transaction."""
    return (2.0 if key_changes else 1.0) * limits.write_units(int(size_bytes))
