"""The end of a load: the chunks of a collection are added up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from docferry.core.settings import BackfillSettings
from docferry.errors import (
    ConditionFailed,
    InvariantBroken,
    TooManyDeadLetters,
)
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.load_headers import (
    COMPLETE,
    Counts,
    LoadHeader,
    LoadHeaders,
    late_of,
    list_chunks,
)
from docferry.flows.ledger.times import now_ms

NOTHING = Counts()
SMALL_SHARE = 0.2
"""25 dead letters are few among thousands of documents, and half of a collection of fifty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionReport:
    """How a collection's load ended. `seconds` is from the first claim to the end.

    `waits`: what may still be carried out, and until when; replication begins after that. '' if there is nothing.
    """

    collection: str
    counts: Counts
    chunks: int
    seconds: float
    already_complete: bool = False
    waits: str = ""

    @property
    def rate(self) -> float:
        """Documents a second, over all attempts."""
        return self.counts.read / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        counts = self.counts.to_dict()
        return {
            "collection": self.collection,
            **counts,
            "chunks": self.chunks,
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
            "already_complete": self.already_complete,
            "waits": self.waits,
        }


def finish(job: Job, collection: str, *, refused: Counts = NOTHING) -> CollectionReport:
    """Add up a collection's chunks and mark it complete. `refused`: what became of documents behind their chunks.

    Raises: InvariantBroken if a sum is wrong or a chunk is not done; TooManyDeadLetters past the allowed share.
    """
    headers = LoadHeaders(job.ledger)
    header = headers.read(collection)
    if header is None:
        raise InvariantBroken(f"{collection} was never prepared")
    if header.complete:
        return _report_of(job, header, already=True)
    chunks = list_chunks(job.ledger, collection)
    undone = [chunk.key for chunk in chunks if not chunk.done]
    if undone or len(chunks) != header.chunks:
        raise InvariantBroken(f"{collection}: chunks {undone} of {header.chunks} are not done")
    total = sum((chunk.counts for chunk in chunks), refused)
    total.check(collection)
    settings = job.migration.backfill
    documents = total.migrated
    if total.dead > allowed_dead(settings, documents):
        release_run(job, collection)
        raise TooManyDeadLetters(collection, total.dead, documents, allowed_dead(settings, documents) / documents)
    finished = replace(
        header,
        state=COMPLETE,
        finished_ms=now_ms(),
        holder=replace(header.holder, owner=""),
        taken_over=any(chunk.taken_over for chunk in chunks),
        late=late_of(header, chunks),
        counts=total,
    )
    try:
        return _report_of(job, headers.write(finished), already=False)
    except ConditionFailed:
        return finish(job, collection, refused=refused)  # another task of this run wrote the header: look again


def allowed_dead(settings: BackfillSettings, read: int) -> float:
    """How many of so many documents may be dead letters: the file's share, or its number, which is SMALL_SHARE at most."""
    return max(settings.dead_letter_share * read, min(settings.dead_letter_count, SMALL_SHARE * read))


def _report_of(job: Job, header: LoadHeader, already: bool) -> CollectionReport:
    return CollectionReport(
        collection=header.collection,
        counts=header.counts,
        chunks=header.chunks,
        seconds=header.seconds,
        already_complete=already,
        waits=header.late.text(job.migration.backfill.late_writes_s),
    )


def release_run(job: Job, collection: str) -> None:
    """Give up this run's claim, so that the next run need not wait for it to expire."""
    headers = LoadHeaders(job.ledger)
    header = headers.read(collection)
    if header is not None and header.run == job.run.name and not header.complete:
        try:
            headers.write(replace(header, holder=replace(header.holder, owner="")))
        except ConditionFailed:
            return  # another process has claimed it already
