"""A database and its application's source in one analysis: the proposed file decides, and the profiler says how often."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from docferry.cli.main import main
from docferry.sandbox import SandboxStack
from pymongo import MongoClient
from pymongo.database import Database

APP = """
from pymongo import MongoClient
db = MongoClient().app

def by_mail(mail):
    return db.people.find_one({"mail": mail})

def older(age):
    return list(db.people.find({"age": {"$gt": age}}))
"""


@pytest.fixture
def people(stack: SandboxStack) -> Iterator[Database[Any]]:
    with MongoClient[Any](stack.env()["DOCFERRY_MONGO_URI"]) as client:
        database = client[f"sourced_{uuid.uuid4().hex[:8]}"]
        database.people.insert_many([{"mail": f"p{n}@example.com", "age": n} for n in range(50)])
        database.people.create_index("mail", unique=True)
        database.command("profile", 2)
        for number in range(7):
            database.people.find_one({"mail": f"p{number}@example.com"})
        database.people.count_documents({"town": "x"})
        database.command("profile", 0)
        yield database
        client.drop_database(database.name)


def test_calls_are_judged_by_the_proposed_file_and_counted_by_the_profiler(
    stack: SandboxStack, people: Database[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCFERRY_MONGO_URI", stack.env()["DOCFERRY_MONGO_URI"])
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "people.py").write_text(APP)
    out = tmp_path / "out"
    ran = CliRunner().invoke(
        main, ["analyze", "--database", people.name, "--source", f"{tmp_path}/app", "--out", f"{out}"]
    )
    assert ran.exit_code == 1, ran.output  # two of the calls will not be served
    told = json.loads((out / "source.json").read_text())
    found = {one["call"]: (one["verdict"], one["seen"]) for one in told["calls"]}
    assert found["people.find_one(mail)"] == ("served", 7)
    assert found["people.find(age $gt)"] == ("needs an access pattern", None)
    assert told["judged_by"] == "the proposed migration file"
    page = (out / "report.html").read_text()
    assert "people.find_one(mail)" in page
    assert "people.py:9" in page
    assert json.loads((out / "report.json").read_text())["tables"][0]["title"].startswith("Calls in the source")
