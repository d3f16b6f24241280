"""Where a change stream stands, where it ends, and what can be read behind its end."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from docferry.core.mapping.raw import id_of
from docferry.core.versions import N_MAX, snapshot_version
from docferry.errors import ResumeTokenLost, StreamEnded, Unavailable
from docferry.ports.flows import ChangeEvent, Feed
from support.mongodb.worlds import (
    END,
    FIELDS,
    Document,
    FakeWorld,
    RealWorld,
    World,
    changes_of,
    id_in,
    real,
    story,
    told,
    until_end,
    world,
)

__all__ = ["real", "world"]


def ended_at(feed: Feed) -> tuple[list[ChangeEvent], StreamEnded]:
    """What comes before the end, and the end."""
    found: list[ChangeEvent] = []
    for _ in range(50):
        try:
            found += feed.read(0.2).changes
        except StreamEnded as ended:
            return found, ended
    raise AssertionError("it never ended")


# --- positions -------------------------------------------------------------------------------------------------------


def test_position_moves_on_while_nothing_happens(world: World) -> None:
    position = world.source.stream_position()
    with closing(world.source.follow(position, FIELDS)) as feed:
        for _ in range(3):
            before = feed.read(0.1).position
            world.pass_time()
            now = world.source.cluster_time()
            for _ in range(50):
                batch = feed.read(0.2)
                assert batch.changes == []
                if batch.position.time >= now:
                    break
            assert batch.position.time >= now > before.time
    world.put("things", {"_id": 1})
    (found,) = changes_of(world, batch.position)
    assert (id_in(found), found.n, found.version) == (1, 0, version_at(found))


def version_at(change: ChangeEvent) -> int:
    return snapshot_version(change.time) - N_MAX + change.n


def test_position_behind_a_batch_is_that_of_its_last_change_or_later(world: World) -> None:
    with closing(world.source.follow(story(world), FIELDS)) as feed:
        for _ in range(50):
            batch = feed.read(0.2)
            if batch.changes:
                assert batch.position.time >= batch.changes[-1].time
            if batch.changes and batch.changes[-1].operation == "delete":
                return
    raise AssertionError("the last change did not come")


def test_position_that_is_no_longer_held_is_lost() -> None:
    """On a server: tests/faults/replicate/test_position_lost.py, which needs an oplog of its own to overrun."""
    world = FakeWorld()
    position = story(world)
    world.fake.history_from = world.fake.cluster_time()
    with pytest.raises(ResumeTokenLost):
        world.source.follow(position, FIELDS)


# --- where it ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "reason", "collections"),
    [
        (lambda world: world.drop("things"), "drop", ("things",)),
        (lambda world: world.rename("things", "elsewhere"), "rename", ("things",)),
        (lambda world: world.rename("noise", "things"), "rename", ("things",)),
        (lambda world: world.rename("things", "others"), "rename", ("things", "others")),
    ],
    ids=["drop", "rename from", "rename to", "rename both"],
)
def test_stream_ends_loudly_behind_what_comes_before(
    world: World, what: Any, reason: str, collections: tuple[str, ...]
) -> None:
    world.put("noise", {"_id": 1})
    position = world.source.stream_position()
    world.put("things", {"_id": 1})
    what(world)
    with closing(world.source.follow(position, FIELDS)) as feed:
        found, ended = ended_at(feed)
    assert [id_in(one) for one in found] == [1]
    assert (ended.reason, ended.collections) == (reason, collections)
    with closing(world.source.follow(found[-1].position, FIELDS)) as feed:
        assert ended_at(feed)[1].reason == reason, "from in front of it, it ends again"


def test_collections_without_a_mapping_come_and_go(world: World) -> None:
    world.put("noise", {"_id": 1})
    position = world.source.stream_position()
    world.rename("noise", "noise2")
    world.drop("noise2")
    world.put("things", {"_id": 1})
    assert [id_in(one) for one in changes_of(world, position)] == [1]


def test_missing_images_end_the_stream(world: World) -> None:
    world.put("things", {"_id": 1, "name": "a"})
    position = world.source.stream_position()
    world.put("others", {"_id": 7})
    world.images_off("things")
    world.put("things", {"_id": 2})  # has no image in front of it, and itself behind
    world.put("things", {"_id": 1, "name": "b"})
    with closing(world.source.follow(position, FIELDS)) as feed:
        found, ended = ended_at(feed)
    assert [id_in(one) for one in found] == [7, 2]
    assert (ended.reason, ended.collections) == ("images_missing", ("things",))


def test_whoever_reads_on_gets_what_is_behind_the_end(world: World) -> None:
    position = world.source.stream_position()
    world.put("things", {"_id": 1})
    world.drop("things")
    world.put("others", {"_id": 2})
    world.put("others", {"_id": END})
    world.remove("others", END)
    with closing(world.source.follow(position, FIELDS)) as feed:
        _, ended = ended_at(feed)
        behind = until_end(feed)
    assert [id_in(one) for one in behind] == [2]
    with closing(world.source.follow(ended.position, FIELDS)) as feed:
        assert [told(one) for one in until_end(feed)] == [told(one) for one in behind]


def test_dropped_database_ends_it_each_time_and_can_be_followed_from_behind(world: World) -> None:
    position = world.source.stream_position()
    world.put("things", {"_id": 1})
    world.drop_database()
    reasons: list[str] = []
    while "invalidate" not in reasons:
        with closing(world.source.follow(position, FIELDS)) as feed:
            _, ended = ended_at(feed)
        assert ended.collections == (() if ended.reason in ("dropDatabase", "invalidate") else ended.collections)
        reasons.append(ended.reason)
        position = ended.position
    assert set(reasons) == {"drop", "dropDatabase", "invalidate"}
    world.create()
    world.put("things", {"_id": 5})
    assert [(id_in(one), one.operation) for one in changes_of(world, position)] == [(5, "insert")]


def test_what_is_no_valid_text_arrives_as_it_is_and_takes_nothing_along(real: RealWorld) -> None:
    def raw(whole: Document) -> RawBSONDocument:
        return RawBSONDocument(bson.encode(whole).replace(b"WXYZ", b"W\xff\xfeZ"))

    things = real.database["things"]
    position = real.source.stream_position()
    documents: list[Document] = [{"_id": 1, "n": "WXYZ"}, {"_id": 2, "WXYZ": 1}, {"_id": "WXYZ"}, {"_id": 4}]
    for number, whole in enumerate(documents):
        things.insert_one(raw(whole))
        assert number < 4
    things.update_one({"_id": 4}, raw({"$set": {"WXYZ": 1}}))
    things.update_one({"_id": 4}, raw({"$set": {"name": "WXYZ"}}))
    things.delete_one({"_id": 4})
    changes = changes_of(real, position)
    assert [one.operation for one in changes] == ["insert"] * 4 + ["update"] * 2 + ["delete"]
    assert changes[2].id == id_of(bytes(raw({"_id": "WXYZ"}).raw))
    assert b"W\xff\xfeZ" in (changes[6].before or b"")
    assert changes[4].touched == ("W\ufffd\ufffdZ",)


LONG_ID = "K" * 4_090
"""From about 4 KB on pymongo's raw documents are views, not bytes."""


