"""Collections of two databases in one file: loaded, followed by one stream, compared, and served by the client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from docferry import wiring
from docferry.adapters.mongodb.analysis import MongoAnalysis
from docferry.adapters.mongodb.source import MongoSource
from docferry.adapters.sketches import sketches
from docferry.config import parse_migration
from docferry.config.price_book import load_price_book
from docferry.errors import StreamEnded
from docferry.flows.analyze.analyze import analyze
from docferry.flows.analyze.job import Analysis
from docferry.flows.preflight.check import check_migration
from docferry.flows.preflight.names import check_names
from docferry.sandbox import SandboxStack
from support.backfill.rig import Quiet, Rig, eventually
from support.client.rig import MODES, connected, set_mode
from support.design.archive import databases, drop, entry, order, past, two_rig
from support.replicate.rig import follow
from support.validate.planting import validate

__all__: list[str] = []


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = two_rig(stack.env(), tmp_path)
    connected(made, monkeypatch, stack)
    yield made
    drop(made)


def test_both_are_loaded_followed_and_compared(rig: Rig) -> None:
    reports = rig.load()
    assert {name: one.counts.read for name, one in reports.items()} == dict.fromkeys(rig.migration.mappings, 12)
    assert validate(rig).ok
    main, other = databases(rig)
    rig.mongo[f"{main.name}x"]["orders"].insert_one(order(1))  # no database of the file
    main["unmapped"].insert_one({})
    with rig.mongo.start_session() as session, session.start_transaction():  # events of one time in both databases
        main["orders"].update_one({"_id": 1}, {"$set": {"buyer": "moved"}}, session=session)
        other["orders"].update_one({"_id": 1}, {"$push": {"lines": {"sku": "new"}}}, session=session)
        main["orders"].update_one({"_id": 1}, {"$set": {"buyer": "again"}}, session=session)
        other["orders"].delete_one({"_id": 2}, session=session)
    main["orders"].delete_one({"_id": 3})
    other["audit.log"].insert_one(entry(50))
    report = follow(rig)
    assert report.events == 6, report
    assert validate(rig).ok
    rig.mongo.drop_database(f"{main.name}x")
    items = rig.scan()
    assert "S" in items["ORDER#~i1", "DATA"]["buyer"]
    assert items["ORDER#~i1", "DATA"]["buyer"]["S"] == "again"
    assert ("PAST#~i1", "LINE#0001") in items
    assert "_deleted" in items["PAST#~i2", "DATA"]
    assert "_deleted" not in items["ORDER#~i2", "DATA"], "the other database's document of that _id"

    other["orders"].update_one({"_id": 4}, {"$set": {"year": 1999}})
    assert not validate(rig).ok, "what has changed in the other database alone is looked for there"


def test_client_writes_both_and_finds_them_as_pymongo_does(rig: Rig) -> None:
    rig.load()
    main, other = databases(rig)
    set_mode(rig, MODES["DUAL_WRITE"])
    with wiring.connect(rig.file) as manager:
        client = manager.client
        theirs = client[other.name]
        assert theirs.name == other.name
        assert client[main.name] == manager != theirs
        assert theirs["orders"] == manager["past_orders"] == client.get_database(other.name).orders
        assert theirs["orders"].full_name == f"{other.name}.orders"
        manager["orders"].update_one({"_id": 5}, {"$set": {"total": 500}})
        theirs["orders"].update_one({"_id": 5}, {"$set": {"year": 5}})
        theirs["audit.log"].insert_one(entry(60))
        theirs["elsewhere"].insert_one({"_id": 1})  # of no mapping: MongoDB's alone
        counts = manager.get_metrics()["counts"]
        assert counts["dual_put.written"] == 3, counts
        with client.start_session() as session, session.start_transaction():
            theirs["orders"].update_one({"_id": 6}, {"$set": {"year": 6}}, session=session)
            manager["orders"].update_one({"_id": 6}, {"$set": {"total": 600}}, session=session)
    assert main["orders"].find_one({"_id": 5}) == order(5, total=500)
    assert other["orders"].find_one({"_id": 5}) == past(5, year=5)
    assert other["elsewhere"].count_documents({}) == 1
    assert other["orders"].find_one({"_id": 6}) == past(6, year=6)
    items = rig.scan()
    assert items["ORDER#~i5", "DATA"]["total"] == {"N": "500"}
    assert items["PAST#~i5", "DATA"]["year"] == {"N": "5"}
    follow(rig)
    assert validate(rig).ok

    set_mode(rig, MODES["DYNAMODB_READS 100"])
    with wiring.connect(rig.file) as manager:
        theirs = manager.client[other.name]
        assert theirs["orders"].find_one({"_id": 5}) == past(5, year=5)
        assert manager["orders"].find_one({"_id": 5}) == order(5, total=500)
        assert [one["_id"] for one in manager["orders"].find({"buyer": "b0"}, sort=[("at", 1)])] == [0, 3, 6, 9]
        assert manager.get_metrics()["counts"]["read.served"] == 3

    set_mode(rig, MODES["DYNAMODB_ONLY"])
    with wiring.connect(rig.file) as manager:
        found = [
            list(them["orders"].aggregate([{"$match": {"_id": 5}}])) for them in (manager, manager.client[other.name])
        ]
    assert found == [[order(5, total=500)], [past(5, year=5)]]


def test_name_that_both_databases_have_is_refused(rig: Rig) -> None:
    source = rig.job().source
    assert check_names(rig.migration, source) == []
    main, other = databases(rig)
    other["elsewhere"].insert_one({})
    notes = check_migration(rig.migration, source).notes
    assert any(f"{other.name}.elsewhere (collection): the file does not name it" in one for one in notes), notes
    main["past_orders"].insert_one({})
    (problem,) = check_names(rig.migration, source)
    assert f"is {other.name}.orders, and {main.name} has a collection past_orders, too" in str(problem)
    main.drop_collection("past_orders")
    other.drop_collection("audit.log")
    (problem,) = check_names(rig.migration, source)
    assert f"there is no collection audit.log in the database {other.name}" in str(problem)
    assert replace(rig.migration.namespaces, elsewhere={}).databases == (main.name,)


def test_end_of_a_collection_in_the_other_database_ends_the_stream_and_nothing_elsewhere_does(rig: Rig) -> None:
    _, other = databases(rig)
    source = rig.job().source
    fields = {name: mapping.key_fields for name, mapping in rig.migration.mappings.items()}
    with closing(source.follow(source.stream_position(), fields)) as feed:
        elsewhere = rig.mongo[f"{other.name}x"]
        elsewhere["orders"].insert_one({"_id": 1})
        rig.mongo.drop_database(elsewhere.name)
        other["beside"].insert_one({})
        other.drop_collection("beside")
        other["orders"].delete_one({"_id": 1})
        other["orders"].rename("moved")
        seen: list[tuple[str, str]] = []

        def ended() -> StreamEnded | None:
            try:
                seen.extend((one.collection, one.operation) for one in feed.read(0.2).changes)
            except StreamEnded as found:
                return found
            return None

        found = eventually(ended, "the stream to end")
    assert found is not None
    assert seen == [("past_orders", "delete")]
    assert (found.reason, found.collections) == ("rename", ("past_orders",))


def test_asynchronous_client_has_both(rig: Rig) -> None:
    main, other = databases(rig)

    async def work() -> None:
        async with await wiring.connect_async(rig.file) as manager:
            theirs = manager.client[other.name]
            await theirs["orders"].update_one({"_id": 7}, {"$set": {"year": 7}})
            await manager["orders"].update_one({"_id": 7}, {"$set": {"total": 700}})
            assert await theirs.orders.find_one({"_id": 7}) == past(7, year=7)
            assert await theirs.list_collection_names() == await manager.in_database(other.name).list_collection_names()

    rig.load()
    set_mode(rig, MODES["DUAL_WRITE"])
    asyncio.run(work())
    assert main["orders"].find_one({"_id": 7}) == order(7, total=700)
    assert other["orders"].find_one({"_id": 7}) == past(7, year=7)
    assert rig.scan()["PAST#~i7", "DATA"]["year"] == {"N": "7"}


def test_analysis_of_both_proposes_a_file_that_names_them(rig: Rig) -> None:
    main, other = databases(rig)
    uri = rig.env["DOCFERRY_MONGO_URI"]
    with closing(MongoAnalysis(uri, main.name)) as source:
        source.look_in([other.name])
        job = Analysis(
            database=main.name,
            elsewhere=source.where.elsewhere,
            source=source,
            sketches=sketches(),
            progress=Quiet(),
            stop=threading.Event(),
        )
        report, text = analyze(job, load_price_book())
    assert [one.documents for one in report.facts.collections] == [12, 12, 12]
    proposed = parse_migration(text.encode())
    both = f"{other.name}_orders"
    assert proposed.namespaces.elsewhere == {both: (other.name, "orders"), "audit.log": (other.name, "audit.log")}
    assert check_migration(proposed, MongoSource(uri, proposed.namespaces)).problems == []
    facts = report.facts.collection(both)
    assert facts is not None
    assert any(one.path.startswith("lines") for one in facts.paths), "the other database's orders"
