"""What the journals prove: entries of which MongoDB holds the documents, up to an end that nothing passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from docferry.core.cutover.instances import INSTANCES, Instance
from docferry.core.cutover.journal import Entry, EntryKind, LaneName, Wrote
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.versions import version_text
from docferry.errors import JournalBroken, NotApplied
from docferry.flows.ledger.times import now_ms
from docferry.flows.reverse import journals, seals
from docferry.flows.reverse.follower import reverse
from docferry.flows.reverse.journals import JournalProof, JournalsProved
from docferry.flows.reverse.proof import Write
from docferry.testing.fakes import FakeJournal
from docferry.testing.jobs import change_job
from support.reverse.fakes import ANN, BOB, back
from support.reverse.rig import TABLE, Back

__all__ = ["back"]

HELD = 4


class Journals:
    """The journal of a few processes beside DynamoDB and MongoDB."""

    def __init__(self, back: Back) -> None:
        self.back, self.journal = back, FakeJournal()
        self.job = change_job(back.job(), journal=self.journal)

    def instance(self, id: str, lives: bool = True, **more: Any) -> None:
        now = now_ms()
        until = now + 60_000 if lives else now - 60_000
        usual: dict[str, Any] = {"lanes": 1, "at": (0,), "epoch": HELD}
        one = Instance(id=id, name=id, mark="", registered_ms=now, beat_ms=now, until_ms=until, **usual | more)
        self.back.ledger.write(INSTANCES, id, one.to_body(), expect=self.back.ledger.read(INSTANCES, id))

    def wrote(self, id: str, slot: int, *writes: Write, expires_s: int = 0) -> None:
        named = [
            Wrote(table=one.table, key=one.key, version=version_text(one.version), expires_s=expires_s)
            for one in writes
            if one.key[1] in ("PROFILE", "NOTE")
        ]
        entry = Entry(kind=EntryKind.WRITE, nonce=f"{id} {slot}", wrote=named)
        self.journal.entries.setdefault(LaneName(id, 0), {})[slot] = entry

    def run(self, work: Callable[[JournalProof], Coroutine[Any, Any, Any]]) -> Any:
        return asyncio.run(work(JournalProof(self.job, self.back.target)))

    def to_the_end(self, within_s: float = 0.3) -> JournalsProved:
        found: JournalsProved = self.run(lambda proof: proof.to_the_end(HELD, time.monotonic() + within_s))
        return found


@pytest.fixture
def world(back: Back, monkeypatch: pytest.MonkeyPatch) -> Journals:
    monkeypatch.setattr(journals, "LOOK_AGAIN_S", 0.005)
    monkeypatch.setattr(seals, "SHOW_S", 0.002)
    return Journals(back)


def test_lane_is_proved_once_mongodb_holds_what_its_entries_name(world: Journals) -> None:
    world.instance("one", at=(1,))
    world.wrote("one", 1, *world.back.put("users", ANN))
    with pytest.raises(NotApplied, match="users ~i1"):
        world.to_the_end()
    world.back.follow()
    assert world.to_the_end() == JournalsProved(instances=1, sealed=0, entries=1)


def test_entry_counts_only_once_its_document_shows(world: Journals) -> None:
    (write,) = world.back.put("users", BOB)
    world.back.follow()
    world.instance("one", at=(1,))
    world.wrote("one", 1, write._replace(version=write.version + 1))
    with pytest.raises(NotApplied):
        world.to_the_end()


def test_silent_process_is_struck_off_and_its_lane_sealed_behind_what_it_wrote(world: Journals) -> None:
    world.instance("one", epoch=HELD - 1, at=(0,))
    world.wrote("one", 1, *world.back.put("users", ANN))  # since its last word
    world.back.follow()
    assert world.to_the_end() == JournalsProved(instances=1, sealed=1, entries=2)
    assert world.journal.entries[LaneName("one", 0)][2].kind is EntryKind.SEAL
    record = world.back.ledger.read(INSTANCES, "one")
    assert record is not None
    assert record.body["struck"]


def test_what_a_dead_process_wrote_since_its_last_word_is_waited_for(world: Journals) -> None:
    world.instance("one", epoch=HELD - 1, lives=False)
    world.wrote("one", 1, *world.back.put("users", ANN))
    with pytest.raises(NotApplied, match="users ~i1"):
        world.to_the_end()


def test_process_that_has_acknowledged_or_ended_is_taken_at_its_word(world: Journals) -> None:
    world.instance("one", at=(1,))
    world.instance("two", at=(1,), epoch=1, ended=True)
    for id, document in (("one", ANN), ("two", BOB)):
        world.wrote(id, 1, *world.back.put("users", document))
    world.back.follow()
    assert world.to_the_end().sealed == 0
    assert all(entry.kind is EntryKind.WRITE for lane in world.journal.entries.values() for entry in lane.values())


def test_sealing_again_changes_nothing(world: Journals) -> None:
    world.instance("one", epoch=1, at=(0,))
    world.to_the_end()
    before = {lane: dict(slots) for lane, slots in world.journal.entries.items()}
    world.to_the_end()
    assert world.journal.entries == before


@pytest.mark.parametrize(
    ("slots", "at", "why"),
    [((1, 3), 3, "has no entry 2, and entries behind it"), ((1,), 2, "ends with entry 1, and its process says 2")],
    ids=["gap", "too few"],
)
def test_lane_that_lacks_entries_is_an_error_and_proves_nothing(
    world: Journals, monkeypatch: pytest.MonkeyPatch, slots: tuple[int, ...], at: int, why: str
) -> None:
    monkeypatch.setattr(journals, "SHOW_TRIES", 3)
    writes = world.back.put("users", ANN)
    world.back.follow()
    world.instance("one", at=(at,))
    for slot in slots:
        world.wrote("one", slot, *writes)
    with pytest.raises(JournalBroken, match=why):
        world.to_the_end()


def test_entry_that_shows_a_moment_later_is_waited_for(world: Journals) -> None:
    writes = world.back.put("users", ANN)
    world.back.follow()
    world.instance("one", at=(2,))
    world.wrote("one", 2, *writes)
    read = world.journal.read
    asked: list[int] = []

    def shows_later(lane: LaneName, after: int, limit: int) -> Any:
        asked.append(after)
        if len(asked) == 3:
            world.wrote("one", 1, *writes)
        return read(lane, after, limit)

    world.journal.read = shows_later  # type: ignore[method-assign]
    assert world.to_the_end().entries == 2


def test_document_that_expired_and_was_removed_by_ttl_is_not_waited_for(world: Journals) -> None:
    world.instance("one", at=(1,))
    gone = Write(TABLE, ("NOTE#~i7", "NOTE"), 9)
    world.wrote("one", 1, gone, expires_s=int(time.time()) - 10)
    assert world.to_the_end().entries == 1
    world.instance("two", at=(1,))
    world.wrote("two", 1, gone, expires_s=int(time.time()) + 1000)
    with pytest.raises(NotApplied):
        world.to_the_end()


def test_proved_entries_are_not_read_again_by_whoever_comes_next(world: Journals) -> None:
    world.instance("one", at=(1,))
    world.wrote("one", 1, *world.back.put("users", ANN))
    world.back.follow()
    assert world.run(lambda proof: proof.look()) == 0
    world.back.sink.documents.clear()
    assert world.to_the_end().entries == 0


def test_look_counts_what_is_not_proved(world: Journals) -> None:
    world.instance("one", at=(3,))
    for slot in (1, 2, 3):
        world.wrote("one", slot, *world.back.put("users", ANN | {"n": slot}))
    assert world.run(lambda proof: proof.look()) == 3
    world.back.follow()
    assert world.run(lambda proof: proof.look()) == 0


def test_vanished_process_is_sealed_before_writes_wait_and_then_needs_no_look(world: Journals) -> None:
    world.instance("one", lives=False, epoch=1)
    world.instance("two", epoch=1)
    world.run(lambda proof: proof.close_vanished())
    assert [entry.kind for entry in world.journal.entries[LaneName("one", 0)].values()] == [EntryKind.SEAL]
    assert LaneName("two", 0) not in world.journal.entries
    asked: list[LaneName] = []
    read = world.journal.read

    def noted(lane: LaneName, after: int, limit: int) -> Any:
        asked.append(lane)
        return read(lane, after, limit)

    world.journal.read = noted  # type: ignore[method-assign]
    world.to_the_end()
    assert LaneName("one", 0) not in asked


def test_what_mongodb_lacks_is_applied_at_once_though_the_stream_shows_nothing(world: Journals) -> None:
    world.back.streams.empty_share = 1.0
    mode = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=2, journal=True)
    world.back.ledger.write(*MODE, mode.to_body(), expect=world.back.ledger.read(*MODE))
    world.instance("one", at=(1,))
    world.wrote("one", 1, *world.back.put("users", ANN))
    report = asyncio.run(reverse(world.job, world.back.target, for_s=0.6))
    assert world.back.users() == [ANN]
    assert report.records == 0
