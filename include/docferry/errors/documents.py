"""One document that cannot be stored, there or back: it becomes a dead letter."""

from __future__ import annotations

import traceback
from pathlib import Path

from docferry.errors.base import MigrationError


class DocumentError(MigrationError):
    """One document cannot be stored. It becomes a dead letter; the rest goes on."""

    def __init__(self, message: str, *, namespace: str = "", id: str = "", path: str = "") -> None:
        super().__init__(message)
        self.namespace, self.id, self.path = namespace, id, path

    @property
    def reason(self) -> str:
        return type(self).__name__


class UnsupportedType(DocumentError):
    """A value that is no BSON value, or a deprecated BSON type that drivers cannot tell apart."""


class UnmappedField(DocumentError):
    """A field that the mapping does not name, where `unmapped: refuse` is set."""


class TooDeep(DocumentError):
    """Nested past what DynamoDB stores."""


class ItemTooLarge(DocumentError):
    """An item over 400 KB."""


class KeyNotRepresentable(DocumentError):
    """A field of the table key is missing, null, empty or of a kind that no key can hold."""


class KeyTooLong(DocumentError):
    """A partition key over 2,048 bytes or a sort key over 1,024."""


class KeyCollision(DocumentError):
    """Two items would own one key."""


class ImagesLost(DocumentError):
    """A change too large to come with its images: what the document's items were called before is not known."""


class RefusedByStore(DocumentError):
    """DynamoDB refused this one item, though the request was well formed."""


class TransformFailed(DocumentError):
    """The collection's own transform raised, or does not give this document back as it is."""


class OutsideFilter(DocumentError):
    """A document that the collection's filter leaves out: it stays MongoDB's alone, and is counted by itself."""


class FilterUndecided(DocumentError):
    """An array in a field of the collection's filter: the document is neither in nor out."""


class FilterCrossed(DocumentError):
    """A change has carried a document over the border of the collection's filter, whose fields were not to change."""


class Unforeseen(DocumentError):
    """A bug of ours that this one document, or this one change of it, brings out at each attempt."""

    @classmethod
    def of(cls, error: Exception, attempts: int, more: str = "") -> Unforeseen:
        """Of an error whose own message may quote the document: its kind and its place alone are told."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        return cls(
            f"{type(error).__name__}{place}, {attempts} times in a row: a bug of docferry; please report it{more}"
        )


class DuplicateKey(DocumentError):
    """A unique index of MongoDB holds the same for another document. `holder` is its id as BSON, None if it is not known."""

    holder: bytes | None = None


class TornDocument(DocumentError):
    """The items of a document do not fit together, at every look: the root's digest is not that of its children."""


class ItemsUnreadable(DocumentError):
    """Items that make no document, or one that would have another key than they have."""
