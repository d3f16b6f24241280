"""A run of replication: it begins after the load, goes on where it was, is alone, and ends as it is asked to."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bson import Binary
from demo.traffic import TrafficProcess, make_events
from docferry.errors import LeaseHeld, PreflightFailed
from docferry.flows.backfill.again import begin_again
from docferry.flows.ledger.load_headers import CONDITIONAL
from docferry.flows.ledger.positions import REPLICATION, position_body, record_position, recorded_position
from docferry.rehearsal.independent import judge
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.pace import Pace
from support.replicate.rig import (
    Following,
    assert_equal,
    await_applied,
    end,
    follow,
    job_of,
    live_shop,
)
from support.replicate.shop import impatient, insert, keys_of, rig
from support.validate.planting import MAKERS, user

__all__ = ["impatient", "rig"]

pytestmark = pytest.mark.xdist_group("replicate")


# --- counting, positions, time ---------------------------------------------------------------------------------------


def test_mixed_traffic_is_applied_and_every_event_counted(rig: Rig) -> None:
    position = follow(rig).position
    made = make_events(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, 250, 3, unstorable=0.05)
    report = follow(rig)
    assert report.events == made.documents_changed
    assert report.events == report.written + report.superseded + report.dead + report.passed
    assert report.passed == 0
    assert report.superseded < report.events / 10, "only those of names that were passed on meanwhile"
    assert report.dead > 0
    assert position is not None
    assert report.position is not None
    assert report.position > position
    assert report.lag_s is not None
    record = rig.ledger.read(*REPLICATION)
    assert record is not None
    assert {name: record.body[name] for name in ("events", "written", "dead")} == {
        "events": report.events, "written": report.written, "dead": report.dead,
    }  # fmt: skip
    assert_equal(rig)


def test_replay_from_an_older_position_changes_nothing(rig: Rig) -> None:
    made = make_events(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, 150, 5)
    first = follow(rig)
    before = rig.scan()
    record, begun = rig.ledger.read(*REPLICATION), recorded_position(rig.ledger)
    assert record is not None
    assert begun is not None
    rig.ledger.write(*REPLICATION, {**record.body, **position_body(begun)}, expect=record)
    again = follow(rig)
    assert (again.events, again.superseded, again.written) == (made.documents_changed, made.documents_changed, 0)
    assert first.written > made.documents_changed * 0.9
    assert rig.scan() == before


def test_what_the_load_has_read_already_is_superseded(stack: SandboxStack, tmp_path: Path) -> None:
    rig = live_shop(stack.env(), tmp_path, load=False)
    job = rig.job()
    record_position(rig.ledger, job.source)
    rig.database["users"].update_many({}, {"$set": {"note": "before it was read"}})
    rig.load(job=job)
    rig.database["users"].update_one({}, {"$set": {"note": "behind"}})
    report = follow(rig)
    assert (report.superseded, report.written) == (3, 1)
    assert_equal(rig)
    end(rig)


def test_run_ends_after_its_time_and_another_one_goes_on(rig: Rig) -> None:
    began = time.monotonic()
    with Pace() as pace:
        report = follow(rig, for_s=1.0)
    assert time.monotonic() - began >= 1.0
    assert pace.seconds < 20
    assert report.events == 0
    insert(rig, "users", user("later"))
    until = job_of(rig).source.cluster_time()
    insert(rig, "users", user("even later"))
    assert 1 <= follow(rig, until=until).events <= 2
    assert follow(rig).events <= 1
    assert_equal(rig)


def test_position_moves_on_while_nobody_writes(rig: Rig) -> None:
    position = follow(rig).position
    rig.mongo[f"{rig.database.name}b"]["x"].insert_one({})
    moved = follow(rig)
    rig.mongo.drop_database(f"{rig.database.name}b")
    assert moved.events == 0
    assert position is not None
    assert moved.position is not None
    assert moved.position > position


# --- one at a time ---------------------------------------------------------------------------------------------------


def test_second_one_is_told_who_follows(rig: Rig) -> None:
    with Following(rig) as first:
        await_applied(rig, first)
        with pytest.raises(LeaseHeld) as caught:
            follow(rig)
        assert first.job.identity.name in str(caught.value)
        with pytest.raises(LeaseHeld, match=first.job.identity.name):
            begin_again(rig.job())
        insert(rig, "users", user("goes on"))
        first.await_all()
    assert first.report is not None
    assert first.report.events == 1
    assert follow(rig).events == 0, "the lease was given back"
    assert_equal(rig)


def test_following_waits_for_every_load(stack: SandboxStack, tmp_path: Path) -> None:
    rig = live_shop(stack.env(), tmp_path, load=False)
    rig.load("users", "orders", "products")
    with pytest.raises(PreflightFailed, match="categories: is not loaded"):
        follow(rig)
    rig.load("categories")
    assert follow(rig).events == 0
    end(rig)


def test_after_the_first_follower_nothing_is_loaded_without_conditions(rig: Rig) -> None:
    follow(rig)
    header = rig.ledger.read("backfill", "categories")
    assert header is not None
    rig.ledger.delete(header)
    key = insert(rig, "categories", MAKERS["categories"]("new"))
    follow_not_yet = pytest.raises(PreflightFailed, match="categories")
    with follow_not_yet:
        follow(rig)
    rig.load("categories")
    header = rig.ledger.read("backfill", "categories")
    assert header is not None
    assert header.body["mode"] == CONDITIONAL
    assert follow(rig).events == 1
    assert keys_of(rig, f"CATEGORY#{key}") == {"METADATA"}
    assert_equal(rig)


def test_load_again_under_live_writes_overwrites_nothing_newer(rig: Rig, tmp_path: Path) -> None:
    """The writer never stops; what follows stops only for as long as `begin_again` takes."""
    follow(rig)
    traffic = TrafficProcess(
        rig.env["DOCFERRY_MONGO_URI"], tmp_path, database=rig.migration.source.database, rate=15, seed=4
    )
    with traffic:
        traffic.await_writing()
        names = begin_again(rig.job())
        with Following(rig) as following:
            reports = rig.load()
            assert set(reports) == set(names) == set(MAKERS)
            assert all(report.counts.read > 0 for report in reports.values())
            traffic.stop()
            following.await_all()
    assert following.report is not None
    assert following.report.written > 0
    header = rig.ledger.read("backfill", "users")
    assert header is not None
    assert (header.body["mode"], header.body["state"]) == (CONDITIONAL, "complete")
    assert_equal(rig)


# --- processes -------------------------------------------------------------------------------------------------------


def start(rig: Rig, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "docferry.cli", "replicate", str(rig.file), "--json", *words]
    return subprocess.Popen(
        command, env={**rig.env, "PATH": ""}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_killed_in_the_midst_it_goes_on_where_all_was_applied(rig: Rig) -> None:
    made = make_events(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, 200, 11)
    process = start(rig)
    first = {key: item["_v"] for key, item in rig.scan().items()}
    eventually(lambda: {key: item["_v"] for key, item in rig.scan().items()} != first, "the first change", 60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    with pytest.raises(AssertionError):
        assert_equal(rig)
    report = follow(rig)
    assert 0 < report.events <= made.documents_changed
    assert_equal(rig)


def test_sigterm_ends_it_with_its_position_kept(rig: Rig) -> None:
    process = start(rig)
    await_applied(rig)
    insert(rig, "users", user("before the end"))
    await_applied(rig)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert '"events": 1' in out
    assert follow(rig).events == 0
    assert_equal(rig)


def test_judge_sees_what_replication_would_have_to_do(rig: Rig) -> None:
    """The comparison at the end of these tests finds each kind of difference."""
    follow(rig)
    rig.database["users"].update_one({}, {"$set": {"note": Binary(b"x")}})
    rig.database["orders"].delete_one({})
    insert(rig, "products", MAKERS["products"]("new"))
    found = judge.judge_shop(rig.database, rig.dynamodb, rig.table, live=True)
    assert found.counts == (2, 4, 1)  # a product and its guard, an order with its items, a user
    follow(rig)
    assert_equal(rig)
    key, item = next((key, item) for key, item in rig.scan().items() if "_deleted" in item)
    rig.dynamodb.put_item(TableName=rig.table, Item={**item, "status": {"S": "left"}})
    assert key
    assert judge.judge_shop(rig.database, rig.dynamodb, rig.table, live=True).counts == (0, 1, 0)
