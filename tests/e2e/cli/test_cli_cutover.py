"""The way there and back by commands alone, as one goes without Airflow."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from docferry import wiring
from docferry.cli.main import main
from docferry.flows.ledger.positions import REPLICATION
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.client.rig import connected
from support.client.traffic import Traffic, in_dynamodb, in_mongodb
from support.replicate.rig import end, live_shop

pytestmark = pytest.mark.cutover


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with SandboxStack() as stack:
        made = live_shop(stack.env(), tmp_path)
        images = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        made.dynamodb.update_table(TableName=made.table, StreamSpecification=images)
        connected(made, monkeypatch, stack)
        yield made
        end(made)


def line(rig: Rig, command: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "docferry.cli", command, str(rig.file), *words, "--json"]


def run(rig: Rig, command: str, *words: str, code: int = 0) -> Any:
    """What the command answered, in this process: it is quicker, and the environment is the application's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCFERRY_MONGO_URI", rig.env["DOCFERRY_MONGO_URI"])
        done = CliRunner().invoke(main, [command, str(rig.file), *words, "--json"])
    assert done.exit_code == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@contextmanager
def running(rig: Rig, command: str) -> Iterator[None]:
    process = subprocess.Popen(
        line(rig, command), env={**os.environ, **rig.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def answered(rig: Rig, command: str, question: str, answer: str) -> str:
    """What a command shows that asks something on a terminal."""
    ours, its = pty.openpty()
    words = [one for one in line(rig, command) if one != "--json"]
    process = subprocess.Popen(words, env={**os.environ, **rig.env}, stdin=its, stdout=its, stderr=its)
    os.close(its)
    shown, asked = "", False
    with suppress(OSError):  # the terminal is closed with the process
        while seen := os.read(ours, 4096):
            shown += seen.decode(errors="replace")
            if not asked and question in shown:
                os.write(ours, f"{answer}\n".encode())
                asked = True
    os.close(ours)
    assert process.wait(timeout=60) == 0, shown
    return shown


def replicates(rig: Rig) -> bool:
    record = rig.ledger.read(*REPLICATION)
    return record is not None and bool(record.body.get("owner")) and record.body.get("lag_s") == 0


def test_way_there_and_back_by_commands(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager, Traffic(manager, writers=2) as traffic:
        with running(rig, "replicate"):
            eventually(lambda: replicates(rig), "replication to be close behind")
            refused = run(rig, "flip-reads", "--percent", "10", code=3)
            assert "MONGO_ONLY cannot become DYNAMODB_READS" in refused["message"]
            assert run(rig, "dual-write")["mode"] == "DUAL_WRITE"
            assert run(rig, "validate")["ok"]
            refused = run(rig, "flip-reads", "--percent", "10", code=3)
            assert "flip_reads: has no approval" in refused["message"]
            assert run(rig, "approve", "flip_reads", "--as", "maria", "--why", "all equal")["phase"] == "flip_reads"
            few = ("--soak", "2", "--reads", "1", "--slower", "0")
            assert run(rig, "flip-reads", "--percent", "10", *few)["mode"] == "DYNAMODB_READS (10 %)"
            assert run(rig, "flip-reads", "--percent", "100", *few)["mode"] == "DYNAMODB_READS (100 %)"
            run(rig, "approve", "stop_mongo_writes", "--as", "maria", "--why", "it is time")
            assert run(rig, "clients", "--seconds", "1")["foreign_writers"] == 0
            assert run(rig, "stop-mongo-writes", "--dry-run") == {"ready": True}
            switched = run(rig, "stop-mongo-writes")
        assert (switched["after"], switched["instances"]) == ("DYNAMODB_ONLY", 1)
        known = run(rig, "status")
        assert (known["mode"], [one["mode"] for one in known["instances"]]) == ("DYNAMODB_ONLY", ["DYNAMODB_ONLY"])
        shown = run(rig, "mode")
        assert shown["mode"]["mode"] == "DYNAMODB_ONLY"
        assert [one["after"] for one in shown["moves"]][-3:] == [
            "DYNAMODB_READS (100 %)", "HOLD (DYNAMODB_READS -> DYNAMODB_ONLY)", "DYNAMODB_ONLY",
        ]  # fmt: skip
        with running(rig, "reverse"):
            before = traffic.writes
            eventually(lambda: traffic.writes > before + 50, "writes to DynamoDB alone")
            refused = run(rig, "rollback", "--dry-run", code=3)
            assert "judged DynamoDB, which leads now" in refused["message"]
            assert run(rig, "validate")["ok"]
            assert "MongoDB leads" in run(rig, "rollback", "--dry-run")["would"]
            shown = answered(rig, "rollback", "How far back", "MONGO_ONLY")
            assert "MONGO_ONLY: " in shown
            assert "DUAL_WRITE: " in shown
            assert run(rig, "mode")["mode"]["mode"] == "MONGO_ONLY"
        assert "not DUAL_WRITE" in run(rig, "rollback", "--to", "DUAL_WRITE", code=3)["message"]
        assert "confirm" in run(rig, "finalize", "--confirm", "wrong", code=3)["message"]
        assert "FINAL" in run(rig, "finalize", "--dry-run", code=3)["message"]
    assert traffic.errors == []
    assert in_mongodb(rig.database) == traffic.acknowledged()
    run(rig, "replicate", "--until-caught-up")
    assert in_dynamodb(rig.dynamodb, rig.table) == traffic.acknowledged()
