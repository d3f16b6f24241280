"""A replica set and a ledger of its own for tests of the fence: it blocks the whole cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import boto3
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.adapters.local.process import identity
from docferry.adapters.mongodb.fence import MongoFence
from docferry.config import parse_migration
from docferry.core.settings import CutoverSettings
from docferry.flows.fence.fence import lift
from docferry.flows.kernel.job import Job
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import make_job
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from support.backfill.rig import Quiet
from support.tables import create_table

FILE = b"""
migration: fenced
source: {database: myapp}
tables: {Tab: {}}
collections: {users: {}, orders: {}}
ledger: {table: FenceLedger}
"""
MIGRATION = parse_migration(FILE)
Client = MongoClient[dict[str, Any]]


class Rig:
    """A cluster that holds `myapp` alone; the stack's variables are set.

    `app` and `own` are clients of the application's user and of docferry's.
    """

    def __init__(self, stack: SandboxStack) -> None:
        self.stack = stack
        self.app = stack.mongo.client("app", appName="shop")
        self.own = stack.mongo.client("docferry", appName="docferry")
        self.fence = MongoFence(stack.mongo.uri(), "myapp", "fenced", ["users", "orders"])
        self.session = boto3.Session(region_name="us-east-1")
        create_table(self.session, "FenceLedger")

    def close(self) -> None:
        for client in (self.app, self.own, self.fence):
            client.close()

    @property
    def ledger(self) -> DynamoLedger:
        return DynamoLedger(self.session, "FenceLedger", "fenced")

    def job(self, **cutover: Any) -> Job:
        return make_job(
            migration=replace(MIGRATION, cutover=CutoverSettings(**cutover)),
            fence=self.fence,
            ledger=self.ledger,
            identity=identity("test"),
            progress=Quiet(),
            stop=threading.Event(),
        )

    def reset(self) -> None:
        """As it was: no fence, no other database, ten users and an order."""
        lift(self.job())
        for name in set(self.own.list_database_names()) - {"admin", "local", "config"}:
            self.own.drop_database(name)
        users = self.own["admin"].command("usersInfo", {"forAllDBs": True})["users"]
        for user in users:
            if user["_id"] not in ("admin.docferry", "admin.app"):
                self.own[user["db"]].command("dropUser", user["user"])
        self.own["myapp"]["users"].insert_many([{"_id": number, "n": 0} for number in range(10)])
        self.own["myapp"]["orders"].insert_one({"_id": 1})

    def client_as(self, name: str, password: str = "secret") -> Client:
        """A client of another user of admin; the caller closes it."""
        return MongoClient(self.stack.mongo.address(0), directConnection=True, username=name, password=password)

    def roles(self, name: str = "app", database: str = "admin") -> list[tuple[str, str]]:
        """What a user holds, as MongoDB says it."""
        found = self.own["admin"].command("usersInfo", {"user": name, "db": database})["users"][0]
        return sorted((role["db"], role["role"]) for role in found["roles"])

    def custom_roles(self) -> list[str]:
        return [one["role"] for one in self.own["admin"].command("rolesInfo", 1)["roles"]]

    @contextmanager
    def transaction(self, *, wrote: bool, held_s: float, app: str = "nightly") -> Iterator[dict[str, Any]]:
        """A transaction of the application that is held open for so long, then committed; what became of it."""
        outcome: dict[str, Any] = {}
        open_, release = threading.Event(), threading.Event()

        def hold() -> None:
            with self.stack.mongo.client("app", appName=app) as client, client.start_session() as session:
                users = client["myapp"]["users"]
                session.start_transaction()
                users.find_one({"_id": 1}, session=session)
                if wrote:
                    users.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
                open_.set()
                release.wait(held_s)
                outcome["ended"] = time.monotonic()
                try:
                    session.commit_transaction()
                    outcome["result"] = "committed"
                except PyMongoError as error:
                    outcome["result"] = str(error)

        thread = threading.Thread(target=hold)
        thread.start()
        assert open_.wait(10)
        try:
            yield outcome
        finally:
            release.set()
            thread.join(20)

    @contextmanager
    def reading(self) -> Iterator[list[float]]:
        """The application reads all the while, and no read may fail; how long each took."""
        took: list[float] = []
        failed: list[PyMongoError] = []
        done = threading.Event()

        def read() -> None:
            with self.stack.mongo.client("app", appName="reader") as client:
                while not done.is_set():
                    began = time.monotonic()
                    try:
                        client["myapp"]["users"].find_one({"_id": 2})
                    except PyMongoError as error:
                        failed.append(error)
                    took.append(time.monotonic() - began)
                    done.wait(0.005)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield took
        finally:
            done.set()
            thread.join(120)
        assert not failed

    @contextmanager
    def background(self, work: Any) -> Iterator[threading.Thread]:
        """Something of the application's that runs meanwhile, whatever becomes of it."""

        def run() -> None:
            with suppress(PyMongoError), self.stack.mongo.client("app", appName="batch") as client:
                work(client)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield thread
        finally:
            thread.join(60)
