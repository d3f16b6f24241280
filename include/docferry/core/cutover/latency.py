"""How long calls took, as counts of buckets, each half as long again as the one before: a percentile is that exact. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

TOOK = "took."
"""A count's name is this, the database, a dot, and the bucket: `took.mongodb.4`."""
MOST = 40


def bucket_of(seconds: float) -> int:
    """The bucket k of what took at most 2^(k/2) ms, and more than the one before."""
    milliseconds = seconds * 1000
    return 0 if milliseconds <= 1 else min(MOST, math.ceil(2 * math.log2(milliseconds)))


def took_of(counts: Mapping[str, int]) -> dict[str, Counter[int]]:
    """What a process has counted under such names: database -> bucket -> calls."""
    found: dict[str, Counter[int]] = {}
    for name, count in counts.items():
        if name.startswith(TOOK):
            database, _, bucket = name.removeprefix(TOOK).rpartition(".")
            found.setdefault(database, Counter())[int(bucket)] += count
    return found


def percentile_ms(buckets: Mapping[int, int], share: float, least: int) -> float | None:
    """So many milliseconds at most took this share of the calls; None of fewer than `least` of them."""
    total = sum(buckets.values())
    if total < max(1, least):
        return None
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= share * total:
            return float(2 ** (bucket / 2))
    return None
