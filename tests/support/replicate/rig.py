"""A shop on real servers that replication follows: in this process once, or as long as a block lasts."""

from __future__ import annotations

import asyncio
import random
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from bson import Binary
from bson.timestamp import Timestamp
from docferry.adapters.mongodb.source import MongoSource
from docferry.config import parse_migration
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.positions import REPLICATION, applied_position
from docferry.flows.ledger.times import now_ms
from docferry.flows.replicate.follower import replicate
from docferry.flows.replicate.report import ReplicationReport
from docferry.ports.flows import Identity, StopSignal, Target
from docferry.rehearsal.independent import judge
from docferry.rehearsal.shop import COLLECTIONS
from docferry.testing.jobs import make_job
from docferry.wiring import who

from support.backfill.rig import Rig, eventually, shop_rig
from support.shop_indexes import create_unique_indexes
from support.validate.planting import MAKERS

CAUGHT_UP_S = 120.0


class Said:
    """What replication tells, kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


def with_images(database: Any) -> None:
    """The shop's collections, with change stream images and unique indexes."""
    for name in COLLECTIONS:
        with suppress(Exception):
            database.create_collection(name)
        database.command("collMod", name, changeStreamPreAndPostImages={"enabled": True})
    create_unique_indexes(database)


def live_shop(env: Mapping[str, str], directory: Path, database: str = "", load: bool = True, **settings: Any) -> Rig:
    """One user, order, product and category of each of three names; loaded, and not yet followed."""
    rig = shop_rig(env, directory, database or f"live{uuid.uuid4().hex[:10]}", **settings)
    settle_soon(rig)
    with_images(rig.database)
    if not database:
        for name, make in MAKERS.items():
            rig.database[name].insert_many([make(f"{name}-{number}") for number in range(3)])
    if load:
        rig.load()
    return rig


def settle_soon(rig: Rig) -> None:
    """A difference that stays for half a second is one: nothing else goes on than what a test does."""
    tree = yaml.safe_load(rig.file.read_text())
    rig.file.write_text(yaml.safe_dump(tree | {"validate": {"settle_s": 0.5}}, sort_keys=False))
    rig.migration = parse_migration(rig.file.read_bytes(), str(rig.file))


def end(rig: Rig) -> None:
    """Everything of it goes."""
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


def job_of(rig: Rig, stop: StopSignal | None = None, identity: Identity | None = None, **mongo: Any) -> Job:
    return make_job(
        migration=rig.migration,
        source=MongoSource(rig.env["DOCFERRY_MONGO_URI"], rig.migration.namespaces, **mongo),
        ledger=rig.ledger,
        identity=identity or who(f"replicator {uuid.uuid4().hex[:6]}"),
        progress=Said(),
        stop=stop or threading.Event(),
    )


def follow(
    rig: Rig,
    job: Job | None = None,
    target: Target | None = None,
    *,
    for_s: float | None = None,
    until: Timestamp | None = None,
) -> ReplicationReport:
    """Replicate in this process; up to now, unless something else is asked for."""
    job = job or job_of(rig)
    if for_s is None and until is None:
        until = job.source.cluster_time()

    async def work() -> ReplicationReport:
        made = target or rig.target()
        try:
            return await replicate(job, made, for_s=for_s, until=until)
        finally:
            await made.close()

    return asyncio.run(work())


class Following:
    """Replication in a thread for as long as the block lasts. Its error is the block's."""

    def __init__(self, rig: Rig, **mongo: Any) -> None:
        self.rig, self.stop = rig, threading.Event()
        self.job = job_of(rig, self.stop, **mongo)
        self.report: ReplicationReport | None = None
        self.error: BaseException | None = None
        self._began_ms, self._at_work = now_ms(), False
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def said(self) -> list[str]:
        progress = self.job.progress
        assert isinstance(progress, Said)
        return progress.lines

    def _run(self) -> None:
        try:
            self.report = follow(self.rig, self.job, for_s=3600)
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Following:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop.set()
        self._thread.join(60)
        if kind is None and self.error is not None:
            raise self.error

    def await_all(self, timeout_s: float = CAUGHT_UP_S) -> None:
        """Wait until it is at work, and all that has been written so far is applied."""
        eventually(self._is_at_work, "it to follow", timeout_s, 0.05)
        await_applied(self.rig, self, timeout_s)

    def _is_at_work(self) -> bool:
        """It has written its own position: what came before that is over."""
        if self.error is not None:
            raise self.error
        if not self._at_work:
            record = self.rig.ledger.read(*REPLICATION)
            ours = record is not None and record.body["owner"] == self.job.identity.name
            self._at_work = record is not None and ours and int(record.body.get("at", 0)) >= self._began_ms
        return self._at_work

    def told(self, text: str) -> bool:
        """Whether it has said so. Raises what it ended with."""
        if self.error is not None:
            raise self.error
        return any(text in line for line in self.said)

    def await_error(self, timeout_s: float = 60.0) -> BaseException:
        self._thread.join(timeout_s)
        assert self.error is not None, f"no error within {timeout_s} s"
        error, self.error = self.error, None
        return error


