"""Backfill processes are killed, frozen, stopped and doubled; what arrives is complete all the same.

Checkpoints come every 0.1 s here instead of every 2 s, and a budget keeps the load slow: a short test then sees many.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.mapping_fingerprint import fingerprint_of
from docferry.flows.ledger.times import now_ms
from docferry.rehearsal.independent import judge
from docferry.rehearsal.shop import COLLECTIONS, ShopPlan, load_shop, shop_documents
from docferry.sandbox import SandboxStack
from support.backfill.rig import Driver, Rig, eventually, shop_rig
from support.pace import Pace

pytestmark = pytest.mark.xdist_group("backfill_kill")
PLAN = ShopPlan(users=250, awkward=150, unstorable=12)
PLANTED = {
    name: frozenset(judge.id_key(one.document["_id"]) for one in shop_documents(name, PLAN) if not one.storable)
    for name in COLLECTIONS
}
SEED = 20_261_122
KILLS = 10
OFTEN = {"CHECKPOINT_S": "0.1"}
SMALL = {"page_documents": 10, "chunk_documents": 220, "lease_s": 2.0}


@pytest.fixture(scope="module")
def stack() -> Iterator[SandboxStack]:
    with SandboxStack() as opened:
        load_shop(
            opened.env()["DOCFERRY_MONGO_URI"],
            "killed",
            users=PLAN.users,
            awkward=PLAN.awkward,
            unstorable=PLAN.unstorable,
        )
        yield opened


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = shop_rig(stack.env(), tmp_path, "killed", budget_wcu=2_000, **SMALL)
    yield made
    made.close()


@pytest.fixture
def slow_rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = shop_rig(stack.env(), tmp_path, "killed", budget_wcu=700, **SMALL)
    yield made
    made.close()


@pytest.fixture
def frugal_rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = shop_rig(stack.env(), tmp_path, "killed", budget_wcu=400, **SMALL)
    yield made
    made.close()


def chunks_begun(rig: Rig) -> list[Any]:
    """Chunks whose checkpoint is neither at their start nor at their end."""
    return [one for one in rig.chunks().values() if one.body["state"] != "done" and int(one.body["read"]) > 0]


def in_a_chunk(rig: Rig, driver: Driver) -> bool:
    """The process holds a chunk and has moved its checkpoint."""
    assert driver.is_alive(), driver.wait()
    return any(int(one.body["read"]) > 0 and one.body["state"] != "done" for one in rig.leased_by(driver.run))


def assert_all_arrived(rig: Rig, reports: list[dict[str, Any]]) -> None:
    """The invariant, MongoDB's own counts, the planted dead letters, and the independent comparison."""
    assert [report["collection"] for report in reports] == list(COLLECTIONS)
    for report in reports:
        name = report["collection"]
        assert report["read"] == report["written"] + report["superseded"] + report["dead"]
        assert report["read"] == rig.database[name].count_documents({})
        assert report["dead"] == len(PLANTED[name]) == len(list_letters(rig.ledger, name))
    verdict = judge.judge_shop(rig.database, rig.dynamodb, rig.table, PLANTED)
    assert verdict.counts == (0, 0, 0), verdict


def test_backfill_killed_ten_times_in_the_middle_of_a_chunk_loses_nothing(slow_rig: Rig) -> None:
    rig, random = slow_rig, Random(SEED)
    middle = 0
    for number in range(KILLS):
        driver = rig.start(f"victim-{number}", **OFTEN)
        before = rig.progress()
        eventually(lambda: in_a_chunk(rig, driver) and rig.progress() > before, "a checkpoint in a chunk")  # noqa: B023
        time.sleep(random.uniform(0.0, 0.25))  # anywhere between two checkpoints
        driver.signal(signal.SIGKILL)
        assert driver.wait() == [] or driver.process.returncode == -signal.SIGKILL
        middle += bool(chunks_begun(rig))
    assert middle >= KILLS - 3, "the kills did not land inside chunks"
    assert 0 < rig.progress() < sum(rig.database[name].count_documents({}) for name in COLLECTIONS)
    reports = rig.start("survivor", **OFTEN).wait()
    assert_all_arrived(rig, reports)
    assert rig.start("late").wait() == [report | {"already_complete": True} for report in reports]


