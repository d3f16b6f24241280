"""The replicator and a conditional backfill are killed again and again while an application writes, MongoDB fails over and
DynamoDB falls silent. At the end both databases are equal, by a comparison that shares no code with docferry.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from bson.timestamp import Timestamp
from demo.traffic import TrafficProcess
from docferry.flows.ledger.dead_letters import list_letters
from docferry.rehearsal.independent import judge
from docferry.rehearsal.shop import COLLECTIONS, load_shop
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from support.backfill.rig import Rig, eventually, shop_rig
from support.processes import Victim, applied_by, loaded_by
from support.replicate.rig import graves

pytestmark = pytest.mark.xdist_group("replicate_kill")
SEED = 20_261_203
ROUNDS = int(os.environ.get("DOCFERRY_KILL_ROUNDS", "9"))
"""Each kills a replicator and a backfill; `make soak` asks for 17."""
KILLS, AT_WORK = 2 * ROUNDS - 4, ROUNDS * 10 // 17
CHANGED, TOMBSTONES = 120 * ROUNDS, 6 * ROUNDS
"""So many must have been killed, of each kind in the middle of its work, and the application have written so much."""
EARLY = 5
"""In one of so many rounds they are killed wherever they are, perhaps before they have done anything."""
FAIL_OVER, SILENCE = 3, 8
"""The rounds in which the primary is killed, and in which DynamoDB is silent while the primary steps down."""
SILENCE_S = 30.0
RATE = 25.0
SMALL = {"page_documents": 5, "chunk_documents": 150}
OFTEN = {"docferry.flows.backfill.chunk_loader.CHECKPOINT_S": 0.1}
DOCFERRY = (sys.executable, "-m", "docferry.cli")


@pytest.fixture(scope="module")
def stack() -> Iterator[SandboxStack]:
    with SandboxStack(members=3, mongo={"election_timeout_ms": 3_000}) as opened:
        load_shop(opened.env()["DOCFERRY_MONGO_URI"], "stormy", users=300, awkward=60, unstorable=0, pre_images=True)
        yield opened


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = shop_rig(stack.env(), tmp_path, "stormy", **SMALL)
    yield made
    made.close()


@dataclass
class Storm:
    """Starts pairs of processes and kills them; `killed` and `in_work` count what that hit, by command."""

    rig: Rig
    mongo: SandboxReplicaSet
    aws: Any
    logs: Path
    random: Random = field(default_factory=lambda: Random(SEED))
    killed: Counter[str] = field(default_factory=Counter)
    in_work: Counter[str] = field(default_factory=Counter)
    loads: int = 0

    def round(self, number: int) -> None:
        """Both are started at once, and killed at random moments in any order."""
        words = ["backfill", "--again"] if self._is_loaded() else ["backfill"]
        with Victim(self.rig, self.logs / "backfill.log", *words, settings=OFTEN) as backfill:
            if len(words) == 2:  # it takes the replicator's lease for a moment
                self._await_new_load(backfill)
            with Victim(self.rig, self.logs / "replicate.log", "replicate") as replicator:
                applied, loaded = applied_by(self.rig, replicator), loaded_by(self.rig, backfill)
                if number % EARLY == EARLY - 1:
                    time.sleep(self.random.uniform(0.0, 0.5))
                else:
                    eventually(lambda: applied() or not replicator.is_alive(), "the position to move", 60)
                    eventually(lambda: loaded() or not backfill.is_alive(), "a checkpoint of the load to move", 60)
                self._strike(number, replicator)
                both = [(replicator, applied, 1.0), (backfill, loaded, 0.25)]
                self.random.shuffle(both)
                for victim, at_work, most_s in both:
                    time.sleep(self.random.uniform(0.0, most_s))
                    self._kill(victim, at_work)

    def has_seen_enough(self, began: Timestamp) -> bool:
        """A slow machine kills less in a round, and its application writes less: it has more rounds."""
        at_work = min(self.in_work["replicate"], self.in_work["backfill"])
        if self.killed.total() < KILLS or at_work < AT_WORK or len(graves(self.rig)) <= TOMBSTONES:
            return False
        name, since = self.rig.database.name, {"$gte": began}
        with self.mongo.client() as client:
            written = {"ns": {"$regex": f"^{name}\\."}, "op": {"$in": ["i", "u", "d"]}, "ts": since}
            return client["local"]["oplog.rs"].count_documents(written) > CHANGED

    def _is_loaded(self) -> bool:
        headers = [self.rig.ledger.read("backfill", name) for name in COLLECTIONS]
        return all(header is not None and header.body["state"] == "complete" for header in headers)

    def _await_new_load(self, backfill: Victim) -> None:
        self.loads += 1
        eventually(lambda: not self._is_loaded() or not backfill.is_alive(), "a new load to begin")
        assert backfill.is_alive(), backfill.said()[-2_000:]

    def _strike(self, number: int, replicator: Victim) -> None:
        if number == FAIL_OVER:
            self._kill_the_primary(replicator)
        if number == SILENCE:
            self._silence(replicator)

    def _kill(self, victim: Victim, at_work: Callable[[], bool]) -> None:
        name = victim.words[0]
        if not victim.is_alive():
            # A load may have come to its end; nothing else ends by itself.
            assert (name, victim.exit_code) == ("backfill", 0), f"{victim}: {victim.said()[-3_000:]}"
            return
        works = at_work()
        if victim.kill():
            self.killed[name] += 1
            self.in_work[name] += works

    def _kill_the_primary(self, replicator: Victim) -> None:
        old = self.mongo.primary()
        self.mongo.kill(old, signal.SIGKILL)
        assert self.mongo.primary() != old
        self._goes_on(replicator, "after the fail-over")
        self.mongo.start(old)

    def _silence(self, replicator: Victim) -> None:
        """DynamoDB does not answer for half a minute, and MongoDB's primary steps down meanwhile."""
        self.aws.pause()
        try:
            ends = time.monotonic() + SILENCE_S
            self.mongo.step_down()
            time.sleep(max(0.0, ends - time.monotonic()))  # the silence itself is what is tested
        finally:
            self.aws.resume()
        self._goes_on(replicator, "after the silence")

    def _goes_on(self, replicator: Victim, when: str) -> None:
        """The same process applies new changes."""
        moved = applied_by(self.rig, replicator)
        eventually(lambda: moved() or not replicator.is_alive(), f"the position to move {when}", 90)
        assert replicator.is_alive(), f"{when}: {replicator.said()[-3_000:]}"


