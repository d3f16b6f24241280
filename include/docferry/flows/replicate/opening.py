"""When replication may begin, and from where."""

from __future__ import annotations

import time
from collections.abc import Iterator

from docferry.config import Migration
from docferry.errors import InvariantBroken, PreflightFailed, Problem
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.leases import Lease
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.flows.ledger.mapping_fingerprint import changed_mappings, renew_fingerprints
from docferry.flows.ledger.positions import recorded_position, replication_in, replication_opened
from docferry.flows.ledger.rooms.owners import TABLES, claim_tables
from docferry.ports.flows import Ledger, StreamPosition

LOOK_S = 0.5


def open_for_following(
    ledger: Ledger, migration: Migration, lease: Lease, tables: TABLES | None = None
) -> StreamPosition:
    """The position to go on from. From here on nothing may be loaded without conditions. `tables`: as in `claim_tables`.

    Raises PreflightFailed if a collection is not loaded, requests of its load may still be carried out, or a table is another
    migration's.
    """
    _require_loaded(ledger, migration)
    claim_tables(migration, ledger, tables)
    if not replication_in(lease.record).opened:
        lease.update(replication_opened())
        _require_loaded(ledger, migration)  # no load without conditions has begun in between
    renew_fingerprints(migration, ledger)
    position = replication_in(lease.record).position or recorded_position(ledger)
    if position is None:
        raise InvariantBroken("everything is loaded, but no stream position is recorded")
    return position


def _require_loaded(ledger: Ledger, migration: Migration) -> None:
    problems = [problem for one in migration.collections if (problem := _not_loaded(ledger, one.name)) is not None]
    problems += [
        Problem(where=f"collections.{name}", what=f"its load is not over: {what}", suggestion="wait, then replicate")
        for name, what in late_writes(ledger, migration)
    ]
    problems += changed_mappings(migration, ledger)
    if problems:
        raise PreflightFailed("replication", problems)


def _not_loaded(ledger: Ledger, collection: str) -> Problem | None:
    header = LoadHeaders(ledger).read(collection)
    where = f"collections.{collection}"
    if header is None or header.first_load_open:
        return Problem(
            where=where,
            what="is not loaded yet; replication begins when every first load has ended",
            suggestion=f"docferry backfill --only {collection}",
        )
    return None


def late_writes(ledger: Ledger, migration: Migration) -> Iterator[tuple[str, str]]:
    """The collections of whose load requests may still be carried out, each with what is waited for."""
    for one in migration.collections:
        header = LoadHeaders(ledger).read(one.name)
        if header is not None and (what := header.late.text(migration.backfill.late_writes_s)):
            yield one.name, what


def wait_for_late_writes(job: Job, for_s: float | None = None) -> None:
    """Return when no request of a load can come late any more, or after `for_s`: opening then refuses. Raises Stopped.

    Why: a bulk write has no condition. One that was sent, never answered, and is carried out after replication has written
    there would put the older document over the newer one, for good.
    """
    until = None if for_s is None else time.monotonic() + for_s
    said: list[str] = []
    while (lines := [f"{name}: {what}" for name, what in late_writes(job.ledger, job.migration)]) and (
        until is None or time.monotonic() < until
    ):
        if lines != said:
            job.progress.say("replication begins when the load is over: " + "; ".join(lines))
        said = lines
        job.check()
        time.sleep(LOOK_S)
