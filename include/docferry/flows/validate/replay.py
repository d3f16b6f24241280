"""Replay of dead letters: their documents are tried again, as MongoDB has them now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from docferry.core.cutover.permitted import Flow
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import id_of
from docferry.core.versions import version_time
from docferry.errors import ConditionFailed, InvariantBroken
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.dead_letters import DeadLetter, close_letter, letter_document, letter_key, list_letters
from docferry.flows.ledger.mapping_fingerprint import require_mapping
from docferry.flows.ledger.modes import require_permitted
from docferry.flows.ledger.rooms.owners import require_owned
from docferry.flows.ledger.writers import writing
from docferry.flows.validate import repair as mending
from docferry.ports.flows import Guard, Target


@dataclass(slots=True, kw_only=True)
class ReplayReport:
    """What replaying dead letters did: letters = stored + gone + outside + still_dead + superseded + changed.

    `outside`: the collection's filter leaves the document out, and nothing is stored of it. `superseded`: all of the document's
    items were newer already, and nothing was written. `changed`: the letter was replaced meanwhile, and stays.
    """

    letters: int = 0
    stored: int = 0
    gone: int = 0
    outside: int = 0
    still_dead: int = 0
    superseded: int = 0
    changed: int = 0

    def check(self) -> None:
        """Raises InvariantBroken if a letter is unaccounted for."""
        accounted = self.stored + self.gone + self.outside + self.still_dead + self.superseded + self.changed
        if self.letters != accounted:
            raise InvariantBroken(f"replay: {self.letters} letters do not add up: {self.to_dict()}")

    def to_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def plan_replay(job: Job, collection: str, ids: Sequence[str] = ()) -> list[DeadLetter]:
    """The letters that would be tried. Reads only. Raises as `replay_letters`."""
    require_permitted(job.ledger, Flow.REPLAY)
    require_mapping(job.migration, job.ledger, [collection])
    require_owned(job.migration, job.ledger)
    keys, handles = set(map(letter_key, ids)), set(ids)
    return [one for one in list_letters(job.ledger, collection) if not ids or one.key in keys or one.handle in handles]


async def replay_letters(job: Job, target: Target, collection: str, ids: Sequence[str] = ()) -> ReplayReport:
    """Try the documents of dead letters again, as MongoDB has them now: fix the document, then replay.

    `ids`: those of the documents, or the handles of letters; none means all.

    A letter is closed by a strictly later version only: its document has been stored, or something newer had been, or it
    is gone from MongoDB; and only if the letter has not changed meanwhile. What fails again stays, with the new reason.

    Raises: PreflightFailed while DynamoDB leads, and if the mapping is not the one of the load.
    """
    chosen = await in_thread(plan_replay, job, collection, ids, stop=job.stop)
    mapping = job.migration.mapping(collection)
    report = ReplayReport()
    if chosen:
        async with writing(job.ledger, job.identity, f"replay {collection}", job.stop) as leased:
            for letter in chosen:
                report.letters += 1
                outcome = await _replay_one(_Replay(job, target, mapping, leased), letter)
                setattr(report, outcome, getattr(report, outcome) + 1)
    report.check()
    return report


class _Replay(NamedTuple):
    job: Job
    target: Target
    mapping: DocumentMapping
    leased: Guard


async def _replay_one(replay: _Replay, letter: DeadLetter) -> str:
    job = replay.job
    letter_version = letter.version
    try:
        original = await in_thread(letter_document, job.ledger, letter, stop=job.stop)
    except ConditionFailed:
        return "changed"
    outcome, version = await _put_as_of_now(replay, id_of(original), letter_version)
    if outcome != "still_dead" and version <= letter_version:  # MongoDB's time has not moved since: let it
        work = mending._Repair(job, replay.target, mending.RepairReport(), replay.leased)
        await work.time_after([version_time(letter_version)])
        outcome, version = await _put_as_of_now(replay, id_of(original), letter_version)
    if outcome == "still_dead":
        return outcome
    if version <= letter_version:
        return "superseded"
    try:
        await in_thread(close_letter, job.ledger, letter, stop=job.stop)
    except ConditionFailed:
        return "changed"
    return outcome


async def _put_as_of_now(replay: _Replay, id_data: bytes, letter_version: int) -> tuple[str, int]:
    """(what became of the document, the version it was read at), at a time not before the letter."""
    job, floor = replay.job, version_time(letter_version)
    raw, version = await in_thread(mending.read_now, job, replay.mapping.collection, [id_data], floor, stop=job.stop)
    done = mending.RepairReport()
    await mending._Repair(job, replay.target, done, replay.leased).put(replay.mapping, raw, version)
    if not raw:
        return "gone", version
    if done.outside:
        return "outside", version
    return "still_dead" if done.dead else "superseded" if done.superseded else "stored", version
