"""Rollback points by mongodump. Stand-ins take its place here, so what is shown is how docferry treats it, not what it does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docferry.errors import PreflightFailed, RequestRefused
from docferry.flows.rollback_points.job import list_points
from docferry.flows.rollback_points.make import make_point
from docferry.flows.rollback_points.restore import plan_restore, restore_beside
from docferry.flows.rollback_points.restore_over_live import plan_over_live, restore_over_live
from docferry.flows.rollback_points.verify import verify_point
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.rollback_points.rig import change_file, contents, end, points_rig, work
from support.rollback_points.tools import install

pytestmark = pytest.mark.xdist_group("points")


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = points_rig(stack, tmp_path, plain=True)
    change_file(made, {"method": "mongodump", "to": str(tmp_path / "points")})
    yield made
    end(made)


def test_point_by_mongodump_is_verified_restored_beside_and_over(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", install(tmp_path / "bin", "mongodump", "mongorestore"))
    before = contents(rig.database)
    made = make_point(work(rig), "first")
    assert (made.documents, len(made.collections)) == (90, 3)
    assert verify_point(work(rig), "first").ok
    rig.database["users"].delete_many({"n": {"$lt": 10}})
    report = restore_beside(work(rig), "first")
    assert contents(rig.mongo[report.database]) == before
    restore_over_live(work(rig), "first", plan_over_live(work(rig), "first").sentence)
    assert contents(rig.database) == before
    archive = tmp_path / "points" / "shop" / "first" / "archive"
    data = archive.read_bytes()
    archive.write_bytes(data[:-30])
    assert any("archive" in fault for fault in verify_point(work(rig), "first").faults)
    password = rig.env["DOCFERRY_MONGO_URI"].split(":")[2].split("@")[0]
    words = (tmp_path / "bin" / "words").read_text()
    assert "mongodump" in words
    assert "mongorestore" in words
    assert password not in words
    configs = [word for word in words.split() if word.endswith("config.yaml")]
    assert len(configs) == 2
    assert not any(os.path.exists(path) for path in configs)


def test_mongodump_that_fails_leaves_no_point_and_its_last_words_without_the_password(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", install(tmp_path / "bin", "mongodump", fails=True))
    with pytest.raises(RequestRefused, match="mongodump ended with 7: connected to <the address>"):
        make_point(work(rig), "first")
    assert list_points(rig.ledger).points == ()


def test_tools_that_are_missing_are_named(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", install(tmp_path / "bin", "mongodump"))
        make_point(work(rig), "first")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreflightFailed, match="mongodump: is not on the PATH"):
        make_point(work(rig), "second")
    with pytest.raises(PreflightFailed, match="mongorestore: is not on the PATH"):
        plan_restore(work(rig), "first")
