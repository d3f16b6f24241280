"""The way there and back, each who acts under its own policy of `docferry iam`: enough for every command, and nothing spare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from docferry import wiring
from docferry.cli.main import main
from docferry.core.permissions.aws import Actor
from docferry.sandbox import SandboxStack
from support.aws.policy_gate import PolicyGate
from support.backfill.rig import eventually
from support.cli.shop import Shop, fresh
from support.client.traffic import Traffic, in_dynamodb, in_mongodb
from support.validate.planting import MAKERS

__all__ = ["fresh"]

pytestmark = pytest.mark.cutover

_LOOKED_UP = {"Items BatchGetItem", "Items GetItem", "Items Scan"}
SPARE: dict[Actor, set[str]] = {
    Actor.ANALYST: {"Scratch GetItem", "Scratch TagResource"},  # a key without children; a table that is made with tags
    Actor.PROVISION: {"Owners DeleteItem", "Tables TagResource", "Tables UpdateTable"},
    Actor.LOAD: {"Items BatchGetItem", "Items Query", "Ledger DeleteItem", "Streams GetRecords"},
    Actor.VALIDATE: {"Items DeleteItem", "Items PutItem", "Items Query", "Ledger DeleteItem"},
    Actor.REVERSE: {"Items PutItem", "Ledger DeleteItem"},
    Actor.POINTS: {
        "Backups ListBackups", "BackupsOfTables DeleteBackup", "BackupsOfTables RestoreTableFromBackup", "Ledger DeleteItem",
    },
    Actor.APPLICATION: _LOOKED_UP,
    Actor.APPLICATION_LEADING: _LOOKED_UP
    | {"Items ConditionCheckItem", "Journal GetItem", "LedgerMode ConditionCheckItem", "Owners GetItem"},
}  # fmt: skip
"""Allowed, and not needed on this way: what a replica, a replay, a deleted point, an allowed scan, a transaction or a late
write after the way back would need."""


class Guarded:
    """A shop whose commands reach DynamoDB through the gate only."""

    def __init__(self, shop: Shop, gate: PolicyGate) -> None:
        self.shop, self.gate = shop, gate

    def env(self, actor: Actor) -> dict[str, str]:
        services = ("AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_DYNAMODB_STREAMS")
        return {**self.shop.env, "AWS_ACCESS_KEY_ID": actor.value, **dict.fromkeys(services, self.gate.url)}

    def run(self, actor: Actor, command: str, *words: str, code: int = 0) -> Any:
        return self.asked(actor, command, str(self.shop.file), *words, code=code)

    def asked(self, actor: Actor, *words: str, code: int = 0) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.env(actor).items():
                patch.setenv(name, value)
            done = CliRunner().invoke(main, [*words, "--json"])
        assert done.exit_code == code, f"{actor} {words[0]}: {done.stdout} {done.stderr} {dict(self.gate.denied)}"
        return json.loads(done.stdout)

    @contextmanager
    def running(self, actor: Actor, command: str) -> Iterator[None]:
        line = [sys.executable, "-m", "docferry.cli", command, str(self.shop.file), "--json"]
        process = subprocess.Popen(
            line, env={**os.environ, **self.env(actor)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            yield
        finally:
            process.terminate()
            print(command, *process.communicate(timeout=30))


def policies(shop: Shop) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["iam", str(shop.file)])
    assert done.exit_code == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def test_each_who_acts_is_allowed_what_it_needs_and_no_more(
    fresh: Shop, stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, make in MAKERS.items():
        fresh.database[name].insert_many([make(f"{name}-{number}") for number in range(3)])
    fresh.change_file(
        rollback_points={"to": str(tmp_path / "points")},
        validate={"settle_s": 0.5},
        cutover={"waived_unique": ["users.username"]},
    )
    allowed = policies(fresh)
    with PolicyGate(fresh.env["AWS_ENDPOINT_URL_DYNAMODB"], allowed) as gate:
        there_and_back(Guarded(fresh, gate), stack, monkeypatch)
    assert +gate.denied == Counter()
    for actor in Actor:
        may = {(one["Sid"], action) for one in allowed[actor]["Statement"] for action in one["Action"]}
        spare = may - {(sid, action) for who, sid, action in gate.used if who == actor}
        assert {f"{sid} {action.removeprefix('dynamodb:')}" for sid, action in spare} <= SPARE.get(actor, set()), actor


def there_and_back(guarded: Guarded, stack: SandboxStack, patch: pytest.MonkeyPatch) -> None:
    run, shop = guarded.run, guarded.shop
    found = str(shop.file.with_name("found"))
    guarded.asked(Actor.ANALYST, "analyze", "--prove", str(shop.file), "--out", found, "--calls", "2")
    guarded.asked(Actor.ANALYST, "analyze", "--prove", str(shop.file), "--out", found, "--clean")
    run(Actor.PROVISION, "provision")
    run(Actor.PROVISION, "check")
    run(Actor.LOAD, "backfill")
    for name, value in guarded.env(Actor.APPLICATION).items():
        if name.startswith("AWS_"):
            patch.setenv(name, value)
    patch.setenv("DOCFERRY_MONGO_URI", stack.env()["DOCFERRY_APP_MONGO_URI"])
    with wiring.connect(shop.file) as manager, Traffic(manager, writers=1) as traffic:
        with guarded.running(Actor.LOAD, "replicate"):
            eventually(lambda: close_behind(run(Actor.VIEWER, "status")), "replication", 120.0, 1.0)
            run(Actor.CUTOVER, "dual-write")
            run(Actor.VALIDATE, "validate")
            run(Actor.VALIDATE, "repair")
            run(Actor.POINTS, "points", "--make", "--name", "one")
            run(Actor.APPROVER, "approve", "flip_reads", "--as", "maria", "--why", "all equal")
            few = ("--soak", "2", "--reads", "1", "--slower", "0")
            run(Actor.CUTOVER, "flip-reads", "--percent", "100", *few)
            run(Actor.APPROVER, "approve", "stop_mongo_writes", "--as", "maria", "--why", "it is time")
            run(Actor.VIEWER, "clients", "--seconds", "1")
            guarded.gate.swap(Actor.APPLICATION, Actor.APPLICATION_LEADING)
            run(Actor.CUTOVER, "stop-mongo-writes")
        with guarded.running(Actor.REVERSE, "reverse"):
            before = traffic.writes
            eventually(lambda: traffic.writes > before + 50, "writes to DynamoDB alone")
            run(Actor.VALIDATE, "validate")
            run(Actor.VIEWER, "mode")
            run(Actor.VIEWER, "health")
            run(Actor.REVERSE, "rollback", "--to", "MONGO_ONLY")
    assert traffic.errors == []
    assert in_mongodb(shop.database) == traffic.acknowledged()
    run(Actor.LOAD, "replicate", "--until-caught-up")
    run(Actor.VALIDATE, "purge", code=3)  # what was written is too young
    assert in_dynamodb(shop.dynamodb, shop.table) == traffic.acknowledged()


def close_behind(status: Any) -> bool:
    found = status["replication"] or {}
    return found.get("lag_s") is not None and found["lag_s"] < 5
