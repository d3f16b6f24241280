"""The analysis of databases that no file describes: what it finds, and that what it proposes loads and is equal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry.adapters.local.analysis_files import AnalysisDirectory
from docferry.adapters.mongodb.analysis import MongoAnalysis
from docferry.adapters.sketches import sketches
from docferry.config.price_book import load_price_book
from docferry.core.analyze.report import Report
from docferry.errors import ConfigError, Stopped
from docferry.flows.analyze.analyze import analyze
from docferry.flows.analyze.budget import ReadBudget
from docferry.flows.analyze.job import Analysis
from docferry.rehearsal.shop import load_shop
from docferry.sandbox import SandboxStack
from pymongo import MongoClient
from pymongo.database import Database
from support.analyze.databases import make_bank, make_movies, make_training
from support.backfill.rig import Quiet

MAKE: dict[str, Callable[[Database[Any]], None]] = {"bank": make_bank, "movies": make_movies, "training": make_training}


@pytest.fixture
def client(stack: SandboxStack) -> Iterator[MongoClient[Any]]:
    with MongoClient[Any](stack.env()["DOCFERRY_MONGO_URI"]) as opened:
        yield opened


@pytest.fixture
def database(client: MongoClient[Any]) -> Iterator[Database[Any]]:
    name = f"analyzed_{uuid.uuid4().hex[:8]}"
    yield client[name]
    client.drop_database(name)


def analyzed(stack: SandboxStack, name: str, **options: Any) -> tuple[Report, str]:
    source = MongoAnalysis(stack.env()["DOCFERRY_MONGO_URI"], name)
    try:
        settings = {"stop": threading.Event(), **options}
        job = Analysis(database=name, source=source, sketches=sketches(), progress=Quiet(), **settings)
        return analyze(job, load_price_book())
    finally:
        source.close()


def docferry(env: dict[str, str], *words: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "docferry.cli", *words],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def findings(report: Report) -> set[tuple[str, str, str]]:
    return {(one.collection, one.subject, one.severity) for one in report.risks}


@pytest.mark.parametrize("kind", MAKE)
def test_proposal_loads_and_is_equal_without_an_edit(
    kind: str, stack: SandboxStack, database: Database[Any], tmp_path: Path
) -> None:
    MAKE[kind](database)
    env = {**stack.env()}
    out = tmp_path / "out"
    docferry(env, "analyze", "--database", database.name, "--out", str(out))
    text = (out / "migration.yaml").read_text()
    table = re.search(r'tables:\n(?:  #.*\n)*  "(\w+)":', text)
    assert table is not None
    file = out / "migration.yaml"
    docferry(env, "check", str(file))
    docferry(env, "provision", str(file))
    docferry(env, "backfill", str(file))
    told = json.loads(docferry(env, "validate", str(file), "--json"))
    assert told["verdict"] == "EQUAL"
    assert sum(one["unstorable"] for one in told["collections"]) == 0


def test_bank_tells_the_repeated_number_the_names_that_are_data_and_the_long_array(
    stack: SandboxStack, database: Database[Any]
) -> None:
    make_bank(database)
    report, text = analyzed(stack, database.name)
    found = findings(report)
    assert ("accounts", "account_id", "decide") in found
    assert ("customers", "tier_and_details.*", "decide") in found
    assert ("transactions", "transactions", "know") in found
    assert {(one.collection, one.path, one.target, one.target_path) for one in report.facts.references} >= {
        ("customers", "accounts[]", "accounts", "account_id"),
        ("transactions", "account_id", "accounts", "account_id"),
    }
    assert "children" not in text.split('"transactions":')[1]


def test_movies_tell_the_hot_movie_mixed_years_and_indexes_that_dynamodb_does_not_have(
    stack: SandboxStack, database: Database[Any]
) -> None:
    make_movies(database)
    report, text = analyzed(stack, database.name)
    found = findings(report)
    assert ("comments", "movie_id", "decide") in found
    assert ("movies", "year", "decide") in found
    assert ("movies", "imdb.rating", "know") in found
    assert ("movies", "title_text", "decide") in found
    assert ("theaters", "location.geo_2dsphere", "decide") in found
    assert "COMMENT_MOVIE_ID#{movie_id}" in text
    assert "HOT" in text


def test_shop_with_traffic_gets_the_keys_and_indexes_that_its_calls_ask_for(
    stack: SandboxStack, client: MongoClient[Any], database: Database[Any]
) -> None:
    load_shop(stack.env()["DOCFERRY_MONGO_URI"], users=200, database=database.name, awkward=20, unstorable=0)
    database.command("profile", 2)
    user, order = database["users"].find_one({}), database["orders"].find_one({})
    assert user is not None
    assert order is not None
    for _ in range(30):
        database["users"].find_one({"username": user["username"]})
        database["users"].find_one({"email": user.get("email")})
        list(database["users"].find({"profile.location.city": "Oslo", "status": "active"}).sort("lastLoginAt", -1))
        list(database["orders"].find({"userId": order["userId"]}).sort("createdAt", -1).limit(5))
    database["users"].update_one({"username": user["username"]}, {"$set": {"lastLoginAt": user["createdAt"]}})
    database.command("profile", 0)
    report, text = analyzed(stack, database.name)
    users = text.split('"users":')[1]
    assert 'key: {PK: "USER#{username}"' in users
    assert "USER_EMAIL#{email}" in users
    assert "{profile.location.city}" in users
    assert "ORDER_USERID#{userId}" in text
    assert "ORDER#{createdAt}" in text
    assert '"items": {entity: "ORDER_ITEM"' in text
    assert any(one.collection == "orders" and one.path == "userId" for one in report.facts.references)


def test_no_value_of_a_document_is_in_the_report(stack: SandboxStack, database: Database[Any], tmp_path: Path) -> None:
    secrets = [f"secret{number}word" for number in range(50)]
    database["people"].insert_many({"name": one, "note": f"{one}@example.org"} for one in secrets)
    report, text = analyzed(stack, database.name)
    written = [path.read_text() for path in AnalysisDirectory(tmp_path).write(report, text).values()]
    assert [one for one in secrets if any(one in content for content in written)] == []


def test_hostile_names_and_shapes_end_in_bounded_time_and_escaped(
    stack: SandboxStack, database: Database[Any], tmp_path: Path
) -> None:
    deep: Any = "end"
    for _ in range(98):  # with the document itself and its field, as deep as MongoDB takes
        deep = {"d": deep}
    database["<script>alert(1)</script>"].insert_one({"<img src=x onerror=alert(1)>": "<b>", 'a"}: {': 1, "deep": deep})
    database["wide"].insert_many({f"k{batch}_{number}": 1 for number in range(2_000)} for batch in range(50))
    database["big"].insert_one({"blob": "x" * (16 * 1024 * 1024 - 64)})
    report, text = analyzed(stack, database.name)
    page = AnalysisDirectory(tmp_path).write(report, text)["report.html"].read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert ("big", "size", "blocks") in findings(report)
    wide = report.facts.collection("wide")
    assert wide is not None
    assert len(wide.paths) <= 2_000
    assert wide.sampled == 50


def test_budget_ends_the_reading_and_the_report_says_so(stack: SandboxStack, database: Database[Any]) -> None:
    make_movies(database)
    report, _ = analyzed(stack, database.name, budget=ReadBudget(documents=100, total_bytes=10_000))
    assert "were read" in report.facts.stopped_early
    assert report.facts.documents_read < 700


def test_stop_ends_it(stack: SandboxStack, database: Database[Any]) -> None:
    make_bank(database)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        analyzed(stack, database.name, stop=stop)


def test_empty_database_is_refused_by_name(stack: SandboxStack, database: Database[Any]) -> None:
    with pytest.raises(ConfigError, match="has no collections"):
        analyzed(stack, database.name)


def test_user_without_rights_gets_what_can_be_had_and_is_told_what_is_missing(
    stack: SandboxStack, client: MongoClient[Any], database: Database[Any]
) -> None:
    make_movies(database)
    name = f"reader{uuid.uuid4().hex[:6]}"
    client.admin.command("createUser", name, pwd="secret", roles=[{"role": "read", "db": database.name}])
    try:
        host = stack.env()["DOCFERRY_MONGO_URI"].rpartition("@")[2]
        source = MongoAnalysis(f"mongodb://{name}:secret@{host}", database.name)
        try:
            job = Analysis(
                database=database.name, source=source, sketches=sketches(), progress=Quiet(), stop=threading.Event()
            )
            report, _ = analyze(job, load_price_book())
        finally:
            source.close()
    finally:
        client.admin.command("dropUser", name)
    assert {one.source for one in report.facts.missing} >= {"serverStatus", "$currentOp", "$indexStats"}
    assert all("grantRolesToUser" in one.grant for one in report.facts.missing)
