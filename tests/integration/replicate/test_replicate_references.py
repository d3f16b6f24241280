"""Fields whose names begin with $, and DBRefs: keys, indexes, attributes and children are made of what is in them.

On a real MongoDB, whose own language takes `$id` for an operator.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import DBRef, ObjectId
from docferry.config import parse_migration
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.flows.preflight.mongodb import check_source, check_stream
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.replicate.rig import end, follow

pytestmark = pytest.mark.xdist_group("replicate")

FILE = """
migration: refs{name}
source: {{database: refs{name}}}
tables: {{Refs{name}: {{indexes: [GSI1]}}}}
ledger: {{table: Ledger{name}}}
collections:
  cars:
    item:
      entity: CAR
      key: {{PK: "O#{{owner.$id}}", SK: "C#{{_id}}"}}
      index: {{GSI1: {{PK: "KIND#{{owner.$ref}}", SK: "O#{{owner.$id}}"}}}}
      attributes: {{ownerId: owner.$id, ownerKind: owner.$ref}}
  trips:
    item:
      entity: TRIP
      key: {{PK: "T#{{_id}}", SK: ROOT}}
    children:
      riders: {{entity: RIDER, key: {{SK: "R#{{$id}}"}}, attributes: {{riderId: $id}}}}
"""
ANN, BEN, CAROL = (ObjectId() for _ in range(3))


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    file = tmp_path / "refs.yaml"
    file.write_text(FILE.format(name=uuid.uuid4().hex[:8]))
    made = Rig(stack.env(), file, parse_migration(file.read_bytes(), str(file)))
    made.provision()
    for name in ("cars", "trips"):
        made.database.create_collection(name, changeStreamPreAndPostImages={"enabled": True})
    yield made
    end(made)


def live(rig: Rig) -> dict[tuple[str, str], dict[str, Any]]:
    return {key: item for key, item in rig.scan().items() if "_deleted" not in item}


def assert_all_there(rig: Rig) -> None:
    """The items of every document and no others; each document comes back as MongoDB has it."""
    found = list(live(rig).values())
    for name, mapping in rig.migration.mappings.items():
        plans = {mapping.root.entity, *mapping.children}
        documents = rig.database.get_collection(name, codec_options=BSON_OPTIONS).find()
        ours = {str(document["_id"]): document for document in documents}
        items: dict[str, list[Any]] = {key: [] for key in ours}
        for item in found:
            if item["entityType"]["S"] in plans:
                items[next(iter(item["_id"].values()))].append(item)
        assert {key: mapping.decode(one).document for key, one in items.items()} == ours


def test_document_is_found_moved_and_buried_by_the_id_in_a_reference(rig: Rig) -> None:
    cars, trips = rig.database["cars"], rig.database["trips"]
    cars.insert_many([{"_id": 1, "owner": DBRef("people", ANN)}, {"_id": 2, "owner": {"$id": BEN, "n": 1}}])
    trips.insert_one({"_id": 1, "riders": [DBRef("people", ANN), DBRef("people", BEN, "hr", seat=2)]})
    source = rig.job().source
    assert [*check_source(rig.migration, source), *check_stream(rig.migration, source)] == []
    rig.load()
    assert set(live(rig)) == {
        (f"O#{ANN}", "C#~i1"),
        (f"O#{BEN}", "C#~i2"),
        ("T#~i1", "ROOT"),
        ("T#~i1", f"R#{ANN}"),
        ("T#~i1", f"R#{BEN}"),
    }
    item = live(rig)[f"O#{ANN}", "C#~i1"]
    assert [item[name]["S"] for name in ("ownerId", "ownerKind", "GSI1PK")] == [str(ANN), "people", "KIND#people"]
    assert_all_there(rig)

    follow(rig)
    cars.update_one({"_id": 1}, {"$set": {"owner.$id": CAROL}})
    cars.delete_one({"_id": 2})
    cars.insert_one({"_id": 3, "owner": DBRef("firms", BEN, "hr", since=2020)})
    trips.update_one({"_id": 1}, {"$pop": {"riders": -1}})
    trips.insert_one({"_id": 2, "riders": [DBRef("people", CAROL)]})
    trips.delete_one({"_id": 2})
    follow(rig)
    assert set(live(rig)) == {
        (f"O#{CAROL}", "C#~i1"),
        (f"O#{BEN}", "C#~i3"),
        ("T#~i1", "ROOT"),
        ("T#~i1", f"R#{BEN}"),
    }
    assert_all_there(rig)
