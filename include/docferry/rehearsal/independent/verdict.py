"""What the independent judge says: disagreements, and the values that both sides are read into."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

Document = dict[str, Any]
Wire = dict[str, Any]
"""One attribute as boto3's client gives it: {"S": "x"}, {"N": "1"}, {"B": b"..."}, {"M": {...}}."""
Item = dict[str, Wire]
Key = tuple[str, str]

OPTIONS: CodecOptions[Document] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
"""What is no valid UTF-8 shows as U+FFFD: such a document must have no items, and does not end the comparison."""
VERSION = re.compile(r"[0-9a-f]{16}ffffff")
"""A bulk load's version: the snapshot's cluster time, and the last place among the events of that time."""
LIVE_VERSION = re.compile(r"[0-9a-f]{22}")
"""Any writer's version: an event has its own place among those of its time."""
DIGEST = re.compile(r"[0-9a-f]{32}")
INDEX_KEYS = ("GSI1PK", "GSI1SK", "GSI2PK", "GSI2SK")
ABSENT = "(absent)"


@dataclass(frozen=True)
class Disagreement:
    """One thing that is not as it should be. `path` is an attribute, and a JSON Pointer inside it."""

    key: Key
    path: str = ""
    expected: Any = None
    found: Any = None

    def __str__(self) -> str:
        return f"{self.key[0]} / {self.key[1]} {self.path}: expected {self.expected!r:.200}, found {self.found!r:.200}"


@dataclass
class Verdict:
    """What is not there, what should not be there, and what is there but different.

    `live`: others than a bulk load have written, so items have any version, and those that are gone are tombstones.
    """

    live: bool = False
    documents: int = 0
    items: int = 0
    tombstones: int = 0
    missing: list[Disagreement] = field(default_factory=list)
    extra: list[Disagreement] = field(default_factory=list)
    different: list[Disagreement] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, int, int]:
        return len(self.missing), len(self.extra), len(self.different)

    def __str__(self) -> str:
        listed = [f"{kind}: {one}" for kind in ("missing", "extra", "different") for one in getattr(self, kind)[:5]]
        return "\n".join(
            [f"{self.documents} documents, {self.items} items, missing/extra/different {self.counts}", *listed]
        )


def id_key(value: Any) -> bytes:
    """An id as something that can be put into a set: 1, 1.0 and "1" are three."""
    return bson.encode({"": value})
