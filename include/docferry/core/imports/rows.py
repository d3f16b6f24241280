"""The rows of an import: an item a line, as DynamoDB JSON, in gzip; and what AWS says of those that it has refused. Pure.

Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataImport.Format.html (rows) and
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataImport.Validation.html (the log of errors), from memory.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from docferry.core.mapping.items import Item

LEVEL = 3


def encode_rows(items: Iterable[bytes]) -> bytes:
    """An object's bytes, from items as JSON."""
    return gzip.compress(b"".join(b'{"Item":' + item + b"}\n" for item in items), LEVEL)


def row_of(data: bytes, index: int) -> Item:
    """The item in a line of an object. Raises: IndexError, ValueError for what is no such object."""
    found: Item = json.loads(gzip.decompress(data).split(b"\n")[index])["Item"]
    return found


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that AWS has not imported: its object, its line from 0, and why."""

    key: str
    index: int
    why: str


def row_error(message: str) -> RowError | None:
    """From an entry of an import's log; None for one that is about no row."""
    try:
        found: Any = json.loads(message)
        place = found["itemS3Pointer"]
        return RowError(str(place["key"]), int(place["itemIndex"]), "; ".join(map(str, found["errorMessages"])))
    except (KeyError, TypeError, ValueError):
        return None
