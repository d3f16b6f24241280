"""The client's pages: their code runs, block after block, and their lists are the code's."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from docferry.core.access.calls import CLIENT_CALLS, COLLECTION_CALLS, DATABASE_CALLS
from docferry.core.mql import filters, updates
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.rig import MODES, application, connected, set_mode
from support.place import ROOT

FIRST_DAY, CALLS, BEFORE_THE_FLIP = (
    (ROOT / "docs" / f"{name}.md").read_text() for name in ("client", "client-calls", "client-flip")
)


def test_code_of_the_page_runs(
    stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = application(stack, tmp_path, f"page{uuid.uuid4().hex[:8]}")
    connected(rig, monkeypatch, stack)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    names: dict[str, Any] = {}
    before, alone, after = re.split(
        r"^(## What MongoDB alone does\n.*?)(?=^## )", FIRST_DAY, maxsplit=1, flags=re.M | re.S
    )
    run_blocks(before, names, rig)
    set_mode(rig, MODES["DUAL_WRITE"])
    names["db"].parts.membership.look()
    run_blocks(alone, names, rig)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    names["db"].parts.membership.look()
    run_blocks(after, names, rig)
    run_blocks(BEFORE_THE_FLIP, names, rig)
    names["db"].close()
    names["database"].client.close()
    assert names["ann"]["status"] == "idle"
    assert [one["createdAt"].day for one in names["newest"]] == [3, 2]
    assert (names["taken"], names["refused"], names["no_ghost"], names["still_paid"]) == (True, 14, True, True)
    assert "let the file allow scans" in names["advice"]
    assert [one["createdAt"].day for one in names["page"].documents + names["rest"].documents] == [3, 2, 1]
    assert [one and one["username"] for one in names["some"]] == ["ann", None]
    assert "dynamodb find_one" in capsys.readouterr().out
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


def run_blocks(page: str, names: dict[str, Any], rig: Rig) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, re.M | re.S)
    assert {language for language, _ in blocks} <= {"python", "text"}
    python = "\n".join(text for language, text in blocks if language == "python")
    code = python.replace('"include/migrations/shop.yaml"', repr(str(rig.file)))
    exec(compile(code, "docs/client.md", "exec"), names)


@pytest.mark.parametrize("method", sorted({*COLLECTION_CALLS, *DATABASE_CALLS, *CLIENT_CALLS}))
def test_page_names_each_call_that_is_refused(method: str) -> None:
    assert f"`{method}`" in CALLS


@pytest.mark.parametrize("module", [filters, updates], ids=["filters", "updates"])
def test_page_lists_the_operators_that_there_are(module: ModuleType) -> None:
    assert module.__doc__ is not None
    paragraph = next(one for one in module.__doc__.split("\n\n") if one.startswith("$"))
    supported = re.sub(r"\([^)]*\)", "", paragraph).split("Not here")[0]
    missing = [name for name in re.findall(r"\$[a-zA-Z]+", supported) if name not in CALLS]
    assert missing == []
