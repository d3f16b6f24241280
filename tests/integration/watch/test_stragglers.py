"""A write that reaches the old leader behind the change of leader, on real servers: a loud letter with both copies, and no way
on over it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import bson
import pytest
from docferry import wiring
from docferry.core.cutover.modes import Mode
from docferry.core.versions import parse_version, version_text
from docferry.errors import PreflightFailed, Stopped
from docferry.flows.cutover.rollback import finalize
from docferry.flows.kernel.job import Job
from docferry.flows.ledger import approvals
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.positions import applied_position
from docferry.flows.ledger.rooms.strays import list_strays, settle_stray, stray_copies
from docferry.flows.ledger.rooms.watch import Old, begin_watch, read_watch
from docferry.flows.replicate.follower import replicate
from docferry.flows.reporting.health import Status, health_of
from docferry.flows.reverse.follower import reverse
from docferry.flows.watch.ready import lacking_watch, unsettled_strays
from docferry.flows.watch.watching import watched
from docferry.ports.flows import Target
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.cutover.switching import job_of, own_stack, ready, rig, switch, switch_back
from support.validate.planting import require_equal

__all__ = ["own_stack", "rig"]


def short(rig: Rig, watch_s: float) -> Rig:
    """With a watch of so many seconds."""
    rig.migration = replace(rig.migration, cutover=replace(rig.migration.cutover, watch_s=watch_s))
    return rig


Follow = Callable[[Job, Target], Coroutine[Any, Any, Any]]


@contextmanager
def followed(rig: Rig, follow: Follow) -> Iterator[Job]:
    """A replication in one of its directions, and the watch beside it."""
    stop = threading.Event()
    work = job_of(rig, stop)

    async def run() -> None:
        target = rig.target()
        try:
            await watched(work, target, follow(work, target), look_s=0.1)
        finally:
            await target.close()

    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(asyncio.run, run())
        try:
            yield work
        finally:
            stop.set()
            with suppress(Stopped):
                following.result(timeout=60)


def copies(rig: Rig) -> list[tuple[Any, Any]]:
    found = [stray_copies(rig.ledger, one) for one in list_strays(rig.ledger)]
    return [tuple(bson.decode(copy) if copy else None for copy in pair) for pair in found]  # type: ignore[misc]


def settle(rig: Rig) -> None:
    for one in list_strays(rig.ledger):
        settle_stray(rig.ledger, one, "a person", "made again in the shop")


def end_of(rig: Rig) -> None:
    evidence = approvals.evidence_of(rig.ledger).digest
    approvals.approve(rig.ledger, approvals.FINALIZE, evidence, "a manager", "the soak is over")
    finalize(job_of(rig))


def test_straggler_in_mongodb_is_a_letter_with_both_copies_and_neither_way_goes_on_over_it(
    rig: Rig, own_stack: SandboxStack
) -> None:
    short(rig, 3_600.0)
    with wiring.connect(rig.file) as manager:
        ready(rig)
        switch(rig)
        manager["users"].update_one({"username": "users-0"}, {"$set": {"status": "DynamoDB's"}})
        with followed(rig, reverse) as job:
            require_equal(rig)
            # A transaction of docferry's own user, as reverse replication makes them, is none of them: no letter so far.
            assert list_strays(rig.ledger) == []
            with own_stack.mongo.client("docferry") as late:  # past the write block, and plain: not reverse replication
                late[rig.migration.source.database]["users"].update_one(
                    {"username": "users-0"}, {"$set": {"status": "late"}}
                )
            eventually(lambda: list_strays(rig.ledger), "the letter")
            part = health_of(job, ["watch"]).parts["watch"]
            assert (part.status, part.facts["strays"]) == (Status.UNHEALTHY, 1)
        ((old, new),) = copies(rig)
        assert (old["status"], new["status"]) == ("late", "DynamoDB's")
        with pytest.raises(PreflightFailed, match=r"strays: 1 write\(s\) reached a database after it stopped leading"):
            switch_back(rig)
        with pytest.raises(PreflightFailed, match=r"watch: MongoDB is to be watched for [\d.]+ min more"):
            end_of(rig)
        settle(rig)
        assert switch_back(rig).after == "MONGO_ONLY"
        watch = read_watch(rig.ledger, Old.MONGODB)
        assert watch is not None
        assert watch.how == "MongoDB leads again"


def test_straggler_that_nobody_has_watched_keeps_mongodb_from_leading_all_the_same(
    rig: Rig, own_stack: SandboxStack
) -> None:
    with wiring.connect(rig.file):
        ready(rig)
        switch(rig)
        with own_stack.mongo.client("docferry") as late:
            late[rig.migration.source.database]["users"].insert_one({"_id": "late"})
        with pytest.raises(PreflightFailed, match="strays: 1 write"):
            switch_back(rig)
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        assert copies(rig) == [({"_id": "late"}, None)]


def test_the_end_comes_behind_the_watch(rig: Rig) -> None:
    short(rig, 2.0)
    with wiring.connect(rig.file):
        ready(rig)
        switch(rig)
        with followed(rig, reverse) as job:
            eventually(lambda: not read_watch_of(rig).is_open, "the end of the watch")
            require_equal(rig)
            assert health_of(job, ["watch"]).parts["watch"].status is Status.HEALTHY
        assert read_watch_of(rig).how == "watched for 2 s"
    end_of(rig)
    assert read_mode(rig.ledger).mode is Mode.FINAL


def read_watch_of(rig: Rig) -> Any:
    return read_watch(rig.ledger, Old.MONGODB)


# --- after the way back ----------------------------------------------------------------------------------------------


def test_straggler_in_dynamodb_is_a_letter_with_both_copies_and_what_was_in_time_is_none(rig: Rig) -> None:
    """A request of the time that DynamoDB led arrives after MongoDB leads again, by a client that keeps no journal; and a program
    writes without the library."""
    short(rig, 3_600.0)
    with wiring.connect(rig.file) as manager:
        ready(rig)
        switch(rig)
        for n in range(20):
            manager["users"].update_one({"username": f"users-{n % 5}"}, {"$set": {"visits": n}})
        key = {"PK": {"S": "USER#users-0"}, "SK": {"S": "PROFILE"}}
        led = rig.dynamodb.get_item(TableName=rig.table, Key=key, ConsistentRead=True)["Item"]
        assert switch_back(rig).after == "MONGO_ONLY"
        with pytest.raises(PreflightFailed, match="watch: DynamoDB is to be watched for"):
            require_watched(rig)
        with followed(rig, replicate) as job:
            manager["users"].update_one({"username": "users-1"}, {"$set": {"visits": 100}})  # MongoDB leads
            began = read_watch(rig.ledger, Old.DYNAMODB)
            assert began is not None
            # A stream's times are whole seconds: what replication overwrites within the second of the switch is not told of.
            eventually(lambda: time.time() * 1000 > began.begun_ms + 1_000, "the next second")
            # Replication brings what reverse replication had written, too: the straggler comes behind that.
            at = job.source.cluster_time()
            eventually(
                lambda: (reached := applied_position(rig.ledger)) is not None and reached.time > at, "replication"
            )
            late = led | {"visits": {"N": "999"}, "_v": {"S": version_text(parse_version(led["_v"]["S"]) + 1)}}
            rig.dynamodb.put_item(TableName=rig.table, Item=late)
            foreign = {"PK": {"S": "USER#users-2"}, "SK": {"S": "PROFILE"}}
            values = {":n": {"N": "-1"}}
            change = {"UpdateExpression": "SET visits = :n", "ExpressionAttributeValues": values}
            rig.dynamodb.update_item(TableName=rig.table, Key=foreign, **change)
            eventually(lambda: len(list_strays(rig.ledger)) == 2, "both letters")
            assert sorted((old["visits"], new["visits"]) for old, new in copies(rig)) == [(-1, 17), (999, 15)]
            assert health_of(job, ["watch"]).parts["watch"].status is Status.UNHEALTHY
            watch = read_watch(rig.ledger, Old.DYNAMODB)
            assert watch is not None
            begin_watch(rig.ledger, replace(watch, least_s=1.0))
            assert eventually(lambda: ended(rig), "the end of the watch", timeout_s=60.0).how == "watched for 1 s"
            settle(rig)
            require_watched(rig)
            assert len(list_strays(rig.ledger)) == 0


def ended(rig: Rig) -> Any:
    watch = read_watch(rig.ledger, Old.DYNAMODB)
    return None if watch is None or watch.is_open else watch


def require_watched(rig: Rig) -> None:
    mode = read_mode(rig.ledger)
    if problems := [*lacking_watch(rig.ledger, mode), *unsettled_strays(rig.ledger)]:
        raise PreflightFailed("the next change of leader", problems)
