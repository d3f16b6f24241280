"""Dead letters: documents that could not be stored, with the document itself, in parts of the size of a record."""

from __future__ import annotations

import hashlib
import uuid
import zlib
from dataclasses import dataclass
from typing import Any

from docferry.core.versions import parse_version, version_text
from docferry.errors import ConditionFailed, DocumentError, InvariantBroken
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

LETTER_PART_BYTES = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One document that could not be stored. The document itself is fetched by `letter_document` alone."""

    collection: str
    id: str
    reason: str
    path: str
    message: str
    version: int
    at_ms: int
    parts: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "collection": self.collection,
            "id": self.id,
            "reason": self.reason,
            "path": self.path,
            "message": self.message,
            "version": version_text(self.version),
            "at_ms": self.at_ms,
        }


def letter_key(id_text: str) -> str:
    """The ledger key of a document: its id, or a digest where that would be too long for a sort key."""
    data = id_text.encode()
    return id_text if len(data) <= 900 else "~hash#" + hashlib.sha256(data).hexdigest()


def open_letter(ledger: Ledger, collection: str, error: DocumentError, document: bytes, version: int) -> None:
    """Record a dead letter with the document (BSON, compressed, in parts), unless a newer one is there.

    The parts are written first: a letter that is there is whole. They are of this opening alone, so that who closes an
    earlier one, of the same version perhaps, does not take them away.
    """
    key, opening = letter_key(error.id), uuid.uuid4().hex
    packed = zlib.compress(document)
    parts = [packed[start : start + LETTER_PART_BYTES] for start in range(0, len(packed), LETTER_PART_BYTES)]
    while True:
        record = ledger.read(f"dead:{collection}", key)
        if record is not None and parse_version(record.body["version"]) > version:
            return
        for index, part in enumerate(parts):
            _write_part(ledger, collection, f"{key}#{version_text(version)}#{opening}#{index:05d}", part)
        body = {
            "id": error.id,
            "reason": error.reason,
            "path": error.path,
            "message": str(error)[:1000],
            "version": version_text(version),
            "at": now_ms(),
            "opening": opening,
            "parts": len(parts),
        }
        try:
            ledger.write(f"dead:{collection}", key, body, expect=record)
        except ConditionFailed:
            continue
        if record is not None:
            _drop_parts(ledger, collection, record)
        return


def _write_part(ledger: Ledger, collection: str, key: str, part: bytes) -> None:
    section = f"dead-parts:{collection}"
    ledger.write(section, key, {"data": part}, expect=ledger.read(section, key))


def _drop_parts(ledger: Ledger, collection: str, record: Record) -> None:
    for part in _parts(ledger, collection, record):
        ledger.delete(part)


def _parts(ledger: Ledger, collection: str, record: Record) -> list[Record]:
    return ledger.list(f"dead-parts:{collection}", f"{record.key}#{record.body['version']}#{record.body['opening']}#")


def list_letters(ledger: Ledger, collection: str) -> list[DeadLetter]:
    """The open dead letters of a collection."""
    return [_letter(collection, record) for record in ledger.list(f"dead:{collection}")]


def _letter(collection: str, record: Record) -> DeadLetter:
    body = record.body
    return DeadLetter(
        collection=collection,
        id=body["id"],
        reason=body["reason"],
        path=body["path"],
        message=body["message"],
        version=parse_version(body["version"]),
        at_ms=int(body["at"]),
        parts=int(body["parts"]),
    )


def letter_record(ledger: Ledger, collection: str, id_text: str) -> Record | None:
    """The ledger record of one letter, for closing it."""
    return ledger.read(f"dead:{collection}", letter_key(id_text))


def letter_document(ledger: Ledger, record: Record) -> bytes:
    """The dead-lettered document as BSON.

    Raises: ConditionFailed if the letter was closed or replaced since it was read; InvariantBroken if parts are missing.
    """
    parts = _parts(ledger, record.section.removeprefix("dead:"), record)
    if len(parts) != int(record.body["parts"]):
        current = ledger.read(record.section, record.key)
        if current is None or current.revision != record.revision:
            raise ConditionFailed(f"dead letter {record.key} has changed meanwhile", operation="read a dead letter")
        raise InvariantBroken(f"dead letter {record.key}: {len(parts)} of {record.body['parts']} parts are there")
    return zlib.decompress(b"".join(part.body["data"] for part in parts))


def close_letter(ledger: Ledger, record: Record) -> None:
    """Remove a letter that has been dealt with. Raises ConditionFailed if it has changed meanwhile."""
    ledger.delete(record)
    _drop_parts(ledger, record.section.removeprefix("dead:"), record)
