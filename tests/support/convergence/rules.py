"""The rules of convergence, each of which a run can break, and what of docferry stands in the way of a run.

Nothing of the product is changed: a broken rule is a subclass, or a function put in the place of another for one run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from bson.timestamp import Timestamp
from docferry.core.mapping.change_writes import DecodedChange, Writes
from docferry.core.mapping.items import Item, is_guard, key_of
from docferry.core.mapping.mapping import DocumentMapping, KeyFields
from docferry.core.mapping.raw import id_name
from docferry.flows.ledger.dead_letters import close_letter, read_letter
from docferry.flows.replicate.lanes import Applying, Lanes
from docferry.flows.replicate.report import ChangeOutcome, ReplicationReport
from docferry.flows.validate.repair import _Repair
from docferry.ports.flows import ChangeEvent, StreamPosition

from support.convergence.sides import DOCS

T = TypeVar("T")

BROKEN = (
    "no tombstones",
    "no position inside a time",
    "unconditional dual write",
    "content read back",
    "page before the position",
    "own time on an unproved reply",
    "a letter closed by its own event",
    "no digest",
    "a digest of versions",
    "root only where it was touched",
    "no values in a pre-image",
    "guards that were there stay behind a letter",
    "guards as they come, whatever their versions",
    "guards that are given up stay",
    "guards of a letter stay",
    "guards by their owner",
    "no tombstones of guards",
    "a load without conditions beside others",
)


class CountedLanes(Lanes):
    """Knows how many of its workers are at work."""

    def __init__(self, work: Applying, position: StreamPosition) -> None:
        super().__init__(work, position, ReplicationReport().books)
        self.killed = False

    @property
    def working(self) -> int:
        return self._scheduler.working

    async def kill(self) -> None:
        """What it had in mind is gone, in the midst of an event's items, too."""
        self.killed = True
        await self.end()


class LettersClosedAtOnce(CountedLanes):
    """Closes a dead letter by the very change that opened it."""

    async def _apply(self, change: ChangeEvent) -> ChangeOutcome:
        outcome = await super()._apply(change)
        letter = read_letter(self.work.ledger, DOCS, id_name(change.id))
        if letter is not None and letter.version <= change.version:
            close_letter(self.work.ledger, letter)
        return outcome


class RootOnlyWhereTouched(CountedLanes):
    """Takes the root for an item like the others: its digest stays behind when only children change."""

    def _writes(self, decoded: DecodedChange, ttl: str, touched: tuple[str, ...] | None) -> Writes:
        writes = super()._writes(decoded, ttl, touched)
        only_children = touched and all(path.startswith("parts") for path in touched)
        return replace(writes, root=None) if only_children and writes.error is None else writes


class GuardsForgottenBehindLetters(CountedLanes):
    """Puts those guards alone that a change gains, though the document had none behind its letter."""

    def _writes(self, decoded: DecodedChange, ttl: str, touched: tuple[str, ...] | None) -> Writes:
        writes = super()._writes(decoded, ttl, touched)
        had = set(map(key_of, decoded.old))
        first = [
            item for item in writes.first if not (is_guard(item) and "_deleted" not in item and key_of(item) in had)
        ]
        return replace(writes, first=first)


class GuardsNeverGivenUp(CountedLanes):
    def _writes(self, decoded: DecodedChange, ttl: str, touched: tuple[str, ...] | None) -> Writes:
        writes = super()._writes(decoded, ttl, touched)
        return replace(writes, first=[item for item in writes.first if not (is_guard(item) and "_deleted" in item)])


class GuardsOfLettersStay(CountedLanes):
    """Buries the items of a document that cannot be stored, and leaves it its values."""

    def _writes(self, decoded: DecodedChange, ttl: str, touched: tuple[str, ...] | None) -> Writes:
        writes = super()._writes(decoded, ttl, touched)
        if writes.error is None:
            return writes
        return replace(writes, first=[item for item in writes.first if not is_guard(item)])


LANES_OF = {
    "guards of a letter stay": GuardsOfLettersStay,
    "guards that were there stay behind a letter": GuardsForgottenBehindLetters,
    "guards that are given up stay": GuardsNeverGivenUp,
    "a letter closed by its own event": LettersClosedAtOnce,
    "root only where it was touched": RootOnlyWhereTouched,
}


def digest_of_versions(children: Sequence[Item]) -> str:
    """What `digest` must not be: a child that was not touched keeps its version, and the next root tells another."""
    found = sorted((*key_of(child), child["_v"]["S"]) for child in children)
    return hashlib.blake2b(json.dumps(found).encode(), digest_size=16).hexdigest()


# --- a run's own time ------------------------------------------------------------------------------------------------


class PatientRepair(_Repair):
    """Waits at gates for MongoDB's time to pass, and gives up after some: a run has no clock."""

    GATES = 3

    async def time_after(self, times: Sequence[Timestamp]) -> None:
        for _ in range(self.GATES):
            if await self._cluster_time() not in times:
                return
            await self.target.gates.wait()  # type: ignore[attr-defined]


@contextlib.contextmanager
def rule_broken(patch: Any, broken: str) -> Iterator[None]:
    """The patches that every run needs, and those of a broken rule; undone at the end."""
    with patch.context() as inner:
        inner.setattr("docferry.flows.validate.repair._Repair", PatientRepair)
        if broken == "no values in a pre-image":
            inner.setattr(DocumentMapping, "key_fields", property(_without_values))
        if broken == "a digest of versions":
            inner.setattr("docferry.core.mapping.mapping.digest", digest_of_versions)
        yield


@contextlib.contextmanager
def calls_inline(patch: Any) -> Iterator[None]:
    """Blocking calls of the fakes do not block: no thread is needed, and the run is the seed's alone."""

    async def aside(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return call(*arguments)

    async def to_thread(call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    async def unless_stopped(work: Awaitable[T], stop: Any) -> T:
        return await work

    with patch.context() as inner:
        flows = ("replicate.lanes", "backfill.chunk_loader", "validate.repair", "validate.replay", "ledger.leases")
        for flow in flows:
            inner.setattr(f"docferry.flows.{flow}.in_thread", aside)
        inner.setattr("docferry.flows.validate.repair.unless_stopped", unless_stopped)
        inner.setattr(asyncio, "to_thread", to_thread)
        yield


_KEY_FIELDS = DocumentMapping.key_fields


def _without_values(mapping: DocumentMapping) -> KeyFields:
    found: KeyFields = _KEY_FIELDS.__get__(mapping)
    return replace(found, whole=())
