"""A validation without a replicator: what is only not replicated yet is undecided, and it says whom to start, at once."""

from __future__ import annotations

import time

import pytest
from docferry.flows.ledger.positions import REPLICATION, position_body
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import SEEN_S
from docferry.flows.validate import recheck as generations
from support.validate.fakes import impatient, root, some, world
from support.validate.planting import MAKERS, at_once
from support.validate.world import World

__all__ = ["at_once", "impatient", "world"]

pytestmark = pytest.mark.usefixtures("at_once", "impatient")


@pytest.fixture
def loaded() -> World:
    """Loaded, as a backfill does it, and nobody has replicated."""
    made = World()
    for collection in ("users", "orders", "products"):
        made.source.images[collection] = True
        made.write(collection, MAKERS[collection]("one"))
    made.ledger.write("position", "stream", position_body(made.source.stream_position()), expect=None)
    made.load()
    return made


def test_what_has_changed_since_the_load_is_undecided_before_replication_has_ever_run(loaded: World) -> None:
    loaded.write("products", {**some(loaded, "products"), "stock": 77})
    loaded.write("users", MAKERS["users"]("two"))
    loaded.delete("orders", some(loaded, "orders"))
    report = loaded.validate()
    assert report.verdict == "UNDECIDED"
    assert not any(one.mismatches for one in report.collections)
    assert "replication has never run: start it (docferry replicate" in report.render()
    loaded.replicate()
    assert loaded.validate().ok


def test_what_has_not_changed_since_the_load_is_different_before_replication_has_ever_run(loaded: World) -> None:
    loaded.write("users", {**some(loaded, "users"), "status": "idle"})
    loaded.plant(root(loaded, some(loaded, "products")), stock={"N": "77"})
    report = loaded.validate()
    by_name = {one.collection: one for one in report.collections}
    assert (report.verdict, by_name["products"].different, by_name["users"].pending) == ("DIFFERENT", 1, 1)


def test_a_stream_that_cannot_be_read_over_something_leaves_all_undecided(loaded: World) -> None:
    loaded.plant(root(loaded, some(loaded, "products")), stock={"N": "77"})
    loaded.source.drop("orders")
    report = loaded.validate("products")
    assert (report.verdict, report.pending) == ("UNDECIDED", 1)


def ended(world: World, ago_s: float) -> None:
    """A replicator that gave its lease back so long ago."""
    record = world.ledger.read(*REPLICATION)
    assert record is not None
    body = dict(record.body) | {"at": now_ms() - int(ago_s * 1000), "owner": ""}
    world.ledger.write(*REPLICATION, body, expect=record)


def test_without_a_replicator_nobody_waits_and_it_says_whom_to_start(world: World) -> None:
    world.write("products", {**some(world, "products"), "stock": 77})
    ended(world, SEEN_S + 1)
    began = time.monotonic()
    report = world.validate()
    assert time.monotonic() - began < 5
    assert report.verdict == "UNDECIDED"
    assert "no process replicates" in report.why_pending
    assert "start it (docferry replicate, or the DAG replicate)" in report.render()


def test_between_two_runs_of_a_replicator_it_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "JUDGING_BEHIND_S", 0.2)
    world.write("products", {**some(world, "products"), "stock": 77})
    ended(world, 5)
    assert "behind" in world.validate().why_pending


def test_a_hundred_differences_of_one_kind_say_one_thing(world: World) -> None:
    """As after a change of the mapping: every item that the old one made is extra."""
    for number in range(100):
        old = root(world, some(world, "products"))
        world.items[f"OLD#{number}", "METADATA"] = {
            **world.items[old],
            "PK": {"S": f"OLD#{number}"},
        }
    report = world.validate()
    assert next(one for one in report.collections if one.collection == "products").extra == 100
    lines = [line for line in report.render().splitlines() if "extra" in line and "OLD#" in line]
    assert len(lines) == 5
    assert "products: and 95 more like these" in report.render()
    assert "the former mapping made: docferry repair buries them" in report.render()
    assert len(report.to_dict()["differences"]) == 100
