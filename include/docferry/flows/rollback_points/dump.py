"""docferry's own dump: mongodump's files, every collection at one cluster time, in constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from bson.timestamp import Timestamp

from docferry.core.mapping.raw import id_of
from docferry.core.rollback_points.dump_files import (
    MAX_FILE_NAME,
    CollectionSpec,
    data_name,
    encode_metadata,
    file_stem,
    metadata_name,
)
from docferry.core.rollback_points.points import DUMP_BYTES, PointCollection
from docferry.errors import PointFailed, Problem, TimedOut
from docferry.flows.kernel.retry import retrying
from docferry.ports.flows import Bounds, Progress, StopSignal
from docferry.ports.rollback_points import Database, PointFiles

PAGE = 1_000
EVERYTHING = Bounds(lower=None, upper=None)
PATIENCE_S = 60.0
_TOO_OLD, _UNAVAILABLE = "239", "246"
_INSTEAD = "use method: mongodump, or snapshot"
Guard = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dumped:
    """What was written: every collection as it was at `time`."""

    time: Timestamp
    collections: tuple[PointCollection, ...]


class Sum:
    """Counts and hashes what passes."""

    def __init__(self) -> None:
        self.bytes = self.documents = 0
        self._hash = hashlib.sha256()

    def add(self, chunk: bytes, documents: int = 0) -> None:
        self._hash.update(chunk)
        self.bytes += len(chunk)
        self.documents += documents

    def passing(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks, added."""
        for chunk in chunks:
            self.add(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def require_dumpable(database: Database, name: str) -> list[Problem]:
    """What docferry's own dump does not do, by name."""
    return _refusals(name, database.specs())


def _refusals(name: str, specs: Iterable[CollectionSpec]) -> list[Problem]:
    found = []
    specs = list(specs)
    size = sum(spec.bytes for spec in specs)
    if not specs:
        found.append(Problem(where=name, what="holds nothing", suggestion="is source.database the right one?"))
    if size > DUMP_BYTES:
        what = f"holds {size:,} bytes: docferry's own dump is for {DUMP_BYTES:,} at most"
        found.append(Problem(where=name, what=what, suggestion=_INSTEAD))
    for spec in specs:
        where = f"{name}.{spec.name}"
        if spec.kind not in ("collection", "view"):
            found.append(Problem(where=where, what=f"is a {spec.kind} collection", suggestion=_INSTEAD))
        if spec.is_capped:
            what = "is capped: MongoDB shows no snapshot of it"
            found.append(Problem(where=where, what=what, suggestion=_INSTEAD))
        if len(file_stem(spec.name)) > MAX_FILE_NAME:
            found.append(Problem(where=where, what="has a name too long for a file", suggestion=_INSTEAD))
    return found


def dump_collections(
    database: Database,
    files: PointFiles,
    name: str,
    point: str,
    progress: Progress,
    stop: StopSignal,
    guard: Guard,
) -> Dumped:
    """Write every collection of the database `name`. Raises PointFailed, StoreError, and what `guard` raises."""
    specs, at = _settled(database, point)
    if problems := _refusals(name, specs):
        raise PointFailed(point, "; ".join(map(str, problems)))
    written = []
    for spec in specs:
        found = Sum()
        if spec.kind == "collection":
            pages = _told(
                read_pages(spec.name, _snapshot(database, spec.name, at, point), stop, guard), spec, found, progress
            )
            files.write(point, data_name(name, spec.name), pages)
        metadata = encode_metadata(spec)
        files.write(point, metadata_name(name, spec.name), [metadata])
        written.append(_collection(spec, found, metadata))
    if _identities(database.specs()) != _identities(specs):
        raise PointFailed(point, "collections were made, dropped or renamed while it was written; run again")
    files.finish(point)
    return Dumped(time=at, collections=tuple(written))


def _collection(spec: CollectionSpec, found: Sum, metadata: bytes) -> PointCollection:
    return PointCollection(
        name=spec.name,
        kind=spec.kind,
        documents=found.documents,
        bytes=found.bytes,
        sha256=found.sha256 if spec.kind == "collection" else "",
        metadata=hashlib.sha256(metadata).hexdigest(),
    )


def _settled(database: Database, point: str) -> tuple[list[CollectionSpec], Timestamp]:
    """The collections, and a time at which there were exactly these."""
    for _ in range(5):
        before, at = database.specs(), database.cluster_time()
        after = database.specs()
        if _identities(before) == _identities(after):
            return after, at
    raise PointFailed(point, "collections are made or dropped all the time; run again when that has ended")


def _identities(specs: Iterable[CollectionSpec]) -> list[tuple[str, str, str]]:
    return [(spec.name, spec.kind, spec.uuid) for spec in specs]


def _told(pages: Iterator[list[bytes]], spec: CollectionSpec, found: Sum, progress: Progress) -> Iterator[bytes]:
    for page in pages:
        chunk = b"".join(page)
        found.add(chunk, len(page))
        progress.advance(f"dump {spec.name}", found.documents, max(spec.documents, found.documents))
        yield chunk


Read = Callable[[bytes | None], list[bytes]]
"""A page of a collection: what comes after this id."""


def read_pages(what: str, read: Read, stop: StopSignal, guard: Guard) -> Iterator[list[bytes]]:
    """All pages, in the order of the ids. A page that is not answered is asked for again."""
    after: bytes | None = None
    while True:
        guard()
        page = retrying(f"read {what}", partial(read, after), stop, PATIENCE_S)
        if not page:
            return
        yield page
        after = id_of(page[-1])


def current_pages(database: Database, collection: str, stop: StopSignal, guard: Guard) -> Iterator[list[bytes]]:
    """All documents of a collection that is not written to, each page as it is now: however long it takes."""

    def read(after: bytes | None) -> list[bytes]:
        return database.read_page(collection, EVERYTHING, after, PAGE, database.cluster_time())

    return read_pages(collection, read, stop, guard)


def _snapshot(database: Database, collection: str, at: Timestamp, point: str) -> Read:
    """Reads a collection as it was at `at`; raises PointFailed once MongoDB cannot show that time any more."""

    def read(after: bytes | None) -> list[bytes]:
        try:
            return database.read_page(collection, EVERYTHING, after, PAGE, at)
        except TimedOut as error:
            code = error.code.partition(" ")[0]
            if code == _TOO_OLD:
                why = "MongoDB keeps a snapshot for five minutes (minSnapshotHistoryWindowInSeconds), and reading took longer"
                raise PointFailed(point, f"{why}: {_INSTEAD}") from error
            if code == _UNAVAILABLE:
                why = f"{collection} was made anew, or an index of it, while it was read; run again"
                raise PointFailed(point, why) from error
            raise

    return read