def test_documents_with_an_id_of_kilobytes_arrive(real: RealWorld) -> None:
    position = real.source.stream_position()
    real.put("things", {"_id": LONG_ID})
    real.update(LONG_ID, {"$set": {"name": "n"}}, {"_id": LONG_ID, "name": "n"}, ["name"])
    real.remove("things", LONG_ID)
    changes = changes_of(real, position)
    assert [(id_in(one), one.operation) for one in changes] == [
        (LONG_ID, name) for name in ("insert", "update", "delete")
    ]
    assert all(type(one.id) is bytes for one in changes)


def test_change_without_its_images_of_a_document_with_an_id_of_kilobytes_arrives(real: RealWorld) -> None:
    whole = {"_id": LONG_ID, "fill": b"x" * (16 * 1024 * 1024 - 4_090 - 200)}
    real.put("things", whole)
    position = real.source.stream_position()
    real.update(LONG_ID, {"$set": {"name": "n"}}, whole | {"name": "n"}, ["name"])
    (change,) = changes_of(real, position)
    assert (id_in(change), change.images_lost) == (LONG_ID, True)


def test_collection_that_is_made_capped_ends_the_stream_and_says_what_to_do(real: RealWorld) -> None:
    position = real.source.stream_position()
    real.put("things", {"_id": 1})
    real.database.command("convertToCapped", "things", size=100_000)
    with closing(real.source.follow(position, FIELDS)) as feed:
        found, ended = ended_at(feed)
    assert [id_in(one) for one in found] == [1]
    assert (ended.reason, ended.collections) == ("convertToCapped", ("things",))
    assert "ordinary collection" in str(ended)


def test_end_of_a_collection_names_every_step_of_the_way_back(real: RealWorld) -> None:
    position = real.source.stream_position()
    real.drop("things")
    with closing(real.source.follow(position, FIELDS)) as feed:
        _, ended = ended_at(feed)
    steps = [str(ended).find(step) for step in ("provision", "backfill --again", "replicate", "repair")]
    assert steps == sorted(steps)
    assert steps[0] >= 0


def test_cursor_that_was_killed_is_unavailable_and_the_position_holds(real: RealWorld) -> None:
    position = story(real)
    feed = real.mongo.follow(position, FIELDS)
    real.client.admin.command("killSessions", [feed._session.session_id])
    with pytest.raises(Unavailable):
        until_end(feed)
    feed.close()
    assert len(changes_of(real, position)) == 9
