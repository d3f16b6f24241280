"""Rollback points are made here. A point lists only once all of it is written, safe, and has been read again.

While it is made, its record in the ledger is leased. A record that no process holds and that is not whole is what a crash left:
the next point that is made removes it, files and backups included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.cutover.permitted import Flow
from docferry.core.rollback_points.points import POINTS, Point, backup_name, name_at, name_problems
from docferry.errors import ConditionFailed, LeaseHeld, PointFailed, PreflightFailed, Problem, StoreError
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.leases import Lease, held, take_or_create
from docferry.flows.ledger.modes import not_permitted, read_mode
from docferry.flows.ledger.rooms.points import (
    list_point_records,
    point_begun,
    point_in,
    point_whole,
    read_point_record,
    remove_point_record,
)
from docferry.flows.ledger.times import now_ms
from docferry.flows.rollback_points.dump import dump_collections, require_dumpable
from docferry.flows.rollback_points.job import settings_of
from docferry.flows.rollback_points.mongodump import dump_archive
from docferry.flows.rollback_points.verify import faults_of

LEASE_S = 60.0
POLL_S = 0.5
BACKUP_S = 900.0
"""AWS says that a backup is begun at once and available within minutes, whatever the table's size."""


def plan_point(job: Job, name: str = "", snapshot: str = "") -> str:
    """What making a point would do, in words. Raises PreflightFailed, with everything that is in its way."""
    name = name or name_at(time.time())
    problems = [*name_problems(name), *_method_problems(job, snapshot)]
    if (record := read_point_record(job.ledger, name)) is not None and record.whole:
        problems.append(Problem(where=name, what="is there already", suggestion="choose another name"))
    if (refused := not_permitted(read_mode(job.ledger), Flow.MAKE_POINT)) is not None:
        problems.append(refused)
    problems += [
        Problem(where=table.name, what="is no table yet", suggestion="docferry provision")
        for table in job.migration.tables
        if job.points.backups.table_status(table.name) is None
    ]
    if settings_of(job).method == "dump":
        with job.points.database(job.migration.source.database) as database:
            problems += require_dumpable(database, job.migration.source.database)
    if problems:
        raise PreflightFailed("the rollback point", problems)
    goes = "is verified" if snapshot else f"goes to {_place(job, name)}"
    what = f"{snapshot or job.migration.source.database} {goes}"
    tables = ", ".join(table.name for table in job.migration.tables)
    filtered = ", ".join(one.name for one in job.migration.collections if one.filter)
    whole = f"; of {filtered} MongoDB's part holds all documents, those outside the filter, too" if filtered else ""
    return f"{name}: {what} (method {settings_of(job).method}), and DynamoDB backs up {tables}{whole}"


def _place(job: Job, name: str) -> str:
    return job.points.files(settings_of(job).to).place(name)


def _method_problems(job: Job, snapshot: str) -> list[Problem]:
    method = settings_of(job).method
    if method == "snapshot" and not snapshot:
        how = "make one with your own tools, then name it: --snapshot snap-…, a path, or s3://bucket/prefix"
        return [Problem(where="snapshot", what="is not named", suggestion=how)]
    if method != "snapshot" and snapshot:
        return [
            Problem(where="snapshot", what=f"the method is {method}", suggestion="set method: snapshot in the file")
        ]
    if method == "mongodump" and job.points.tools.missing("mongodump"):
        how = "install MongoDB's database tools where this runs, or use another method"
        return [Problem(where="mongodump", what="is not on the PATH", suggestion=how)]
    return []


def make_point(job: Job, name: str = "", snapshot: str = "") -> Point:
    """Make a point, read it again, and record it. Without a name it is named after the time.

    Raises: PreflightFailed, before anything was written; PointFailed, StoreError, Stopped: nothing lists then, and the next
            point that is made removes what is left of this one.
    """
    name = name or name_at(time.time())
    job.progress.say(plan_point(job, name, snapshot))
    sweep(job)
    _require_free(job, name)
    with held(take_or_create(job.ledger, POINTS, name, job.identity, LEASE_S)) as lease:
        if point_in(lease.record).whole:
            raise PreflightFailed("the rollback point", [Problem(where=name, what="is there already")])
        lease.update(point_begun(settings_of(job).to))
        point = _made(job, lease, name, snapshot)
        lease.last = point_whole(point)
    job.progress.say(
        f"{name} is whole: {point.documents:,} documents, {point.bytes:,} bytes, {len(point.backups)} backup(s)"
    )
    return point


def _require_free(job: Job, name: str) -> None:
    """Files of this name that this ledger knows nothing of are another one's point: of a rehearsal, or of another account."""
    if (
        settings_of(job).to
        and read_point_record(job.ledger, name) is None
        and job.points.files(settings_of(job).to).holds(name)
    ):
        what = f"holds files of a point {name} that this ledger does not know"
        advice = "choose another name, or another place for each ledger (rollback_points.to)"
        raise PreflightFailed("the rollback point", [Problem(where=_place(job, name), what=what, suggestion=advice)])


