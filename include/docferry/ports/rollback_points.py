"""What rollback points ask of the outside world: where files lie, MongoDB as whole databases, and what others make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from bson.timestamp import Timestamp

from docferry.core.rollback_points.dump_files import CollectionSpec
from docferry.ports.flows import Bounds


class PointFiles(Protocol):
    """Where the files of points lie: a directory, or S3. A point's files have names with `/`. Raises StoreError."""

    def place(self, point: str) -> str:
        """Where the files of a finished point are, for people and tools."""

    def write(self, point: str, name: str, chunks: Iterable[bytes]) -> None:
        """A file, whole or not at all, and safe from a crash of this machine when this returns. In constant memory."""

    def finish(self, point: str) -> None:
        """All files of a point have been written. Before this, a directory's name says that it is no point yet; in S3
        only the ledger does."""

    def size(self, point: str, name: str) -> int | None:
        """A file's size in bytes; None if it is not there."""

    def read(self, point: str, name: str) -> Iterator[bytes]:
        """A file in pieces."""

    def holds(self, point: str) -> bool:
        """Whether there is anything of a point, finished or not."""

    def remove(self, point: str) -> None:
        """Remove whatever there is of a point, finished or not. Idempotent."""


class Database(Protocol):
    """One database of MongoDB, to be dumped, restored into, compared. Raises StoreError; writes are acknowledged by a
    majority; documents and ids are as `ports.flows.Source` has them."""

    def specs(self) -> list[CollectionSpec]:
        """Every collection, view and time series, by name; MongoDB's own (`system.`) left out."""

    def cluster_time(self) -> Timestamp: ...

    def read_page(self, collection: str, bounds: Bounds, after: bytes | None, limit: int, at: Timestamp) -> list[bytes]:
        """See `ports.flows.Source`. Raises TimedOut, with MongoDB's code in `code`, where it does not show that time."""

    def create(self, spec: CollectionSpec) -> None:
        """Make the collection or view with its options; without its indexes."""

    def insert(self, collection: str, documents: Sequence[bytes]) -> None:
        """Insert documents byte for byte, whatever a validator says. Raises RequestRefused if one of them is there."""

    def delete(self, collection: str, ids: Sequence[bytes]) -> None:
        """Delete the documents of these ids, those that are there."""

    def index(self, spec: CollectionSpec) -> None:
        """Build the indexes of a collection, as far as they are missing."""

    def drop(self) -> None:
        """Drop the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupState:
    """A DynamoDB backup. `status` is AWS's own: CREATING, AVAILABLE, DELETED."""

    arn: str
    status: str
    table: str
    bytes: int


class Backups(Protocol):
    """DynamoDB's own backups. Raises StoreError."""

    def create(self, table: str, name: str) -> str:
        """Begin a backup; its ARN."""

    def fetch(self, arn: str) -> BackupState | None:
        """What AWS says of a backup; None if there is none."""

    def find(self, table: str, name: str) -> list[str]:
        """The ARNs of a table's backups of this name."""

    def delete(self, arn: str) -> None:
        """Delete a backup, if it is there."""

    def restore(self, arn: str, table: str) -> None:
        """Begin to restore a backup into a table that must not exist. Raises Unavailable if it does."""

    def table_status(self, table: str) -> str | None:
        """CREATING, ACTIVE, ...; None if there is no such table."""


class Snapshots(Protocol):
    """Snapshots that were made elsewhere. Raises StoreError."""

    def look(self, name: str) -> str | None:
        """What could be verified of a snapshot, in words that claim no more; None if it is not there, or not whole."""


class MongoTools(Protocol):
    """mongodump and mongorestore. The address goes to them in a file that no other user can read, never in their arguments."""

    def missing(self, program: str) -> bool:
        """Whether a program is not on the PATH."""

    def dump(self, database: str) -> Iterator[bytes]:
        """mongodump's archive of a database, in pieces. Raises RequestRefused at the end if it did not succeed."""

    def restore(self, archive: Iterable[bytes], database: str, into: str) -> None:
        """Have mongorestore read an archive of `database` into another database. Raises RequestRefused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointPorts:
    """All that rollback points reach. `database` opens one of MongoDB's databases by name, `files` what `rollback_points.to`
    names: a point's own files stay where that was said when it was made."""

    database: Callable[[str], AbstractContextManager[Database]]
    files: Callable[[str], PointFiles]
    backups: Backups
    snapshots: Snapshots
    tools: MongoTools
