"""What goes wrong while changes are followed: DynamoDB and MongoDB that fail, restart or are silent, and clocks that jump.

Replication waits, goes on, and both databases are equal; or it ends with an error that says why.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from demo.traffic import TrafficProcess, make_events
from docferry.core.backoff import Backoff
from docferry.errors import LeaseLost, RetryExhausted, Unavailable
from docferry.flows.ledger.budget import LedgerBudget
from docferry.flows.ledger.positions import REPLICATION
from docferry.flows.replicate import follower as replicate
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from docferry.testing.fakes import FakeLedger
from support.backfill.proxy import FaultProxy
from support.backfill.rig import Rig, eventually
from support.pace import Pace
from support.replicate.rig import Following, assert_equal, await_applied, end, follow, live_shop
from support.validate.planting import user

pytestmark = pytest.mark.xdist_group("replicate_faults")
HOUR_S = 3600


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate, "READ_WAIT_S", 0.1)


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxReplicaSet]:
    """One that may be shot."""
    with SandboxReplicaSet(tmp_path_factory.mktemp("mongo")) as opened:
        yield opened


@pytest.fixture
def rig(stack: SandboxStack, mongo: SandboxReplicaSet, tmp_path: Path) -> Iterator[Rig]:
    made = live_shop({**stack.env(), "DOCFERRY_MONGO_URI": mongo.uri()}, tmp_path)
    follow(made)
    yield made
    end(made)


def through(rig: Rig, proxy: FaultProxy) -> Rig:
    """The same migration, with DynamoDB behind a proxy."""
    return dataclasses.replace(rig, env={**rig.env, "AWS_ENDPOINT_URL_DYNAMODB": proxy.url}, procs=[])


def write_some(rig: Rig, seed: int, events: int = 120) -> int:
    made = make_events(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, events, seed)
    return made.documents_changed


# --- DynamoDB --------------------------------------------------------------------------------------------------------

FAULTS: dict[str, dict[str, float]] = {
    "throttled": {"throttle": 0.15, "throttle_other": 0.1},
    "failing": {"error_500": 0.1, "error_503": 0.1, "html": 0.1},
    "cut": {"cut_before": 0.1, "cut_after": 0.1, "half_answer": 0.1, "damaged": 0.1},
}


@pytest.mark.parametrize("what", FAULTS)
def test_puts_that_fail_are_repeated_and_order_is_kept(rig: Rig, what: str) -> None:
    made = write_some(rig, seed=len(what))
    with FaultProxy(rig.env["AWS_ENDPOINT_URL_DYNAMODB"], {"PutItem": FAULTS[what]}) as proxy:
        report = follow(through(rig, proxy))
        for fault in FAULTS[what]:
            assert proxy.seen[f"PutItem {fault}"] > 0, proxy.seen
    assert report.events == made
    assert_equal(rig)


def test_ledger_that_fails_delays_the_position_and_nothing_else(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate, "CHECKPOINT_S", 0.05)
    monkeypatch.setattr(replicate, "LETTERS_S", 0.05)
    shares = dict.fromkeys(("error_500", "throttle", "cut_before", "cut_after", "half_answer"), 0.04)
    faults = {f"ledger:{name}": shares for name in ("GetItem", "PutItem", "Query")}
    made = write_some(rig, seed=9)
    ledger = rig.migration.ledger.table
    with FaultProxy(rig.env["AWS_ENDPOINT_URL_DYNAMODB"], faults, ledger=ledger) as proxy:
        report = follow(through(rig, proxy))
        assert sum(count for name, count in proxy.seen.items() if not name.endswith("passed")) > 5, proxy.seen
    assert report.events == made
    assert_equal(rig)


@pytest.mark.parametrize("operation", ["GetItem", "Query"])
def test_ledger_answer_that_was_cut_short_is_not_taken_for_an_empty_one(rig: Rig, operation: str) -> None:
    """botocore takes what came for the answer, and what cannot be read for nothing."""
    faults = {f"ledger:{operation}": {"half_answer": 1.0}}
    table = rig.migration.ledger.table
    with FaultProxy(rig.env["AWS_ENDPOINT_URL_DYNAMODB"], faults, ledger=table) as proxy:
        ledger = through(rig, proxy).ledger
        with pytest.raises(Unavailable, match="cut short"):
            ledger.read(*REPLICATION) if operation == "GetItem" else ledger.list("backfill")
    assert rig.ledger.read(*REPLICATION) is not None
    assert rig.ledger.read("nothing", "there") is None


def test_ledger_that_cannot_be_read_for_a_while_is_told_and_does_not_end_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than boto3 rides out by itself."""
    monkeypatch.setattr(replicate, "CHECKPOINT_S", 0.05)
    monkeypatch.setattr(replicate, "LETTERS_S", 0.05)
    away = threading.Event()
    real = rig.ledger.list

    def unavailable(section: str, prefix: str = "") -> object:
        if away.is_set():
            raise Unavailable("the ledger is away", operation="ledger Query")
        return real(section, prefix)

    monkeypatch.setattr(rig.ledger, "list", unavailable)
    with Following(rig) as following:
        following.await_all()
        away.set()
        eventually(lambda: following.told("the ledger is away"), "it to be told")
        write_some(rig, seed=2, events=20)
        away.clear()
        following.await_all()
    assert_equal(rig)


