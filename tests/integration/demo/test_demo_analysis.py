"""The demo says for each choice why the shop's file differs from what the analysis proposes, whatever the sample holds."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
import yaml
from demo.analysis import DOCUMENTS, UNEXPLAINED, WHY, told, why
from docferry.adapters.mongodb.analysis import MongoAnalysis
from docferry.adapters.sketches import sketches
from docferry.config.price_book import load_price_book
from docferry.core.analyze.differences import FileDifference, differences
from docferry.flows.analyze.analyze import analyze
from docferry.flows.analyze.budget import ReadBudget
from docferry.flows.analyze.job import Analysis
from docferry.rehearsal.shop import load_shop
from docferry.sandbox import SandboxStack
from docferry.sandbox.airflow import repository
from pymongo import MongoClient
from support.backfill.rig import Quiet

SHIPPED = repository() / "include" / "migrations" / "shop.yaml"


@pytest.mark.parametrize("awkward", [0, 60], ids=["all-users-have-names", "some-have-none"])
def test_every_difference_has_a_reason(stack: SandboxStack, awkward: int) -> None:
    uri, name = stack.env()["DOCFERRY_MONGO_URI"], f"demo_{uuid.uuid4().hex[:8]}"
    load_shop(uri, users=150, database=name, awkward=awkward, unstorable=0)
    source = MongoAnalysis(uri, name)
    try:
        job = Analysis(
            database=name,
            source=source,
            sketches=sketches(),
            progress=Quiet(),
            stop=threading.Event(),
            budget=ReadBudget(documents=DOCUMENTS),
        )
        _, proposal = analyze(job, load_price_book())
    finally:
        source.close()
        with MongoClient[Any](uri) as client:
            client.drop_database(name)
    found = differences(yaml.safe_load(proposal), yaml.safe_load(SHIPPED.read_text()))
    assert len(found) > 10
    assert [str(one) for one in found if why(one) == UNEXPLAINED] == []
    lines = list(told(proposal, SHIPPED))
    assert len(lines) == len({why(one) for one in found})


def test_a_difference_without_a_reason_is_told_as_such() -> None:
    other = FileDifference(collection="users", topic="index on shoe size", proposed="there", written="")
    assert why(other) == UNEXPLAINED not in WHY.values()
