"""Making ready to load collections anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.cutover.permitted import Flow
from docferry.errors import (
    LeaseHeld,
    PreflightFailed,
    Problem,
)
from docferry.flows.backfill.plan import chosen
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.ledger.leases import take_or_create
from docferry.flows.ledger.load_headers import (
    CONDITIONAL,
    NEW,
    LoadHeader,
    LoadHeaders,
)
from docferry.flows.ledger.mapping_fingerprint import fingerprint_of
from docferry.flows.ledger.modes import require_permitted
from docferry.flows.ledger.positions import (
    REPLICATION,
    read_replication,
    replication_in,
    replication_moved,
)
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.mongodb import check_source, without_images


def begin_again(job: Job, only: Sequence[str] = ()) -> list[str]:
    """Make ready to load collections anew under live traffic, every put conditional; returns their names.

    For when replication has lost its position (then all collections, from a new position), or a collection was dropped,
    renamed or lost its images. What was deleted while the stream could not be followed stays until `repair` buries it; where
    replication still has its position, it goes on from there, and applies what this load has read once more: deletes in
    between would be lost otherwise.

    Raises: LeaseHeld if replication or a load is running, PreflightFailed if the position is lost and not all are named, if a
            collection has no change stream images, and unless MongoDB leads.
    """
    names = _require_again(job, only)
    lease = take_or_create(job.ledger, *REPLICATION, job.identity, job.migration.backfill.lease_s)
    changes: dict[str, Any] = {}
    try:
        lost = replication_in(lease.record).lost
        _require_all_of_a_lost_position(job, names, lost)
        position = retrying("record the stream position", job.source.stream_position, job.stop)
        for name in names:
            _begin_collection_again(job, name, position.time)
        if lost:
            changes = replication_moved(position)
    finally:
        lease.release(changes)
    return names


def plan_again(job: Job, only: Sequence[str] = ()) -> list[str]:
    """The collections that `begin_again` would make ready. Reads only; raises as it."""
    names = _require_again(job, only)
    state = read_replication(job.ledger)
    if not state.holder.expired(job.identity):
        raise LeaseHeld("/".join(REPLICATION), state.holder.owner, state.holder.left_s)
    _require_all_of_a_lost_position(job, names, state.lost)
    headers = LoadHeaders(job.ledger)
    for header in filter(None, map(headers.read, names)):
        _require_no_load(header, job)
    return names


def _require_again(job: Job, only: Sequence[str]) -> list[str]:
    names = [settings.name for settings in chosen(job.migration, only)]
    require_permitted(job.ledger, Flow.LOAD, "loading again")
    if problems := [*check_source(job.migration, job.source), *_without_images(job, names)]:
        raise PreflightFailed("load again", problems)
    return names


def _require_all_of_a_lost_position(job: Job, names: Sequence[str], lost: bool) -> None:
    if lost and len(names) < len(job.migration.collections):
        what = "the stream position is lost, and with it the changes of all collections"
        raise PreflightFailed(
            "load again", [Problem(where="backfill", what=what, suggestion="leave out --only: load all")]
        )


def _require_no_load(header: LoadHeader, job: Job) -> None:
    if not header.complete and not header.holder.expired(job.identity):
        raise LeaseHeld(f"the backfill of {header.collection}", header.holder.owner, header.holder.left_s)


def _without_images(job: Job, names: Sequence[str]) -> list[Problem]:
    """What was dropped and made anew has lost its images: the changes after the load could not be followed either."""
    return [problem for name in names for problem in without_images(name, job.source)]


def _begin_collection_again(job: Job, name: str, follow_from: Timestamp) -> None:
    headers = LoadHeaders(job.ledger)
    header = headers.read(name)
    if header is None:
        return  # never loaded: the usual way will do
    _require_no_load(header, job)
    if header.first_load_open:
        return  # a first load that has not come to its end goes on as it is
    headers.write(
        replace(
            header,
            mapping=fingerprint_of(job.migration.mapping(name).settings),
            state=NEW,
            mode=CONDITIONAL,
            started_ms=now_ms(),
            holder=replace(header.holder, owner=""),
            taken_over=False,
            follow_from=follow_from,
        )
    )
