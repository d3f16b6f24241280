"""Rollback points by mongodump: one archive of the database. It is no snapshot: each collection is of a time of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from docferry.core.rollback_points.dump_files import FileBroken, read_archive
from docferry.core.rollback_points.points import PointCollection
from docferry.errors import PointFailed
from docferry.flows.rollback_points.dump import Sum
from docferry.ports.rollback_points import MongoTools, PointFiles

ARCHIVE = "archive"
"""The file's name."""


def dump_archive(
    tools: MongoTools, files: PointFiles, database: str, point: str, guard: Callable[[], None]
) -> tuple[tuple[PointCollection, ...], tuple[int, str]]:
    """Have mongodump write its archive; (what is in it, its bytes and sha256). Raises PointFailed, StoreError."""
    found = Sum()

    def guarded() -> Iterator[bytes]:
        for chunk in tools.dump(database):
            guard()
            yield chunk

    files.write(point, ARCHIVE, found.passing(guarded()))
    files.finish(point)
    try:
        counts = read_archive(files.read(point, ARCHIVE))
    except FileBroken as error:
        raise PointFailed(point, f"mongodump's archive cannot be read: {error}") from error
    collections = tuple(
        PointCollection(name=name, kind=count.kind, documents=count.documents, bytes=count.bytes)
        for name, count in sorted(counts.items())
    )
    return collections, (found.bytes, found.sha256)
