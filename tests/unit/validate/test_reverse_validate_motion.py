"""MongoDB is judged while DynamoDB is written: what is on its way is no mismatch, and what is not known is pending."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from random import Random

import pytest
from bson.timestamp import Timestamp
from docferry.core.mapping.raw import id_bytes
from docferry.flows.validate import reverse_recheck as reverse_judging
from docferry.flows.validate.first_pass import ValidationReport, validate
from support.reverse.judged import Judged
from support.validate.reverse_world import ANN, BOB, NOTE, filled, hurried, told, world

__all__ = ["hurried", "world"]

# --- on its way ------------------------------------------------------------------------------------------------------


SOME = range(100, 140)


async def traffic(world: Judged, seed: int) -> None:
    """Inserts, updates, renames, children that come and go, deletes; one document is written all the time."""
    random, live = Random(seed), set(SOME)
    for turn in range(1_000_000):
        world.put("users", ANN | {"turn": turn})
        number = random.choice(SOME)
        if number in live and random.random() < 0.3:
            live.remove(number)
            world.remove("users", number)
        else:
            live.add(number)
            streets = [{"street": str(turn)}] * random.randrange(3)
            world.put("users", {"_id": number, "name": f"n{number}-{random.randrange(3)}", "addresses": streets})
        await asyncio.sleep(random.random() * 0.01)


@pytest.mark.parametrize("seed", range(6))
def test_traffic_in_motion_gives_no_mismatch_and_what_is_planted_is_found_all_the_same(seed: int) -> None:
    world = filled(Judged(settle_s=0.3))
    world.put("users", *({"_id": number, "name": f"n{number}"} for number in SOME))
    world.follow()
    world.target.page_items = 5
    world.tamper("users", BOB | {"mail": "planted"})
    world.tamper("notes", {"_id": 8})
    report = world.validate(meanwhile=lambda: traffic(world, seed))
    assert sorted(told(report)) == [
        ("different", "users", "2", "mail", "string b", "string planted"),
        ("extra", "notes", "8", "", "no document", "a document"),
    ], report.render()
    assert (report.pending, report.verdict) == (0, "DIFFERENT")
    assert report.rechecked > 2, "something was on its way"
    assert report.collections[0].documents > 20


def test_copy_that_comes_to_another_place_during_each_look_is_no_mismatch(world: Judged) -> None:
    """What was read of DynamoDB says nothing of a place that MongoDB's copy maps to only since."""
    cyd, moved = {"_id": 3, "name": "cyd"}, {"_id": 3, "name": "moved"}
    world.tamper("users", cyd)
    read_ids = world.source.read_ids
    asked: list[int] = []

    def read(collection: str, ids: Sequence[bytes], at: Timestamp) -> list[bytes]:
        if ids == [id_bytes(3)] and len(asked) < 40:
            asked.append(1)
            if len(asked) % 2:
                world.tamper_away("users", 3)
            else:
                world.put("users", moved)
                world.tamper("users", moved)
            at = world.source.cluster_time()
        return read_ids(collection, ids, at)

    world.source.read_ids = read  # type: ignore[method-assign]
    report = world.validate()
    assert (report.verdict, len(asked)) == ("EQUAL", 40), report.render()


def test_what_reverse_replication_brings_later_than_it_settles_is_no_mismatch(world: Judged) -> None:
    world.put("users", BOB | {"mail": "late"})

    async def late() -> ValidationReport:
        checking = asyncio.create_task(validate(world.validation(), world.target))
        await asyncio.sleep(0.5)
        assert not checking.done()
        await asyncio.to_thread(world.follow)
        return await checking

    report = asyncio.run(late())
    assert report.verdict == "EQUAL", report.render()
    assert report.generations > 3


def test_what_arrives_soon_is_not_waited_for_as_long_as_a_difference_must_stay() -> None:
    world = filled(Judged(settle_s=30.0))
    world.put("users", BOB | {"mail": "soon"})

    async def soon() -> ValidationReport:
        checking = asyncio.create_task(validate(world.validation(), world.target))
        await asyncio.sleep(0.2)  # it has looked twice by then
        assert not checking.done()
        await asyncio.to_thread(world.follow)
        return await asyncio.wait_for(checking, 10.0)

    assert asyncio.run(soon()).verdict == "EQUAL"


def test_difference_is_pending_while_reverse_replication_stands_still(
    world: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reverse_judging, "STILL_S", 0.3)
    world.tamper("notes", NOTE | {"text": "other"})
    report = world.validate_alone()
    assert (report.verdict, report.pending) == ("UNDECIDED", 1)
    assert "reverse replication stands still at 20" in report.render()
    assert [one.kind.value for one in report.differences] == ["pending"]


def test_difference_is_pending_where_reverse_replication_has_never_run() -> None:
    world = Judged()
    world.tamper("notes", NOTE)
    report = world.validate_alone()
    assert report.verdict == "UNDECIDED"
    assert "reverse replication has never run: start it (docferry reverse" in report.why_pending


def test_document_that_mongodb_is_always_behind_with_is_equal_once_its_copy_becomes_what_was_read(
    world: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reverse_judging, "JUDGING_BEHIND_S", 60.0)  # on a slow machine its copy becomes that later
    put = world.sink.put

    def late(collection: str, document: bytes) -> None:
        time.sleep(0.04)  # in a thread of its own
        put(collection, document)

    async def busy() -> None:
        for turn in range(1_000_000):
            world.put("notes", NOTE | {"turn": turn})
            await asyncio.sleep(0.02)

    world.sink.put = late  # type: ignore[method-assign]
    report = world.validate(meanwhile=busy)
    assert report.verdict == "EQUAL", report.render()
    assert report.rechecked > 0, "it was behind"


def test_document_that_is_written_before_each_look_is_pending_in_the_end(
    world: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reverse_judging, "JUDGING_BEHIND_S", 0.5)
    world.sink.refuses = lambda document: document["_id"] == 7

    async def busy() -> None:
        for turn in range(1_000_000):
            world.put("notes", NOTE | {"turn": turn})
            await asyncio.sleep(0.001)

    report = world.validate(meanwhile=busy)
    assert (report.verdict, report.pending) == ("UNDECIDED", 1), report.render()
    assert report.why_pending == "some are written again before each look"
