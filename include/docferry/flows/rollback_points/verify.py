"""Rollback points verified: the files are read again, every document decodes, and backups and snapshots are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from docferry.core.rollback_points.dump_files import (
    FileBroken,
    data_name,
    decode_metadata,
    metadata_name,
    read_archive,
    require_decodable,
    split_documents,
)
from docferry.core.rollback_points.points import Point, PointCollection
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.rooms.points import note_verdict
from docferry.flows.rollback_points.dump import Sum
from docferry.flows.rollback_points.job import read_point
from docferry.flows.rollback_points.mongodump import ARCHIVE
from docferry.ports.rollback_points import PointFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class PointReport:
    """What verifying a point found: `checked` says what was looked at, and how closely."""

    point: Point
    checked: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        return {"point": self.point.name, "ok": self.ok, "checked": list(self.checked), "faults": list(self.faults)}

    def render(self) -> str:
        lines = [f"  {one}" for one in self.checked] + [f"  FAULT: {one}" for one in self.faults]
        verdict = "is what was recorded" if self.ok else "is NOT what was recorded: do not count on it"
        return "\n".join([f"{self.point.name} {verdict}", *lines])


def verify_point(job: Job, name: str) -> PointReport:
    """Look at all of a point, and remember when and with which verdict. Raises PreflightFailed, StoreError, Stopped."""
    point = read_point(job.ledger, name)
    report = PointReport(point=point, checked=tuple(_checked(point)), faults=tuple(faults_of(job, point)))
    note_verdict(job.ledger, name, sound=report.ok)
    return report


def _checked(point: Point) -> Iterator[str]:
    if point.method == "dump":
        for one in point.collections:
            yield f"{one.name}: {one.documents:,} documents, {one.bytes:,} bytes; read, hashed, every document decoded"
    if point.archive is not None:
        yield f"mongodump's archive: {point.archive[0]:,} bytes; read, hashed, {point.documents:,} documents decoded"
    if point.method == "snapshot":
        yield f"{point.where}: {point.said}"
    for table, arn in point.backups.items():
        yield f"{table}: {arn}; AWS was asked for its state, its content cannot be looked at"


def faults_of(job: Job, point: Point) -> list[str]:
    """Everything that is not as it was recorded; nothing of it is quoted."""
    found = list(_file_faults(job, point)) if point.method != "snapshot" else _snapshot_faults(job, point)
    for table, arn in point.backups.items():
        state = job.points.backups.fetch(arn)
        if state is None or state.status != "AVAILABLE":
            found.append(f"{table}: the backup {arn} is {state.status if state else 'not there any more'}")
    return found


def _snapshot_faults(job: Job, point: Point) -> list[str]:
    return (
        []
        if job.points.snapshots.look(point.where) is not None
        else [f"{point.where} is not there any more, or not whole"]
    )


def _file_faults(job: Job, point: Point) -> Iterator[str]:
    if point.archive is not None:
        yield from _archive_faults(job, point, point.archive)
        return
    for one in point.collections:
        job.check()
        job.progress.advance(f"verify {one.name}", 0, one.documents)
        yield from _metadata_faults(job.points.files(point.to), point, one)
        if one.kind == "collection":
            yield from _data_faults(job, point, one)


def _metadata_faults(files: PointFiles, point: Point, one: PointCollection) -> Iterator[str]:
    name = metadata_name(point.database, one.name)
    if files.size(point.name, name) is None:
        yield f"{name} is not there"
        return
    data = b"".join(files.read(point.name, name))
    if hashlib.sha256(data).hexdigest() != one.metadata:
        yield f"{name} has changed"
    try:
        decode_metadata(data)
    except FileBroken as error:
        yield f"{name} {error}"


def _data_faults(job: Job, point: Point, one: PointCollection) -> Iterator[str]:
    name = data_name(point.database, one.name)
    size = job.points.files(point.to).size(point.name, name)
    if size is None:
        yield f"{name} is not there"
        return
    if size != one.bytes:
        yield f"{name} has {size:,} bytes, not {one.bytes:,}"
    found = Sum()
    documents = 0
    try:
        for document in split_documents(found.passing(job.points.files(point.to).read(point.name, name))):
            require_decodable(document)
            documents += 1
            if documents % 1_000 == 0:
                job.check()
                job.progress.advance(f"verify {one.name}", documents, one.documents)
    except FileBroken as error:
        yield f"{name}: {error}"
        return
    if documents != one.documents:
        yield f"{name} has {documents:,} documents, not {one.documents:,}"
    if found.sha256 != one.sha256:
        yield f"{name} has another sha256 than when it was written"


def _archive_faults(job: Job, point: Point, recorded: tuple[int, str]) -> Iterator[str]:
    size = job.points.files(point.to).size(point.name, ARCHIVE)
    if size is None:
        yield "mongodump's archive is not there"
        return
    found = Sum()
    try:
        counts = read_archive(found.passing(job.points.files(point.to).read(point.name, ARCHIVE)))
    except FileBroken as error:
        yield f"mongodump's archive: {error}"
        return
    if (found.bytes, found.sha256) != recorded:
        yield f"mongodump's archive has {found.bytes:,} bytes, not {recorded[0]:,}, or another sha256"
    for one in point.collections:
        count = counts.get(one.name)
        if count is None or (count.documents, count.bytes) != (one.documents, one.bytes):
            yield f"mongodump's archive: {one.name} has not {one.documents:,} documents any more"