def _made(job: Job, lease: Lease, name: str, snapshot: str) -> Point:
    def guard() -> None:
        job.check()
        lease.check()

    if settings_of(job).to:
        job.points.files(settings_of(job).to).remove(name)  # of an attempt of the same name
    found = _ways(job)[settings_of(job).method](job, name, snapshot, guard)
    point = Point(
        name=name,
        method=settings_of(job).method,
        where=snapshot or _place(job, name),
        to=settings_of(job).to,
        database=job.migration.source.database,
        mode=str(read_mode(job.ledger)),
        by=job.identity.name,
        made_ms=now_ms(),
        backups=_back_up(job, lease, name, guard),
        **found,
    )
    guard()
    if faults := faults_of(job, point):
        raise PointFailed(name, "read again, it is not what was written: " + "; ".join(faults[:5]))
    return point


_Guard = Callable[[], None]
_Way = Callable[[Job, str, str, _Guard], dict[str, Any]]


def _ways(job: Job) -> Mapping[str, _Way]:
    return {"dump": _by_dump, "mongodump": _by_mongodump, "snapshot": _by_snapshot}


def _by_dump(job: Job, name: str, _: str, guard: _Guard) -> dict[str, Any]:
    with job.points.database(job.migration.source.database) as database:
        files, name_of = job.points.files(settings_of(job).to), job.migration.source.database
        found = dump_collections(database, files, name_of, name, job.progress, job.stop, guard)
    return {"time": found.time, "collections": found.collections}


def _by_mongodump(job: Job, name: str, _: str, guard: _Guard) -> dict[str, Any]:
    with job.points.database(job.migration.source.database) as database:
        began = database.cluster_time()
    collections, archive = dump_archive(
        job.points.tools, job.points.files(settings_of(job).to), job.migration.source.database, name, guard
    )
    return {"time": began, "collections": collections, "archive": archive}


def _by_snapshot(job: Job, name: str, snapshot: str, guard: _Guard) -> dict[str, Any]:
    said = job.points.snapshots.look(snapshot)
    if said is None:
        raise PointFailed(name, f"the snapshot {snapshot} is not there, or not completed")
    job.progress.say(f"{snapshot}: {said}")
    return {"time": Timestamp(int(time.time()), 0), "said": said}


# --- DynamoDB's backups ----------------------------------------------------------------------------------------------


def _back_up(job: Job, lease: Lease, name: str, guard: _Guard) -> dict[str, str]:
    """Table -> ARN, all AVAILABLE. Each ARN is in the ledger before the next one is asked for."""
    found: dict[str, str] = {}
    for table in (table.name for table in job.migration.tables):
        guard()
        found[table] = job.points.backups.create(table, backup_name(job.migration.name, name))
        lease.update({"backups": dict(found)})
        job.progress.say(f"{table}: DynamoDB makes the backup {found[table]}")
    for table, arn in found.items():
        _wait_for_backup(job, name, table, arn, guard)
    return found


def _wait_for_backup(job: Job, name: str, table: str, arn: str, guard: _Guard) -> None:
    until = time.monotonic() + BACKUP_S
    while (state := job.points.backups.fetch(arn)) is None or state.status != "AVAILABLE":
        if time.monotonic() > until:
            told = state.status if state is not None else "not there"
            raise PointFailed(name, f"the backup of {table} is still {told} after {BACKUP_S:.0f} s")
        guard()
        time.sleep(POLL_S)


# --- what a crash left -----------------------------------------------------------------------------------------------


def sweep(job: Job) -> list[str]:
    """Remove what unfinished points left whose maker is gone: files, backups of their name, and their record."""
    swept = []
    for record in list_point_records(job.ledger):
        if record.whole or not record.holder.expired(job.identity):
            continue
        job.check()
        try:
            _clear(job, record.name)
        except (LeaseHeld, ConditionFailed):
            continue  # another process has finished it, or makes or removes it right now
        except StoreError as error:  # its place may be gone for good, and is no reason against a new point elsewhere
            place = f" in {record.to}" if record.to else ""
            job.progress.say(
                f"{record.name} was never finished, and what is left of it{place} cannot be removed yet: {error}"
            )
            continue
        job.progress.say(f"{record.name} was never finished: what was left of it is removed")
        swept.append(record.name)
    return swept


def _clear(job: Job, name: str) -> None:
    """Under the point's lease: another process that makes a point of this name meanwhile keeps its own."""
    with held(take_or_create(job.ledger, POINTS, name, job.identity, LEASE_S)) as lease:
        if point_in(lease.record).whole:
            raise ConditionFailed(f"{name} has been finished meanwhile")
        if to := point_in(lease.record).to:
            job.points.files(to).remove(name)
        for table in job.migration.tables:
            if job.points.backups.table_status(table.name) is not None:
                for arn in job.points.backups.find(table.name, backup_name(job.migration.name, name)):
                    job.points.backups.delete(arn)
    record = read_point_record(job.ledger, name)
    if record is not None and record.holder.expired(job.identity):
        remove_point_record(job.ledger, record)
