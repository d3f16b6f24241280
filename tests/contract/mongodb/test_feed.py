"""What every feed promises: each change once and in order, with its version, its images and the paths it names; positions
from which it goes on exactly there; and a loud end where it cannot."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import DBRef
from docferry.core.versions import N_MAX, snapshot_version
from support.mongodb.worlds import (
    Document,
    RealWorld,
    World,
    changes_of,
    document,
    real,
    story,
    told,
    without_empty,
    world,
)

__all__ = ["real", "world"]


# --- events ----------------------------------------------------------------------------------------------------------


def test_each_kind_of_event_comes_once_and_in_order(world: World) -> None:
    changes = changes_of(world, story(world))
    assert [told(one) for one in changes] == [
        ("things", "insert", 1, None, {"_id": 1, "name": "a"}),
        ("things", "replace", 1, {"_id": 1, "name": "a"}, {"_id": 1, "name": "b", "n": 2}),
        ("things", "update", 1, {"_id": 1, "name": "b"}, {"_id": 1, "name": "b", "n": 3}),
        ("others", "insert", 1, None, {"_id": 1}),
        ("things", "insert", 2, None, {"_id": 2, "name": "c"}),
        ("things", "replace", 1, {"_id": 1, "name": "b"}, {"_id": 1, "name": "d"}),
        ("things", "delete", 2, {"_id": 2, "name": "c"}, None),
        ("others", "replace", 1, {"_id": 1}, {"_id": 1, "n": 1}),
        ("things", "delete", 1, {"_id": 1, "name": "d"}, None),
    ]
    assert not any(one.images_lost for one in changes)


def test_versions_rise_and_lie_between_the_snapshots_around_them(world: World) -> None:
    before = snapshot_version(world.source.cluster_time())
    changes = changes_of(world, story(world))
    versions = [one.version for one in changes]
    assert versions == sorted(set(versions))
    assert before < versions[0]
    assert versions[-1] < snapshot_version(world.source.cluster_time())


def test_events_of_one_transaction_share_a_time_and_those_of_unmapped_collections_count(world: World) -> None:
    changes = changes_of(world, story(world))
    together = changes[4:8]
    assert len({one.time for one in together}) == 1
    assert [one.n for one in together] == [0, 2, 3, 4]
    assert all(one.n == 0 for one in changes if one not in together)
    assert all(one.version < N_MAX + snapshot_version(one.time) for one in changes)


def test_from_any_position_the_rest_comes_with_the_same_versions(world: World) -> None:
    changes = changes_of(world, story(world))
    for place, change in enumerate(changes):
        again = changes_of(world, change.position)
        assert [told(one) for one in again] == [told(one) for one in changes[place + 1 :]]
        assert [one.version for one in again] == [one.version for one in changes[place + 1 :]]


UPDATES: dict[str, tuple[Document, Any, Document, set[str]]] = {
    "$set and $unset": (
        {"a": 1, "b": {"c": 2}},
        {"$set": {"b.c": 3}, "$unset": {"a": 1}},
        {"b": {"c": 3}},
        {"b.c", "a"},
    ),
    "an element": ({"l": [1, 2, 3]}, {"$set": {"l.1": 9}}, {"l": [1, 9, 3]}, {"l.1"}),
    "a field of an element": ({"l": [{"x": 1, "y": 1}]}, {"$set": {"l.0.x": 2}}, {"l": [{"x": 2, "y": 1}]}, {"l.0.x"}),
    "$push": ({"l": [1]}, {"$push": {"l": 2}}, {"l": [1, 2]}, {"l.1"}),
    "cut short": ({"l": [1, 2, 3], "n": 0}, [{"$set": {"l": {"$slice": ["$l", 1]}}}], {"l": [1], "n": 0}, {"l"}),
    "pipeline": ({"a": 1, "b": 1}, [{"$set": {"a": {"$add": ["$a", 1]}}}, {"$unset": "b"}], {"a": 2}, {"a", "b"}),
    "a name with a dot": (
        {"x": {"c": "also here, so that x is not set whole " * 5, "a.b": 1}},
        [{"$set": {"x": {"$setField": {"field": "a.b", "input": "$x", "value": 2}}}}],
        {"x": {"c": "also here, so that x is not set whole " * 5, "a.b": 2}},
        {"x.a.b"},
    ),
    "a key": ({"name": "a"}, {"$set": {"name": "b"}}, {"name": "b"}, {"name"}),
}


@pytest.mark.parametrize("kind", UPDATES)
def test_update_names_the_paths_that_it_changed(world: World, kind: str) -> None:
    first, change, after, touched = UPDATES[kind]
    whole = {"_id": 1, "rest": "much of it, or the server would rather replace the document " * 5}
    world.put("things", whole | first)
    position = world.source.stream_position()
    world.update(1, change, whole | after, sorted(touched))
    (found,) = changes_of(world, position)
    assert (found.operation, set(found.touched or ())) == ("update", touched)
    assert bson.decode(found.after or b"") == whole | after


def test_only_an_update_names_paths(world: World) -> None:
    changes = changes_of(world, story(world))
    assert [one.operation for one in changes if one.touched is not None] == ["update"]


def test_update_that_changes_nothing_is_no_event(world: World) -> None:
    world.put("things", {"_id": 1, "n": 1})
    position = world.source.stream_position()
    world.remove("things", "nobody")
    if isinstance(world, RealWorld):
        world.database["things"].update_one({"_id": 1}, {"$set": {"n": 1}})
    assert changes_of(world, position) == []


PARTS = [{"kind": "x", "text": "long " * 10}, {"text": "no kind"}, {"kind": {"deep": 1}, "more": [1]}]
REDUCED: dict[str, tuple[Document, Document]] = {
    "other fields": ({"name": "a", "n": 1, "place": {"city": "c", "zip": "z"}}, {"name": "a", "place": {"city": "c"}}),
    "children": ({"parts": PARTS, "n": 1}, {"parts": [{"kind": "x"}, {}, {"kind": {"deep": 1}}]}),
    "no child": ({"parts": [1, {"kind": "x", "n": 2}]}, {"parts": [0, {"kind": "x"}]}),
    "empty array": ({"parts": []}, {"parts": []}),
    "a reference": (
        {"owner": DBRef("people", 7, "db", more=1), "place": DBRef("p", 1, city="c")},
        {"owner": DBRef("people", 7), "place": {"city": "c"}},
    ),
    "names with a dollar": ({"owner": {"$id": 1, "$x": 2, "n": 3}}, {"owner": {"$id": 1}}),
    "arrays on the way": (
        {"place": [{"city": "c"}], "owner": [DBRef("p", 1)], "in": [{"parts": [{"$id": 1}]}]},
        {},
    ),
    "references as children": (
        {"in": {"parts": [DBRef("people", 7), {"$id": 1, "n": 2}, {}, 5]}},
        {"in": {"parts": [{"$id": 7}, {"$id": 1}, {}, 0]}},
    ),
    "null on the way": ({"place": None, "owner": None, "in": None}, {}),
    "no array": ({"parts": "text", "name": None}, {"name": None}),
}


@pytest.mark.parametrize("what", REDUCED)
def test_pre_image_is_reduced_to_what_keys_are_made_of(world: World, what: str) -> None:
    whole, reduced = REDUCED[what]
    world.put("things", {"_id": 1, **whole})
    position = world.source.stream_position()
    world.remove("things", 1)
    (found,) = changes_of(world, position)
    assert document(found.before) == without_empty({"_id": 1, **reduced})


def test_change_is_no_place_to_read_a_document_by_accident(world: World) -> None:
    world.put("things", {"_id": "secret", "name": "xyzzy"})
    position = world.source.stream_position()
    world.put("things", {"_id": "secret", "name": "plugh"})
    (found,) = changes_of(world, position)
    assert not [word for word in ("secret", "xyzzy", "plugh") if word in repr(found)]
