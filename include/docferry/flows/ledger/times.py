"""Times as the ledger's records hold them: milliseconds since 1970 on the writer's clock, and cluster times as text, in order."""

from __future__ import annotations

import time

from bson.timestamp import Timestamp


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def encode_time(value: Timestamp) -> str:
    """A cluster time as text, in order."""
    return f"{value.time:010d}:{value.inc:010d}"


def decode_time(text: str) -> Timestamp:
    """The inverse of `encode_time`."""
    time_text, _, inc = text.partition(":")
    return Timestamp(int(time_text), int(inc))
