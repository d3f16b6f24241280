"""A write that reaches the old leader behind the change of leader, on real servers: a loud letter with both copies, and no way
on over it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import bson
import pytest
from docferry import wiring
from docferry.core.cutover.modes import Mode
from docferry.errors import PreflightFailed, Stopped
from docferry.flows.cutover.rollback import finalize
from docferry.flows.kernel.job import Job
from docferry.flows.ledger import approvals
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.rooms.strays import list_strays, settle_stray, stray_copies
from docferry.flows.ledger.rooms.watch import Old, read_watch
from docferry.flows.reporting.health import Status, health_of
from docferry.flows.reverse.follower import reverse
from docferry.flows.watch.watching import watched
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.cutover.switching import job_of, own_stack, ready, rig, switch, switch_back
from support.validate.planting import validate

__all__ = ["own_stack", "rig"]


def short(rig: Rig, watch_s: float) -> Rig:
    """With a watch of so many seconds."""
    rig.migration = replace(rig.migration, cutover=replace(rig.migration.cutover, watch_s=watch_s))
    return rig


@contextmanager
def reversing(rig: Rig) -> Iterator[Job]:
    """Reverse replication, and the watch beside it."""
    stop = threading.Event()
    work = job_of(rig, stop)

    async def follow() -> None:
        target = rig.target()
        try:
            await watched(work, target, reverse(work, target), look_s=0.1)
        finally:
            await target.close()

    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(asyncio.run, follow())
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
        with reversing(rig) as job:
            assert validate(rig).ok
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
        with reversing(rig) as job:
            eventually(lambda: not read_watch_of(rig).is_open, "the end of the watch")
            assert validate(rig).ok
            assert health_of(job, ["watch"]).parts["watch"].status is Status.HEALTHY
        assert read_watch_of(rig).how == "watched for 2 s"
    end_of(rig)
    assert read_mode(rig.ledger).mode is Mode.FINAL


def read_watch_of(rig: Rig) -> Any:
    return read_watch(rig.ledger, Old.MONGODB)
