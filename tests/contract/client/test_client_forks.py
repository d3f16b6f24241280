"""A client that was made and used before a fork, as gunicorn and celery do it: each process is an instance of its own, on
connections of its own, and answers are right in all of them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from docferry import wiring
from docferry.client import AsyncDualWriteManager, DualWriteManager
from docferry.core.cutover.instances import Instance
from docferry.flows.ledger import modes
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.client.rig import MODES, application, connected, set_mode

CALLS = 20
CHILDREN = 3


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = application(stack, tmp_path, f"forks{uuid.uuid4().hex[:8]}")
    connected(made, monkeypatch, stack)
    yield made
    made.mongo.drop_database(made.database.name)
    made.close()


def instance(rig: Rig, name: str) -> Instance:
    (found,) = [one for one in modes.list_instances(rig.ledger) if one.id == name]
    return found


def forked(work: Callable[[], None]) -> int:
    """What a child that does this ended with; its traceback is said. Nothing of pytest runs in it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def work(manager: DualWriteManager, name: str) -> None:
    """Write and read documents of one's own. An answer to another process's question would be another document, or none."""
    users = manager["users"]
    for number in range(CALLS):
        username = f"{name}-{number}"
        users.insert_one({"_id": ObjectId(), "username": username, "visits": number, "addresses": [{"type": "home"}]})
        assert users.update_one({"username": username}, {"$inc": {"visits": 1}}).modified_count == 1
        found = users.find_one({"username": username})
        assert found is not None
        assert (found["username"], found["visits"]) == (username, number + 1)


def compared(manager: DualWriteManager | AsyncDualWriteManager) -> int:
    """How many reads were found equal; none may have come to another end."""
    counts = manager.get_metrics()["counts"]
    assert not [name for name in counts if name.startswith(("shadow.failed", "shadow.mismatch"))], counts
    return int(counts.get("shadow.equal", 0))


@pytest.mark.parametrize("mode", ["MONGO_ONLY", "DUAL_WRITE", "DYNAMODB_READS 100", "DYNAMODB_ONLY"])
def test_forked_child_is_an_instance_of_its_own_while_its_parent_goes_on(rig: Rig, mode: str) -> None:
    set_mode(rig, MODES[mode])
    with wiring.connect(rig.file) as manager:
        work(manager, "before")
        first = manager.instance
        reader, writer = os.pipe()

        def in_child() -> None:
            work(manager, "child")
            os.write(writer, manager.instance.encode())
            manager.close()

        child = forked(in_child)
        work(manager, "parent")
        assert ended(child) == 0
        os.close(writer)
        with os.fdopen(reader) as told:
            other = told.read()
        assert manager.instance == first
        assert other != first
        mine, its = instance(rig, first), instance(rig, other)
        assert (mine.ended, its.ended) == (False, True)
        assert its.mark != mine.mark
        assert its.counts.get("mongodb.insert_one", 0) + its.counts.get("dynamodb.insert_one", 0) == CALLS
        work(manager, "after")


def _worker(manager: DualWriteManager, name: str, told: Any) -> None:
    work(manager, name)
    told.put(manager.instance)


def test_workers_that_multiprocessing_forks_register_each_for_itself(rig: Rig) -> None:
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    forks = multiprocessing.get_context("fork")
    with wiring.connect(rig.file) as manager:
        work(manager, "before")
        told = forks.SimpleQueue()
        workers = [forks.Process(target=_worker, args=(manager, f"w{n}", told)) for n in range(CHILDREN)]
        for one in workers:
            one.start()
        work(manager, "parent")
        for one in workers:
            one.join(60)
        assert [one.exitcode for one in workers] == [0] * CHILDREN
        names = {told.get() for _ in workers} | {manager.instance}
        assert len(names) == CHILDREN + 1
        assert names == {one.id for one in modes.list_instances(rig.ledger)}


@pytest.mark.parametrize("method", ["find_one", "count_documents", "insert_one"])
def test_child_goes_by_the_mode_of_now_from_its_first_call(rig: Rig, method: str) -> None:
    """DynamoDB leads, and MongoDB holds something else: what a child does before it has asked who leads would show."""
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    rig.database["users"].insert_one({"username": "stale"})
    with wiring.connect(rig.file) as manager:
        manager["users"].insert_one({"username": "ann"})

        def in_child() -> None:
            users = manager["users"]
            if method == "find_one":
                assert users.find_one({"username": "stale"}) is None
            elif method == "count_documents":
                assert users.count_documents({"username": "stale"}) == 0
            else:
                users.insert_one({"username": "bob"})

        assert ended(forked(in_child)) == 0
        assert [one["username"] for one in rig.database["users"].find()] == ["stale"]


def test_child_whose_parent_compared_reads_compares_its_own(rig: Rig) -> None:
    set_mode(rig, MODES["DUAL_WRITE"])
    with wiring.connect(rig.file) as manager:
        work(manager, "before")
        eventually(lambda: compared(manager) >= CALLS, "the parent to compare")

        def in_child() -> None:
            work(manager, "child")
            eventually(lambda: compared(manager) == CALLS, "the child to compare")

        child = forked(in_child)
        work(manager, "parent")
        assert ended(child) == 0


def test_asynchronous_client_works_in_a_childs_own_event_loop(rig: Rig) -> None:
    set_mode(rig, MODES["DUAL_WRITE"])

    async def some(manager: AsyncDualWriteManager, name: str) -> None:
        users = manager["users"]
        for number in range(CALLS):
            await users.insert_one({"username": f"{name}-{number}", "visits": number})
            found = await users.find_one({"username": f"{name}-{number}"})
            assert found is not None
            assert found["visits"] == number
        await asyncio.to_thread(eventually, lambda: compared(manager) >= CALLS, f"the {name} to compare")

    loop = asyncio.new_event_loop()
    manager = loop.run_until_complete(wiring.connect_async(rig.file))
    loop.run_until_complete(some(manager, "parent"))
    comparing: Any = manager._shadow._parts.beside
    assert len(comparing._calls._calls._connections.pools)

    def in_child() -> None:
        assert not len(comparing._calls._calls._connections.pools), (
            "of what two read from one socket each gets some, now and then"
        )
        asyncio.new_event_loop().run_until_complete(some(manager, "child"))

    child = forked(in_child)
    loop.run_until_complete(some(manager, "again"))
    assert ended(child) == 0
    assert len(modes.list_instances(rig.ledger)) == 2
    loop.run_until_complete(manager.close())
    loop.close()
