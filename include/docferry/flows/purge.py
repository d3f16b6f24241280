"""Purge: removes tombstones that have nothing left to do, and prints the proof.

A tombstone of version V keeps every put of an older version out. It may go once no such put can arrive any more: neither
from a writer that is at work, nor from one that died or was frozen, nor from one that will begin. Who writes
(docs/architecture.md, "Versions"), and why it cannot be with a version before V:

1. Replication. It applies events from the position in the ledger on (`flows.ledger.positions.applied_position`), and a crash
   reads again from there: V must lie before that position. What is pending lies behind it; all before it is applied. If it
   has no position of its own, it would begin at `position/stream`, from before the backfill: then nothing is purged. (A
   replay would come to the delete again, and bury the document once more; but readers would see the dead meanwhile.) One that
   lost its lease signs nothing: the lease is looked at before each signature.
2. Loads. A page is read at MongoDB's time of the read and may be put long after, so none may be under way: every load is
   complete, no process holds a chunk. One that begins or goes on later reads at a later time. A load under traffic (`--again`)
   moves replication's position only if that was lost, and then to now. A load without conditions does not ask for tombstones
   at all: it ended before replication began.
3. Repair and replay of dead letters. They read and then put, like a load; they hold a lease in section `writers` meanwhile.
   What repair finds extra it buries at the item's own version, which may be old; but that is a tombstone, and brings nothing
   back.
4. Requests. What was signed before its sender lost its lease, gave up waiting, was killed or was frozen may still arrive for
   the life of a signature (15 minutes, and as many again because a sender's clock may be ahead). V's own age says nothing
   about that: replication may have been an hour behind, and signed for what is older than V a second ago. So a purge notes
   what it finds: at MongoDB's time T, 1 to 3 held, and all before P was applied. No process signs for what is older than P after
   that. A purge at T + 31 minutes or later removes what is older than P; the first one ever says how long to wait.
   The time between is MongoDB's; our own clock must agree that so much has passed, so that no jump of one clock counts.
5. Application instances that write to both databases sign with the time of their write. Until they hold leases
   (`core.cutover.purge_proof.instances`), age decides, by MongoDB's time alone: V is at least as old as the requests in 4.
6. Dead letters. Replaying one reads at a time not before the letter, so none is a danger; but as long as one is open, the
   tombstones of its document say that it is MongoDB's to read: they stay.
7. What was deleted while DynamoDB led, and MongoDB still holds, has no other witness than its tombstone: it stays.
8. Validation takes a tombstone for an item that is not there. A restored backup brings its own ledger and tombstones.

9. Parts of items over 400 KB (`core.mapping.large.parts`) that no item names. If their item is there with their version or a
   later one, no put that names them can come any more: it would be made over a lower version alone (no load is under way, by 2).
   Else the put may still be on its way, unless 1 to 5 hold for its version. A version of the time that DynamoDB leads says
   nothing about when it was made: it counts on from the fence. So those stay while DynamoDB leads.

Each delete asks that the item is still a tombstone of exactly the version that was judged. What the proof says stays true,
so a delete that arrives late does no harm either. Two purges never run at once; a stopped one is run again from the start.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.compare.diff import is_tombstone
from docferry.core.compare.ownership import Neighbours
from docferry.core.cutover.purge_proof import Ages, Facts, Proof, WritersSeen, prove
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import id_name, item_id
from docferry.core.versions import parse_version, version_of, version_text
from docferry.errors import InvariantBroken, PreflightFailed, Problem, Stopped
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.kernel.threads import cancel_all, in_thread, unless_stopped
from docferry.flows.ledger.budget import LedgerBudget, budget_of
from docferry.flows.ledger.dead_letters import LetterWatch, letter_key, list_letters
from docferry.flows.ledger.leases import Lease, held_async, take_or_create
from docferry.flows.ledger.positions import read_replication
from docferry.flows.ledger.reigns import Reigns, read_reigns
from docferry.flows.ledger.rooms.owners import read_neighbours, require_owned
from docferry.flows.ledger.rooms.purge import PURGE, looks_in, purge_looked, read_looks
from docferry.flows.ledger.times import now_ms
from docferry.flows.ledger.writers import LEASE_S, open_loads, open_writers
from docferry.flows.preflight.thresholds import SIGNATURE_LIVES_S
from docferry.flows.validate.common import keys_accounted_for, owner_of
from docferry.ports.flows import Grave, ItemPart, Target

SCAN_SEGMENTS = 4
LETTERS_S = 10.0
STALE_S = 60.0
"""A primary without writes notes the time every ten seconds; one that has lost its place may not know it for as long."""
YOUNG_S = 2 * SIGNATURE_LIVES_S + STALE_S
"""A signature's life begins at its sender's time, and that may be ahead by as much as AWS lets pass."""

ATTRIBUTES = ("PK", "SK", "_id", "_t", "_v", "_deleted", "entityType")
YOUNG, LETTER, UNKNOWN, LED = "young", "dead_letter", "unknown", "deleted_while_dynamodb_led"
"""Why a tombstone is kept: it is not before the proof's horizon, or there is none; its document has a dead letter; it names
no document of ours; MongoDB still holds what was deleted while DynamoDB led, and nothing else says that it was."""
_VERSION = re.compile(r"[0-9a-f]{22}")


@dataclass(slots=True, kw_only=True)
class PurgeReport:
    """What became of tombstones: scanned = purged + purgeable + changed + all that were kept.

    `purgeable` are those that a run would have purged which is no dry run; `changed` those that were something else, or gone,
    when they were to be deleted; `kept` counts by reason. `items` is everything that was looked at; what another migration keeps
    in a shared table is none of it. `parts` are those of items over 400 KB: of these that no item names `parts_purged` went (in a
    dry run: may go), and `parts_kept` are too young.
    """

    proof: Proof
    dry_run: bool = False
    items: int = 0
    scanned: int = 0
    purged: int = 0
    purgeable: int = 0
    changed: int = 0
    parts: int = 0
    parts_purged: int = 0
    parts_kept: int = 0
    kept: dict[str, int] = field(default_factory=lambda: dict.fromkeys((YOUNG, LETTER, UNKNOWN, LED), 0))
    units: float = 0.0
    seconds: float = 0.0

    def check(self) -> None:
        """Raises InvariantBroken if a tombstone is unaccounted for."""
        if self.scanned != self.purged + self.purgeable + self.changed + sum(self.kept.values()):
            raise InvariantBroken(f"purge: {self.scanned} tombstones do not add up: {self.counts()}")

    def counts(self) -> dict[str, Any]:
        names = ("items", "scanned", "purged", "purgeable", "changed", "parts", "parts_purged", "parts_kept")
        return {name: getattr(self, name) for name in names} | {"kept": dict(self.kept)}

    def to_dict(self) -> dict[str, Any]:
        proof = self.proof
        return self.counts() | {
            "dry_run": self.dry_run,
            "safe": proof.holds,
            "before": None if proof.horizon is None else version_text(proof.horizon),
            "units": round(self.units, 1),
            "seconds": round(self.seconds, 3),
            "proof": [
                {"condition": one.name, "holds": one.holds, "evidence": one.evidence, "remedy": one.remedy}
                for one in proof.conditions
            ],
        }

    def render(self) -> str:
        """The proof, and what came of it, for people."""
        kept = " + ".join(f"{count:,} kept ({reason.replace('_', ' ')})" for reason, count in self.kept.items())
        done = f"{self.purgeable:,} that may go" if self.dry_run else f"{self.purged:,} purged"
        end = "Nothing was deleted." if self.dry_run else f"{self.units:,.0f} write units in {self.seconds:.1f} s."
        left = f" {self.parts_purged:,} of {self.parts:,} parts of items were left over." if self.parts else ""
        counts = f"{self.scanned:,} tombstones among {self.items:,} items = {done} + {kept} + {self.changed:,} changed meanwhile"
        return f"{self.proof.render()}\n{counts}.{left} {end}"


async def purge(job: Job, target: Target, dry_run: bool = False) -> PurgeReport:
    """Delete the tombstones of the migration's tables that the proof lets go. A dry run proves, counts, and changes nothing.

    Raises: PreflightFailed with everything that keeps it from being proved (a dry run reports that instead), LeaseHeld,
            LeaseLost, Stopped, RetryExhausted, StoreError. Whatever it raises, it can be run again.
    """
    await in_thread(require_owned, job.migration, job.ledger, stop=job.stop)
    if dry_run:
        looks = await in_thread(read_looks, job.ledger, stop=job.stop)
        proof = await in_thread(_prove, job, looks, stop=job.stop)
        return await _Purge(job, target, PurgeReport(proof=proof, dry_run=True), None).run()
    if job.stop.is_set():
        raise Stopped("asked to stop before the purge began; nothing was deleted")
    lease = await asyncio.to_thread(take_or_create, job.ledger, *PURGE, job.identity, LEASE_S)
    async with held_async(lease, job.stop):
        return await _purge_leased(job, target, lease)


async def _purge_leased(job: Job, target: Target, lease: Lease) -> PurgeReport:
    proof = await in_thread(_prove, job, looks_in(lease.record), stop=job.stop)
    await in_thread(lease.update, purge_looked(proof.seen), stop=job.stop)
    for line in proof.render().splitlines():
        job.progress.say(line)
    if not proof.holds:
        raise PreflightFailed(
            "purge, which is not proved safe",
            [Problem(where=one.name, what=one.evidence, suggestion=one.remedy) for one in proof.broken],
        )
    return await _Purge(job, target, PurgeReport(proof=proof), lease).run()


# --- facts -----------------------------------------------------------------------------------------------------------


def _prove(job: Job, looks: Sequence[WritersSeen]) -> Proof:
    """The proof as of now; `looks` are those that the ledger's record of purges holds."""
    return prove(facts_of(job, looks), Ages(dead=YOUNG_S, stale=STALE_S))


