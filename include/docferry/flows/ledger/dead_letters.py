"""Dead letters: documents that could not be stored, with the document itself, in parts of the size of a record."""

from __future__ import annotations

import hashlib
import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from docferry.core.versions import parse_version, version_text
from docferry.errors import ConditionFailed, DocumentError, InvariantBroken
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

LETTER_PART_BYTES = 300_000
OPENINGS = "letters"
"""The section that says for each collection when a letter was opened last."""
LIST_ALL_S = 600.0
"""All letters are listed so often in any case: an opening that died before it was noted, or of an older docferry."""


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
    opening: str = ""
    record: Record = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """By which it is found: `letter_key` of the document's id."""
        return self.record.key

    @property
    def handle(self) -> str:
        """What names the letter where the id of its document must not be shown."""
        return letter_handle(self.collection, self.key)

    def masked(self) -> dict[str, Any]:
        """What may be shown to all who see the migration: neither the document, nor its id, nor a value."""
        names = ("collection", "reason", "path", "at_ms")
        return {"letter": self.handle} | {name: getattr(self, name) for name in names}

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


HASHED, HEX = "~hash#", 64
"""How the key of a long id begins: no id's own text begins so (a string's leading `~` is escaped)."""
ID_BYTES, SHOWN = 900, 100


def letter_handle(collection: str, key: str) -> str:
    """16 hex digits, for a letter whose key is the id of a document."""
    return hashlib.sha256(f"{collection}/{key}".encode()).hexdigest()[:16]


def letter_key(id_text: str) -> str:
    """The ledger key of a document: its id, or a digest where that would be too long for a sort key. Takes `letter_id`, too."""
    if id_text.startswith(HASHED):
        return id_text[: len(HASHED) + HEX]
    data = id_text.encode()
    return id_text if len(data) <= ID_BYTES else HASHED + hashlib.sha256(data).hexdigest()


def letter_id(id_text: str) -> str:
    """A document's id as a record of the ledger holds it: a long one by its digest and its beginning. An id has no bound of
    its own, a record is one item of at most 400 KB."""
    key = letter_key(id_text)
    return id_text if key == id_text or id_text.startswith(HASHED) else f"{key} {id_text[:SHOWN]}…"


MOST_ID_BYTES = 100_000
"""Of an id that a record holds whole, because work goes on from it. The place behind a longer one is not noted: what follows the
last noted place is read once more."""


def fits_record(id_data: bytes | None) -> bool:
    return id_data is None or len(id_data) <= MOST_ID_BYTES


