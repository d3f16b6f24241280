"""A rollback point restored over the live data of MongoDB: only what differs is written, and only once an operator has typed what
is lost.

The point must have been restored beside before: that database, unchanged since, is what the live one is made equal to. What
the live data has and the point has not is deleted, what differs is replaced, what is missing is inserted. Each of these is an
ordinary change, which replication follows; a run that was killed is run again. DynamoDB's tables are never written over.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from docferry.core.cutover.modes import Mode
from docferry.core.cutover.permitted import Flow
from docferry.core.mapping.raw import id_of
from docferry.core.rollback_points.dump_files import CollectionSpec
from docferry.core.rollback_points.points import RESTORES, Loss, Point, database_beside, loss_sentence
from docferry.errors import MoveRefused, PreflightFailed, Problem, ValidationFailed
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.leases import held, take_or_create
from docferry.flows.ledger.modes import live_instances, not_permitted, read_mode
from docferry.flows.ledger.rooms.points import WHOLE, over_live_begun, over_live_done, read_restore
from docferry.flows.preflight.mongodb_clients import foreigners
from docferry.flows.rollback_points.dump import PAGE, Sum, current_pages
from docferry.flows.rollback_points.job import read_point
from docferry.ports.flows import Bounds
from docferry.ports.rollback_points import Database

LEASE_S = 60.0
LOOK_S = 1.0
MODE_S = 1.0
"""How often it is looked whether the mode is still the one in which this was allowed."""
Guard = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverPlan:
    """What restoring over the live data would do. `sentence` must be typed for it to be done; `left` are collections that the
    point does not hold: they stay as they are."""

    point: str
    database: str
    beside: str
    mode: str
    losses: tuple[Loss, ...]
    left: tuple[str, ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        body = {name: getattr(self, name) for name in self.__dataclass_fields__}
        losses = [{name: getattr(one, name) for name in one.__dataclass_fields__} for one in self.losses]
        return body | {"losses": losses, "left": list(self.left)}

    def render(self) -> str:
        lines = [f"{self.point} over {self.database} (mode {self.mode}), as it is beside in {self.beside}:"]
        lines += [
            f"  {one.name}: {one.now:,} now; {one.lost:,} made since would be lost, {one.undone:,} changed since would go back, "
            f"{one.returned:,} deleted since would come back"
            for one in self.losses
        ]
        if self.left:
            lines.append(f"  not in the point, and left as they are: {', '.join(self.left)}")
        return "\n".join([*lines, "Nothing was changed. To do it, say:", f"  --confirm '{self.sentence}'"])


def plan_over_live(job: Job, name: str, beside: str = "") -> OverPlan:
    """What restoring over the live data would lose, document for document. Reads only.

    Raises: PreflightFailed, with everything that forbids it.
    """
    point = read_point(job.ledger, name)
    beside = beside or database_beside(point.database, name)
    mode = read_mode(job.ledger)
    refused = not_permitted(mode, Flow.RESTORE_OVER_LIVE)
    if problems := [*([refused] if refused else []), *_user_problems(job), *_beside_problems(job, point, beside)]:
        raise PreflightFailed(f"restoring {name} over {point.database}", problems)
    with ExitStack() as opened:
        old, live = (
            opened.enter_context(job.points.database(beside)),
            opened.enter_context(job.points.database(point.database)),
        )
        specs, now = _by_name(old), _by_name(live)
        if problems := [*_changed_beside(job, beside, old, specs), *_index_problems(specs, now)]:
            raise PreflightFailed(f"restoring {name} over {point.database}", problems)
        losses = tuple(_loss(job, old, live, collection) for collection in sorted(specs))
    left = tuple(sorted(set(now) - set(specs)))
    sentence = loss_sentence(point, point.database, str(mode), losses)
    return OverPlan(
        point=name, database=point.database, beside=beside, mode=str(mode), losses=losses, left=left, sentence=sentence
    )


def restore_over_live(job: Job, name: str, confirmed: str, beside: str = "") -> OverPlan:
    """Make the live database what the point is. `confirmed` is the sentence of a plan that is still true.

    Raises: PreflightFailed: nothing was touched; StoreError, Stopped: run it again, with the sentence of then;
            ValidationFailed if the live data is not what the point is afterwards.
    """
    plan = plan_over_live(job, name, beside)
    if confirmed != plan.sentence:
        what = "is not what is true now" if confirmed else "is missing: nothing is overwritten without it"
        raise PreflightFailed(
            f"restoring {name} over {plan.database}",
            [Problem(where="--confirm", what=what, suggestion=f"type exactly: {plan.sentence}")],
        )
    lease = take_or_create(job.ledger, RESTORES, f"over {plan.database}", job.identity, LEASE_S)
    looked = time.monotonic()

    def guard() -> None:
        nonlocal looked
        job.check()
        lease.check()
        if time.monotonic() - looked > MODE_S:
            _require_mode(job, plan)
            looked = time.monotonic()

    with held(lease):
        lease.update(over_live_begun(name, plan.database, plan.sentence))
        _make_equal(job, plan, guard)
        _require_mode(job, plan)
        lease.last = over_live_done()
    job.progress.say(f"{plan.database} is what {name} is")
    return plan


def _require_mode(job: Job, plan: OverPlan) -> None:
    """Raises MoveRefused, if the application has begun to count on this data meanwhile."""
    if str(now := read_mode(job.ledger)) != plan.mode:
        what = (
            f"the mode is {now} by now, not {plan.mode}: {plan.database} is left half restored; look, then run it again"
        )
        raise MoveRefused(what)


# --- what forbids it -------------------------------------------------------------------------------------------------


def _user_problems(job: Job) -> Iterator[Problem]:
    """The programs that MongoDB may be serving now."""
    if read_mode(job.ledger).mode is not Mode.FINAL:  # there DynamoDB serves them
        for one in live_instances(job.ledger, job.identity):
            what = "is running and served from MongoDB"
            yield Problem(where=f"instance {one.name}", what=what, suggestion="stop it first")
    found = foreigners(job, LOOK_S).foreign
    for client in found:
        who = f"{client.app or 'no appName'}, user {client.user or 'unknown'}, {client.host}"
        how = "stop it first, or waive it in the file (cutover.waived_writers, waived_readers)"
        yield Problem(where=who, what="is connected to MongoDB", suggestion=how)


def _beside_problems(job: Job, point: Point, beside: str) -> Iterator[Problem]:
    found = read_restore(job.ledger, beside)
    if point.method == "snapshot":
        what = "is a snapshot made elsewhere: docferry cannot read it"
        yield Problem(where=point.name, what=what, suggestion="bring it back with the tool that made it")
    elif found is None or found.state != WHOLE or found.point != point.name:
        what = f"holds no finished restore of {point.name}"
        yield Problem(where=beside, what=what, suggestion=f"first: docferry points FILE --restore {point.name}")


def _changed_beside(job: Job, beside: str, old: Database, specs: Mapping[str, CollectionSpec]) -> Iterator[Problem]:
    restored = read_restore(job.ledger, beside)
    sums: Mapping[str, str] = restored.sums if restored is not None else {}
    for name in sorted(specs.keys() - sums.keys()):
        yield Problem(where=f"{beside}.{name}", what="is not of the point", suggestion="drop it, or move it elsewhere")
    for name, sha256 in sums.items():
        found = Sum()
        for page in current_pages(old, name, job.stop, job.check):
            found.add(b"".join(page), len(page))
        if name not in specs or found.sha256 != sha256:
            what = "has been changed since it was restored"
            yield Problem(where=f"{beside}.{name}", what=what, suggestion="drop it, and restore the point once more")


def _index_problems(specs: Mapping[str, CollectionSpec], now: Mapping[str, CollectionSpec]) -> Iterator[Problem]:
    """What would refuse the point's documents, or order them otherwise."""
    for name in sorted(specs.keys() & now.keys()):
        had = [dict(index) for index in specs[name].indexes]
        for index in now[name].indexes:
            if index.get("unique") and dict(index) not in had:
                what = "is unique, and the point has no such unique index: its documents may not fit"
                yield Problem(where=f"{name}.{index['name']}", what=what, suggestion="drop the index first")
        if any(specs[name].options.get(option) != now[name].options.get(option) for option in _ORDERING):
            what = "is ordered otherwise than in the point (collation, clustered or capped)"
            yield Problem(where=name, what=what, suggestion="make it as it was, or restore by hand")


