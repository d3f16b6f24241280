"""The demo's traffic: it makes every kind of write, says truly what it did, and nothing but a stranger's error ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pytest
from demo.traffic import TrafficProcess, TrafficReport, make_events
from demo.traffic_operations import OPERATIONS, operation_kinds
from demo.traffic_shop import UNIQUE, UniqueField
from docferry.config import load_migration
from docferry.errors import DocumentError, Unavailable
from docferry.rehearsal.shop import COLLECTIONS, INDEXES, load_shop
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from docferry.sandbox.processes import ProcessIdentity, wait_until
from pymongo import MongoClient
from support.pace import Pace
from support.place import ROOT

SHOP_FILE = ROOT / "include" / "migrations" / "shop.yaml"
EVENTS = 6_000
END_S = 2.0
RATE = 40.0

Change = dict[str, Any]

PARENT = """
import sys, time
from pathlib import Path
from demo.traffic import TrafficProcess
traffic = TrafficProcess(sys.argv[1], Path(sys.argv[2]), database="orphan")
traffic.start()
traffic.await_writing()
identity = traffic.process.identity
print(identity.pid, identity.started_ticks, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def mongo(stack: SandboxStack) -> SandboxReplicaSet:
    return stack.mongo


@pytest.fixture(scope="module")
def client(mongo: SandboxReplicaSet) -> Iterator[MongoClient[Any]]:
    # Some of the shop's dates are beyond what datetime holds.
    with mongo.client(datetime_conversion="DATETIME_AUTO") as opened:
        yield opened


@dataclass(frozen=True)
class Run:
    """What make_events said, and what MongoDB's change stream says."""

    database: str
    report: TrafficReport
    changes: list[Change]


def _shop(mongo: SandboxReplicaSet, users: int = 300) -> str:
    name = f"traffic{uuid.uuid4().hex[:8]}"
    load_shop(mongo.uri(), name, users=users, unstorable=0, pre_images=True)
    return name


def _changes(client: MongoClient[Any], database: str, token: Any) -> list[Change]:
    """All changes since `token`. They end with a marker that is written now."""
    marker = client[database].marker.insert_one({}).inserted_id
    with client[database].watch(resume_after=token) as stream:
        return list(takewhile(lambda change: change["documentKey"]["_id"] != marker, stream))


def _token(client: MongoClient[Any], database: str) -> Any:
    with client[database].watch() as stream:
        assert stream.try_next() is None
        return stream.resume_token


def _unmappable(client: MongoClient[Any], database: str) -> Counter[str]:
    """How many documents cannot be stored, by reason."""
    migration, reasons = load_migration(SHOP_FILE), Counter[str]()
    for name in COLLECTIONS:
        for document in client[database][name].find():
            try:
                migration.mapping(name).to_items(document, 1)
            except DocumentError as error:
                reasons[error.reason] += 1
    return reasons


@pytest.fixture(scope="module")
def run(mongo: SandboxReplicaSet, client: MongoClient[Any]) -> Run:
    database = _shop(mongo)
    token = _token(client, database)
    report = make_events(mongo.uri(), database, EVENTS, seed=7)
    return Run(database, report, _changes(client, database, token))


# --- what is written ------------------------------------------------------------------------------------------------


def test_every_kind_of_operation_is_used_and_mostly_changes_something(run: Run) -> None:
    ordinary = {name for name, one in OPERATIONS.items() if one.weight}
    assert run.report.operations.keys() == ordinary
    assert run.report.documents_changed > run.report.total


def test_refusals_are_counted_and_nothing_is_unknown(run: Run) -> None:
    refused = run.report.failures
    assert refused.keys() == {"11000", "112"}
    assert 0 < refused["112"] <= run.report.operations["transaction_conflict"]
    assert run.report.unknown == 0


def test_change_stream_shows_as_many_events_as_the_report_says(run: Run) -> None:
    assert len(run.changes) == run.report.documents_changed
    assert EVENTS <= len(run.changes) < EVENTS + 20


def test_change_stream_shows_all_types_in_all_collections(run: Run) -> None:
    seen = {(change["ns"]["coll"], change["operationType"]) for change in run.changes}
    assert seen == {(name, kind) for name in COLLECTIONS for kind in ("insert", "update", "replace", "delete")}


def test_change_stream_shows_transactions_of_several_collections(run: Run) -> None:
    together: dict[tuple[Any, int], list[Change]] = {}
    for change in run.changes:
        if "txnNumber" in change:
            together.setdefault((change["lsid"]["id"], change["txnNumber"]), []).append(change)
    whole = [changes for changes in together.values() if {c["ns"]["coll"] for c in changes} == set(COLLECTIONS)]
    assert whole
    for changes in whole:
        assert len({change["clusterTime"] for change in changes}) == 1
    kinds = [{c["operationType"] for c in changes} for changes in together.values()]
    assert {"delete", "insert", "update", "replace"} in kinds


def test_change_stream_shows_every_shape_of_update(run: Run) -> None:
    updates = [change["updateDescription"] for change in run.changes if change["operationType"] == "update"]
    paths = {path for update in updates for path in update["updatedFields"]}
    assert {"username", "email", "sku", "slug", "addresses", "items", "addresses.0.type", "profile.location"} <= paths
    assert any(update["removedFields"] for update in updates)
    assert any(update["truncatedArrays"] for update in updates)
    assert {"profile.location.city", "addresses", "items"} <= {f for update in updates for f in update["removedFields"]}


@pytest.mark.parametrize("at", UNIQUE, ids=str)
def test_unique_values_pass_from_one_document_to_another(run: Run, at: UniqueField) -> None:
    owners: dict[str, set[Any]] = {}
    for change in run.changes:
        value = change.get("updateDescription", {}).get("updatedFields", {}).get(at.field)
        if change["ns"]["coll"] == at.collection and value is not None:
            owners.setdefault(value, set()).add(change["documentKey"]["_id"])
    assert sum(len(ids) > 1 for ids in owners.values()) > 10


def test_documents_come_back_under_their_id(run: Run) -> None:
    deleted: set[str] = set()
    back: Counter[str] = Counter()
    for change in run.changes:
        key = repr(change["documentKey"]["_id"])
        deleted |= {key} if change["operationType"] == "delete" else set()
        if change["operationType"] == "insert" and key in deleted:
            back[change["ns"]["coll"]] += 1
    assert set(COLLECTIONS) == set(back)


def test_every_document_that_stays_can_be_stored(run: Run, client: MongoClient[Any]) -> None:
    assert _unmappable(client, run.database) == {}


def test_shop_keeps_its_size_and_its_unique_indexes(run: Run, client: MongoClient[Any]) -> None:
    fresh = {"users": 300, "orders": 525, "products": 120, "categories": 20}
    for name in COLLECTIONS:
        target = client[run.database][name]
        assert abs(target.count_documents({}) - fresh[name]) < 0.3 * fresh[name] + 10
        assert len(target.index_information()) == len(INDEXES[name]) + 1
    for name, field in UNIQUE:
        values = [found[field] for found in client[run.database][name].find({field: {"$gt": ""}}, {field: 1})]
        assert len(set(values)) == len(values)


def test_awkward_documents_and_children_that_went_are_among_them(run: Run, client: MongoClient[Any]) -> None:
    users, orders = client[run.database].users, client[run.database].orders
    assert users.find_one({"addresses": []})
    assert users.find_one({"addresses": {"$exists": False}})
    assert orders.find_one({"items": {"$type": "null"}})  # padded by a $set past the end
    assert users.count_documents({"addresses.2": {"$exists": True}}) > 10


def test_unstorable_share_breaks_documents_and_heals_them(mongo: SandboxReplicaSet, client: MongoClient[Any]) -> None:
    database = _shop(mongo)
    report = make_events(mongo.uri(), database, 1_500, seed=7, unstorable=0.1)
    assert report.operations["heal_document"] > 10
    reasons = _unmappable(client, database)
    assert 0 < reasons.total() <= 20  # more are never broken at a time
    assert {"KeyNotRepresentable", "TooDeep", "ItemTooLarge"} >= reasons.keys()


# --- the same again -------------------------------------------------------------------------------------------------


def test_same_seed_gives_the_same_operations_and_another_gives_others() -> None:
    first, again, other = (list(islice(operation_kinds(seed), 2_000)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_same_seed_on_the_same_shop_makes_the_same_changes(mongo: SandboxReplicaSet, client: MongoClient[Any]) -> None:
    made = []
    for _ in range(2):
        database = _shop(mongo, users=50)
        token = _token(client, database)
        report = make_events(mongo.uri(), database, 600, seed=11)
        changes = _changes(client, database, token)
        made.append((report.operations, [(change["ns"]["coll"], change["operationType"]) for change in changes]))
    assert made[0] == made[1]


def test_second_run_with_the_same_seed_goes_on_where_the_first_has_been(mongo: SandboxReplicaSet) -> None:
    database = _shop(mongo, users=50)
    first, second = (make_events(mongo.uri(), database, 600, seed=11) for _ in range(2))
    assert second.failures["11000"] < 2 * first.failures["11000"]


def test_empty_database_is_filled(mongo: SandboxReplicaSet, client: MongoClient[Any]) -> None:
    database = f"empty{uuid.uuid4().hex[:8]}"
    make_events(mongo.uri(), database, 300, seed=3)
    assert set(client[database].list_collection_names()) == set(COLLECTIONS)


# --- the process ----------------------------------------------------------------------------------------------------


def test_sigterm_ends_it_in_two_seconds_with_a_whole_report(
    mongo: SandboxReplicaSet, client: MongoClient[Any], tmp_path: Path
) -> None:
    database = _shop(mongo)
    token = _token(client, database)
    with TrafficProcess(mongo.uri(), tmp_path, database=database, rate=RATE) as traffic:
        traffic.await_writing()
        with Pace() as writing:
            time.sleep(3)  # the rate is what is tested
        with Pace() as ending:
            report = traffic.stop()
    assert ending.seconds < END_S
    assert len(_changes(client, database, token)) == report.documents_changed
    assert 0.8 * RATE / writing.slower < report.rate_reached <= 1.05 * RATE
    assert report.error == ""
    assert ("were asked for" in traffic.process.log_tail()) == (report.rate_reached <= 0.95 * RATE)


def test_ctrl_c_ends_it_too_and_the_command_line_speaks(mongo: SandboxReplicaSet) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.traffic", "--rate", "5000", "--database", _shop(mongo, users=50)],
        env={**os.environ, "DOCFERRY_MONGO_URI": mongo.uri()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "traffic: writing\n"
    with Pace() as pace:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert pace.seconds < END_S
    assert (process.returncode, out) == (0, "")
    assert err.startswith("traffic: stopped: ")
    assert "5000/s were asked for" in err


def test_parent_that_is_killed_takes_it_along(mongo: SandboxReplicaSet, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, mongo.uri(), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid, ticks = parent.stdout.readline().split()
    orphan = ProcessIdentity("traffic", int(pid), int(ticks))
    assert orphan.is_alive()
    parent.kill()
    parent.communicate(timeout=10)
    wait_until(lambda: not orphan.is_alive(), timeout_s=30, what="the end of the orphan")


def test_strange_error_ends_it_with_words_that_quote_no_document(
    mongo: SandboxReplicaSet, client: MongoClient[Any], tmp_path: Path
) -> None:
    database = _shop(mongo, users=50)
    client[database].command("collMod", "users", validator={"username": "nobody"})
    with TrafficProcess(mongo.uri(), tmp_path, database=database, rate=200) as traffic:
        traffic.process.wait(20)
        assert traffic.process.exit_code() == 1
        with pytest.raises(
            Unavailable, match=r"WriteError \(121|BulkWriteError \(121|OperationFailure \(121"
        ) as caught:
            traffic.stop()
    assert "@example.com" not in str(caught.value)
    assert '"error": ' in (tmp_path / "traffic-report.json").read_text()


def test_wrong_password_is_said_and_not_shown(mongo: SandboxReplicaSet, tmp_path: Path) -> None:
    uri = "mongodb://app:hunter2@" + mongo.uri().partition("@")[2]
    traffic = TrafficProcess(uri, tmp_path)
    traffic.start()
    with pytest.raises(Unavailable, match="18 AuthenticationFailed") as caught:
        traffic.await_writing()
    assert "hunter2" not in str(caught.value) + repr(traffic)


# --- fail-over ------------------------------------------------------------------------------------------------------


def _written(client: MongoClient[Any], database: str) -> int:
    """What all traffic adds up: a number that moves while it writes."""
    rows = client[database].users.aggregate([{"$group": {"_id": None, "visits": {"$sum": "$visits"}}}])
    return sum(row["visits"] for row in rows)


def _wait_for_writes(client: MongoClient[Any], database: str) -> None:
    before = _written(client, database)
    wait_until(lambda: _written(client, database) != before, timeout_s=30, what="the next writes")


@pytest.mark.slow
def test_step_down_and_killed_primary_do_not_end_it(tmp_path: Path) -> None:
    with SandboxReplicaSet(tmp_path, 3, election_timeout_ms=2_000) as three, three.client() as client:
        database = _shop(three, users=100)
        with TrafficProcess(three.uri(), tmp_path, database=database, rate=100) as traffic:
            traffic.await_writing()
            three.step_down()
            three.wait_until_healthy()
            _wait_for_writes(client, database)
            killed = three.primary()
            three.kill(killed)
            three.primary()
            _wait_for_writes(client, database)
            three.start(killed)
            _wait_for_writes(client, database)
            report = traffic.stop()
        assert report.unknown < 30
        assert report.failures.keys() <= {"11000", "112", "251"}
        reasons = Counter[str]()
        with three.client(datetime_conversion="DATETIME_AUTO") as reader:
            reasons = _unmappable(reader, database)
        assert reasons == {}


def test_frozen_server_is_waited_for_without_a_burst_and_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with SandboxReplicaSet(tmp_path) as alone:
        database = _shop(alone, users=50)
        with TrafficProcess(alone.uri(), tmp_path, database=database, rate=50) as traffic:
            traffic.await_writing()
            alone.pause(0)
            time.sleep(2)  # as long as the outage is
            alone.resume(0)
            with alone.client() as client:
                _wait_for_writes(client, database)
            alone.pause(0)
            time.sleep(1)  # fifty operations are due: one of them hangs now
            with Pace() as pace:
                report = traffic.stop()
        assert pace.seconds < END_S
        assert report.unknown >= 1
        assert report.total < 50 * (report.seconds - 2 - 1.5) + 20
        assert f"{report.total} operations" in traffic.process.log_tail()
