"""Whether clients other than docferry write to MongoDB, by its change stream. It needs no privilege but that of replication: so
it is what proves a fence that MongoDB itself does not know of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bson.timestamp import Timestamp

from docferry.core.cutover.fence_plan import FenceKind, FencePlan, StrayWrite
from docferry.errors import FenceBroken
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.ledger.times import encode_time
from docferry.ports.flows import OthersFeed, OthersWrite

READ_S = 0.2


def require_quiet(job: Job, since: Timestamp, plan: FencePlan) -> None:
    """Prove that no client but docferry has written to the migration's collections behind `since`.

    Raises: FenceBroken with the first such writes; ResumeTokenLost if the oplog no longer tells; Stopped, RetryExhausted,
            StoreError.
    """

    def ask() -> list[StrayWrite]:
        return writes_behind(job, since) if plan.kind is FenceKind.EXTERNAL else list(job.fence.writes_after(since))

    if strays := retrying("read what was written behind the fence", ask, job.stop):
        raise FenceBroken(encode_time(since), [str(one) for one in strays])


def writes_behind(job: Job, since: Timestamp) -> list[StrayWrite]:
    """What others have written behind `since` and up to now. Raises ResumeTokenLost, StoreError."""
    now = job.source.cluster_time()
    with others_since(job, since) as feed:
        found, at = [], Timestamp(0, 0)
        while at < now:
            batch = feed.read(READ_S)
            found += [stray_of(job, one) for one in batch.writes if one.time > since]
            at = batch.position.time
        batch = feed.read(READ_S)  # those of one time may come in several batches
        return found + [stray_of(job, one) for one in batch.writes if one.time > since]


@contextmanager
def others_since(job: Job, since: Timestamp) -> Iterator[OthersFeed]:
    """What others write from that time on."""
    source = job.source
    feed = source.writes_of_others(source.stream_position(since), list(job.migration.mappings))
    try:
        yield feed
    finally:
        feed.close()


def stray_of(job: Job, write: OthersWrite) -> StrayWrite:
    """Where and when, never what; a change stream does not name who."""
    where = job.migration.namespaces
    namespace = where.shown(write.collection) if write.collection else f"{where}.*"
    return StrayWrite(namespace=namespace, operation=write.operation, at=encode_time(write.time), user="")
