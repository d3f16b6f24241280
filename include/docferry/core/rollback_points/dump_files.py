"""mongodump's files: `<collection>.bson`, `<collection>.metadata.json`, and the archive that holds both. Pure.

Source: github.com/mongodb/mongo-tools, mongodump/metadata_dump.go, common/util/file.go and common/archive/spec.md, read
        2026-11-27.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps, loads

from docferry.core.bson_codec.bson_bytes import int32_at, value_end

MAX_FILE_NAME = 238
"""mongodump shortens longer names; docferry leaves such collections to it."""
MAX_DOCUMENT = 16 * 1024 * 1024 + 16 * 1024
"""MongoDB stores 16 MB; a little more may be in a file."""
_MAGIC = (0x8199E26D).to_bytes(4, "little")
_END = b"\xff\xff\xff\xff"
# What MongoDB holds may be no UTF-8: whether a document is whole does not depend on it.
_LENIENT: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)


class FileBroken(ValueError):
    """A file is not what it should be; the message says where, and quotes nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSpec:
    """A collection as MongoDB describes it. `kind` is collection, view or timeseries; `uuid` in hex, empty for a view;
    `options` and `indexes` as listCollections and listIndexes give them."""

    name: str
    kind: str
    uuid: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    indexes: tuple[Mapping[str, Any], ...] = ()
    documents: int = 0
    bytes: int = 0

    @property
    def is_capped(self) -> bool:
        return bool(self.options.get("capped"))


# --- names and metadata ----------------------------------------------------------------------------------------------


def file_stem(collection: str) -> str:
    """A collection's name as mongodump writes it in file names: as Go's url.PathEscape does. `a/b` -> `a%2Fb`."""
    return quote(collection, safe="$&+=:@")


def data_name(database: str, collection: str) -> str:
    """Where a collection's documents are, below the point's place."""
    return f"{database}/{file_stem(collection)}.bson"


def metadata_name(database: str, collection: str) -> str:
    """Where its options and indexes are."""
    return f"{database}/{file_stem(collection)}.metadata.json"


def encode_metadata(spec: CollectionSpec) -> bytes:
    """The .metadata.json of a collection: canonical Extended JSON."""
    body = {
        "options": spec.options,
        "indexes": list(spec.indexes),
        "uuid": spec.uuid,
        "collectionName": spec.name,
        "type": spec.kind,
    }
    return dumps(body, json_options=CANONICAL_JSON_OPTIONS).encode()


def decode_metadata(data: bytes) -> CollectionSpec:
    """The inverse of `encode_metadata`; reads mongodump's, too. Raises FileBroken."""
    try:
        body = loads(data.decode(), json_options=CANONICAL_JSON_OPTIONS)
        options = body.get("options") or {}
        kind = str(body.get("type") or ("view" if "viewOn" in options else "collection"))
        indexes = tuple(body["indexes"])
        return CollectionSpec(
            name=body["collectionName"], kind=kind, uuid=body.get("uuid", ""), options=options, indexes=indexes
        )
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileBroken(f"is no metadata of a collection ({type(error).__name__})") from error


# --- documents -------------------------------------------------------------------------------------------------------


class _Reader:
    """Bytes in pieces, asked for by length."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._have, self._at = iter(chunks), b"", 0
        self.passed = 0

    def take(self, size: int) -> bytes:
        """The next bytes: `size` of them, or fewer at the end."""
        while len(self._have) - self._at < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._have, self._at = self._have[self._at :] + chunk, 0
        found = self._have[self._at : self._at + size]
        self._at += len(found)
        self.passed += len(found)
        return found

    def document(self, head: bytes) -> bytes:
        """The document of which `head` are the first four bytes. Raises FileBroken."""
        at = self.passed - len(head)
        size = int32_at(head, 0) if len(head) == 4 else 0
        if not 5 <= size <= MAX_DOCUMENT:
            raise FileBroken(f"there is no document at byte {at}")
        found = head + self.take(size - 4)
        if len(found) < size or found[-1]:
            raise FileBroken(f"the document at byte {at} is cut off")
        return found


def split_documents(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The documents of a .bson file, one by one, in memory one at a time. Raises FileBroken."""
    reader = _Reader(chunks)
    while head := reader.take(4):
        yield reader.document(head)


def require_decodable(document: bytes) -> None:
    """Raises FileBroken for what is no BSON document."""
    try:
        bson.decode(document, _LENIENT)
    except (BSONError, ValueError, OverflowError) as error:
        raise FileBroken(f"a document of {len(document)} bytes does not decode ({type(error).__name__})") from error


def has_empty_timestamp(document: bytes) -> bool:
    """Whether a top-level field is Timestamp(0, 0), which MongoDB replaces by the time when it inserts a document."""
    if b"\0" * 8 not in document:
        return False
    at = 4
    while kind := document[at]:
        end = document.index(b"\x00", at + 1)
        stop = value_end(kind, document, end + 1)
        if kind == 0x11 and not any(document[end + 1 : stop]) and document[at + 1 : end] != b"_id":
            return True
        at = stop
    return False


# --- mongodump's archive ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ArchiveCount:
    """What an archive holds of one collection. `ended`: mongodump has written its end."""

    kind: str = "collection"
    documents: int = 0
    bytes: int = 0
    ended: bool = False


def read_archive(chunks: Iterable[bytes]) -> dict[str, ArchiveCount]:
    """What is in an archive, every document decoded, in memory one at a time; by collection. Raises FileBroken."""
    reader = _Reader(chunks)
    if reader.take(4) != _MAGIC:
        raise FileBroken("is no archive of mongodump")
    prelude = list(_block(reader))
    if not prelude:
        raise FileBroken("its header is missing")
    found = {}
    for one in map(_decoded, prelude[1:]):
        found[str(one["collection"])] = ArchiveCount(kind=str(one.get("type") or "collection"))
    while header := reader.take(4):
        _count_segment(reader, _decoded(reader.document(header)), found)
    missing = [name for name, count in found.items() if count.kind != "view" and not count.ended]
    if missing:
        raise FileBroken(f"it ends before {', '.join(missing[:5])} does")
    return found


def _count_segment(reader: _Reader, header: Mapping[str, Any], found: dict[str, ArchiveCount]) -> None:
    name = str(header.get("collection", ""))
    if name.startswith("system.buckets."):
        name = name.removeprefix("system.buckets.")
    if name not in found:
        raise FileBroken(f"a segment at byte {reader.passed} belongs to no collection")
    count = found[name]
    for document in _block(reader):
        require_decodable(document)
        count.documents += 1
        count.bytes += len(document)
    count.ended = count.ended or bool(header.get("EOF"))


def _block(reader: _Reader) -> Iterator[bytes]:
    """Documents up to the terminator."""
    while (head := reader.take(4)) != _END:
        if not head:
            raise FileBroken(f"it is cut off at byte {reader.passed}")
        yield reader.document(head)


def _decoded(document: bytes) -> dict[str, Any]:
    require_decodable(document)
    return bson.decode(document, _LENIENT)
