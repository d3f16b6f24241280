"""Replication up to a time applies every event of that time."""

from __future__ import annotations

from support.replicate.fake_world import World

EVENTS = 9


def test_transaction_that_comes_in_several_batches_is_applied_whole() -> None:
    world = World(0)
    world.source.batch_events = 4
    world.load()
    until = world.source.transaction(*(("docs", {"_id": number}, None) for number in range(EVENTS)))
    report = world.replicate(until)
    assert report.events == report.written == EVENTS
    assert len(world.target.tables["Items"]) == EVENTS
