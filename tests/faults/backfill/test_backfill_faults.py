"""What goes wrong on the way: DynamoDB that throttles, fails and cuts; MongoDB that refuses, is away, or loses its primary.

Either the load recovers and nothing is lost, or it ends with an error whose type says what is the matter.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.backoff import Backoff
from docferry.errors import AccessDenied, RetryExhausted, TableMissing, Unavailable
from docferry.flows.backfill.chunks import prepare
from docferry.flows.backfill.finish import CollectionReport
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.backfill.plan import plan_backfill
from docferry.flows.ledger.dead_letters import list_letters
from docferry.rehearsal.independent import judge
from docferry.rehearsal.shop import COLLECTIONS, ShopPlan, load_shop, shop_documents
from docferry.sandbox import SandboxReplicaSet, SandboxStack
from support.backfill.proxy import FaultProxy
from support.backfill.rig import Rig, eventually, generic_rig, shop_rig
from support.pace import Pace

pytestmark = pytest.mark.xdist_group("backfill_faults")
PLAN = ShopPlan(users=60, awkward=60, unstorable=12)
PLANTED = {
    name: frozenset(judge.id_key(one.document["_id"]) for one in shop_documents(name, PLAN) if not one.storable)
    for name in COLLECTIONS
}


@pytest.fixture(scope="module")
def stack() -> Iterator[SandboxStack]:
    with SandboxStack() as opened:
        uri = opened.env()["DOCFERRY_MONGO_URI"]
        load_shop(uri, "faulty", users=PLAN.users, awkward=PLAN.awkward, unstorable=PLAN.unstorable)
        with opened.mongo.client() as client:
            client["faulty"]["plain"].insert_many([{"_id": n, "text": "x" * 50} for n in range(300)])
        yield opened


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = shop_rig(stack.env(), tmp_path, "faulty", page_documents=10, chunk_documents=60)
    yield made
    made.close()


@pytest.fixture
def plain(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = generic_rig(stack.env(), tmp_path, "faulty", ["plain"], page_documents=50, lease_s=5.0)
    yield made
    made.close()


def through(rig: Rig, proxy: FaultProxy) -> Rig:
    """The same migration, with DynamoDB behind a proxy."""
    return dataclasses.replace(rig, env={**rig.env, "AWS_ENDPOINT_URL_DYNAMODB": proxy.url}, procs=[])


def assert_nothing_lost(rig: Rig, reports: dict[str, CollectionReport]) -> None:
    for name, report in reports.items():
        counts = report.counts
        assert counts.read == counts.written + counts.superseded + counts.dead
        assert counts.read == rig.database[name].count_documents({})
        assert counts.dead == len(PLANTED.get(name, ()))
    if set(reports) == set(COLLECTIONS):
        verdict = judge.judge_shop(rig.database, rig.dynamodb, rig.table, PLANTED)
    else:
        verdict = judge.judge_generic(rig.database, rig.dynamodb, rig.table, "plain")
    assert verdict.counts == (0, 0, 0), verdict


# --- DynamoDB --------------------------------------------------------------------------------------------------------

WRITES: dict[str, dict[str, float]] = {
    "throttled": {"throttle": 0.15, "throttle_other": 0.1},
    "failing": {"error_500": 0.1, "error_503": 0.1, "html": 0.1},
    "cut": {"cut_before": 0.1, "cut_after": 0.1, "half_answer": 0.1},
    "damaged": {"damaged": 0.2},
    "unprocessed": {"unprocessed": 0.5},
    "all at once": dict.fromkeys(
        ("throttle", "error_500", "html", "cut_before", "cut_after", "half_answer", "damaged", "unprocessed"), 0.04
    ),
}


@pytest.mark.parametrize("what", WRITES)
def test_writes_that_fail_are_repeated_until_nothing_is_missing(rig: Rig, what: str) -> None:
    with FaultProxy(rig.env["AWS_ENDPOINT_URL_DYNAMODB"], {"BatchWriteItem": WRITES[what]}) as proxy:
        reports = through(rig, proxy).load()
        for fault in WRITES[what]:
            assert proxy.seen[f"BatchWriteItem {fault}"] > 0, proxy.seen
    assert_nothing_lost(rig, reports)


def test_ledger_that_throttles_and_fails_is_asked_again(plain: Rig) -> None:
    shares = {"throttle": 0.1, "error_500": 0.1, "cut_before": 0.1}
    faults = {f"ledger:{name}": shares for name in ("GetItem", "PutItem", "Query")}
    ledger = plain.migration.ledger.table
    with FaultProxy(plain.env["AWS_ENDPOINT_URL_DYNAMODB"], faults, ledger=ledger) as proxy:
        reports = through(plain, proxy).load()
        assert sum(count for name, count in proxy.seen.items() if not name.endswith("passed")) > 2, proxy.seen
    assert_nothing_lost(plain, reports)


def test_ledger_writes_whose_answers_are_lost_count_as_made(plain: Rig) -> None:
    ledger = plain.migration.ledger.table
    faults = {"ledger:PutItem": {"cut_after": 0.5}}
    with FaultProxy(plain.env["AWS_ENDPOINT_URL_DYNAMODB"], faults, ledger=ledger) as proxy:
        reports = through(plain, proxy).load()
        assert proxy.seen["PutItem cut_after"] >= 2, proxy.seen
    assert_nothing_lost(plain, reports)


def test_dynamodb_that_never_takes_a_write_ends_the_run_and_a_later_one_continues(plain: Rig) -> None:
    async def load(rig: Rig) -> None:
        target = rig.target(backoff=Backoff(for_s=0.5))
        try:
            await backfill_collection(rig.job(), target, "plain")
        finally:
            await target.close()

    with FaultProxy(plain.env["AWS_ENDPOINT_URL_DYNAMODB"], {"BatchWriteItem": {"throttle": 1.0}}) as proxy:
        with pytest.raises(RetryExhausted, match="BatchWriteItem"):
            asyncio.run(load(through(plain, proxy)))
        assert plain.scan() == {}
    assert_nothing_lost(plain, plain.load())


def test_item_that_dynamodb_refuses_is_a_dead_letter_and_the_others_of_its_batch_arrive(
    stack: SandboxStack, tmp_path: Path
) -> None:
    """A batch with one bad item is refused whole. Here an index wants text where two documents have a number."""
    rig = generic_rig(stack.env(), tmp_path, "faulty", ["typed"])
    rig.database["typed"].insert_many([{"_id": n, "tag": n if n in (7, 31) else f"t{n}"} for n in range(60)])
    keys = [{"AttributeName": "tag", "KeyType": "HASH"}]
    index = {"IndexName": "ByTag", "KeySchema": keys, "Projection": {"ProjectionType": "ALL"}}
    tag = {"AttributeName": "tag", "AttributeType": "S"}
    rig.dynamodb.update_table(
        TableName=rig.table, AttributeDefinitions=[tag], GlobalSecondaryIndexUpdates=[{"Create": index}]
    )
    report = rig.load()["typed"]
    assert (report.counts.read, report.counts.written, report.counts.dead) == (60, 58, 2)
    letters = list_letters(rig.ledger, "typed")
    assert [(one.id, one.reason) for one in letters] == [("~i31", "RefusedByStore"), ("~i7", "RefusedByStore")]
    dead = frozenset(judge.id_key(n) for n in (7, 31))
    assert judge.judge_generic(rig.database, rig.dynamodb, rig.table, "typed", dead).counts == (0, 0, 0)
    rig.close()


def test_table_that_is_missing_is_named(plain: Rig) -> None:
    plain.dynamodb.delete_table(TableName=plain.table)
    with pytest.raises(TableMissing, match="provision"):
        plain.load()
    assert plain.progress() == 0


def test_ledger_that_is_missing_is_named(plain: Rig) -> None:
    plain.dynamodb.delete_table(TableName=plain.migration.ledger.table)
    with pytest.raises(TableMissing, match="provision"):
        plain.load()
    assert plain.scan() == {}


def test_dynamodb_that_denies_access_ends_the_run_at_once(plain: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.backfill import proxy as proxies

    monkeypatch.setitem(proxies.REFUSALS, "denied", (400, "AccessDeniedException"))
    with FaultProxy(plain.env["AWS_ENDPOINT_URL_DYNAMODB"], {"BatchWriteItem": {"denied": 1.0}}) as proxy:
        with pytest.raises(AccessDenied, match="BatchWriteItem"):
            through(plain, proxy).load()
        assert proxy.seen["BatchWriteItem denied"] <= plain.migration.backfill.concurrency
    assert_nothing_lost(plain, plain.load())


def test_stop_is_heeded_while_dynamodb_hangs(stack: SandboxStack, tmp_path: Path) -> None:
    slow = generic_rig(stack.env(), tmp_path, "faulty", ["plain"], page_documents=5, budget_wcu=60, lease_s=5.0)
    driver = slow.start("hanging", CHECKPOINT_S="0.1")
    eventually(lambda: slow.progress() > 0, "the load to be on its way")
    with driver.frozen():  # on a slow machine it would have ended before DynamoDB hangs
        stack.aws.pause()
    try:
        with Pace() as pace:
            driver.process.terminate()
            answers = driver.wait()
    finally:
        stack.aws.resume()
    assert answers[-1]["error"] == "Stopped"
    assert pace.seconds < 5
    assert_nothing_lost(slow, slow.load())


# --- MongoDB ---------------------------------------------------------------------------------------------------------


def test_wrong_password_is_access_denied_and_not_in_the_message(plain: Rig) -> None:
    uri = plain.env["DOCFERRY_MONGO_URI"]
    password = uri.partition("docferry:")[2].partition("@")[0]
    job = plain.job(uri=uri.replace(password, "wrongsecret"))
    with pytest.raises(AccessDenied) as caught:
        plan_backfill(job)
    assert "wrongsecret" not in str(caught.value)
    assert "wrongsecret" not in repr(job)


def test_user_without_permission_is_access_denied(plain: Rig, stack: SandboxStack) -> None:
    with stack.mongo.client() as client:
        client.admin.command("createUser", "stranger", pwd="stranger", roles=[])
    uri = plain.env["DOCFERRY_MONGO_URI"]
    password = uri.partition("docferry:")[2].partition("@")[0]
    job = plain.job(uri=uri.replace(f"docferry:{password}", "stranger:stranger"))
    for flow in (lambda: plan_backfill(job), lambda: prepare(job, "plain")):
        with pytest.raises(AccessDenied):
            flow()


def test_no_mongodb_is_unavailable_and_says_what_to_look_at(plain: Rig) -> None:
    job = plain.job(uri="mongodb://127.0.0.1:9/?replicaSet=rs0", serverSelectionTimeoutMS=300)
    with pytest.raises(Unavailable, match="primary"):
        plan_backfill(job)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxReplicaSet]:
    with SandboxReplicaSet(tmp_path_factory.mktemp("three"), 3, election_timeout_ms=1_000) as opened:
        with opened.client() as client:
            client["faulty"]["plain"].insert_many([{"_id": n, "text": "x" * 50} for n in range(600)])
        yield opened


def test_primary_killed_in_the_middle_is_survived(
    stack: SandboxStack, three: SandboxReplicaSet, tmp_path: Path
) -> None:
    env = {**stack.env(), "DOCFERRY_MONGO_URI": three.uri()}
    rig = generic_rig(env, tmp_path, "faulty", ["plain"], page_documents=5, budget_wcu=200)
    driver = rig.start("loader", CHECKPOINT_S="0.1")
    eventually(lambda: rig.progress() > 20 or not driver.is_alive(), "the load to be on its way")
    assert driver.is_alive(), driver.wait()
    with driver.frozen():  # on a slow machine it would have ended before the primary dies
        old = three.primary()
        three.kill(old)
        killed_at = rig.progress()
    assert killed_at < 600
    (report,) = driver.wait(90)
    assert report["read"] == report["written"] == 600
    assert judge.judge_generic(rig.database, rig.dynamodb, rig.table, "plain").counts == (0, 0, 0)
    three.start(old)
    rig.close()


def test_all_of_mongodb_frozen_stop_is_heeded(stack: SandboxStack, three: SandboxReplicaSet, tmp_path: Path) -> None:
    env = {**stack.env(), "DOCFERRY_MONGO_URI": three.uri()}
    rig = generic_rig(env, tmp_path, "faulty", ["plain"], page_documents=5, budget_wcu=200)
    driver = rig.start("loader", CHECKPOINT_S="0.1")
    eventually(lambda: rig.progress() > 20 or not driver.is_alive(), "the load to be on its way")
    with driver.frozen():  # on a slow machine it would have ended before MongoDB is frozen
        for index in range(3):
            three.pause(index)
    try:
        threading.Event().wait(0.5)  # until the reads hang
        with Pace() as pace:
            driver.process.terminate()
            answers = driver.wait()
        assert answers[-1]["error"] == "Stopped"
        assert pace.seconds < 5
    finally:
        for index in range(3):
            three.resume(index)
        rig.close()
    three.wait_until_healthy()


def test_source_without_a_replica_set_name_in_its_uri_still_reads(stack: SandboxStack) -> None:
    source = MongoSource(stack.env()["DOCFERRY_MONGO_URI"].replace("replicaSet=rs0&", ""), "faulty")
    assert source.server_facts().replica_set == "rs0"
    source.close()
