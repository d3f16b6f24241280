"""Tables that somebody else has designed are loaded, followed, validated, repaired, served by the client, and led back."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from docferry import wiring
from docferry.client import DynamoDBClient
from docferry.client.reads.named import Page
from docferry.core.mapping.items import ItemKey
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.rig import MODES, connected, set_mode
from support.cutover.switching import reversing
from support.design.films import MAKERS, RATINGS, film, films_rig, leads_from_here, person, review, stored, thread
from support.replicate.rig import end, follow
from support.validate.planting import repair, validate


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = films_rig(stack.env(), tmp_path)
    connected(made, monkeypatch, stack)
    yield made
    end(made)


def by_rating(documents: list[dict[str, Any]]) -> list[int]:
    """Their numbers, the highest rating first, as MongoDB sorts them."""
    values = {one["_id"]: one["imdb"]["rating"] for one in documents}
    decimals = {number: Decimal(str(value)) for number, value in values.items()}
    return sorted(decimals, key=lambda number: decimals[number], reverse=True)


def test_provision_makes_the_tables_as_they_were_designed_and_finds_nothing_to_do_again(rig: Rig) -> None:
    described = rig.dynamodb.describe_table(TableName=rig.table)["Table"]
    assert described["KeySchema"] == [
        {"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"},
    ]  # fmt: skip
    types = {one["AttributeName"]: one["AttributeType"] for one in described["AttributeDefinitions"]}
    assert types == {
        "pk": "S",
        "sk": "N",
        "genre_key": "S",
        "score": "N",
        "title_key": "S",
        "GSI1PK": "S",
        "GSI1SK": "S",
        "GSI2PK": "S",
        "GSI2SK": "S",
    }
    indexes = {one["IndexName"]: one for one in described["GlobalSecondaryIndexes"]}
    assert indexes["by_genre"]["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert indexes["by-title"]["Projection"]["ProjectionType"] == "INCLUDE"
    assert set(indexes["by-title"]["Projection"]["NonKeyAttributes"]) == {"title", "year"}
    assert [one["AttributeName"] for one in indexes["by-title"]["KeySchema"]] == ["title_key"]
    people = rig.dynamodb.describe_table(TableName=rig.migration.tables[1].name)["Table"]
    assert people["KeySchema"] == [{"AttributeName": "person", "KeyType": "HASH"}]


def test_load_validate_repair_and_follow(rig: Rig) -> None:
    reports = rig.load()
    assert {name: one.counts.dead for name, one in reports.items()} == dict.fromkeys(MAKERS, 0)
    item = next(one for one in stored(rig, 0) if one["_id"] == {"N": "1"})
    assert (item["pk"], item["sk"], item["~pk"]) == ({"S": "STUDIO#s1"}, {"N": "1"}, {"S": "a field of this name"})
    assert (item["genre_key"], item["score"]) == ({"S": "GENRE#noir"}, {"N": "-9.6"})
    assert "GSI1PK" in item
    assert "SK" not in item
    assert {frozenset(one) >= {"person", "~person"} for one in stored(rig, 1)} == {True}
    assert validate(rig).ok

    name = rig.migration.tables[1].name
    rig.dynamodb.delete_item(TableName=name, Key={"person": {"S": "p5@example.com"}})
    rig.dynamodb.update_item(
        TableName=rig.table, Key={"pk": {"S": "STUDIO#s1"}, "sk": {"N": "4"}}, UpdateExpression="SET title = :t",
        ExpressionAttributeValues={":t": {"S": "wrong"}},
    )  # fmt: skip
    assert not validate(rig).ok
    repair(rig)
    assert validate(rig).ok

    films, people, threads = (rig.database[name] for name in ("films", "people", "threads"))
    films.update_one({"_id": 1}, {"$set": {"imdb.rating": 3, "number": Int64(77)}})  # its keys move
    films.update_one({"_id": 2}, {"$unset": {"genre": ""}})  # it leaves an index
    films.delete_one({"_id": 3})
    films.insert_one(film(40, studio="s1"))
    people.update_one({"_id": "p1"}, {"$set": {"email": "other@example.com"}})
    people.delete_one({"_id": "p2"})
    threads.update_one({"_id": 1}, {"$push": {"posts": {"votes": 3, "text": "new"}}})
    follow(rig)
    assert validate(rig).ok
    assert {one["person"]["S"] for one in stored(rig, 1)} >= {"other@example.com"}
    assert sorted(int(one["sk"]["N"]) for one in stored(rig, 0)) == [0, 2, 4, 5, 6, 7, 8, 40, 77]


@pytest.mark.parametrize("mode", ["DYNAMODB_READS 100", "DYNAMODB_ONLY"])
def test_client_is_served_by_partitions_and_by_indexes_that_project_keys_alone(rig: Rig, mode: str) -> None:
    rig.load()
    set_mode(rig, MODES[mode])
    with wiring.connect(rig.file) as manager:
        films, dynamodb = manager["films"], DynamoDBClient(manager)
        every = [film(number) for number in range(9)]
        noir = [one for one in every if one["genre"] == "noir"]

        def found(query: dict[str, Any], **options: Any) -> list[int]:
            return [one["_id"] for one in films.find(query, **options)]

        assert found({"studio": "s1"}, sort=[("number", -1)]) == [7, 4, 1], "the table's own partition"
        assert found({"studio": "s1", "number": {"$gt": 1}}, sort=[("number", 1)], limit=1) == [4]
        assert found({"studio": "s1", "number": 4}) == [4]
        assert found({"genre": "noir"}, sort=[("imdb.rating", -1)]) == by_rating(noir), "an index of keys alone"
        assert (
            found({"genre": "noir", "imdb.rating": {"$gte": 9}}, sort=[("imdb.rating", 1)])
            == by_rating([one for one in noir if one["_id"] in (1, 3, 7)])[::-1]
        )
        assert found({"country": "fr"}, sort=[("imdb.rating", -1)]) == by_rating(every), "a text of numbers that sort"
        assert found({"country": "fr", "imdb.rating": 9.6}) == [1]
        assert found({"country": "fr", "imdb.rating": {"$gt": 9.55, "$lt": 10}}) == [1]
        assert found({"title": "Film 3", "kept": True}) == [3], "an index without a sort key"
        kept = {"lang": "fr", "gone": {"$exists": False}}
        assert found({**kept, "kind": {"$in": ["film", "short"]}}, sort=[("year", 1)]) == list(range(9)), "all shards"
        assert sorted(found({**kept, "kind": "short"})) == [0, 4, 8], "sparse, by one of the values"
        assert films.find_one({"studio": "s0", "number": 3}) == film(3)
        assert manager["people"].find_one({"email": "p3@example.com"}) == person(3)
        assert manager["threads"].find_one({"_id": 2}) == thread(2)
        reviews = manager["reviews"].find({"thread": 1}, sort=[("stars", -1)])
        assert [one["_id"] for one in reviews] == ["r4", "r7", "r1"], (
            "in the partition of another collection's document"
        )
        if mode == "DYNAMODB_READS 100":
            counts = manager.get_metrics()["counts"]
            assert counts["read.served"] == 15
            assert not [name for name in counts if name.startswith(("read.fell_back", "read.not_found"))]

        ids = [one["_id"] for one in dynamodb.query("films_of_genre", genre="noir").documents]
        assert ids == by_rating(noir), "the key descends"
        page = dynamodb.query("films_of_genre", genre="noir", limit=2)
        rest = dynamodb.query("films_of_genre", genre="noir", start=page.next)
        assert [one["_id"] for one in (*page.documents, *rest.documents)] == ids
        above = dynamodb.query("films_of_country", country="fr", since=Decimal128("9.55"), backwards=True)
        assert [one["_id"] for one in above.documents] == [
            number for number in by_rating(every) if Decimal(str(RATINGS[number])) >= Decimal("9.55")
        ]
        assert dynamodb.get("film", studio="s1", number="4") == film(4), "a parameter takes the declared type"
        assert [one["_id"] for one in dynamodb.query("films_of_studio", studio="s2").documents] == [2, 5, 8]
        assert dynamodb.query("film_by_title", title="Film 4").documents == [film(4)]
        assert dynamodb.get("person", email="p1@example.com") == person(1)
        scanned = dynamodb.scan("films", {"genre": "noir"}, limit=100, max_read_units=1_000)
        assert sorted(one["_id"] for one in scanned.documents) == [1, 3, 5, 7]


@pytest.mark.parametrize("backwards", [False, True])
def test_pattern_over_shards_is_one_list_whose_pages_go_on_where_they_ended(rig: Rig, backwards: bool) -> None:
    more = [film(number, year=1990 + number % 3, kind="film") for number in range(9, 30)]
    rig.database["films"].insert_many(more)
    rig.load("films")
    every = {one["_id"]: one["year"] for one in (*map(film, range(9)), *more)}
    with wiring.connect(rig.file) as manager:
        dynamodb = DynamoDBClient(manager)

        def years_of(page: Page) -> list[int]:
            return [one["year"] for one in page.documents]

        # The key descends: forwards is the latest year first.
        whole = dynamodb.query("films_in_language", lang="fr", backwards=backwards)
        assert whole.next is None
        assert years_of(whole) == sorted(every.values(), reverse=not backwards)
        ids = [one["_id"] for one in whole.documents]
        assert sorted(ids) == sorted(every)
        for limit in (1, 4, 7):
            paged, start = list[int](), None
            while True:
                page = dynamodb.query("films_in_language", lang="fr", backwards=backwards, limit=limit, start=start)
                paged += [one["_id"] for one in page.documents]
                start = page.next
                if start is None:
                    break
                assert len(page.documents) == limit
            assert paged == ids, f"pages of {limit}"
        late = dynamodb.query("films_in_language", lang="fr", since=1995, until=1997, backwards=backwards)
        assert years_of(late) == sorted((1995, 1996, 1997), reverse=not backwards)
        assert dynamodb.query("films_in_language", lang="de").documents == []


def test_what_a_leading_dynamodb_writes_comes_back(rig: Rig) -> None:
    rig.load()
    leads_from_here(rig)
    with wiring.connect(rig.file) as manager, reversing(rig):
        films = manager["films"]
        films.insert_one(film(20))
        films.update_one({"studio": "s1", "number": 4}, {"$set": {"imdb.rating": 8, "number": Int64(44)}})
        films.delete_one({"studio": "s0", "number": 3})
        manager["people"].update_one({"email": "p1@example.com"}, {"$set": {"person": "x"}})
        manager["people"].delete_one({"email": "p2@example.com"})
        manager["threads"].update_one({"_id": 1}, {"$pop": {"posts": 1}})
        manager["reviews"].update_one({"thread": 1, "stars": 9.6, "_id": "r1"}, {"$set": {"stars": 2}})
        report = validate(rig)
        assert report.ok, report
    assert rig.database["films"].find_one({"_id": 4}) == film(4) | {"number": 44, "imdb": {"rating": 8}}
    assert rig.database["films"].count_documents({"_id": {"$in": [3, 20]}}) == 1
    assert rig.database["people"].find_one({"_id": "p1"}) == person(1, person="x")
    assert rig.database["reviews"].find_one({"_id": "r1"}) == review(1, stars=2)
    assert len(rig.database["threads"].find_one({"_id": 1})["posts"]) == 3


def test_key_is_the_same_on_every_way(rig: Rig) -> None:
    """What the mapping says, and what lies in the table."""
    rig.load()
    for place, names in enumerate((["films"], ["people"], ["threads", "reviews"])):
        mapping = rig.migration.mapping(names[0])
        wanted: set[ItemKey] = {
            key
            for name in names
            for document in rig.database[name].find()
            for key in rig.migration.mapping(name).keys(document)
        }
        found = {
            mapping.layout.key_of({name: item[name] for name in mapping.layout.key_names})
            for item in stored(rig, place)
        }
        assert found == wanted
