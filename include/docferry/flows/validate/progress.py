"""How far a full validation has got, kept in the ledger under a lease, so that a killed one goes on and two do not mix.

The record holds the place and the counts up to it; the suspects found on the way lie in parts beside it, written first, so
that a place that is there has all of its suspects.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.compare.keysum import KeySum
from docferry.core.mapping.items import Item
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.dead_letters import fits_record
from docferry.flows.ledger.leases import Lease, give_back_after, take_or_create
from docferry.flows.ledger.reports import CollectionResult, decode_result
from docferry.flows.ledger.rooms.validation import (
    RUNNING,
    VALIDATION,
    ValidationProgress,
    drop_suspects,
    progress_in,
    read_suspects,
    validation_begun,
    validation_checkpoint,
    validation_done,
    write_suspects,
)
from docferry.flows.ledger.times import decode_time, encode_time, now_ms
from docferry.flows.validate.suspects import Suspects, decode_suspects, encode_suspects

CHECKPOINT_S = 2.0
RESUME_WITHIN_S = 86_400.0
"""A validation that was ended longer ago is not continued: what it had compared is too old to mean much."""


@dataclass(slots=True)
class Scan:
    """A scan of a table under way: whether it sums keys or looks up owners, and the segments not yet at their end."""

    table: str
    owners: bool
    total: int
    starts: dict[int, Item | None] = field(repr=False)
    sums: KeySum = field(default_factory=KeySum)


@dataclass(slots=True)
class SoFar:
    """The first generation up to now. `since` is the earliest snapshot that was read."""

    started_ms: int
    results: dict[str, CollectionResult]
    complete: list[str] = field(default_factory=list)
    after: bytes | None = field(default=None, repr=False)
    expected: dict[str, KeySum] = field(default_factory=dict)
    since: Timestamp | None = None
    scanned: list[str] = field(default_factory=list)
    scan: Scan | None = None

    def see(self, at: Timestamp) -> None:
        """Something was read at this snapshot."""
        self.since = at if self.since is None else min(self.since, at)


class Keeper:
    """The lease on the progress record, and what has been written of it."""

    def __init__(self, job: Job, lease: Lease, run: str, parts: int) -> None:
        self.job, self.lease, self.run, self.parts = job, lease, run, parts
        self._saved = time.monotonic()

    async def save(self, so_far: SoFar, suspects: Suspects) -> None:
        """A checkpoint, if it is time for one."""
        if time.monotonic() - self._saved < CHECKPOINT_S:
            return
        self.lease.check()
        self._took(await in_thread(self._write, so_far, suspects, stop=self.job.stop), suspects)

    def _took(self, written: tuple[int, int], suspects: Suspects) -> None:
        self.parts, stored = written
        del suspects.fresh[:stored]
        self._saved = time.monotonic()

    def _write(self, so_far: SoFar, suspects: Suspects, release: bool = False) -> tuple[int, int]:
        """(parts now, suspects stored). Changes nothing here: the caller may be gone when it is done."""
        if not fits_record(so_far.after):  # an id too long for a record: the place before it stays
            if release:
                self.lease.release()
            return self.parts, 0
        fresh = list(suspects.fresh)
        parts = self.parts
        for data in encode_suspects(fresh):
            write_suspects(self.job.ledger, self.run, parts, data)
            parts += 1
        changes = validation_checkpoint(encode_so_far(so_far), parts, suspects.overflow + suspects.too_long)
        (self.lease.release if release else self.lease.update)(changes)
        return parts, len(fresh)

    async def give_back(self, error: BaseException, so_far: SoFar, suspects: Suspects) -> None:
        """Let another process, or a re-run, go on at once from where we are."""
        await give_back_after(self.lease, error, lambda: self._write(so_far, suspects, True), self.job.stop)

    async def finish(self) -> None:
        """The report is recorded: the next validation begins anew."""
        await in_thread(self._finish, stop=self.job.stop)

    def _finish(self) -> None:
        self.lease.release(validation_done())
        drop_suspects(self.job.ledger)


async def open_keeper(job: Job, anew: SoFar) -> tuple[Keeper, SoFar, Suspects]:
    """Take the lease, and go on where a validation was killed, or begin. Raises LeaseHeld, naming the holder."""
    return await in_thread(_open, job, anew, stop=job.stop)


def _open(job: Job, anew: SoFar) -> tuple[Keeper, SoFar, Suspects]:
    lease = take_or_create(job.ledger, *VALIDATION, job.identity, job.migration.backfill.lease_s)
    try:
        found = progress_in(lease.record)
        if _can_go_on(job, found):
            job.progress.say("going on with a validation that was not finished")
            suspects = _load_suspects(job, found)
            return Keeper(job, lease, found.run, found.parts), decode_so_far(found.so_far), suspects
        run = uuid.uuid4().hex
        lease.update(validation_begun(run, job.migration.digest, encode_so_far(anew)))
        drop_suspects(job.ledger)
        return Keeper(job, lease, run, 0), anew, Suspects()
    except BaseException:
        lease.abandon()
        raise


def _can_go_on(job: Job, found: ValidationProgress) -> bool:
    """It was not finished, is of the same migration file, and not too old."""
    age_s = (now_ms() - found.touched_ms) / 1000
    return found.state == RUNNING and found.digest == job.migration.digest and age_s < RESUME_WITHIN_S


def _load_suspects(job: Job, found: ValidationProgress) -> Suspects:
    suspects = Suspects()
    for index in range(found.parts):
        for one in decode_suspects(read_suspects(job.ledger, found.run, index)):
            suspects.add(one)
    suspects.fresh.clear()
    suspects.overflow = found.overflow
    return suspects


# --- as bytes --------------------------------------------------------------------------------------------------------


def encode_so_far(so_far: SoFar) -> bytes:
    """JSON, for one attribute of a ledger record."""
    scan = so_far.scan
    tree = {
        "started_ms": so_far.started_ms,
        "results": [one.to_dict() for one in so_far.results.values()],
        "complete": so_far.complete,
        "after": base64.b64encode(so_far.after).decode() if so_far.after is not None else None,
        "expected": {table: _encode_sum(one) for table, one in so_far.expected.items()},
        "since": encode_time(so_far.since) if so_far.since else None,
        "scanned": so_far.scanned,
        "scan": scan
        and {
            "table": scan.table, "owners": scan.owners, "total": scan.total,
            "starts": list(scan.starts.items()), "sums": _encode_sum(scan.sums),
        },
    }  # fmt: skip
    return json.dumps(tree).encode()


def decode_so_far(data: bytes) -> SoFar:
    """The inverse of `encode_so_far`."""
    tree = json.loads(data)
    scan = tree["scan"]
    return SoFar(
        started_ms=tree["started_ms"],
        results={one["collection"]: decode_result(one) for one in tree["results"]},
        complete=tree["complete"],
        after=base64.b64decode(tree["after"]) if tree["after"] is not None else None,
        expected={table: _decode_sum(one) for table, one in tree["expected"].items()},
        since=decode_time(tree["since"]) if tree["since"] else None,
        scanned=tree["scanned"],
        scan=scan
        and Scan(scan["table"], scan["owners"], scan["total"], dict(scan["starts"]), _decode_sum(scan["sums"])),
    )


def _encode_sum(sums: KeySum) -> list[Any]:
    return [sums.count, format(sums.total, "x")]


def _decode_sum(pair: Sequence[Any]) -> KeySum:
    return KeySum(pair[0], int(pair[1], 16))
