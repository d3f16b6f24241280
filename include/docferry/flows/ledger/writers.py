"""Who may write items, as the ledger shows it: so that others can tell when no process does any more.

A load holds its chunks, replication its stream. Repair and dead-letter replay read a document and put it later: between the
two they hold a lease in section `writers`, and look at it before each request is signed. One that was frozen meanwhile then
stops, instead of putting what it read an hour ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from docferry.config import Migration
from docferry.core.cutover.permitted import Flow
from docferry.errors import Stopped
from docferry.flows.ledger.leases import held_async, holder_of, take_or_create
from docferry.flows.ledger.load_headers import LoadHeaders, list_chunks
from docferry.flows.ledger.modes import require_permitted
from docferry.ports.flows import Guard, Identity, Ledger, StopSignal

WRITERS = "writers"
LEASE_S = 60.0


@asynccontextmanager
async def writing(
    ledger: Ledger, identity: Identity, what: str, stop: StopSignal, flow: Flow = Flow.REPAIR
) -> AsyncIterator[Guard]:
    """Hold the lease `what` while the block reads and writes documents; the guard raises once it is lost.

    Raises: LeaseHeld if another process is at it; PreflightFailed unless the mode permits `flow`; Stopped.
    """
    if stop.is_set():
        raise Stopped(f"asked to stop before the {what} began; nothing was changed")
    lease = await asyncio.to_thread(take_or_create, ledger, WRITERS, what, identity, LEASE_S)
    async with held_async(lease, stop):
        await asyncio.to_thread(require_permitted, ledger, flow, f"the {what}")
        yield lease.check


def open_loads(ledger: Ledger, migration: Migration, identity: Identity) -> list[str]:
    """Loads that are under way or can be continued, in words; with them the holders of chunks."""
    found: list[str] = []
    headers = LoadHeaders(ledger)
    for name in migration.mappings:
        header = headers.read(name)
        if header is not None and not header.complete:
            holder = header.holder.owner or "no process"
            found.append(f"{name} is {header.state} ({header.mode}), held by {holder}")
        for chunk in list_chunks(ledger, name):
            if not chunk.holder.expired(identity):
                found.append(f"chunk {chunk.key} of {name} is held by {chunk.holder.owner}")
    return found


def unfinished_loads(ledger: Ledger, migration: Migration) -> list[str]:
    """Collections that are not loaded to their end, in words: a quick look."""
    headers = {name: LoadHeaders(ledger).read(name) for name in migration.mappings}
    return [
        f"{name} is {header.state if header else 'not loaded'}"
        for name, header in headers.items()
        if header is None or not header.complete
    ]


def open_writers(ledger: Ledger, identity: Identity) -> list[str]:
    """Repairs and replays under way, in words."""
    holders = {one.key: holder_of(one) for one in ledger.list(WRITERS)}
    return [f"{key} is held by {one.owner}" for key, one in holders.items() if not one.expired(identity)]
