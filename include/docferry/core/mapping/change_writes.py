"""What one change of a document does to its items. Pure.

The items that an update did not touch stay as they are; the root is written at every change, last, with the digest of all
children. Items that the document no longer has become tombstones with the change's version. A document that cannot be
stored has no items any more: whatever its old and its new keys name is buried, and readers find it in MongoDB. So is one that
a change carries out of the collection's filter. One that it carries in is stored; but the filter's fields were not to change:
either way there is a dead letter, and a person looks.

Guards are items of their document, too: those of values that a change gives up become tombstones, those that it gains are put.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from docferry.core.mapping.items import Document, Item, ItemKey, is_guard, key_of, tombstone
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import decode_document, encode_decoded
from docferry.errors import DocumentError, FilterCrossed, OutsideFilter


@dataclass(frozen=True, slots=True)
class Writes:
    """Items to be put where nothing newer is stored: `first` in any order, then `root`. `error`: a dead letter, first of all.
    `outside`: there is nothing to do, for the filter leaves the document out. `finding`: a dead letter of what is stored all the
    same."""

    first: Sequence[Item]
    root: Item | None
    error: DocumentError | None = None
    outside: bool = False
    finding: DocumentError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedChange:
    """One change of a document, whose images are decoded once.

    `raw` and `document` are the whole document behind the change (None: it is gone, or, with `unreadable`, is no valid BSON);
    `old` is what its items in front of the change are called, `was_outside` whether it was outside the collection's filter, and
    so had none (None: there was no document, or that is not known). `version` is the change's, `read_version` that of
    `document`: a later one if the change came without its images, and the document was read afterwards.
    """

    mapping: DocumentMapping
    version: int
    read_version: int
    raw: bytes | None = field(repr=False)
    document: Document | None = field(repr=False)
    unreadable: DocumentError | None
    old: Sequence[Item] = field(repr=False)
    was_outside: bool | None = None

    @classmethod
    def of(
        cls,
        mapping: DocumentMapping,
        after: bytes | None,
        before: bytes | None,
        version: int,
        read_version: int | None = None,
    ) -> DecodedChange:
        """`before` are the key fields in front of the change, None if there was no document or they are not known."""
        document, unreadable = _decoded(after)
        past, _ = _decoded(before)
        was_outside = None if past is None else _is_outside(mapping, past)
        return cls(
            mapping=mapping,
            version=version,
            read_version=version if read_version is None else read_version,
            raw=after,
            document=document,
            unreadable=unreadable,
            old=() if was_outside else _stubs(mapping, past),
            was_outside=was_outside,
        )

    @property
    def outside(self) -> bool:
        """Whether the filter leaves the document out, before the change and behind it."""
        if self.raw is None:
            return self.was_outside is True
        return self.was_outside is not False and self.document is not None and _is_outside(self.mapping, self.document)

    def writes(self, ttl_attribute: str, touched: Collection[str] | None = None) -> Writes:
        """`touched` are the paths that an update names; None means that all items are written. A document whose state in front
        of the change is not known is taken for one that was where it is now.

        The keys in front of the change are buried with its own version: later they may have become another's.
        """
        if self.outside:
            return Writes((), None, outside=True)
        if self.raw is None:
            graves = list(self._graves((), ttl_attribute))
            return Writes(graves[1:], graves[0] if graves else None)
        try:
            root, *children = self._items(self.raw)
        except OutsideFilter as error:
            return self.burial(ttl_attribute, self._crossed("has left", error.path))
        except DocumentError as error:
            return self.burial(ttl_attribute, error)
        kept = {key_of(child) for child in children} | {key_of(root)}
        graves = list(self._graves(kept, ttl_attribute))
        if touched is not None and self.mapping.transform is None:  # which may make any item of any field
            had = {key_of(stub) for stub in self.old}
            children = [one for one in children if key_of(one) not in had or self._is_touched(one, touched)]
        return Writes([*graves, *children], root, finding=self._has_come_in())

    def _has_come_in(self) -> FilterCrossed | None:
        part = self.mapping.filter
        return self._crossed("has come into", ", ".join(part.fields)) if self.was_outside and part is not None else None

    def burial(self, ttl_attribute: str, error: DocumentError) -> Writes:
        """Tombstones for all that can be named of a document that cannot be stored."""
        new = {key_of(stub): stub for stub in _stubs(self.mapping, self.document)}
        graves = [tombstone(stub, self.read_version, ttl_attribute) for stub in new.values()]
        return Writes([*self._graves(new, ttl_attribute), *graves], None, error)

    def keys(self) -> Iterator[ItemKey]:
        """Where the document's items were, and are."""
        return (key_of(stub) for stub in (*self.old, *_stubs(self.mapping, self.document)))

    def _items(self, raw: bytes) -> list[Item]:
        if self.document is None:
            assert self.unreadable is not None
            raise self.unreadable
        return encode_decoded(self.mapping, raw, self.document, self.read_version)

    @staticmethod
    def _crossed(how: str, path: str) -> FilterCrossed:
        what = (
            f"by a change of {path} the document {how} what the collection's filter names, whose fields must not change"
        )
        return FilterCrossed(f"{what}; a replay takes it as it is now", path=path)

    def _is_touched(self, item: Item, touched: Collection[str]) -> bool:
        """A guard that was there before says the same still."""
        return not is_guard(item) and _is_touched(self.mapping, item, touched)

    def _graves(self, kept: Collection[ItemKey], ttl_attribute: str) -> Iterator[Item]:
        return (tombstone(stub, self.version, ttl_attribute) for stub in self.old if key_of(stub) not in kept)


def _is_outside(mapping: DocumentMapping, document: Document) -> bool:
    """What cannot be told is not: its dead letter names it."""
    try:
        return mapping.filter is not None and not mapping.filter.holds(document)
    except DocumentError:
        return False


def _decoded(image: bytes | None) -> tuple[Document | None, DocumentError | None]:
    if image is None:
        return None, None
    try:
        return decode_document(image), None
    except DocumentError as error:
        return None, error


def _stubs(mapping: DocumentMapping, document: Document | None) -> list[Item]:
    """What a document's items are called; none where it cannot be told: then it has a dead letter, and no items."""
    if document is None:
        return []
    stubs: list[Item] = []
    with suppress(DocumentError):
        stubs += mapping.stubs(document)
        stubs += mapping.guard_items(document) if stubs else []
    return stubs


def _is_touched(mapping: DocumentMapping, child: Item, touched: Collection[str]) -> bool:
    """Whether an update may have changed a child: one of its paths lies on the way to the child's array, or behind it.

    Paths are compared as text, so a dot in a field's name is taken for a step, too: that only writes too much.
    """
    place = ".".join(mapping.children[child["entityType"]["S"]].path)
    return any(f"{path}.".startswith(f"{place}.") or f"{place}.".startswith(f"{path}.") for path in touched)
