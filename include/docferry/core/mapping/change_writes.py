"""What one change of a document does to its items. Pure.

The items that an update did not touch stay as they are; the root is written at every change, last, with the digest of all
children. Items that the document no longer has become tombstones with the change's version. A document that cannot be
stored has no items any more: whatever its old and its new keys name is buried, and readers find it in MongoDB.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from docferry.core.mapping.items import Item, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import decode_document, encode_raw
from docferry.core.mapping.tombstones import tombstone
from docferry.errors import DocumentError


@dataclass(frozen=True, slots=True)
class Writes:
    """Items to be put where nothing newer is stored: `first` in any order, then `root`. `error`: a dead letter, first of all."""

    first: Sequence[Item]
    root: Item | None
    error: DocumentError | None = None


def writes_of(
    mapping: DocumentMapping,
    after: bytes | None,
    before: bytes | None,
    version: int,
    ttl_attribute: str,
    touched: Collection[str] | None = None,
) -> Writes:
    """The writes of one change.

    `after` is the whole document behind the change, None if it is gone; `before` the key fields in front of it, None if
    there was no document. `touched` are the paths that an update names; None means that all items are written.
    """
    old = _stubs(mapping, before)
    if after is None:
        graves = [tombstone(stub, version, ttl_attribute) for stub in old]
        return Writes(graves[1:], graves[0] if graves else None)
    try:
        root, *children = encode_raw(mapping, after, version)
    except DocumentError as error:
        return burial_of(mapping, after, before, version, ttl_attribute, error)
    kept = {key_of(child) for child in children} | {key_of(root)}
    had = {key_of(stub) for stub in old}
    graves = [tombstone(stub, version, ttl_attribute) for stub in old if key_of(stub) not in kept]
    if touched is not None:
        children = [child for child in children if key_of(child) not in had or _is_touched(mapping, child, touched)]
    return Writes([*graves, *children], root)


def writes_as_read(
    mapping: DocumentMapping,
    after: bytes | None,
    before: bytes | None,
    version: int,
    read_version: int,
    ttl_attribute: str,
    error: DocumentError | None = None,
) -> Writes:
    """The writes of a change that came without its images: `after` is what the document was later, at `read_version`.

    The keys in front of it are buried with the change's own `version`: since then they may have become another's. With an
    `error` all of it is buried.
    """
    if error is None:
        found = writes_of(mapping, after, None, read_version, ttl_attribute)
    else:
        found = burial_of(mapping, after, None, read_version, ttl_attribute, error)
    kept = {key_of(item) for item in (found.root, *found.first) if item is not None}
    old = _stubs(mapping, before)
    graves = [tombstone(stub, version, ttl_attribute) for stub in old if key_of(stub) not in kept]
    return replace(found, first=[*graves, *found.first])


def burial_of(
    mapping: DocumentMapping,
    after: bytes | None,
    before: bytes | None,
    version: int,
    ttl_attribute: str,
    error: DocumentError,
) -> Writes:
    """Tombstones for all that can be named of a document that cannot be stored."""
    found = {key_of(stub): stub for document in (before, after) for stub in _stubs(mapping, document)}
    return Writes([tombstone(stub, version, ttl_attribute) for stub in found.values()], None, error)


def _stubs(mapping: DocumentMapping, document: bytes | None) -> list[Item]:
    """What a document's items are called; none where it cannot even be read: then it has a dead letter, and no items."""
    if document is None:
        return []
    try:
        return mapping.stubs(decode_document(document))
    except DocumentError:
        return []


def _is_touched(mapping: DocumentMapping, child: Item, touched: Collection[str]) -> bool:
    """Whether an update may have changed a child: one of its paths lies on the way to the child's array, or behind it.

    Paths are compared as text, so a dot in a field's name is taken for a step, too: that only writes too much.
    """
    place = ".".join(mapping.children[child["entityType"]["S"]].path)
    return any(f"{path}.".startswith(f"{place}.") or f"{place}.".startswith(f"{path}.") for path in touched)