class Ticking:
    """A client writes elsewhere all the time: MongoDB's clock goes on, which otherwise moves every ten seconds."""

    def __init__(self, rig: Rig) -> None:
        self._elsewhere = rig.mongo[f"{rig.database.name}t"]["ticks"]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            self._elsewhere.insert_one({})

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(30)
        self._elsewhere.database.client.drop_database(self._elsewhere.database.name)


def await_applied(rig: Rig, following: Following | None = None, timeout_s: float = CAUGHT_UP_S) -> None:
    """Wait until the position in the ledger has passed all that has been written so far."""
    now = MongoSource(rig.env["DOCFERRY_MONGO_URI"], rig.migration.namespaces).cluster_time()

    def applied() -> bool:
        if following is not None and following.error is not None:
            raise following.error
        position = applied_position(rig.ledger)
        return position is not None and position.time >= now

    eventually(applied, "all that was written to be applied", timeout_s, 0.05)


# --- judging ---------------------------------------------------------------------------------------------------------


def deep(value: Any) -> int:
    """Levels of nesting."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max((deep(one) for one in inner), default=0)


def size(value: Any) -> int:
    """Bytes of all texts and binaries."""
    if isinstance(value, dict):
        return sum(map(size, value.values()))
    return sum(map(size, value)) if isinstance(value, list) else len(value) if isinstance(value, str | bytes) else 0


def damaged(value: Any) -> bool:
    """Whether there is a text that was no valid UTF-8."""
    if isinstance(value, dict):
        return any(damaged(one) for pair in value.items() for one in pair)
    return any(map(damaged, value)) if isinstance(value, list) else isinstance(value, str) and "\ufffd" in value


def cannot_be_stored(name: str, document: dict[str, Any]) -> bool:
    """As the tests and the traffic break documents: too large, too deep, no text, or without what a key is made of."""
    if size(document) > 400_000 or deep(document) > 32 or damaged(document):
        return True
    if name != "users":
        return False
    addresses = document.get("addresses")
    if not document.get("username"):
        return True
    if not isinstance(addresses, list) or not all(isinstance(one, dict) for one in addresses):
        return False
    return not all(one.get("type") for one in addresses)


def unstorable(rig: Rig) -> dict[str, frozenset[bytes]]:
    """The documents that must have no items, told from the documents alone."""
    return {
        name: frozenset(
            judge.id_key(one["_id"]) for one in judge.read_documents(rig.database, name) if cannot_be_stored(name, one)
        )
        for name in COLLECTIONS
    }


def verdict(rig: Rig) -> judge.Verdict:
    return judge.judge_shop(rig.database, rig.dynamodb, rig.table, unstorable(rig), live=True)


def assert_equal(rig: Rig) -> judge.Verdict:
    """0 missing, 0 extra, 0 different, and a dead letter for each document that cannot be stored, and no other."""
    found = verdict(rig)
    assert found.counts == (0, 0, 0), found
    for name, ids in unstorable(rig).items():
        assert len(list_letters(rig.ledger, name)) == len(ids), list_letters(rig.ledger, name)
    return found


def large(size_bytes: int) -> Binary:
    """What hardly compresses, and is the same each time."""
    return Binary(random.Random(size_bytes).randbytes(size_bytes))


def graves(rig: Rig) -> set[tuple[str, str]]:
    return {key for key, item in rig.scan().items() if "_deleted" in item}


def live_keys(rig: Rig) -> set[tuple[str, str]]:
    return {key for key, item in rig.scan().items() if "_deleted" not in item}