def bounded(text: str, most: int = 1000) -> str:
    """Text of a document for a record: at most so many characters, and then a digest of all of it."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text):,} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


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
            "id": letter_id(error.id),
            "reason": error.reason,
            "path": bounded(error.path),
            "message": bounded(str(error)),
            "version": version_text(version),
            "at": now_ms(),
            "opening": opening,
            "parts": len(parts),
        }
        try:
            ledger.write(f"dead:{collection}", key, body, expect=record)
        except ConditionFailed:
            continue
        _note_opening(ledger, collection)
        if record is not None:
            _drop_parts(ledger, letter_in(record))
        return


def _note_opening(ledger: Ledger, collection: str) -> None:
    """Behind every letter: `LetterWatch` looks at this record, and lists when it has changed."""
    record = ledger.read(OPENINGS, collection)
    try:
        ledger.write(OPENINGS, collection, {"at": now_ms()}, expect=record)
    except ConditionFailed:
        return  # noted by another opening, after ours was written: who sees that one lists both


def last_openings(ledger: Ledger) -> dict[str, int]:
    """For each collection in which a letter was ever opened, a number that is another after each opening. One query."""
    return {record.key: record.revision for record in ledger.list(OPENINGS)}


class LetterWatch:
    """The open letters of a collection, for a flow that looks every few seconds: one read of a small record, and a list only if a
    letter has been opened since. Letters that were closed by others stay known until then.
    """

    def __init__(self, ledger: Ledger, collection: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._collection, self._monotonic = ledger, collection, monotonic
        self._seen: int | None = None
        self._listed = float("-inf")

    def look(self) -> list[DeadLetter] | None:
        """All open letters; None if none was opened since the last look. Raises StoreError."""
        record = self._ledger.read(OPENINGS, self._collection)
        seen = record.revision if record is not None else 0
        now = self._monotonic()
        if seen == self._seen and now - self._listed < LIST_ALL_S:
            return None
        letters = list_letters(self._ledger, self._collection)
        self._seen, self._listed = seen, now
        return letters


def _write_part(ledger: Ledger, collection: str, key: str, part: bytes) -> None:
    section = f"dead-parts:{collection}"
    ledger.write(section, key, {"data": part}, expect=ledger.read(section, key))


def _drop_parts(ledger: Ledger, letter: DeadLetter) -> None:
    for part in _parts(ledger, letter):
        ledger.delete(part)


def _parts(ledger: Ledger, letter: DeadLetter) -> list[Record]:
    prefix = f"{letter.key}#{version_text(letter.version)}#{letter.opening}#"
    return ledger.list(f"dead-parts:{letter.collection}", prefix)


def list_letters(ledger: Ledger, collection: str) -> list[DeadLetter]:
    """The open dead letters of a collection."""
    return [letter_in(record) for record in ledger.list(f"dead:{collection}")]


def letter_in(record: Record) -> DeadLetter:
    """What a letter's record says."""
    body = record.body
    return DeadLetter(
        collection=record.section.removeprefix("dead:"),
        id=letter_id(body["id"]),
        reason=body["reason"],
        path=body["path"],
        message=body["message"],
        version=parse_version(body["version"]),
        at_ms=int(body["at"]),
        parts=int(body["parts"]),
        opening=body["opening"],
        record=record,
    )


def read_letter(ledger: Ledger, collection: str, id_text: str) -> DeadLetter | None:
    """One letter, by its document's id or by the id that it shows."""
    record = ledger.read(f"dead:{collection}", letter_key(id_text))
    return letter_in(record) if record is not None else None


def letter_document(ledger: Ledger, letter: DeadLetter) -> bytes:
    """The dead-lettered document as BSON.

    Raises: ConditionFailed if the letter was closed or replaced since it was read; InvariantBroken if parts are missing.
    """
    parts = _parts(ledger, letter)
    if len(parts) != letter.parts:
        current = ledger.read(letter.record.section, letter.key)
        if current is None or current.revision != letter.record.revision:
            raise ConditionFailed(f"dead letter {letter.key} has changed meanwhile", operation="read a dead letter")
        raise InvariantBroken(f"dead letter {letter.key}: {len(parts)} of {letter.parts} parts are there")
    return zlib.decompress(b"".join(part.body["data"] for part in parts))


def close_letter(ledger: Ledger, letter: DeadLetter) -> None:
    """Remove a letter that has been dealt with. Raises ConditionFailed if it has changed meanwhile."""
    ledger.delete(letter.record)
    _drop_parts(ledger, letter)


LOOKS = "looks"
"""The section that says who has looked at documents in dead letters: noted before one is shown, and never removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAtLetters:
    """Who was shown the documents of which letters (by handles, of one collection), and when."""

    by: str
    collection: str
    letters: tuple[str, ...]
    at_ms: int


def note_look(ledger: Ledger, by: str, collection: str, letters: tuple[str, ...]) -> None:
    """Keep it. Raises StoreError: then nothing must be shown."""
    at_ms = now_ms()
    body = {"by": by, "collection": collection, "letters": list(letters), "at": at_ms}
    ledger.write(LOOKS, f"{at_ms:013d}-{uuid.uuid4().hex[:8]}", body, expect=None)


def list_looks(ledger: Ledger) -> list[LookAtLetters]:
    """All of them, the oldest first."""
    return [
        LookAtLetters(
            by=record.body["by"],
            collection=record.body["collection"],
            letters=tuple(record.body["letters"]),
            at_ms=int(record.body["at"]),
        )
        for record in ledger.list(LOOKS)
    ]
