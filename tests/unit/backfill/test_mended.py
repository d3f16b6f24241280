"""A load closes the letters of the documents that it stores, and no others."""

from __future__ import annotations

import bson
from docferry.core.mapping.raw import id_text
from docferry.errors import ItemTooLarge
from docferry.flows.backfill.mended import OpenLetters
from docferry.flows.ledger.dead_letters import list_letters, open_letter
from docferry.testing.fakes import FakeLedger

DOCUMENTS = [bson.encode({"_id": number}) for number in range(4)]


def letters_of(*versions: int) -> FakeLedger:
    """One for each of the first documents."""
    ledger = FakeLedger()
    for data, version in zip(DOCUMENTS, versions, strict=False):
        open_letter(ledger, "docs", ItemTooLarge("too large", id=id_text(data)), data, version)
    return ledger


def left(ledger: FakeLedger) -> list[str]:
    return sorted(letter.id for letter in list_letters(ledger, "docs"))


def test_letters_of_documents_that_are_stored_are_closed() -> None:
    ledger = letters_of(5, 5)
    OpenLetters(ledger, "docs").close(DOCUMENTS, (), 9)
    assert left(ledger) == []


def test_a_letter_of_a_document_that_still_cannot_be_stored_stays() -> None:
    ledger = letters_of(5, 5)
    OpenLetters(ledger, "docs").close(DOCUMENTS, {1}, 9)
    assert left(ledger) == ["~i1"]


def test_a_letter_of_the_same_or_a_later_version_stays() -> None:
    ledger = letters_of(9, 10, 8)
    OpenLetters(ledger, "docs").close(DOCUMENTS, (), 9)
    assert left(ledger) == ["~i0", "~i1"]


def test_a_letter_that_was_opened_anew_meanwhile_stays() -> None:
    ledger = letters_of(5)
    letters = OpenLetters(ledger, "docs")
    open_letter(ledger, "docs", ItemTooLarge("again", id=id_text(DOCUMENTS[0])), DOCUMENTS[0], 20)
    letters.close(DOCUMENTS, (), 9)
    assert left(ledger) == ["~i0"]
