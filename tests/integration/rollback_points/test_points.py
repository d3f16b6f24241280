"""Rollback points on real servers: what is made is one moment of the database, what is broken is found, what is half does not
list, and what is restored beside is equal document for document."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.json_util import loads
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.fence_plan import NEVER_EXPIRES_S
from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import PointFailed, PreflightFailed, Stopped, ValidationFailed
from docferry.flows.rollback_points import dump as points_dump
from docferry.flows.rollback_points.job import list_points
from docferry.flows.rollback_points.make import make_point, plan_point
from docferry.flows.rollback_points.restore import restore_beside
from docferry.flows.rollback_points.verify import verify_point
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.client.rig import set_mode
from support.processes import Victim
from support.rollback_points.rig import change_file, contents, end, points_rig, shapes, while_reading, work

pytestmark = pytest.mark.xdist_group("points")


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    """A few documents."""
    made = points_rig(stack, tmp_path, plain=True)
    yield made
    end(made)


@pytest.fixture
def odd(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    """Whatever a database may hold."""
    made = points_rig(stack, tmp_path)
    yield made
    end(made)


def names(rig: Rig) -> list[str]:
    return [point.name for point in list_points(rig.ledger).points]


def bucket(rig: Rig) -> str:
    client = rig._session.client("s3")
    name = f"points-{rig.migration.source.database.rpartition('_')[2]}"
    client.create_bucket(Bucket=name)
    return name


# --- made, and restored beside ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["directory", "s3"])
def test_point_restored_beside_is_equal_document_for_document_with_options_and_indexes(odd: Rig, where: str) -> None:
    if where == "s3":
        change_file(odd, {"to": f"s3://{bucket(odd)}/a/b"})
    odd.dynamodb.put_item(TableName=odd.table, Item={"PK": {"S": "a"}, "SK": {"S": "b"}})
    before, shape = contents(odd.database), shapes(odd.database)
    assert sum(map(len, before.values())) > 120
    made = make_point(work(odd), "first")
    assert made.documents == sum(map(len, before.values()))
    odd.database["users"].delete_many({})
    odd.dynamodb.delete_item(TableName=odd.table, Key={"PK": {"S": "a"}, "SK": {"S": "b"}})
    report = restore_beside(work(odd), "first")
    beside = odd.mongo[report.database]
    assert report.database == f"{odd.migration.source.database}_restored_first"
    assert contents(beside) == before
    ttl = shape["orders"][2][1]
    assert ttl["expireAfterSeconds"] == 60
    ttl["expireAfterSeconds"] = NEVER_EXPIRES_S
    assert report.resting == ("orders.keptUntil_1",)
    assert shapes(beside) == shape
    assert contents(odd.database)["users"] == []
    (table,) = report.tables.values()
    assert odd.dynamodb.scan(TableName=table)["Items"] == [{"PK": {"S": "a"}, "SK": {"S": "b"}}]
    assert odd.dynamodb.scan(TableName=odd.table)["Items"] == []


def test_files_are_those_of_mongodump_and_for_nobody_else_to_read(odd: Rig, tmp_path: Path) -> None:
    made = make_point(work(odd), "first")
    root = Path(made.where)
    assert root == tmp_path / "points" / "shop" / "first"
    folder = root / odd.migration.source.database
    stems = {path.name.partition(".")[0] for path in folder.iterdir()}
    assert stems == {
        "users", "orders", "products", "categories", "odd%2F%C3%BC%20&x", "folded", "clustered", "strict", "empty", "cheap",
    }  # fmt: skip
    assert not (folder / "cheap.bson").exists()
    ids = [one["_id"] for one in bson.decode_all((folder / "users.bson").read_bytes(), BSON_OPTIONS)]
    assert ids == sorted(ids)
    assert len(ids) > 20
    metadata = json.loads((folder / "orders.metadata.json").read_text())
    assert set(metadata) == {"options", "indexes", "uuid", "collectionName", "type"}
    assert metadata["indexes"][0] == {"v": {"$numberInt": "2"}, "key": {"_id": {"$numberInt": "1"}}, "name": "_id_"}
    assert loads((folder / "cheap.metadata.json").read_text())["options"]["viewOn"] == "products"
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert root.stat().st_mode & 0o077 == 0


def test_point_is_of_one_moment_whatever_is_written_meanwhile(odd: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_dump, "PAGE", 5)
    before = contents(odd.database)
    written = 0

    def write(collection: str) -> None:
        nonlocal written
        written += 1
        if written > 200:  # a dump that sees what is written would never end
            return
        odd.database["users"].insert_one({"username": f"late {written}"})
        odd.database["clustered"].delete_one({"_id": written})
        odd.database["categories"].update_many({}, {"$set": {"late": written}})

    make_point(while_reading(work(odd), write), "first")
    assert written > 20
    assert contents(odd.mongo[restore_beside(work(odd), "first").database]) == before


@pytest.mark.parametrize("what", ["dropped", "made", "anew"])
def test_collection_that_changes_its_being_meanwhile_leaves_no_point(rig: Rig, what: str) -> None:
    def change(collection: str) -> None:
        if what in ("dropped", "anew"):
            rig.database["users"].drop()
        if what in ("made", "anew"):
            rig.database["users" if what == "anew" else "young"].insert_one({})

    with pytest.raises(PointFailed, match="run again"):
        make_point(while_reading(work(rig), change), "first")
    assert list_points(rig.ledger).unfinished == ("first",)
    assert names(rig) == []


def test_snapshot_that_mongodb_does_not_keep_so_long_leaves_no_point_and_says_what_to_use(rig: Rig) -> None:
    admin = rig.mongo.admin
    window = {"setParameter": 1, "minSnapshotHistoryWindowInSeconds": 0}

    def is_gone() -> bool:
        rig.database["young"].insert_one({})
        at = {"level": "snapshot", "atClusterTime": began}
        try:
            rig.database.command("find", "clustered", readConcern=at)
        except Exception as error:
            return getattr(error, "code", 0) == 239
        return False

    def outlast(collection: str) -> None:
        if collection == "users":
            eventually(is_gone, "the snapshot is not kept any more", 60)

    began = admin.command("ping")["operationTime"]
    admin.command(window)
    try:
        with pytest.raises(PointFailed, match=r"five minutes.*use method: mongodump, or snapshot"):
            make_point(while_reading(work(rig), outlast), "first")
    finally:
        admin.command(window | {"minSnapshotHistoryWindowInSeconds": 300})
    assert names(rig) == []


def test_what_an_own_dump_does_not_take_is_refused_by_name_and_all_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(points_dump, "DUMP_BYTES", 1_000)
    rig.database.create_collection("ring", capped=True, size=4096)
    rig.database.create_collection("series", timeseries={"timeField": "t"})
    set_mode(rig, ModeState(mode=Mode.HOLD, behind=Mode.DYNAMODB_READS, ahead=Mode.DYNAMODB_ONLY, epoch=1))
    with pytest.raises(PreflightFailed) as refused:
        make_point(work(rig), "a b")
    told = {problem.where.rpartition(".")[2]: problem for problem in refused.value.problems}
    assert set(told) == {"a b", "mode", rig.migration.source.database, "ring", "series"}
    assert told[rig.migration.source.database].suggestion == "use method: mongodump, or snapshot"
    assert not (tmp_path / "points").exists()


def test_tables_that_are_not_there_yet_are_named_before_anything_is_dumped(rig: Rig, tmp_path: Path) -> None:
    rig.dynamodb.delete_table(TableName=rig.table)
    with pytest.raises(PreflightFailed, match=f"{rig.table}: is no table yet"):
        make_point(work(rig), "first")
    assert not (tmp_path / "points").exists()


def test_point_that_somebody_makes_is_not_swept_away(rig: Rig, tmp_path: Path) -> None:
    other: list[object] = []

    def make_another(collection: str) -> None:
        if not other:
            other.append(make_point(work(rig), "quick"))

    make_point(while_reading(work(rig), make_another), "slow")
    assert names(rig) == ["quick", "slow"]
    assert verify_point(work(rig), "slow").ok


def test_files_of_a_point_that_another_ledger_knows_are_not_touched(rig: Rig, tmp_path: Path) -> None:
    make_point(work(rig), "first")
    for record in rig.ledger.list("points"):
        rig.ledger.delete(record)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.bson")}
    with pytest.raises(PreflightFailed, match="holds files of a point first that this ledger does not know"):
        make_point(work(rig), "first")
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*.bson")}
    assert names(rig) == []


def test_place_that_is_gone_is_no_reason_against_a_point_elsewhere(rig: Rig) -> None:
    body = {"state": "making", "to": "s3://there-is-no-such-bucket/p", "mark": "", "owner": "somebody", "until": 0}
    rig.ledger.write("points", "lost", body, expect=None)
    job = work(rig)
    make_point(job, "first")
    assert names(rig) == ["first"]


# --- broken ----------------------------------------------------------------------------------------------------------


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 3)


def _cut_between_documents(file: Path) -> None:
    data = file.read_bytes()
    os.truncate(file, len(data) - len(bson.encode(bson.decode_all(data)[-1])))


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE = {
    "cut": ("clustered.bson", _cut, "cut off"),
    "a document short": ("clustered.bson", _cut_between_documents, "29 documents, not 30"),
    "one bit": ("users.bson", _flip, "users.bson"),
    "gone": ("orders.bson", lambda file: file.unlink(), "is not there"),
    "metadata changed": ("orders.metadata.json", lambda file: file.write_text("{}"), "has changed"),
    "metadata gone": ("cheap.metadata.json", lambda file: file.unlink(), "is not there"),
}  # fmt: skip


def test_damage_is_found_named_remembered_and_not_restored(odd: Rig) -> None:
    made = make_point(work(odd), "first")
    folder = Path(made.where) / odd.migration.source.database
    assert verify_point(work(odd), "first").ok
    for what, (name, damage, told) in DAMAGE.items():
        shutil.copy(folder / name, folder / "kept")
        damage(folder / name)
        report = verify_point(work(odd), "first")
        assert any(name in fault and told in fault for fault in report.faults), (what, report.faults)
        assert [point.sound for point in list_points(odd.ledger).points] == [False]
        with pytest.raises(ValidationFailed, match="is not what was recorded"):
            restore_beside(work(odd), "first")
        (folder / "kept").rename(folder / name)
    (backup,) = made.backups.values()
    odd.dynamodb.delete_backup(BackupArn=backup)
    assert "the backup" in verify_point(work(odd), "first").faults[0]
    assert f"{odd.migration.source.database}_restored_first" not in odd.mongo.list_database_names()


# --- half ------------------------------------------------------------------------------------------------------------


def test_dump_that_is_killed_leaves_no_point_and_the_next_one_removes_what_it_left(rig: Rig, tmp_path: Path) -> None:
    root = tmp_path / "points" / "shop"
    slow = {"docferry.flows.rollback_points.dump.PAGE": 1}
    with Victim(rig, tmp_path / "log", "points", "--make", "--name", "killed", settings=slow) as victim:
        eventually(lambda: victim.exit_code is not None or list(root.glob("*/*/*.part")), "a file is being written")
        assert victim.kill(), victim.said()
    assert list_points(rig.ledger).unfinished == ("killed",)
    assert names(rig) == []
    assert [path.name for path in root.iterdir()] == ["killed.unfinished"]
    with pytest.raises(PreflightFailed, match="is not finished"):
        restore_beside(work(rig), "killed")
    make_point(work(rig), "next")
    assert (names(rig), list_points(rig.ledger).unfinished) == (["next"], ())
    assert [path.name for path in root.iterdir()] == ["next"]


def test_restore_that_is_killed_begins_anew_and_is_equal(odd: Rig, tmp_path: Path) -> None:
    before = contents(odd.database)
    make_point(work(odd), "first")
    beside = odd.mongo[f"{odd.migration.source.database}_restored_first"]
    slow = {"docferry.flows.rollback_points.restore.BATCH": 1}
    with Victim(odd, tmp_path / "log", "points", "--restore", "first", settings=slow) as victim:
        eventually(lambda: victim.exit_code is not None or len(beside.list_collection_names()) > 3, "it restores")
        assert victim.kill(), victim.said()
    assert contents(beside) != before
    restore_beside(work(odd), "first")
    assert contents(beside) == before


def test_backups_of_a_point_that_failed_behind_them_are_removed_by_the_next(rig: Rig, tmp_path: Path) -> None:
    made = make_point(work(rig), "first")

    class Stops:
        """Says to stop once DynamoDB has made a backup."""

        def is_set(self) -> bool:
            return len(rig.dynamodb.list_backups(TableName=rig.table)["BackupSummaries"]) > 1

    with pytest.raises(Stopped):
        make_point(work(rig, stop=Stops()), "second")
    assert names(rig) == ["first"]
    make_point(work(rig), "third")
    found = rig.dynamodb.list_backups(TableName=rig.table)["BackupSummaries"]
    assert {one["BackupName"] for one in found} == {"docferry.shop.first", "docferry.shop.third"}
    assert {one["BackupArn"] for one in found} > set(made.backups.values())
    assert {path.name for path in (tmp_path / "points" / "shop").iterdir()} == {"first", "third"}


def test_what_others_have_made_is_never_restored_into(rig: Rig) -> None:
    make_point(work(rig), "first")
    live = rig.migration.source.database
    for into in (live, "admin", "config"):
        with pytest.raises(PreflightFailed, match="is not beside the live data"):
            restore_beside(work(rig), "first", into)
    rig.mongo[f"{live}_other"]["mine"].insert_one({})
    rig.dynamodb.create_table(
        TableName=f"{rig.table}_restored_first",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
    )
    with pytest.raises(PreflightFailed) as refused:
        restore_beside(work(rig), "first", f"{live}_other")
    assert {problem.where for problem in refused.value.problems} == {f"{live}_other", f"{rig.table}_restored_first"}
    assert rig.mongo[f"{live}_other"].list_collection_names() == ["mine"]


# --- what others have made ----------------------------------------------------------------------------------------


def test_external_snapshot_is_verified_to_be_there_and_no_more_is_claimed(rig: Rig, tmp_path: Path) -> None:
    change_file(rig, {"method": "snapshot"})
    ec2, s3 = (rig._session.client(name) for name in ("ec2", "s3"))
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    (tmp_path / "cold").mkdir()
    (tmp_path / "cold" / "file").write_text("data")
    s3.put_object(Bucket=(name := bucket(rig)), Key="cold/file", Body=b"data")
    for number, where in enumerate((snapshot, str(tmp_path / "cold"), f"s3://{name}/cold/")):
        made = make_point(work(rig), f"of-{number}", where)
        assert "has not been looked at" in made.said
        report = verify_point(work(rig), made.name)
        assert report.ok
        assert any(made.said in line for line in report.checked)
    with pytest.raises(PreflightFailed, match="is not named"):
        plan_point(work(rig))
    for where in ("snap-0123456789abcdef0", str(tmp_path / "none"), f"s3://{name}/none/"):
        with pytest.raises(PointFailed, match="is not there"):
            make_point(work(rig), "none", where)
    ec2.delete_snapshot(SnapshotId=snapshot)
    assert "not there any more" in verify_point(work(rig), "of-0").faults[0]
    report_of: Any = restore_beside(work(rig), "of-1")
    assert (report_of.database, report_of.documents) == ("", 0)
    assert "bring it back with the tool that made it" in report_of.note
