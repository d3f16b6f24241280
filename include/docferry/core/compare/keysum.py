"""Whether two large sets of keys are the same, without holding either. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from docferry.core.mapping.items import ItemKey


@dataclass(slots=True)
class KeySum:
    """The number of some keys and the sum of their hashes: equal sums of distinct keys mean equal sets (1 in 2^128)."""

    count: int = 0
    total: int = 0

    def add_all(self, keys: Iterable[ItemKey]) -> None:
        for pk, sk in keys:
            data = f"{len(pk)}#{pk}{sk}".encode()
            self.total = (self.total + int.from_bytes(hashlib.blake2b(data, digest_size=16).digest())) % (1 << 128)
            self.count += 1

    def add_sum(self, other: KeySum) -> None:
        """All keys that went into another sum."""
        self.total = (self.total + other.total) % (1 << 128)
        self.count += other.count