def term(mongo: SandboxReplicaSet) -> int:
    return int(mongo.member_client(mongo.primary()).admin.command("replSetGetStatus")["term"])


def docferry(rig: Rig, *words: str) -> Any:
    """The installed command, to its end; what it printed."""
    command = [*DOCFERRY, words[0], str(rig.file), *words[1:], "--json"]
    ended = subprocess.run(command, env={**os.environ, **rig.env}, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3_000:]
    return json.loads(ended.stdout)


def test_replicator_and_backfill_killed_again_and_again_through_fail_overs_and_silence_lose_nothing(
    stack: SandboxStack, rig: Rig, tmp_path: Path
) -> None:
    with TrafficProcess(rig.env["DOCFERRY_APP_MONGO_URI"], tmp_path, database="stormy", rate=RATE) as traffic:
        traffic.await_writing()
        rig.load()
        before = term(stack.mongo)
        storm = Storm(rig, stack.mongo, stack.aws, tmp_path)
        number, began = 0, rig.job().source.cluster_time()
        while number < ROUNDS or not storm.has_seen_enough(began):
            assert number < 3 * ROUNDS, f"{storm.killed} killed, {storm.in_work} of them at work"
            storm.round(number)
            number += 1
        wrote = traffic.stop()
    docferry(rig, "backfill")
    report = docferry(rig, "replicate", "--until-caught-up")

    verdict = judge.judge_shop(rig.database, rig.dynamodb, rig.table, {}, live=True)
    assert verdict.counts == (0, 0, 0), verdict
    assert [letter for name in COLLECTIONS for letter in list_letters(rig.ledger, name)] == []
    told = f"{storm.killed} killed, {storm.in_work} of them at work, {storm.loads} loads, {wrote}, {report}, {verdict}"
    print(told)
    assert storm.killed.total() >= KILLS, told
    assert min(storm.in_work["replicate"], storm.in_work["backfill"]) >= AT_WORK, told
    assert term(stack.mongo) >= before + 2, "MongoDB did not fail over twice"
    assert wrote.documents_changed > CHANGED, told
    assert verdict.tombstones > TOMBSTONES, told
