"""Dead letters of the way back: documents of which MongoDB does not hold what DynamoDB does.

They are kept apart from those of the way there: these name where in DynamoDB to look again, and replaying one of those
writes to DynamoDB. A letter is closed by the process that finds that the document can be followed again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from docferry.core.mapping.items import ItemKey
from docferry.errors import ConditionFailed, DocumentError
from docferry.flows.ledger.dead_letters import bounded, fits_record, letter_id, letter_key
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record

SECTION = "reverse-dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseLetter:
    """One document, or (with an empty `id_data`) one item of no document, that could not be followed.

    A document with an id that is too long for a record is looked at again by its item.
    """

    collection: str
    id: str
    reason: str
    path: str
    message: str
    table: str
    key: ItemKey = field(repr=False)
    id_data: bytes = field(repr=False)
    at_ms: int
    record: Record = field(repr=False, compare=False)

    @property
    def lane(self) -> tuple[str, str]:
        """Collection and id of the document, the id as a record holds it."""
        return self.collection, self.id

    def to_dict(self) -> dict[str, Any]:
        names = ("collection", "id", "reason", "path", "message", "table", "at_ms")
        return {name: getattr(self, name) for name in names}


def item_name(key: ItemKey) -> str:
    """What an item of no document is called."""
    return "~item#" + hashlib.sha256(repr(key).encode()).hexdigest()[:16]


def list_reverse_letters(ledger: Ledger) -> list[ReverseLetter]:
    """The open dead letters of the way back. Raises StoreError."""
    return [letter_in(record) for record in ledger.list(SECTION)]


def letter_in(record: Record) -> ReverseLetter:
    """What a ledger record holds."""
    body = record.body
    return ReverseLetter(
        collection=body["collection"],
        id=letter_id(body["id"]),
        reason=body["reason"],
        path=body["path"],
        message=body["message"],
        table=body["table"],
        key=(body["pk"], body["sk"]),
        id_data=body["id_data"],
        at_ms=int(body["at"]),
        record=record,
    )


def open_reverse_letter(
    ledger: Ledger, table: str, key: ItemKey, id_data: bytes, error: DocumentError
) -> ReverseLetter:
    """Record it, in the place of an earlier one of the same document. Raises StoreError."""
    name = f"{error.namespace}#{letter_key(error.id)}"
    body = {
        "collection": error.namespace,
        "id": letter_id(error.id),
        "reason": error.reason,
        "path": bounded(error.path),
        "message": bounded(str(error)),
        "table": table,
        "pk": key[0],
        "sk": key[1],
        "id_data": id_data if fits_record(id_data) else b"",
        "at": now_ms(),
    }
    while True:
        try:
            return letter_in(ledger.write(SECTION, name, body, expect=ledger.read(SECTION, name)))
        except ConditionFailed:
            continue  # another process, just now: only one follows, so this ends


def close_reverse_letter(ledger: Ledger, letter: ReverseLetter) -> None:
    """Remove a letter that has been dealt with. Raises ConditionFailed if it has changed meanwhile."""
    ledger.delete(letter.record)
