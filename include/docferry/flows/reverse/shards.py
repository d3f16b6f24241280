"""How far each shard of a table's stream has been read and applied, and which one may be read next.

A shard is read only after its parent is finished: read to its end, and all of it applied. Finished shards are kept until
the stream does not list them any more: by them a child that shows up late is told from an ancestor.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from docferry.errors import StreamTrimmed
from docferry.ports.flows import Shard, StreamRecord

SKEW_MS = 5 * 60_000
"""How far our clock may be before AWS's, and a record's time before the write it tells of."""


class ShardOutcome(IntEnum):
    """What became of a record; of one that names two documents, the greater of what became of each."""

    IGNORED = 0
    """It names no document of the migration, or a tombstone that TTL removed, or comes from before the start."""
    SAME = 1
    """MongoDB held already what DynamoDB holds now."""
    REMOVED = 2
    APPLIED = 3
    DEAD = 4


@dataclass(slots=True, eq=False)
class Pending:
    """A record on its way: `left` of its documents are still to be looked at."""

    sequence: str
    created_ms: int
    left: int = 0
    outcome: ShardOutcome = ShardOutcome.IGNORED


@dataclass(slots=True, eq=False)
class ShardPosition:
    """One shard: applied behind `after`, read behind `read` (None: nothing yet); `ended`: read to its end.

    `asked_ms` is when it was asked for the answer that was empty last, 0 while its last answer was not. `latest` is an iterator
    that begins shortly before the start, while it is good; without one a shard is read from its beginning.
    """

    id: str
    parent: str | None
    after: str | None = None
    finished: bool = False
    latest: str = ""
    read: str | None = None
    read_ms: int = 0
    asked_ms: int = 0
    ended: bool = False
    window: deque[Pending] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.read = self.after

    def take(self, record: StreamRecord) -> Pending:
        """Note a record that was read."""
        pending = Pending(record.sequence, record.created_ms)
        self.window.append(pending)
        self.read, self.read_ms, self.asked_ms = record.sequence, record.created_ms, 0
        return pending

    def advance(self) -> Iterator[Pending]:
        """Move the position behind all that is applied; gives what it has passed."""
        while self.window and not self.window[0].left:
            self.after = self.window[0].sequence
            yield self.window.popleft()
        self.finished = self.finished or (self.ended and not self.window)

    def forget(self) -> None:
        """Whatever is not applied is to be read again."""
        self.window.clear()
        self.read, self.ended, self.asked_ms = self.after, False, 0


@dataclass(slots=True, eq=False)
class TableStream:
    """A table's stream, followed from `since_ms` on (ms since 1970): what was written before is in MongoDB already."""

    table: str
    arn: str
    since_ms: int
    shards: dict[str, ShardPosition] = field(default_factory=dict)

    def learn(self, listed: Sequence[Shard]) -> None:
        """Take note of new shards, and forget finished ones that are not listed any more.

        Raises: StreamTrimmed if a shard is gone that was not read to its end.
        """
        there = {shard.id for shard in listed}
        for known in [one for one in self.shards.values() if one.id not in there]:
            if not known.finished:
                raise StreamTrimmed(
                    f"{self.table}: the stream no longer has shard {known.id}, which was not read to its end",
                    operation="DescribeStream",
                )
            del self.shards[known.id]
        new = [shard for shard in listed if shard.id not in self.shards]
        self.shards |= {shard.id: ShardPosition(shard.id, shard.parent) for shard in new}

    def lacks_children(self) -> bool:
        """Whether a finished shard has none that are known. One that was closed has some, if the stream is still on."""
        return any(True for _ in self._childless())

    def _childless(self) -> Iterator[ShardPosition]:
        parents = {one.parent for one in self.shards.values()}
        return (one for one in self.shards.values() if one.finished and one.id not in parents)

    def readable(self) -> list[ShardPosition]:
        """Those that may be read now: not ended, and the parent finished or unknown."""
        return [one for one in self.shards.values() if not one.ended and not one.finished and self._may_begin(one)]

    def _may_begin(self, shard: ShardPosition) -> bool:
        parent = self.shards.get(shard.parent or "")
        return parent is None or parent.finished

    def is_early(self, record: StreamRecord) -> bool:
        """Written before the start, for sure."""
        return record.created_ms < self.since_ms - SKEW_MS

    def reached_ms(self, now_ms: int) -> int:
        """Up to when everything is applied. A shard that waits for its parent is as far as the parent; one that is finished holds
        back until its children are known."""
        reached = [self._shard_reached_ms(one) for one in self.shards.values() if not one.finished]
        reached += [max(self.since_ms, one.read_ms) for one in self._childless()]
        return min([now_ms, *(one for one in reached if one is not None)])

    def _shard_reached_ms(self, shard: ShardPosition) -> int | None:
        if shard.window:
            return shard.window[0].created_ms
        if not self._may_begin(shard):
            return None  # its parent holds it back
        return max(self.since_ms, shard.read_ms, shard.asked_ms)

    def has_caught_up(self, asked_ms: int) -> bool:
        """Whether all that was read is applied, and every open shard has answered since that there is nothing more."""
        answered = all(one.finished or (not one.window and one.asked_ms >= asked_ms) for one in self.shards.values())
        return answered and not self.lacks_children()

    def forget_unapplied(self) -> None:
        """Read again whatever is not applied."""
        for shard in self.shards.values():
            shard.forget()


def begin(
    table: str, arn: str, listed: Sequence[Shard], now_ms: int, latest: Mapping[str, str] | None = None
) -> TableStream:
    """A start from here: closed shards are behind it, open ones are read from `latest`, an iterator by shard, or, if there is
    none, from their beginning, and what is too early passed."""
    shards = {
        shard.id: ShardPosition(shard.id, shard.parent, finished=shard.closed, latest=(latest or {}).get(shard.id, ""))
        for shard in listed
    }
    return TableStream(table, arn, now_ms, shards)


def encode_stream(stream: TableStream) -> dict[str, Any]:
    """For the ledger. Packed: a large table has thousands of shards."""
    rows = [
        [one.id, one.parent, one.after, one.finished, one.latest if one.after is None else ""]
        for one in stream.shards.values()
    ]
    packed = zlib.compress(json.dumps(rows).encode())
    return {"arn": stream.arn, "since": stream.since_ms, "shards": packed}


def decode_stream(table: str, body: Mapping[str, Any]) -> TableStream:
    """The inverse of `encode_stream`."""
    rows = json.loads(zlib.decompress(body["shards"]))
    shards = {row[0]: ShardPosition(*row) for row in rows}
    return TableStream(table, body["arn"], int(body["since"]), shards)
