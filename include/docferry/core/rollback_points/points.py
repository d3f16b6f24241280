"""Rollback points: what is remembered of one, what things are called, and what restoring one would lose. Pure.

A point is MongoDB's database at one cluster time (`dump`), or over a span of time (`mongodump`), or the name of what
made elsewhere (`snapshot`), and a DynamoDB backup of each table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bson.timestamp import Timestamp

from docferry.errors import Problem

POINTS = "points"
"""The ledger's section of points, a record each."""
RESTORES = "restores"
"""The ledger's section of what was restored, a record for each database that something was restored into."""
DUMP_BYTES = 1_000_000_000
"""docferry's own dump is for less: a snapshot of MongoDB lives five minutes, and one process reads."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,48}")
_DATABASE = re.compile(r"""[^/\\. "$*<>:|?@\x00]{1,63}""")
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_NOT_OURS = ("admin", "local", "config")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointCollection:
    """A collection in a point. `bytes` and `sha256` are of its documents one after the other, as the .bson file has them
    (an archive mixes them with others: no sha256 there), `metadata` is the sha256 of the .metadata.json file."""

    name: str
    kind: str
    documents: int
    bytes: int
    sha256: str = ""
    metadata: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A whole rollback point. `time` is the cluster time that a `dump` shows; of the others it is the time when they were
    recorded or begun. `to` is what the file said then, `where` what became of it. `archive` is (bytes, sha256) of mongodump's
    file; `said` what was verified of an external snapshot; `backups`: table -> ARN; `mode` who led when it was made. Times
    are in ms since 1970; `checked_ms` 0: never since."""

    name: str
    method: str
    where: str
    to: str
    database: str
    mode: str
    by: str
    made_ms: int
    time: Timestamp
    collections: tuple[PointCollection, ...] = ()
    archive: tuple[int, str] | None = None
    backups: Mapping[str, str] = field(default_factory=dict)
    said: str = ""
    checked_ms: int = 0
    sound: bool = True

    @property
    def documents(self) -> int:
        return sum(one.documents for one in self.collections)

    @property
    def bytes(self) -> int:
        return self.archive[0] if self.archive else sum(one.bytes for one in self.collections)

    def to_body(self) -> dict[str, Any]:
        """For the ledger, and for JSON."""
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return body | {
            "time": time_text(self.time),
            "collections": [{name: getattr(one, name) for name in _FIELDS} for one in self.collections],
            "archive": list(self.archive or ()),
            "backups": dict(self.backups),
        }


_FIELDS = tuple(PointCollection.__dataclass_fields__)


def point_of(body: Mapping[str, Any]) -> Point:
    """The inverse of `to_body`; what else is in the body is left alone."""
    known = {name: body[name] for name in Point.__dataclass_fields__}
    archive = body["archive"]
    return Point(
        **known
        | {
            "time": parse_time(body["time"]),
            "collections": tuple(PointCollection(**one) for one in body["collections"]),
            "archive": (int(archive[0]), str(archive[1])) if archive else None,
            "backups": dict(body["backups"]),
        }
    )


# --- names and times -------------------------------------------------------------------------------------------------


def time_text(time: Timestamp) -> str:
    """A cluster time as `seconds:increment`."""
    return f"{time.time}:{time.inc}"


def parse_time(text: str) -> Timestamp:
    """The inverse of `time_text`."""
    seconds, _, increment = text.partition(":")
    return Timestamp(int(seconds), int(increment))


def date_text(seconds: float) -> str:
    """A time for people."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def name_at(seconds: float) -> str:
    """What a point made at this time is called if no name is given."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%SZ}"


def name_problems(name: str) -> list[Problem]:
    """What is wrong with a point's name: it becomes part of paths, databases and tables."""
    if _NAME.fullmatch(name):
        return []
    return [
        Problem(where=name or "name", what="is no name of a point", suggestion="letters, digits, _ and -, at most 48")
    ]


def database_beside(database: str, point: str) -> str:
    """Where a point is restored if no place is given."""
    return f"{database}_restored_{point}"


def table_beside(table: str, point: str) -> str:
    """The table that a backup is restored to."""
    return f"{table}_restored_{point}"


def backup_name(migration: str, point: str) -> str:
    """What a DynamoDB backup of a point is called."""
    return f"docferry.{migration}.{point}"


def beside_problems(database: str, live: str, tables: Mapping[str, str]) -> list[Problem]:
    """What is wrong with the names of what is to be restored; `tables`: table -> the one beside it."""
    found = []
    if database in (live, *_NOT_OURS):
        found.append(Problem(where=database, what="is not beside the live data", suggestion="name another with --into"))
    elif not _DATABASE.fullmatch(database) or len(database.encode()) > 63:
        found.append(Problem(where=database, what="is no database name", suggestion="name a shorter one with --into"))
    found += [
        Problem(
            where=beside, what="is no table name", suggestion="it is longer than 255: use a point with a shorter name"
        )
        for beside in tables.values()
        if not _TABLE.fullmatch(beside)
    ]
    return found


# --- what would be lost ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What making a live collection as the point has it would do, in documents: those made since are `lost`, those changed
    since `undone`, those deleted since `returned`. `digest` is of all these documents: equally many others have another one."""

    name: str
    now: int
    lost: int
    undone: int
    returned: int
    digest: str = ""

    @property
    def any(self) -> bool:
        return bool(self.lost or self.undone or self.returned)


def loss_sentence(point: Point, live: str, mode: str, losses: tuple[Loss, ...]) -> str:
    """What must be typed before a point is restored over live data: it says what is lost, so it changes when that does."""
    now, lost, undone, returned = (sum(getattr(one, name) for one in losses) for name in _COUNTS)
    these = hashlib.sha256("".join(one.digest for one in losses).encode()).hexdigest()[:8]
    return (
        f"restore {point.name} over {live} in {mode}: of {now} documents {lost} are lost and {undone} go back to "
        f"{date_text(point.time.time)}; {returned} deleted since then come back ({these})"
    )


_COUNTS = ("now", "lost", "undone", "returned")