def test_dynamodb_that_never_takes_a_put_ends_it_and_a_later_run_goes_on(rig: Rig) -> None:
    made = write_some(rig, seed=4)
    with FaultProxy(rig.env["AWS_ENDPOINT_URL_DYNAMODB"], {"PutItem": {"throttle": 1.0}}) as proxy:
        faulty = through(rig, proxy)
        with pytest.raises(RetryExhausted, match="PutItem"):
            follow(rig, target=faulty.target(backoff=Backoff(for_s=0.5)))
    assert follow(rig).events == made, "nothing counts as applied that was not"
    assert_equal(rig)


def test_dynamodb_that_is_silent_is_waited_for(rig: Rig, stack: SandboxStack) -> None:
    with Following(rig) as following:
        following.await_all()
        stack.aws.pause()
        try:
            write_some(rig, seed=6)
            threading.Event().wait(3)
        finally:
            stack.aws.resume()
        following.await_all()
    assert_equal(rig)


# --- MongoDB ---------------------------------------------------------------------------------------------------------


def test_primary_that_steps_down_and_is_restarted_is_waited_for(
    rig: Rig, mongo: SandboxReplicaSet, tmp_path: Path
) -> None:
    name = rig.migration.source.database
    with Following(rig) as following, TrafficProcess(mongo.uri(), tmp_path, database=name, rate=20) as traffic:
        traffic.await_writing()
        mongo.step_down()
        write_some(rig, seed=1, events=20)
        mongo.kill(0)
        eventually(lambda: following.told("replication waits"), "it to be told")
        mongo.start(0)
        write_some(rig, seed=3, events=20)
        traffic.stop()
        following.await_all()
    assert following.report is not None
    assert following.report.lag_s == 0
    assert_equal(rig)


def test_frozen_mongodb_is_waited_for(rig: Rig, mongo: SandboxReplicaSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate, "ANSWER_S", 1.0)
    with Following(rig) as following:
        following.await_all()
        mongo.pause(0)
        try:
            eventually(lambda: following.told("replication waits"), "it to be told")
        finally:
            mongo.resume(0)
        write_some(rig, seed=8)
        following.await_all()
    assert_equal(rig)


def test_stop_is_heeded_while_mongodb_is_frozen(rig: Rig, mongo: SandboxReplicaSet) -> None:
    with Following(rig) as following:
        following.await_all()
        mongo.pause(0)
        try:
            threading.Event().wait(0.5)  # until a read hangs
            with Pace() as pace:
                following.stop.set()
                following._thread.join(60)
            assert pace.seconds < 20
            assert following.report is not None
        finally:
            mongo.resume(0)
    assert follow(rig).events == 0


# --- clocks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets this process's wall clock so many seconds off."""
    off_s = [0.0]
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + off_s[0])
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(off_s[0] * 1e9))

    def to(seconds: float) -> None:
        off_s[0] = seconds

    return to


def another(rig: Rig, *words: str) -> tuple[int, dict[str, object]]:
    """A second replication, in a process with the right time: its exit code and what it printed."""
    line = [sys.executable, "-m", "docferry.cli", "replicate", str(rig.file), "--json", *words]
    done = subprocess.run(line, env={**rig.env, "PATH": ""}, capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_clock_that_jumps_changes_nothing_for_who_holds_the_lease(rig: Rig, jump: Callable[[float], None]) -> None:
    with Following(rig) as following:
        following.await_all()
        for seed, seconds in enumerate((HOUR_S, -HOUR_S, 0)):
            jump(seconds)
            write_some(rig, seed, events=25)
            following.await_all()
            if seconds > 0:
                code, answer = another(rig)
                assert (code, answer["error"]) == (3, "LeaseHeld")
                assert following.job.identity.name in str(answer["message"])
    assert following.report is not None
    assert following.report.events >= 75
    assert_equal(rig)


def test_lease_taken_over_from_a_clock_that_is_behind_is_lost_loudly(rig: Rig, jump: Callable[[float], None]) -> None:
    """By the right time it has run out. For a moment both put; versions keep that harmless."""
    with Following(rig) as following:
        following.await_all()
        jump(-HOUR_S)
        rig.database["users"].insert_one(user("behind"))
        following.await_all()
        code, answer = another(rig, "--until-caught-up")
        assert code == 0, answer
        error = following.await_error()
    assert isinstance(error, LeaseLost)
    jump(0)
    write_some(rig, seed=5, events=25)
    follow(rig)
    await_applied(rig)
    assert_equal(rig)


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
def test_who_waits_for_write_capacity_does_not_wait_for_a_clock_that_jumped(
    jump: Callable[[float], None], seconds: float
) -> None:
    budget = LedgerBudget(FakeLedger(), "wcu", 200, threading.Event())

    async def spend() -> None:
        await budget.take(400)  # at once, and the next two seconds are given out
        waiting = asyncio.ensure_future(budget.take(10))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        jump(seconds)
        await asyncio.wait_for(waiting, 20)

    began = time.monotonic()
    asyncio.run(spend())
    assert time.monotonic() - began > 1.5, "and the rate is kept to"