_ORDERING = ("collation", "clusteredIndex", "capped")


def _by_name(database: Database) -> dict[str, CollectionSpec]:
    return {spec.name: spec for spec in database.specs() if spec.kind == "collection"}


# --- comparing, and making equal -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A part of the order of ids: what the point has there and what the live collection has, id -> document."""

    old: Mapping[bytes, bytes]
    live: Mapping[bytes, bytes]


def _stretches(job: Job, old: Database, live: Database, collection: str, guard: Guard) -> Iterator[_Stretch]:
    """Both collections side by side. MongoDB itself orders the ids: a page of the point says from which id to which.

    The last page's end is open, so every document of either side is in one stretch; a stretch that grew past a page comes in
    several, of which only the last has what is left of `old`.
    """
    pages = current_pages(old, collection, job.stop, guard)
    page, lower = next(pages, []), None
    while True:
        following = next(pages, [])
        upper = id_of(following[0]) if following else None
        left = {id_of(one): one for one in page}
        after: bytes | None = None
        while found := live.read_page(collection, Bounds(lower=lower, upper=upper), after, PAGE, live.cluster_time()):
            guard()
            have = {id_of(one): one for one in found}
            yield _Stretch({id: left.pop(id) for id in have if id in left}, have)
            after = id_of(found[-1])
        yield _Stretch(left, {})
        if not following:
            return
        page, lower = following, upper