def test_backfill_killed_while_cutting_chunks_cuts_them_again(rig: Rig) -> None:
    job = rig.job("first")
    header = {"state": "new", "mode": "bulk", "chunks": 0, "started": now_ms(), "run": "dead", "until": 0}
    digest = fingerprint_of(job.migration.mapping("users").settings)
    rig.ledger.write("backfill", "users", header | {"owner": "dead", "mark": "", "mapping": digest}, expect=None)
    for index in range(3):
        rig.ledger.write("chunks:users", f"{index:05d}", {"state": "pending", "label": "left over"}, expect=None)
    report = rig.load("users", job=job)["users"]
    assert report.counts.read == PLAN.users
    assert report.chunks == 2


def test_loader_frozen_past_its_lease_stops_when_it_wakes(frugal_rig: Rig) -> None:
    """It is frozen while pages wait for write capacity: they must never be sent."""
    rig = frugal_rig
    old = rig.start("old", **OFTEN)
    eventually(lambda: in_a_chunk(rig, old), "the old one to be in a chunk")
    old.signal(signal.SIGSTOP)
    rig.file.write_text(rig.file.read_text().replace("budget_wcu: 400", "budget_wcu: 0"))  # the next ones are quick
    rig.database["clock"].insert_one({})  # MongoDB's time moves on: later pages have later versions
    reports: list[dict[str, Any]] = []

    def taken_over() -> bool:
        reports[:] = rig.start("new", **OFTEN).wait()
        return "error" not in reports[-1]

    first = rig.start("too early").wait()
    assert first[-1]["error"] == "LeaseHeld"
    eventually(taken_over, "the old one's leases to run out", every_s=0.3)
    assert_all_arrived(rig, reports)
    before = rig.scan()
    old.signal(signal.SIGCONT)
    assert (answer := old.wait()[-1])["error"] == "LeaseLost", answer
    assert rig.scan() == before, "the old loader wrote on after it had lost its lease"


def test_two_backfills_at_once_one_wins_and_the_other_names_it(rig: Rig) -> None:
    drivers = [rig.start(name, **OFTEN) for name in ("alice", "bob")]
    ended = eventually(lambda: next((one for one in drivers if not one.is_alive()), None), "one of them to give up")
    assert ended is not None
    winner = next(one for one in drivers if one is not ended)
    (answer,) = ended.wait()
    assert answer["error"] == "LeaseHeld"
    assert winner.run in answer["message"]
    assert ended.run not in answer["message"]
    assert_all_arrived(rig, winner.wait())


def test_sigterm_stops_within_five_seconds_and_a_second_run_continues(rig: Rig) -> None:
    first = rig.start("first", **OFTEN)
    eventually(lambda: in_a_chunk(rig, first), "a checkpoint in a chunk")
    with Pace() as pace:
        first.signal(signal.SIGTERM)
        answers = first.wait()
    assert pace.seconds < 5
    assert answers[-1]["error"] == "Stopped"
    kept = rig.progress()
    assert kept > 0
    assert not any(one.body["owner"] for one in rig.chunks().values()), "leases were not given back"
    second = rig.start("second", **OFTEN)
    eventually(lambda: rig.leased_by("second"), "the second run to hold a chunk")
    assert rig.progress() >= kept, "the second run began from the start"
    assert_all_arrived(rig, second.wait())


def test_backfill_needs_no_disk(rig: Rig) -> None:
    """A full disk on the machine that loads: nothing is spilled, so nothing can be lost by it."""
    assert_all_arrived(rig, rig.start("diskless", NO_DISK="1", **OFTEN).wait())
