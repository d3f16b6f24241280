"""The version of a document on MongoDB's own clock (docs/architecture.md, "Versions").

A version is `clusterTime << 24 | n`: clusterTime is MongoDB's 64-bit timestamp (seconds << 32 | increment), n the
event's place among the events of that time. It is stored as 22 lowercase hex digits, so that string order is
version order; as a number it would reach Node.js clients as BigInt.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from bson.timestamp import Timestamp

N_BITS = 24
N_MAX = (1 << N_BITS) - 1
DIGITS = 22
VERSION_MAX = (1 << (64 + N_BITS)) - 1


def version_of(time: Timestamp, n: int) -> int:
    """The version of the n-th event at `time`; a snapshot at `time` has n = N_MAX."""
    if not 0 <= n <= N_MAX:
        raise ValueError(f"n must be between 0 and {N_MAX}, not {n}")
    return (time.time << 32 | time.inc) << N_BITS | n


def snapshot_version(time: Timestamp) -> int:
    """The version of everything read from a snapshot at `time`: after all events of that time."""
    return version_of(time, N_MAX)


def version_text(version: int) -> str:
    """How `_v` is stored. Raises ValueError outside 0 .. VERSION_MAX."""
    if not 0 <= version <= VERSION_MAX:
        raise ValueError(f"a version has at most {DIGITS} hex digits, {version} has more or is negative")
    return format(version, "022x")


def parse_version(text: str) -> int:
    """The inverse of `version_text`."""
    return int(text, 16)


def version_time(version: int) -> Timestamp:
    """The cluster time inside a version."""
    time = version >> N_BITS
    return Timestamp(time >> 32, time & 0xFFFFFFFF)


def version_in(item: Mapping[str, Any]) -> int:
    """The version that an item bears; 0, which everything is newer than, for one that docferry cannot have written."""
    with suppress(KeyError, TypeError, ValueError):
        return parse_version(item["_v"]["S"])
    return 0
