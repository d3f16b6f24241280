"""Rollback points restored beside the live data: MongoDB into another database, DynamoDB's backups into other tables.

What is restored is read again and compared with what was dumped. A restore that was killed begins anew: its database is known
from the ledger to be its own. Nothing that others have made is touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from docferry.core.cutover.fence_plan import NEVER_EXPIRES_S
from docferry.core.rollback_points.dump_files import (
    CollectionSpec,
    data_name,
    decode_metadata,
    metadata_name,
    split_documents,
)
from docferry.core.rollback_points.points import (
    RESTORES,
    Point,
    PointCollection,
    beside_problems,
    database_beside,
    table_beside,
)
from docferry.errors import PreflightFailed, Problem, RetryExhausted, ValidationFailed
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.leases import held, take_or_create
from docferry.flows.ledger.rooms.points import RESTORING, list_restores, read_restore, restore_begun, restore_whole
from docferry.flows.rollback_points.dump import Sum, current_pages
from docferry.flows.rollback_points.job import read_point
from docferry.flows.rollback_points.mongodump import ARCHIVE
from docferry.flows.rollback_points.verify import faults_of
from docferry.ports.rollback_points import Database

LEASE_S = 60.0
BATCH_BYTES, BATCH = 4_000_000, 1_000
POLL_S = 0.5
TABLE_S = 6 * 3600.0
"""AWS promises no time for a restore; most take less than an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What is beside the live data now. `database` is empty where MongoDB's part is a snapshot made elsewhere;
    `tables`: table -> the one beside it; `resting`: TTL indexes that were made to expire nothing."""

    point: str
    database: str
    tables: Mapping[str, str]
    documents: int
    resting: tuple[str, ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "tables": dict(self.tables),
            "resting": list(self.resting),
        }

    def render(self) -> str:
        lines = [f"{self.point} is restored beside the live data"]
        if self.database:
            lines.append(f"  MongoDB: {self.database}, {self.documents:,} documents, read again and equal")
        lines += [f"  DynamoDB: {table} is beside as {beside}" for table, beside in self.tables.items()]
        if self.resting:
            lines.append(f"  TTL indexes expire nothing there: {', '.join(self.resting)}")
        return "\n".join([*lines, *([f"  {self.note}"] if self.note else [])])


def plan_restore(job: Job, name: str, into: str = "") -> RestoreReport:
    """What restoring beside would make. Reads only. Raises PreflightFailed, with everything that is in its way."""
    point = read_point(job.ledger, name)
    database = "" if point.method == "snapshot" else into or database_beside(point.database, name)
    tables = {table: table_beside(table, name) for table in point.backups}
    problems = beside_problems(database, job.migration.source.database, tables) if database else []
    if point.method == "mongodump" and job.points.tools.missing("mongorestore"):
        problems.append(
            Problem(where="mongorestore", what="is not on the PATH", suggestion="install it where this runs")
        )
    if not problems:
        problems = [*_database_taken(job, name, database), *_tables_taken(job, name, tables)]
    if problems:
        raise PreflightFailed(f"restoring {name}", problems)
    note = f"MongoDB's part is {point.where}: bring it back with the tool that made it" if not database else ""
    return RestoreReport(point=name, database=database, tables=tables, documents=point.documents, note=note)


def _database_taken(job: Job, name: str, database: str) -> Iterator[Problem]:
    if not database or _is_ours(job, name, database):
        return
    with job.points.database(database) as beside:
        found = beside.specs()
    if found:
        what = f"holds {len(found)} collection(s) that were not left by an unfinished restore of {name}"
        yield Problem(where=database, what=what, suggestion="drop it yourself, or name another with --into")


def _tables_taken(job: Job, name: str, tables: Mapping[str, str]) -> Iterator[Problem]:
    ours = {beside for one in list_restores(job.ledger) if one.point == name for beside in one.tables.values()}
    for beside in tables.values():
        if beside not in ours and job.points.backups.table_status(beside) is not None:
            yield Problem(where=beside, what="exists", suggestion="delete it yourself, if it is not needed any more")


def _is_ours(job: Job, name: str, database: str) -> bool:
    """Whether an unfinished restore of this point has left it."""
    found = read_restore(job.ledger, _key(name, database))
    return found is not None and found.state == RESTORING and found.point == name


def _key(name: str, database: str) -> str:
    return database or f"tables of {name}"


# --- doing it --------------------------------------------------------------------------------------------------------


def restore_beside(job: Job, name: str, into: str = "") -> RestoreReport:
    """Restore a point beside the live data, and compare. Run again after a crash: it begins anew.

    Raises: PreflightFailed, ValidationFailed (the point is broken) before anything was made; StoreError, Stopped, LeaseHeld;
            ValidationFailed if what was restored is not what was dumped.
    """
    plan = plan_restore(job, name, into)
    point = read_point(job.ledger, name)
    if faults := faults_of(job, point):
        raise ValidationFailed(f"{name} is not what was recorded: {'; '.join(faults[:5])}", {"faults": len(faults)})
    lease = take_or_create(job.ledger, RESTORES, _key(name, plan.database), job.identity, LEASE_S)

    def guard() -> None:
        job.check()
        lease.check()

    with held(lease):
        lease.update(restore_begun(name, plan.tables))
        _begin_tables(job, point, plan.tables)
        sums, resting = _restore_database(job, point, plan.database, guard) if plan.database else ({}, ())
        _wait_for_tables(job, plan.tables, guard)
        lease.last = restore_whole(name, plan.tables, sums)
    return replace(plan, resting=resting)


def _restore_database(
    job: Job, point: Point, database: str, guard: Callable[[], None]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """(collection -> sha256 of its documents in the order of their ids, TTL indexes that rest)."""
    with job.points.database(database) as beside:
        beside.drop()  # of an attempt before this one
        if point.archive is not None:
            job.points.tools.restore(job.points.files(point.to).read(point.name, ARCHIVE), point.database, database)
            resting: tuple[str, ...] = ()
        else:
            resting = _restore_files(job, point, beside, guard)
        sums, wrong = {}, []
        for one in point.collections:
            if one.kind == "collection":
                found = _sum(job, beside, one, guard)
                sums[one.name] = found.sha256
                wrong += [one.name] if not _is_same(one, found) else []
    if wrong:
        what = (
            f"{database} does not hold what {point.name} does in {', '.join(wrong)}: does another program write there?"
        )
        raise ValidationFailed(what, {"collections": len(wrong)})
    return sums, resting


def _is_same(one: PointCollection, found: Sum) -> bool:
    same = (found.documents, found.bytes) == (one.documents, one.bytes)
    return same and one.sha256 in ("", found.sha256)


def _sum(job: Job, database: Database, one: PointCollection, guard: Callable[[], None]) -> Sum:
    found = Sum()
    for page in current_pages(database, one.name, job.stop, guard):
        found.add(b"".join(page), len(page))
        job.progress.advance(f"compare {one.name}", found.documents, one.documents)
    return found


def _restore_files(job: Job, point: Point, beside: Database, guard: Callable[[], None]) -> tuple[str, ...]:
    """Collections, then documents, then indexes, then views: as mongorestore does. TTL indexes expire nothing: what the
    point holds would go away again."""
    specs = [_spec(job, point, one) for one in point.collections]
    resting: list[str] = []
    for spec, one in zip(specs, point.collections, strict=True):
        if spec.kind != "collection":
            continue
        beside.create(spec)
        done = 0
        for batch in _batches(job, point, one):
            guard()
            beside.insert(one.name, batch)
            done += len(batch)
            job.progress.advance(f"restore {one.name}", done, one.documents)
        resting += [f"{spec.name}.{index['name']}" for index in spec.indexes if "expireAfterSeconds" in index]
        beside.index(replace(spec, indexes=tuple(map(_rested, spec.indexes))))
    for spec in specs:
        if spec.kind == "view":
            beside.create(spec)
    return tuple(resting)


def _spec(job: Job, point: Point, one: PointCollection) -> CollectionSpec:
    data = b"".join(job.points.files(point.to).read(point.name, metadata_name(point.database, one.name)))
    return decode_metadata(data)


def _rested(index: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**index, "expireAfterSeconds": NEVER_EXPIRES_S} if "expireAfterSeconds" in index else index


def _batches(job: Job, point: Point, one: PointCollection) -> Iterator[Sequence[bytes]]:
    batch: list[bytes] = []
    size = 0
    for document in split_documents(job.points.files(point.to).read(point.name, data_name(point.database, one.name))):
        if batch and (size + len(document) > BATCH_BYTES or len(batch) >= BATCH):
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += len(document)
    if batch:
        yield batch


# --- DynamoDB --------------------------------------------------------------------------------------------------------


def _begin_tables(job: Job, point: Point, tables: Mapping[str, str]) -> None:
    for table, beside in tables.items():
        if job.points.backups.table_status(beside) is None:
            job.points.backups.restore(point.backups[table], beside)
            job.progress.say(f"DynamoDB restores {table} into {beside}")


def _wait_for_tables(job: Job, tables: Mapping[str, str], guard: Callable[[], None]) -> None:
    began = time.monotonic()
    for beside in tables.values():
        while (status := job.points.backups.table_status(beside)) != "ACTIVE":
            guard()
            if time.monotonic() - began > TABLE_S:
                raise RetryExhausted(f"restoring {beside}", 1, time.monotonic() - began, f"it is {status}")
            time.sleep(POLL_S)
