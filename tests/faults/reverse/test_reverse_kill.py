"""`docferry reverse` is killed again and again while an application writes to DynamoDB; at the end both databases are equal, by
a comparison that shares no code with docferry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docferry.flows.ledger.reverse_letters import list_reverse_letters
from docferry.flows.ledger.rooms.reverse_stream import REVERSE
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.processes import Victim
from support.replicate.rig import assert_equal, end, live_shop
from support.reverse.application import Application, begin_here

pytestmark = pytest.mark.cutover

KILLS = 5
OFTEN = {"docferry.flows.reverse.follower.CHECKPOINT_S": 0.05, "docferry.flows.reverse.shard_readers.POLL_S": 0.05}


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = live_shop(stack.env(), tmp_path)
    yield made
    end(made)


def records(rig: Rig) -> int:
    record = rig.ledger.read(*REVERSE)
    return int(record.body.get("records", 0)) if record else 0


def test_killed_again_and_again_it_ends_with_both_databases_equal(rig: Rig, tmp_path: Path) -> None:
    begin_here(rig)
    application = Application(rig, 4)
    log = tmp_path / "reverse.log"
    for _ in range(KILLS):
        before = records(rig)
        with Victim(rig, log, "reverse", settings=OFTEN) as victim:

            def moved(victim: Victim = victim, before: int = before) -> bool:
                application.step()
                assert victim.is_alive(), victim.said()
                return victim.made(rig.ledger.read(*REVERSE)) and records(rig) > before

            eventually(moved, "it to apply something", 60.0)
            assert victim.kill()
    with Victim(rig, log, "reverse", "--until-caught-up", "--json") as last:
        assert last.wait(60.0) == 0, last.said()
    assert list_reverse_letters(rig.ledger) == []
    assert_equal(rig)
