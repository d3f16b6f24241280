"""Dead letters of documents that a load can store: under a mapping that holds them now, or after they were mended."""

from __future__ import annotations

from collections.abc import Container, Sequence

from docferry.core.mapping.raw import id_text
from docferry.errors import ConditionFailed
from docferry.flows.ledger.dead_letters import close_letter, letter_key, list_letters
from docferry.ports.flows import Ledger


class OpenLetters:
    """The letters of a collection that were open when a load of it, or of a chunk of it, began."""

    def __init__(self, ledger: Ledger, collection: str) -> None:
        self._ledger = ledger
        self._letters = {letter.key: letter for letter in list_letters(ledger, collection)}

    def __len__(self) -> int:
        return len(self._letters)

    def close(self, raw: Sequence[bytes], dead: Container[int], version: int) -> None:
        """Close those of the documents, all but the `dead` ones by position, that are stored as of `version` or newer now: only
        of an earlier version, and only if the letter is the one that was looked at. Raises StoreError."""
        if not self._letters:
            return
        for position, data in enumerate(raw):
            letter = self._letters.get(letter_key(id_text(data)))
            if letter is None or position in dead or letter.version >= version:
                continue
            del self._letters[letter.key]
            try:
                close_letter(self._ledger, letter)
            except ConditionFailed:
                continue  # another letter took its place, and was opened later