def _loss(job: Job, old: Database, live: Database, collection: str) -> Loss:
    now = lost = undone = returned = 0
    digest = hashlib.sha256()
    for stretch in _stretches(job, old, live, collection, job.check):
        now += len(stretch.live)
        differ = sorted(
            id for id in stretch.live.keys() | stretch.old.keys() if stretch.live.get(id) != stretch.old.get(id)
        )
        for id in differ:
            digest.update(id + b"".join(one.get(id, b"") for one in (stretch.live, stretch.old)))
        lost += sum(id not in stretch.old for id in differ)
        returned += sum(id not in stretch.live for id in differ)
        undone += sum(id in stretch.old and id in stretch.live for id in differ)
        job.progress.advance(f"compare {collection}", now, now)
    return Loss(name=collection, now=now, lost=lost, undone=undone, returned=returned, digest=digest.hexdigest())


def _make_equal(job: Job, plan: OverPlan, guard: Guard) -> None:
    with ExitStack() as opened:
        old, live = (
            opened.enter_context(job.points.database(plan.beside)),
            opened.enter_context(job.points.database(plan.database)),
        )
        specs, now = _by_name(old), _by_name(live)
        for name, spec in specs.items():
            if name not in now:
                live.create(spec)
            # Everything that differs goes before anything comes: so no unique index is in the way.
            for stretch in _stretches(job, old, live, name, guard):
                live.delete(name, [id for id, one in stretch.live.items() if stretch.old.get(id) != one])
            for stretch in _stretches(job, old, live, name, guard):
                if missing := [one for id, one in stretch.old.items() if id not in stretch.live]:
                    live.insert(name, missing)
            _missing_indexes(live, spec, now.get(name))
        if wrong := [one for name in specs if (one := _loss(job, old, live, name)).any]:
            told = ", ".join(
                f"{one.name} ({one.lost} more, {one.undone} others, {one.returned} missing)" for one in wrong
            )
            why = "Does another program write to it, or a TTL index remove documents?"
            what = f"{plan.database} is not what {plan.point} is: {told}. {why}"
            raise ValidationFailed(what, {"collections": len(wrong)})


def _missing_indexes(live: Database, spec: CollectionSpec, now: CollectionSpec | None) -> None:
    """Indexes that were dropped since. Not those by which documents expire: they would delete what was restored."""
    have = {str(index["name"]) for index in now.indexes} if now is not None else set()
    missing = tuple(
        index for index in spec.indexes if str(index["name"]) not in have and "expireAfterSeconds" not in index
    )
    if missing:
        live.index(CollectionSpec(name=spec.name, kind=spec.kind, indexes=missing))
