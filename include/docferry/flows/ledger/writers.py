"""Who may write items, as the ledger shows it: so that others can tell when nobody does any more.

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
from docferry.flows.backfill.load import BULK
from docferry.flows.ledger.leases import held_async, lease_expired, take_or_create
from docferry.flows.ledger.modes import require_permitted
from docferry.ports.flows import Guard, Identity, Ledger, StopSignal

WRITERS = "writers"
LEASE_S = 60.0


@asynccontextmanager
async def writing(ledger: Ledger, identity: Identity, what: str, stop: StopSignal) -> AsyncIterator[Guard]:
    """Hold the lease `what` while the block reads and writes documents; the guard raises once it is lost.

    Raises: LeaseHeld if somebody else is at it; PreflightFailed unless MongoDB leads; Stopped.
    """
    if stop.is_set():
        raise Stopped(f"asked to stop before the {what} began; nothing was changed")
    lease = await asyncio.to_thread(take_or_create, ledger, WRITERS, what, identity, LEASE_S)
    async with held_async(lease, stop):
        await asyncio.to_thread(require_permitted, ledger, Flow.REPAIR, f"the {what}")
        yield lease.check


def open_loads(ledger: Ledger, migration: Migration, identity: Identity) -> list[str]:
    """Loads that are under way or can be continued, in words; with them whoever holds a chunk."""
    found: list[str] = []
    for name in migration.mappings:
        header = ledger.read("backfill", name)
        if header is not None and header.body["state"] != "complete":
            holder = header.body.get("owner") or "nobody"
            found.append(f"{name} is {header.body['state']} ({header.body.get('mode', BULK)}), held by {holder}")
        for chunk in ledger.list(f"chunks:{name}"):
            if not lease_expired(chunk.body, identity):
                found.append(f"chunk {chunk.key} of {name} is held by {chunk.body['owner']}")
    return found


def unfinished_loads(ledger: Ledger, migration: Migration) -> list[str]:
    """Collections that are not loaded to their end, in words: a quick look."""
    headers = {name: ledger.read("backfill", name) for name in migration.mappings}
    return [
        f"{name} is {header.body['state'] if header else 'not loaded'}"
        for name, header in headers.items()
        if header is None or header.body["state"] != "complete"
    ]


def open_writers(ledger: Ledger, identity: Identity) -> list[str]:
    """Repairs and replays under way, in words."""
    held = [one for one in ledger.list(WRITERS) if not lease_expired(one.body, identity)]
    return [f"{one.key} is held by {one.body['owner']}" for one in held]
