"""Loading chunks: each is leased, loaded, and given back with what was acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from docferry.errors import (
    LeaseHeld,
    Stopped,
    StoreError,
)
from docferry.flows.backfill.chunk_loader import ChunkLoader
from docferry.flows.backfill.chunks import prepare
from docferry.flows.backfill.finish import CollectionReport, finish, release_run
from docferry.flows.kernel.collector import raised_gc_threshold
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.budget import LedgerBudget, budget_of
from docferry.flows.ledger.leases import HURRIED_S, Lease, take_or_create
from docferry.flows.ledger.load_headers import (
    BULK,
    Counts,
    LoadHeaders,
    chunk_section,
    read_chunk,
)
from docferry.ports.flows import (
    Target,
)
from docferry.ports.tracing import span


async def load_range(job: Job, target: Target, collection: str, chunks: Sequence[str]) -> Counts:
    """Load these chunks; those that another process holds or has finished are passed over.

    Raises: Stopped (checkpointed), LeaseLost, LeaseHeld if a chunk is still held when all others are done, RetryExhausted,
            TooManyDeadLetters, StoreError. Whatever it raises, a later run continues.
    """
    with raised_gc_threshold(), span("backfill", subject=collection):
        return await _load_chunks(job, target, collection, chunks)


async def _load_chunks(job: Job, target: Target, collection: str, chunks: Sequence[str]) -> Counts:
    done = Counts()
    held: LeaseHeld | None = None
    header = LoadHeaders(job.ledger).read(collection)
    rate = budget_of(job.migration)
    if header is not None and header.most_wcu:
        rate = min(rate, header.most_wcu)  # of the common record it takes as much time as a faster load would
    budget = LedgerBudget(job.ledger, "wcu", rate, job.stop)
    mode = header.mode if header is not None else BULK
    for key in chunks:
        if job.stop.is_set():
            raise Stopped(f"{collection}: asked to stop; run again to continue")
        if read_chunk(job.ledger, collection, key).done:
            continue
        try:
            lease = await _lease_chunk(job, collection, key)
        except LeaseHeld as error:
            held = error
            continue
        with span("chunk", subject=collection):
            done += await ChunkLoader(job, target, collection, lease, budget, mode).run()
    if held is not None:
        raise held
    return done


async def _lease_chunk(job: Job, collection: str, key: str) -> Lease:
    """Lease a chunk; if its holder may be dead, wait for the lease to run out rather than fail the task."""
    waited = time.monotonic() + job.migration.backfill.lease_s * 1.5
    while True:
        try:
            lease = await asyncio.to_thread(
                take_or_create,
                job.ledger,
                chunk_section(collection),
                key,
                job.identity,
                job.migration.backfill.lease_s,
            )
        except LeaseHeld:
            if time.monotonic() > waited:
                raise
            if job.stop.is_set():
                raise Stopped("asked to stop while waiting for a chunk's lease") from None
            await asyncio.sleep(0.5)
            continue
        return lease


async def backfill_collection(job: Job, target: Target, collection: str) -> CollectionReport:
    """Prepare, load and finish one collection in this process: what the CLI does."""
    prepared = await asyncio.to_thread(prepare, job, collection)
    if not prepared.complete:
        try:
            for one in prepared.ranges:
                await load_range(job, target, collection, one.chunks)
        except BaseException:
            with suppress(StoreError):  # the claim then runs out by itself
                await in_thread(release_run, job, collection, within_s=HURRIED_S)
            raise
    return await asyncio.to_thread(finish, job, collection)
