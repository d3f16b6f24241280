"""Commands of docferry in a process of their own, on a shop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from bson import Binary, ObjectId
from click.testing import CliRunner
from docferry.cli import main as cli
from docferry.sandbox import SandboxStack
from pymongo import MongoClient

from support.backfill.rig import session_of
from support.place import SHOP_FILE
from support.shop_indexes import create_unique_indexes
from support.validate.planting import MAKERS, SECRET

COMMANDS = (
    "up",
    "env",
    "down",
    "analyze",
    "drill",
    "check",
    "provision",
    "release",
    "destroy",
    "replicas",
    "backfill",
    "replicate",
    "reverse",
    "validate",
    "repair",
    "purge",
    "dead-letters",
    "status",
    "health",
    "mode",
    "clients",
    "approve",
    "dual-write",
    "flip-reads",
    "stop-mongo-writes",
    "rollback",
    "finalize",
    "points",
    "cost",
    "iam",
    "privileges",
    "strays",
)


WIDE = {"COLUMNS": "200"}


TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Shop:
    """A migration file with tables of its own, its databases, and the command line to work on them."""

    file: Path
    table: str
    ledger: str
    database: Any
    dynamodb: Any
    env: Mapping[str, str]

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return start(self.env, *words, **env)

    def run(self, command: str, *words: str, **env: str) -> Ran:
        """In this process, which saves a second; `start` is for what needs one of its own."""
        ran = CliRunner().invoke(cli.main, [command, str(self.file), *words], env={**self.env, **WIDE, **env})
        return Ran(ran.exit_code, ran.stdout, ran.stderr)

    def dump(self, table: str = "") -> dict[Any, Any]:
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=table or self.table, ConsistentRead=True)
        return {(item["PK"]["S"], item["SK"]["S"]): item for page in pages for item in page["Items"]}

    def change_file(self, **sections: Any) -> None:
        tree = yaml.safe_load(self.file.read_text())
        for name, section in sections.items():
            tree[name] = {**tree.get(name, {}), **section}
        self.file.write_text(yaml.safe_dump(tree, sort_keys=False))


def start(env: Mapping[str, str], *words: str, **more: str) -> subprocess.Popen[str]:
    everything = {**os.environ, **env, **WIDE, **more}
    words = (sys.executable, "-m", "docferry.cli", *words)
    return subprocess.Popen(words, env=everything, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], timeout_s: float = 90.0) -> Ran:
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return Ran(process.returncode, out, err)


def new_shop(stack: SandboxStack, directory: Path) -> Shop:
    mark = str(ObjectId())
    tree = yaml.safe_load(SHOP_FILE.read_text())
    settings = {**tree["tables"]["Shop"], "deletion_protection": False}
    tree["tables"] = {f"Shop{mark}": settings}
    for collection in tree["collections"].values():
        collection["table"] = f"Shop{mark}"
    tree |= {"migration": "cli", "source": {"database": f"cli_{mark}"}, "ledger": {"table": f"Ledger{mark}"}}
    tree["target"] = {"region": "us-east-1"}
    tree["backfill"] = {"dead_letter_share": 0.9}
    file = directory / f"{mark}.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    env = stack.env()
    database = MongoClient[Any](env["DOCFERRY_MONGO_URI"])[f"cli_{mark}"]
    for name in MAKERS:
        database.create_collection(name)
    create_unique_indexes(database)
    client = session_of(env).client("dynamodb", endpoint_url=env["AWS_ENDPOINT_URL_DYNAMODB"])
    return Shop(file, f"Shop{mark}", f"Ledger{mark}", database, client, env)


def fill(shop: Shop) -> None:
    for name, make in MAKERS.items():
        shop.database[name].insert_many([make(f"{name}-{n}") for n in range(3)])
    shop.database["products"].insert_one({**MAKERS["products"]("large"), "scan": Binary(os.urandom(420_000))})


@pytest.fixture(scope="module")
def shop(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Provisioned and loaded by the command line itself; one document is a dead letter."""
    made = new_shop(stack, tmp_path_factory.mktemp("cli"))
    fill(made)
    for command in ("provision", "backfill"):
        ran = made.run(command)
        assert ran.code == 0, ran.err
    yield made
    made.database.client.close()


@pytest.fixture
def fresh(stack: SandboxStack, tmp_path: Path) -> Iterator[Shop]:
    """Nothing done yet."""
    made = new_shop(stack, tmp_path)
    yield made
    made.database.client.close()


def refused(ran: Ran, code: int, *words: str) -> None:
    assert ran.code == code, (ran.out, ran.err)
    assert TRACEBACK not in ran.err
    for word in words:
        assert word in ran.err
    assert SECRET not in ran.err + ran.out


def as_document(ran: Ran, error: str) -> Any:
    body = ran.json
    assert body["error"] == error
    assert body["message"]
    return body
