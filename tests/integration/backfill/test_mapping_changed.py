"""A mapping that is edited after the load: whatever would write by it, or judge by it, refuses, and touches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from docferry import wiring
from docferry.cli.main import main
from docferry.errors import PreflightFailed
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.rig import connected
from support.replicate.rig import end, live_shop


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = live_shop(stack.env(), tmp_path)
    connected(made, monkeypatch, stack)
    monkeypatch.setenv("DOCFERRY_MONGO_URI", made.env["DOCFERRY_MONGO_URI"])
    yield made
    end(made)


def test_application_with_an_edited_mapping_does_not_begin(rig: Rig) -> None:
    edited = Path(rig.file).with_name("edited.yaml")
    edited.write_text(Path(rig.file).read_text().replace("SK: PROFILE", "SK: ROOT"))
    with pytest.raises(PreflightFailed, match=r"collections\.users: its mapping has changed"):
        wiring.connect(edited)
    assert rig.ledger.list("instances") == []


@pytest.mark.parametrize(
    "command",
    [
        ["replicate", "--until-caught-up"],
        ["validate"],
        ["repair"],
        ["dead-letters", "--replay"],
        ["backfill"],
        ["dual-write"],
    ],
    ids=lambda command: command[0],
)
def test_edited_mapping_is_refused_before_anything_is_touched(rig: Rig, command: list[str]) -> None:
    edited = Path(rig.file).with_name("edited.yaml")
    edited.write_text(Path(rig.file).read_text().replace("SK: PROFILE", "SK: ROOT"))
    rig.database["users"].update_one({}, {"$set": {"status": "edited"}})
    before = rig.dynamodb.scan(TableName=rig.table)["Items"]
    done = CliRunner().invoke(main, [command[0], str(edited), *command[1:], "--json"])
    assert done.exit_code == 3, done.output
    assert "collections.users: its mapping has changed since it was loaded" in json.loads(done.stdout)["message"]
    assert rig.dynamodb.scan(TableName=rig.table)["Items"] == before
