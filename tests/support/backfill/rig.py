"""Migrations with tables of their own on a shared stack, and backfills of them, here or in another process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
import yaml
from docferry.adapters.aws.data.part_objects import S3PartObjects
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.adapters.aws.estate import AwsEstate
from docferry.adapters.aws.journal import DynamoJournal
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.adapters.aws.streams import DynamoStreams
from docferry.adapters.mongodb.source import MongoSource
from docferry.config import Migration, parse_migration
from docferry.flows.backfill.finish import CollectionReport
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.kernel.job import Job
from docferry.ports.flows import Identity, Record
from docferry.testing.jobs import make_job
from docferry.wiring import who
from pymongo import MongoClient

from support.place import SHOP_FILE
from support.shop_indexes import create_unique_indexes

T = TypeVar("T")
DRIVER = Path(__file__).with_name("driver.py")


def table_names(client: Any) -> set[str]:
    """Of all tables: the tests of a session make more than one page of them."""
    return {name for page in client.get_paginator("list_tables").paginate() for name in page["TableNames"]}


def eventually(condition: Callable[[], T], what: str, timeout_s: float = 60.0, every_s: float = 0.02) -> T:
    """The first true answer. Long enough for a machine on which others work, too."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain: {what}"
        time.sleep(every_s)
    return answer


class Quiet:
    def say(self, text: str) -> None: ...

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


def session_of(env: Mapping[str, str]) -> boto3.Session:
    """A boto3 session for a stack's environment; the endpoint is given to each client by `Rig`."""
    return boto3.Session(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], region_name=env["AWS_REGION"])


@dataclass
class Rig:
    """One migration with names of its own: a table, a ledger, and a file that says how to load."""

    env: dict[str, str]
    file: Path
    migration: Migration
    procs: list[Driver] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dynamodb = session_of(self.env).client("dynamodb", endpoint_url=self.env["AWS_ENDPOINT_URL_DYNAMODB"])
        self.mongo: MongoClient[Any] = MongoClient(self.env["DOCFERRY_MONGO_URI"])
        self.s3 = self._session.client("s3")
        self.ledger = DynamoLedger(self._session, self.migration.ledger.table, self.migration.name)

    @property
    def table(self) -> str:
        return self.migration.tables[0].name

    @property
    def database(self) -> Any:
        return self.mongo[self.migration.source.database]

    @cached_property
    def _session(self) -> boto3.Session:
        return _Endpoint(session_of(self.env), self.env["AWS_ENDPOINT_URL_DYNAMODB"])

    @property
    def journal(self) -> DynamoJournal:
        return DynamoJournal(self._session, self.migration.ledger.journal_table, self.migration.name)

    def provision(self) -> None:
        """Bare tables: what a backfill needs and no more."""
        keys = {"PK": "HASH", "SK": "RANGE"}
        ledger = self.migration.ledger.table
        for name, indexes in (
            (self.table, self.migration.tables[0].indexes),
            (ledger, ()),
            (self.migration.ledger.journal_table, ()),
        ):
            names = [*keys, *(f"{index}{part}" for index in indexes for part in keys)]
            more = [
                {
                    "IndexName": index,
                    "KeySchema": [{"AttributeName": index + part, "KeyType": kind} for part, kind in keys.items()],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index in indexes
            ]
            self.dynamodb.create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": part, "KeyType": kind} for part, kind in keys.items()],
                AttributeDefinitions=[{"AttributeName": one, "AttributeType": "S"} for one in names],
                **({"GlobalSecondaryIndexes": more} if more else {}),
            )

    def close(self) -> None:
        for driver in self.procs:
            driver.end()
        self.mongo.close()

    # --- in this process ---------------------------------------------------------------------------------------------

    def job(self, run: str = "", stop: Any = None, identity: Identity | None = None, **mongo: Any) -> Job:
        run = run or f"run-{uuid.uuid4().hex[:6]}"
        uri = mongo.pop("uri", self.env["DOCFERRY_MONGO_URI"])
        identity = identity or who(run)
        return make_job(
            migration=self.migration,
            source=MongoSource(uri, self.migration.namespaces, **mongo),
            ledger=self.ledger,
            identity=identity,
            progress=Quiet(),
            stop=stop or threading.Event(),
            run=run,
            run_mark=identity.mark,
            journal=self.journal,
        )

    def estate(self) -> AwsEstate:
        return AwsEstate(_Services(self._session._session, self.env["AWS_ENDPOINT_URL_DYNAMODB"]), "us-east-1")

    def target(self, **options: Any) -> DynamoTarget:
        return DynamoTarget(
            DynamoHttp(self._session, **options),
            self.migration.backfill.concurrency,
            self.migration.layouts,
            self.objects(),
        )

    def objects(self) -> S3PartObjects | None:
        """Where its file keeps parts as objects, if it does."""
        to = self.migration.target.objects
        return S3PartObjects(self._session, to, self.migration.name) if to else None

    def streams(self) -> DynamoStreams:
        return DynamoStreams(self._session, self.migration.layouts)

    def load(self, *collections: str, job: Job | None = None) -> dict[str, CollectionReport]:
        """Load collections (all by default) in this process."""
        job = job or self.job()

        async def work() -> dict[str, CollectionReport]:
            target = self.target()
            try:
                names = collections or tuple(settings.name for settings in self.migration.collections)
                return {name: await backfill_collection(job, target, name) for name in names}
            finally:
                await target.close()

        return asyncio.run(work())

    # --- in another process ------------------------------------------------------------------------------------------

    def start(self, run: str, *collections: str, **env: str) -> Driver:
        driver = Driver(self, run, collections, env)
        self.procs.append(driver)
        return driver

    # --- looking -----------------------------------------------------------------------------------------------------

    def chunks(self) -> dict[tuple[str, str], Record]:
        """(collection, chunk) -> its record in the ledger."""
        names = [settings.name for settings in self.migration.collections]
        return {(name, one.key): one for name in names for one in self.ledger.list(f"chunks:{name}")}

    def progress(self) -> int:
        """Documents behind all checkpoints."""
        return sum(int(one.body["read"]) for one in self.chunks().values())

    def leased_by(self, name: str) -> list[Record]:
        return [one for one in self.chunks().values() if one.body["owner"] == name]

    def scan(self) -> dict[tuple[str, str], dict[str, Any]]:
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.table, ConsistentRead=True)
        return {(item["PK"]["S"], item["SK"]["S"]): item for page in pages for item in page["Items"]}


