"""When replication may begin, and from where."""

from __future__ import annotations

import time

from docferry.config import Migration
from docferry.errors import InvariantBroken, PreflightFailed, Problem
from docferry.flows.ledger.leases import Lease
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.flows.ledger.mapping_fingerprint import changed_mappings, renew_fingerprints
from docferry.flows.ledger.positions import recorded_position, replication_in, replication_opened
from docferry.flows.preflight.thresholds import SIGNATURE_LIVES_S
from docferry.ports.flows import Ledger, StreamPosition


def open_for_following(ledger: Ledger, migration: Migration, lease: Lease) -> StreamPosition:
    """The position to go on from. From here on nothing may be loaded without conditions.

    Raises PreflightFailed if a collection is not loaded, or was loaded by somebody who may still be writing.
    """
    _require_loaded(ledger, migration)
    if not replication_in(lease.record).opened:
        lease.update(replication_opened())
        _require_loaded(ledger, migration)  # nobody has begun a load without conditions in between
    renew_fingerprints(migration, ledger)
    position = replication_in(lease.record).position or recorded_position(ledger)
    if position is None:
        raise InvariantBroken("everything is loaded, but no stream position is recorded")
    return position


def _require_loaded(ledger: Ledger, migration: Migration) -> None:
    problems = [problem for one in migration.collections if (problem := _not_loaded(ledger, one.name)) is not None]
    problems += changed_mappings(migration, ledger)
    if problems:
        raise PreflightFailed("replication", problems)


def _not_loaded(ledger: Ledger, collection: str) -> Problem | None:
    header = LoadHeaders(ledger).read(collection)
    where = f"collections.{collection}"
    if header is None or header.first_load_open:
        return Problem(
            where=where,
            what="is not loaded yet; following begins when every first load is over",
            suggestion=f"docferry backfill --only {collection}",
        )
    if header.taken_over:
        left_s = header.finished_ms / 1000 + SIGNATURE_LIVES_S - time.time()
        if left_s > 0:
            return Problem(
                where=where,
                what="was loaded by several processes of which one vanished: what it has signed may still arrive "
                f"for {left_s:.0f} s",
                suggestion="wait, then replicate, and validate",
            )
    return None
