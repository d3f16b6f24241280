"""Who else uses a real MongoDB, seen while they are at it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from docferry.adapters.mongodb.source import MongoSource
from docferry.adapters.mongodb.users import MongoClients
from docferry.config import parse_migration
from docferry.core.cutover.mongodb_clients import LIBRARY_APP, Client, Doing
from docferry.flows.preflight.mongodb_clients import ForeignReport, foreigners
from docferry.ports.flows import Clients
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import make_job
from support.backfill.rig import Quiet


@pytest.fixture
def database(stack: SandboxStack) -> Iterator[str]:
    name = f"foreign{uuid.uuid4().hex[:12]}"
    with stack.mongo.client() as client:
        client[name]["users"].insert_many([{"_id": number} for number in range(20)])
        yield name
        client.drop_database(name)


@contextmanager
def at_work(stack: SandboxStack, app: str, work: Any) -> Iterator[None]:
    """A client of the application that does the same again and again."""
    done, begun = threading.Event(), threading.Event()

    def run() -> None:
        with stack.mongo.client("app", appName=app) as client:
            client.admin.command("ping")
            begun.set()
            while not done.is_set():
                work(client)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(20)
    try:
        yield
    finally:
        done.set()
        thread.join(30)


def watched(stack: SandboxStack, database: str, for_s: float = 2.0) -> ForeignReport:
    text = f"""
migration: m
source: {{database: {database}}}
tables: {{Tab: {{}}}}
collections: {{users: {{}}}}
cutover: {{waived_readers: [reports]}}
"""
    with closing(MongoClients(stack.mongo.uri())) as clients:
        port: Clients = clients
        job = make_job(migration=parse_migration(text.encode()), clients=port, progress=Quiet(), stop=threading.Event())
        return foreigners(job, for_s)


def by_app(report: ForeignReport) -> dict[str, Client]:
    return {one.app: one for one in report.clients}


def test_readers_writers_and_idle_clients_are_told_apart(stack: SandboxStack, database: str) -> None:
    done = threading.Event()

    def read(client: Any) -> None:
        list(client[database]["users"].find({"$where": "sleep(20) || true"}))

    def write(client: Any) -> None:
        client[database]["users"].update_many({"$where": "sleep(20) || true"}, {"$inc": {"n": 1}})

    def copy(client: Any) -> None:
        slow = {
            "$match": {
                "$expr": {"$function": {"body": "function() { sleep(20); return true }", "args": [], "lang": "js"}}
            }
        }
        client[database]["users"].aggregate([slow, {"$out": "copy"}])

    def rest(client: Any) -> None:
        done.wait(0.1)

    with (
        at_work(stack, "reports", read),
        at_work(stack, "batch", write),
        at_work(stack, "copier", copy),
        at_work(stack, "sleeper", rest),
        at_work(stack, LIBRARY_APP, write),
        closing(MongoSource(stack.mongo.uri(), database)) as source,
    ):
        source.cluster_time()
        report = watched(stack, database)
    found = by_app(report)
    assert {app: found[app].does for app in ("reports", "batch", "copier", "sleeper", LIBRARY_APP)} == {
        "reports": Doing.READ,
        "batch": Doing.WRITE,
        "copier": Doing.WRITE,
        "sleeper": Doing.IDLE,
        LIBRARY_APP: Doing.WRITE,
    }
    assert f"{database}.users" in found["batch"].namespaces
    assert (found["batch"].user, found["batch"].host) == ("admin.app", "127.0.0.1")
    assert found["batch"].driver.startswith("PyMongo")
    assert found["batch"].most == 1
    assert [one.app for one in report.clients if one.own] == [LIBRARY_APP]
    assert [one.app for one in report.clients if one.waived] == ["reports"]
    assert "docferry" not in found
    assert not any(one.user in ("", "local.__system") for one in report.clients)
    assert report.looks > 5
    assert report.failed == 0
