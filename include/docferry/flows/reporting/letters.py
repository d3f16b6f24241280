"""Dead letters for the control room: a list that shows neither documents nor ids, and documents for who may see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bson.json_util import CANONICAL_JSON_OPTIONS, dumps

from docferry.config import Migration
from docferry.core.bson_codec.shown import show_document
from docferry.errors import ConditionFailed, PreflightFailed, Problem
from docferry.flows.ledger.dead_letters import DeadLetter, letter_document, letter_handle, list_letters, note_look
from docferry.flows.ledger.reverse_letters import list_reverse_letters
from docferry.flows.ledger.rooms.strays import list_strays
from docferry.ports.flows import Ledger

MOST_LISTED = 500
"""Of each collection, the newest: the counts are of all."""
MOST_SHOWN_AT_ONCE = 100
"""Documents that one look shows: of at most 16 MB each."""


def masked_letters(migration: Migration, ledger: Ledger) -> dict[str, Any]:
    """Plain values for JSON: every kind of letter, by handles. One query for each collection, and two. Raises StoreError."""
    found = {name: list_letters(ledger, name) for name in migration.mappings}
    newest = [one for letters in found.values() for one in sorted(letters, key=lambda one: -one.at_ms)[:MOST_LISTED]]
    return {
        "counts": {name: len(letters) for name, letters in found.items()},
        "letters": [one.masked() for one in newest],
        "back": [
            {
                "letter": letter_handle(one.collection, one.record.key),
                "collection": one.collection,
                "reason": one.reason,
                "path": one.path,
                "at_ms": one.at_ms,
            }
            for one in list_reverse_letters(ledger)[:MOST_LISTED]
        ],
        "strays": [
            {"key": one.key, "collection": one.collection, "operation": one.operation, "reached": one.old.label}
            | {"at_ms": one.at_ms}
            for one in list_strays(ledger)[:MOST_LISTED]
        ],
    }


def shown_letters(
    migration: Migration, ledger: Ledger, collection: str, handles: Sequence[str], by: str
) -> list[dict[str, Any]]:
    """Letters with their documents, as canonical Extended JSON. That `by` has looked is noted before anything is read.

    Raises: PreflightFailed for handles that name no open letter of the collection, or too many; StoreError.
    """
    if collection not in migration.mappings or not 0 < len(handles) <= MOST_SHOWN_AT_ONCE:
        what = f"name a collection of the file, and 1 to {MOST_SHOWN_AT_ONCE} letters"
        raise PreflightFailed("looking at dead letters", [Problem(where="letters", what=what)])
    open_ = {one.handle: one for one in list_letters(ledger, collection)}
    if missing := [one for one in handles if one not in open_]:
        raise PreflightFailed("looking at dead letters", [_gone(one[:32]) for one in missing[:5]])
    note_look(ledger, by, collection, tuple(handles))
    return [_shown(ledger, open_[one]) for one in handles]


def _gone(handle: str) -> Problem:
    return Problem(where=handle, what="is no open dead letter of the collection", suggestion="list them once more")


def _shown(ledger: Ledger, letter: DeadLetter) -> dict[str, Any]:
    try:
        shown = show_document(letter_document(ledger, letter))
    except ConditionFailed as changed:
        raise PreflightFailed("looking at dead letters", [_gone(letter.handle)]) from changed
    document = dumps(shown.document, json_options=CANONICAL_JSON_OPTIONS, indent=2)
    return letter.masked() | {"id": letter.id, "message": letter.message, "document": document}
