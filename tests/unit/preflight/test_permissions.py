"""check --permissions tells all that the phases need and lack at once, and what nobody can know without trying."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

from typing import Any

import pytest
from docferry.config import Migration, parse_migration
from docferry.core.permissions.mongodb import lacking as lacking_in_mongodb
from docferry.flows.preflight.permissions import permissions_of, wanted_of
from docferry.testing.fakes import FakeSource

ALL = ["anyAction"]


def migration(fence: str = "auto") -> Migration:
    text = f"migration: m\nsource: {{database: d}}\ntables: {{Items: {{}}}}\ncollections: {{docs: {{}}}}\ncutover: {{fence: {fence}, app_users: [a]}}\n"
    return parse_migration(text.encode())


def lacking(*privileges: dict[str, Any], fence: str = "auto") -> list[str]:
    return [str(one) for one in lacking_in_mongodb(wanted_of(migration(fence)), privileges)]


def on(database: str, collection: str, *actions: str) -> dict[str, Any]:
    return {"resource": {"db": database, "collection": collection}, "actions": list(actions)}


CLUSTER = ("getClusterParameter", "replSetGetStatus", "inprog", "listDatabases")


def test_root_lacks_nothing() -> None:
    assert lacking({"resource": {"anyResource": True}, "actions": ALL}) == []


def test_everything_that_lacks_is_told_at_once_by_phase() -> None:
    told = lacking(on("d", "", "find", "changeStream", "listCollections", "collStats", "listIndexes"))
    assert told == [
        "provision: MongoDB's user lacks collMod on d.docs",
        "reverse: MongoDB's user lacks insert, remove, update on d.docs",
        "provision: MongoDB's user lacks createCollection, insert, update on d.docferry.leader",
        "backfill: MongoDB's user lacks collStats, find on local.oplog.rs",
        "replicate: MongoDB's user lacks getClusterParameter on the cluster",
        "health: MongoDB's user lacks replSetGetStatus on the cluster",
        "stop-mongo-writes: MongoDB's user lacks inprog, listDatabases on the cluster",
        "stop-mongo-writes (write block): MongoDB's user lacks setUserWriteBlockMode, bypassWriteBlockingMode on the cluster",
        "stop-mongo-writes (revocation): MongoDB's user lacks createRole, dropRole, grantRole, revokeRole, viewRole, viewUser on admin.*",
    ]  # fmt: skip


@pytest.mark.parametrize("fence", ["auto", "write_block", "revoke"])
def test_one_kind_of_fence_is_enough_unless_the_file_wants_another(fence: str) -> None:
    block = {
        "resource": {"cluster": True},
        "actions": [*CLUSTER, "setUserWriteBlockMode", "bypassWriteBlockingMode"],
    }
    told = lacking(on("d", "", *ALL), on("local", "oplog.rs", *ALL), block, fence=fence)
    assert bool(told) == (fence == "revoke")


def test_privilege_on_another_database_or_collection_is_none() -> None:
    here = "check: MongoDB's user lacks collStats, find, listIndexes on d.docs"
    assert here in lacking(on("e", "", *ALL))
    assert here in lacking(on("d", "other", *ALL))
    assert here not in lacking(on("", "", *ALL))
    assert here not in lacking(on("d", "docs", *ALL))


def test_any_database_leaves_local_out() -> None:
    assert "backfill: MongoDB's user lacks collStats, find on local.oplog.rs" in lacking(on("", "", *ALL))


def test_what_cannot_be_known_is_said_to_be_unknown() -> None:
    report = permissions_of(migration(), FakeSource({"docs": []}), None)
    assert report.lacking == ()
    assert any("the connection has no user" in one for one in report.unchecked)
    assert any("no credentials" in one for one in report.unchecked)
    assert any("dynamodb:CreateTable" in one and "not tried" in one for one in report.unchecked)
