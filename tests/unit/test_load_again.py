"""A load under live traffic, while replication is behind: what was deleted in between does not stay."""

from __future__ import annotations

from replicating.fake_world import World


def test_what_was_deleted_while_replication_was_behind_is_gone_after_a_new_load() -> None:
    world = World(5)
    world.load()
    world.replicate()
    world.source.remove("docs", 3)  # nobody follows at this time
    world.source.put("docs", {"_id": 5})
    world.load(again=True)
    assert "DOCS#~i3" in world.alive(), "a load alone knows nothing of what is gone"
    report = world.replicate()
    assert report.lag_s == 0
    assert (report.events, report.passed) == (2, 0)
    assert world.alive() == {f"DOCS#~i{number}" for number in (0, 1, 2, 4, 5)}
