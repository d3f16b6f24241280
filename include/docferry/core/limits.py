"""DynamoDB's limits that a document can run into, and how its size is counted.

Source: AWS, "Quotas in Amazon DynamoDB" and "DynamoDB item sizes and formats", read 2026-11-22.
"""

from __future__ import annotations

from typing import Any

ITEM_BYTES = 400 * 1024
"""Attribute names included."""
PARTITION_KEY_BYTES = 2048
SORT_KEY_BYTES = 1024
NESTING = 31
"""Maps and lists inside one attribute; 32 are refused (tried on two emulators)."""
BATCH_ITEMS = 25
BATCH_BYTES = 15_000_000
"""Of a BatchWriteItem on the wire. AWS takes 16 MB; as JSON, a list of small numbers is three times its size."""
BATCH_GET_KEYS = 100
TRANSACTION_ITEMS = 100
TRANSACTION_BYTES = 4 * 1024 * 1024
NUMBER_DIGITS = 38
NUMBER_MAX_ADJUSTED = 125
NUMBER_MIN_ADJUSTED = -130
WRITE_UNIT_BYTES = 1024
NEW_TABLE_WRU_PER_S = 4000
NEW_TABLE_RRU_PER_S = 12_000
PARTITION_WRU_PER_S = 1000
"""What one partition of a table or an index takes."""


def item_bytes(item: dict[str, Any]) -> int:
    """Size of an item in wire form ({"PK": {"S": ...}, ...}) as DynamoDB counts it, in bytes.

    Numbers are counted as about half their digits plus one, as AWS documents; every map or list costs three
    bytes and one for each element.
    """
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: dict[str, Any]) -> int:
    ((tag, content),) = value.items()
    if tag == "S":
        return len(str(content).encode())
    if tag == "N":
        return int((len(content.strip("-0.")) + 1) // 2 + 1 + content.startswith("-"))
    if tag == "B":
        return int(len(content) * 3 // 4 - content[-2:].count("="))
    if tag == "M":
        return 3 + sum(1 + len(name.encode()) + _value_bytes(inner) for name, inner in content.items())
    if tag == "L":
        return 3 + sum(1 + _value_bytes(inner) for inner in content)
    if tag in ("SS", "NS", "BS"):
        return sum(_value_bytes({tag[0]: inner}) for inner in content)
    return 1


def write_units(size_bytes: int) -> int:
    """Write request units of one put of that size, without indexes."""
    return max(1, -(-size_bytes // WRITE_UNIT_BYTES))


def item_write_units(item: dict[str, Any]) -> int:
    """Write units of one put: the table's, and as many again for each index that the item is in (all project ALL)."""
    indexes = sum(name.endswith("PK") and name != "PK" for name in item)
    return write_units(item_bytes(item)) * (1 + indexes)
