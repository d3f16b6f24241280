"""MongoDB's cluster time as text, in order: how the ledger's records hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.timestamp import Timestamp

REPLICATION = ("replicate", "stream")
"""Section and key of the record that is the replicator's lease and holds the position up to which all is applied."""


def encode_time(value: Timestamp) -> str:
    """A cluster time as text, in order."""
    return f"{value.time:010d}:{value.inc:010d}"


def decode_time(text: str) -> Timestamp:
    """The inverse of `encode_time`."""
    time_text, _, inc = text.partition(":")
    return Timestamp(int(time_text), int(inc))


def applied_up_to(body: Mapping[str, Any] | None) -> Timestamp | None:
    """The time before which replication has applied every change, by its record; None if it has never run."""
    return None if body is None or "token" not in body else decode_time(body["time"])
