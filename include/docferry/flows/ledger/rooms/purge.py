"""The purge of tombstones: its lease, and who was seen to write before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docferry.core.cutover.purge_proof import WritersSeen
from docferry.core.versions import parse_version, version_text
from docferry.flows.ledger.times import decode_time, encode_time
from docferry.ports.flows import Ledger, Record

PURGE = ("purge", "tombstones")
"""Section and key of the record that is leased by the purge that runs."""


def read_looks(ledger: Ledger) -> list[WritersSeen]:
    """What earlier looks saw; none if there has been no purge."""
    record = ledger.read(*PURGE)
    return looks_in(record) if record is not None else []


def looks_in(record: Record) -> list[WritersSeen]:
    """What the record says; `looks_in(lease.record)` of the one that is held."""
    return [
        WritersSeen(at=decode_time(at), at_ms=int(at_ms), version=parse_version(text))
        for at, at_ms, text in record.body.get("seen", ())
    ]


def purge_looked(looks: Sequence[WritersSeen]) -> dict[str, Any]:
    """What the lease writes: the looks that a later proof may rest on."""
    return {"seen": [[encode_time(look.at), look.at_ms, version_text(look.version)] for look in looks]}
