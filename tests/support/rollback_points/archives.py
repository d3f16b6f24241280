"""Archives as mongodump writes them, made here: there is no mongodump among what the tests can have.

Source: github.com/mongodb/mongo-tools, common/archive/spec.md, read 2026-11-27.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import bson
from bson import Int64

MAGIC, END = b"\x6d\xe2\x99\x81", b"\xff\xff\xff\xff"
SEGMENT = 7


def archive(database: str, content: Mapping[str, Sequence[bytes]], metadata: Mapping[str, str] | None = None) -> bytes:
    """Collections in segments that take turns, as of several threads."""
    header = {"concurrent_collections": 4, "version": "0.1", "server_version": "6.0.5", "tool_version": "100.9.0"}
    told = [
        {
            "db": database,
            "collection": name,
            "metadata": (metadata or {}).get(name, "{}"),
            "size": 0,
            "type": "collection",
        }
        for name in content
    ]
    parts = [MAGIC, *map(bson.encode, (header, *told)), END]
    segments = {name: list(_segments(documents)) for name, documents in content.items()}
    while any(segments.values()):
        for name, left in segments.items():
            if left:
                parts += [_header(database, name, end=False), *left.pop(0), END]
    for name in content:
        parts += [_header(database, name, end=True), END]
    return b"".join(parts)


def _segments(documents: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (documents[at : at + SEGMENT] for at in range(0, len(documents), SEGMENT))


def _header(database: str, name: str, *, end: bool) -> bytes:
    return bson.encode({"db": database, "collection": name, "EOF": end, "CRC": Int64(0)})


def read(data: bytes) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    """(collection -> metadata, collection -> documents): simply, and all in memory."""
    blocks: list[list[bytes]] = [[]]
    at = 4
    while at < len(data):
        if data[at : at + 4] == END:
            blocks.append([])
            at += 4
        else:
            size = int.from_bytes(data[at : at + 4], "little")
            blocks[-1].append(data[at : at + size])
            at += size
    metadata = {one["collection"]: one["metadata"] for one in map(bson.decode, blocks[0][1:])}
    documents: dict[str, list[bytes]] = {name: [] for name in metadata}
    for block in blocks[1:]:
        if block:
            documents[bson.decode(block[0])["collection"]] += block[1:]
    return metadata, documents
