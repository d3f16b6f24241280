"""What a flow consumes is kept in the ledger while it runs, and at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from docferry.config.price_book import load_price_book
from docferry.errors import StoreError
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.budget import limit_reads
from docferry.flows.ledger.rooms.spent import SpentBook
from docferry.ports.flows import SpentUnits, Target
from docferry.ports.tracing import span

T = TypeVar("T")
LIMITED = frozenset({"validate", "repair", "replay", "purge", "reverse"})
"""Flows whose reads keep to the common rate. A change of leader does not: the application's writes wait for it."""
KEEP_S, LAST_S = 30.0, 5.0
"""Between two entries; and how long the last one may take."""


async def counted(job: Job, target: Target, flow: str, run: Coroutine[Any, Any, T]) -> T:
    """Run a flow to its end, and keep in the ledger what its requests consume.

    The books never decide what becomes of a flow: what cannot be kept at its end is said, and `docferry cost --actual` lacks it.
    """
    if flow in LIMITED:
        limit_reads(job, target)
    book, before = SpentBook(job.ledger, flow, target.spent), replace(target.spent)
    keeping = asyncio.create_task(_keep(book))
    try:
        with span(flow):
            return await run
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        _say(job, flow, target.spent - before)
        try:
            await in_thread(book.keep, within_s=LAST_S)
        except StoreError as error:
            job.progress.say(f"the capacity that this {flow} consumed could not be noted in the ledger: {error}")


def _say(job: Job, flow: str, spent: SpentUnits) -> None:
    """At list prices: whose books are others, they have `docferry cost --actual`."""
    if spent == SpentUnits():
        return
    book = load_price_book()
    usd = (spent.read_units * book.read_request_million + spent.write_units * book.write_request_million) / 1e6
    job.progress.say(
        f"{flow} consumed {spent.read_units:,.0f} read and {spent.write_units:,.0f} write units: {usd:,.4f} USD on demand "
        f"({book.title})"
    )


async def _keep(book: SpentBook) -> None:
    """What cannot be kept now is kept the next time."""
    while True:
        await asyncio.sleep(KEEP_S)
        with suppress(StoreError):
            await asyncio.to_thread(book.keep)
