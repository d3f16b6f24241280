"""The pages of an analysis, a proof and a forecast in a real browser: wide, narrow, light, dark, printed, asking for nothing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docferry.adapters.local.analysis_files import AnalysisDirectory
from docferry.adapters.mongodb.analysis import MongoAnalysis
from docferry.adapters.sketches import sketches
from docferry.config.price_book import load_price_book
from docferry.core.analyze.proof import Heat, LoadedSample, ModelProof, PatternProof, latency
from docferry.core.analyze.proof_report import proof_files
from docferry.core.cost.calls import CallRates
from docferry.core.cost.forecast import Forecast, PricedDesign, Workload, forecast
from docferry.core.cost.report import report_files
from docferry.core.cost.roi import MongoBill
from docferry.core.cost.sizes import measure
from docferry.core.settings import TableSettings
from docferry.flows.analyze.analyze import analyze
from docferry.flows.analyze.job import Analysis
from docferry.sandbox import SandboxStack
from playwright.sync_api import Browser, sync_playwright
from pymongo import MongoClient
from support.airflow.accessible import violations
from support.airflow.grid import find_browser
from support.analyze.databases import make_movies
from support.backfill.rig import Quiet

PAGES = ("report.html", "proof.html", "cost.html")
NARROW, WIDE = 390, 1280
HOSTILE = "<script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def directory(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, name = tmp_path_factory.mktemp("pages"), f"pages_{uuid.uuid4().hex[:8]}"
    uri = stack.env()["DOCFERRY_MONGO_URI"]
    with MongoClient[Any](uri) as client:
        make_movies(client[name], movies=60)
        client[name][HOSTILE].insert_many({HOSTILE: "x" * 300, "a_name_without_any_space_" * 8: n} for n in range(20))
        source = MongoAnalysis(uri, name)
        try:
            job = Analysis(database=name, source=source, sketches=sketches(), progress=Quiet(), stop=threading.Event())
            AnalysisDirectory(path).write(*analyze(job, load_price_book()))
        finally:
            source.close()
            client.drop_database(name)
    AnalysisDirectory(path).leave(proof_files(proof()))
    AnalysisDirectory(path).leave(report_files(priced()))
    return path


def priced() -> Forecast:
    """Of a collection, a table and an index that bear hostile names."""
    table = TableSettings(name="Shop", indexes=(HOSTILE,))
    design = PricedDesign(migration=HOSTILE, region="us-east-1", tables=(table,))
    item = {"PK": {"S": "P"}, "SK": {"S": "S"}, f"{HOSTILE}PK": {"S": "x"}, f"{HOSTILE}SK": {"S": "y"}}
    sizes = [measure(HOSTILE * 4, "Shop", 10**6, [[item]], [HOSTILE], 0)]
    rates = {HOSTILE * 4: CallRates(by_key=90, update=30)}
    bill = MongoBill(parts={f"EC2 {HOSTILE}": 900.0})
    return forecast(design, sizes, Workload(rates=rates, notes=[HOSTILE]), load_price_book(), bill)


def proof() -> ModelProof:
    asked = PatternProof(
        name=f"users_by_{HOSTILE}",
        collection=HOSTILE,
        by="index GSI1",
        mongodb=latency([0.1]),
        dynamodb=latency([0.2]),
        documents_mongodb=1,
        documents_dynamodb=1,
        items_read=2,
        pages=2,
        units=1.5,
        units_told=0.5,
        same=1,
        different=0,
    )
    return ModelProof(
        migration="shop",
        database="shop",
        began="2026-11-29T10:00:00Z",
        seconds=3.0,
        endpoint="an emulator",
        samples=[LoadedSample(collection=HOSTILE, documents=1, of=1, items=2, refused=0, complete=True)],
        patterns=[asked],
        heat=[Heat(collection="users", where="index GSI1", partitions=3, share=0.5, write_units_s=3, read_units_s=9)],
        usd={1: 1.0, 10: 10.0, 100: 100.0},
        read_million=0.125,
        book="a book",
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    assert path is not None, "there is no chromium (apt-get install chromium)"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclass
class Looked:
    width: int
    title: str
    paper: str
    ink: str
    errors: list[str]
    requests: list[str]
    printed: bytes
    broken: int
    violations: list[str]


BROKEN = """[...document.querySelectorAll('td.n')].filter(cell => {
  const text = document.createRange(); text.selectNodeContents(cell);
  return new Set([...text.getClientRects()].map(one => one.top)).size > 1 }).length"""
"""Numbers that are set in two lines."""


def look(browser: Browser, page_file: Path, width: int, scheme: Any) -> Looked:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    errors: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    body = "getComputedStyle(document.body)"
    looked = Looked(
        width=page.evaluate("document.scrollingElement.scrollWidth"),
        title=page.title(),
        paper=page.evaluate(f"{body}.backgroundColor"),
        ink=page.evaluate(f"{body}.color"),
        errors=errors,
        requests=requests,
        printed=page.pdf(format="A4"),
        broken=page.evaluate(BROKEN),
        violations=violations(page),
    )
    context.close()
    return looked


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_page_fits_is_quiet_and_asks_for_nothing(browser: Browser, directory: Path, page: str) -> None:
    light = look(browser, directory / page, WIDE, "light")
    dark = look(browser, directory / page, NARROW, "dark")
    assert (light.width, dark.width) == (WIDE, NARROW)
    assert light.paper != dark.paper
    for one in (light, dark):
        assert one.title.startswith("docferry: ")
        assert one.errors == []
        assert one.violations == []
        assert one.broken == 0, "a number in two lines is read as two"
        assert one.requests == [(directory / page).as_uri()]
        assert one.printed.startswith(b"%PDF")
    assert len(light.printed) > 10_000