def facts_of(job: Job, seen: Sequence[WritersSeen] = ()) -> Facts:
    """What ledger and MongoDB say now. In this order: a process that begins after the first fact reads later than it."""
    began = retrying("read the cluster time", job.source.cluster_time, job.stop)
    state = read_replication(job.ledger)
    position = state.position
    return Facts(
        began=began,
        applied=version_of(position.time, position.n) if position is not None else None,
        lost=state.lost,
        follower=state.holder.owner if not state.holder.expired(job.identity) else "",
        pending=state.pending,
        loads=open_loads(job.ledger, job.migration, job.identity),
        writers=open_writers(job.ledger, job.identity),
        letters={name: len(list_letters(job.ledger, name)) for name in job.migration.mappings},
        ended=retrying("read the cluster time", job.source.cluster_time, job.stop),
        ended_ms=now_ms(),
        seen=tuple(seen),
    )


# --- deleting --------------------------------------------------------------------------------------------------------


class _Purge:
    """One purge under way; without a lease it deletes nothing."""

    def __init__(self, job: Job, target: Target, report: PurgeReport, lease: Lease | None) -> None:
        self.job, self.target, self.report, self.lease = job, target, report, lease
        self.budget = LedgerBudget(job.ledger, "wcu", budget_of(job.migration), job.stop)
        self.letters: dict[str, set[str]] = {}
        self.watches = {name: LetterWatch(job.ledger, name) for name in job.migration.mappings}
        self.listed = -math.inf
        self.reigns = Reigns()
        self.neighbours = Neighbours()

    async def run(self) -> PurgeReport:
        began = time.monotonic()
        self.reigns = await in_thread(read_reigns, self.job.ledger, stop=self.job.stop)
        self.neighbours = await in_thread(read_neighbours, self.job.migration, self.job.ledger, stop=self.job.stop)
        layouts = self.job.migration.layouts
        for table in sorted({mapping.table for mapping in self.job.migration.mappings.values()}):
            await unless_stopped(self._table(table), self.job.stop)
            if table in layouts and layouts[table].splits:
                await unless_stopped(self._parts(table), self.job.stop)
        self.report.seconds = time.monotonic() - began
        self.report.check()
        return self.report

    def _guard(self) -> None:
        if self.job.stop.is_set():
            raise Stopped("asked to stop; what was purged is gone for good, run again for the rest")
        if self.lease is None:
            raise InvariantBroken("a dry run must not delete")
        self.lease.check()

    async def _table(self, table: str) -> None:
        segments = [asyncio.create_task(self._segment(table, number)) for number in range(SCAN_SEGMENTS)]
        try:
            done, _ = await asyncio.wait(segments, return_when=asyncio.FIRST_EXCEPTION)
            for segment in done:
                segment.result()
        finally:
            await cancel_all(segments)

    async def _parts(self, table: str) -> None:
        """A part that its item does not name was given up: by a writer that lost, or died, or was replaced (9)."""
        for number in range(SCAN_SEGMENTS):
            start: Item | None = None
            while True:
                page = await self.target.parts(table, number, SCAN_SEGMENTS, start)
                self.report.parts += page.parts
                gone = [part for part in page.unnamed if self._may_go(part)]
                self.report.parts_kept += len(page.unnamed) - len(gone)
                self.report.parts_purged += len(gone)
                if gone and self.lease is not None:
                    self.report.units += await self.target.delete_parts(table, gone, self.budget, self._guard)
                if page.next is None:
                    break
                start = page.next

    def _may_go(self, part: ItemPart) -> bool:
        horizon = self.report.proof.horizon
        if horizon is None or not _VERSION.fullmatch(part.version):
            return False
        version = parse_version(part.version)
        return part.overtaken or (version < horizon and not self.reigns.goes_on(version))

    async def _segment(self, table: str, number: int) -> None:
        entities = self.job.migration.kinds(table)
        start: Item | None = None
        while True:
            page = await self.target.scan(table, number, SCAN_SEGMENTS, start, ATTRIBUTES)
            await self._page(table, entities, page.items)
            if page.next is None:
                return
            start = page.next

    async def _page(self, table: str, entities: Mapping[str, DocumentMapping], items: Sequence[Item]) -> None:
        await self._look_for_letters()
        items = self.neighbours.without(table, list(items))
        graves: list[Grave] = []
        tombstones = [item for item in items if is_tombstone(item)]
        held = await self._held_by_mongo(table, [item for item in tombstones if self.reigns.bore(item)])
        for item in tombstones:
            self.report.scanned += 1
            reason = self._reason_to_keep(entities, item) or (LED if key_of(item) in held else "")
            if reason:
                self.report.kept[reason] += 1
            else:
                graves.append(Grave(key_of(item), item["_v"]["S"]))
        self.report.items += len(items)
        await self._delete(table, graves)
        note = f"{self.report.scanned:,} tombstones, {self.report.purged:,} purged"
        self.job.progress.advance(f"purge {table}", self.report.items, self.report.items, note)

    async def _held_by_mongo(self, table: str, graves: Sequence[Item]) -> set[ItemKey]:
        """Of graves that were dug while DynamoDB led, those of which MongoDB holds the item's document."""
        return await in_thread(keys_accounted_for, self.job, table, graves, stop=self.job.stop) if graves else set()

    async def _delete(self, table: str, graves: Sequence[Grave]) -> None:
        if self.lease is None:
            self.report.purgeable += len(graves)
            return
        written = await self.target.delete_exact(table, graves, self.budget, self._guard)
        self.report.changed += len(written.superseded)
        self.report.purged += len(graves) - len(written.superseded)
        self.report.units += written.units

    async def _look_for_letters(self) -> None:
        if time.monotonic() - self.listed < LETTERS_S:
            return
        began = time.monotonic()
        for name, watch in self.watches.items():
            letters = await in_thread(watch.look, stop=self.job.stop)
            if letters is not None:
                self.letters[name] = {letter.key for letter in letters}
        self.listed = began

    def _reason_to_keep(self, entities: Mapping[str, DocumentMapping], item: Item) -> str:
        """Why a tombstone stays; empty if it may go."""
        version = item.get("_v", {}).get("S", "")
        owner, id_data = owner_of(item, entities), item_id(item)
        if owner is None or id_data is None or item["_deleted"] != {"BOOL": True} or not _VERSION.fullmatch(version):
            return UNKNOWN
        if self.report.proof.horizon is None or parse_version(version) >= self.report.proof.horizon:
            return YOUNG
        return LETTER if letter_key(id_name(id_data)) in self.letters[owner.collection] else ""