class _Endpoint:
    """A session whose clients go to one place, whatever the environment of this process says."""

    def __init__(self, session: boto3.Session, url: str) -> None:
        self._inner, self._url = session, url
        self._session = session._session

    def client(self, service: str, **options: Any) -> Any:
        return self._inner.client(service, endpoint_url=self._url, **options)

    def get_credentials(self) -> Any:
        return self._inner.get_credentials()


class _Services:
    """A botocore session whose every service is the stack's."""

    def __init__(self, session: Any, url: str) -> None:
        self._inner, self._url = session, url

    def create_client(self, service: str, **options: Any) -> Any:
        return self._inner.create_client(service, endpoint_url=self._url, **options)


class Driver:
    """A backfill process. `answers` are the lines it printed."""

    def __init__(self, rig: Rig, run: str, collections: Sequence[str], env: Mapping[str, str]) -> None:
        words = [sys.executable, str(DRIVER), str(rig.file), run, *collections]
        everything = {**os.environ, **rig.env, **env}
        self.run = run
        self.process = subprocess.Popen(
            words, env=everything, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def is_alive(self) -> bool:
        return self.process.poll() is None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP for as long as the block: it gets no further meanwhile."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def wait(self, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """What it printed, after its end; its traceback where it did not end by itself."""
        out, err = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode in (0, 3, -9), err
        return [json.loads(line) for line in out.splitlines()]

    def end(self) -> None:
        if self.is_alive():
            self.process.kill()
            self.process.communicate(timeout=20)


def shop_rig(env: Mapping[str, str], directory: Path, database: str, **settings: Any) -> Rig:
    """The shop's own migration file, on other tables. MongoDB has the unique indexes that the file names."""
    rig = bare_shop_rig(env, directory, database, **settings)
    create_unique_indexes(rig.database)
    return rig


def unguarded_shop_rig(env: Mapping[str, str], directory: Path, database: str, **settings: Any) -> Rig:
    """The shop's file as it would be if it named no unique index: for tests that count items by hand."""
    rig = bare_shop_rig(env, directory, database, guarded=False, **settings)
    create_unique_indexes(rig.database)
    return rig


def bare_shop_rig(env: Mapping[str, str], directory: Path, database: str, guarded: bool = True, **settings: Any) -> Rig:
    """The same without anything in MongoDB."""
    mark = uuid.uuid4().hex[:8]
    tree = yaml.safe_load(SHOP_FILE.read_text())
    tree["tables"] = {f"Shop{mark}": tree["tables"]["Shop"]}
    for collection in tree["collections"].values():
        collection["table"] = f"Shop{mark}"
        if not guarded:
            collection.pop("unique", None)
    return _rig(env, directory, tree, mark, database, settings)


def generic_rig(
    env: Mapping[str, str], directory: Path, database: str, collections: Sequence[str], **settings: Any
) -> Rig:
    """Collections without a mapping."""
    mark = uuid.uuid4().hex[:8]
    tree = {"migration": "generic", "tables": {f"Generic{mark}": {}}, "collections": {name: {} for name in collections}}
    return _rig(env, directory, tree, mark, database, settings)


def scanned_rig(env: Mapping[str, str], directory: Path, database: str, collections: Sequence[str]) -> Rig:
    """Collections without a mapping, whose queries may be answered by a scan."""
    mark = uuid.uuid4().hex[:8]
    scan = {"scan": {"allowed": True, "most_read_units": 500}}
    tree = {"migration": "generic", "tables": {f"Generic{mark}": {}}, "collections": dict.fromkeys(collections, scan)}
    return _rig(env, directory, tree, mark, database, {})


def rig_of(env: Mapping[str, str], directory: Path, tree: Mapping[str, Any], database: str) -> Rig:
    """A migration file of the test's own, as far as its tables and collections go."""
    return _rig(env, directory, dict(tree), uuid.uuid4().hex[:8], database, {})


def _rig(
    env: Mapping[str, str], directory: Path, tree: dict[str, Any], mark: str, database: str, settings: Mapping[str, Any]
) -> Rig:
    tree["source"] = {"database": database}
    tree["ledger"] = {"table": f"Ledger{mark}"}
    tree["backfill"] = {"dead_letter_share": 0.6, "budget_wcu": 0, **settings}
    file = directory / f"{mark}.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    rig = Rig(dict(env), file, parse_migration(file.read_bytes(), str(file)))
    rig.provision()
    return rig
