"""The profiler is switched on only on request, for a bounded time, and put back, also by the next analysis after a killed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry.adapters.local.analysis_files import AnalysisDirectory
from docferry.adapters.mongodb.analysis import MongoAnalysis
from docferry.adapters.sketches import sketches
from docferry.config.price_book import load_price_book
from docferry.core.analyze.report import Report
from docferry.errors import Stopped
from docferry.flows.analyze.analyze import analyze
from docferry.flows.analyze.job import Analysis
from docferry.sandbox import SandboxStack
from pymongo import MongoClient
from pymongo.database import Database
from support.backfill.rig import Quiet
from support.place import ROOT


@pytest.fixture
def database(stack: SandboxStack) -> Iterator[Database[Any]]:
    with MongoClient[Any](stack.env()["DOCFERRY_MONGO_URI"]) as client:
        found = client[f"profiled_{uuid.uuid4().hex[:8]}"]
        found["people"].insert_many({"name": f"n{number}", "city": f"c{number % 3}"} for number in range(50))
        yield found
        found.command("profile", 0)
        client.drop_database(found.name)


def level(database: Database[Any]) -> int:
    return int(database.command("profile", -1)["was"])


def run(stack: SandboxStack, database: Database[Any], out: Path, seconds: float = 0.0, stop: Any = None) -> Report:
    source = MongoAnalysis(stack.env()["DOCFERRY_MONGO_URI"], database.name)
    directory = AnalysisDirectory(out)
    job = Analysis(
        database=database.name,
        source=source,
        sketches=sketches(),
        progress=Quiet(),
        stop=stop or threading.Event(),
        profiler=directory.profiler,
        profile_s=seconds,
    )
    try:
        return analyze(job, load_price_book())[0]
    finally:
        source.close()


def asks_until(database: Database[Any], stop: threading.Event) -> None:
    while not stop.is_set():
        database["people"].find_one({"city": "c1"})


@pytest.mark.parametrize("before", [0, 1])
def test_calls_of_that_time_are_found_and_the_profiler_is_as_it_was(
    stack: SandboxStack, database: Database[Any], tmp_path: Path, before: int
) -> None:
    database.command("profile", before)
    stop = threading.Event()
    asking = threading.Thread(target=asks_until, args=(database, stop))
    asking.start()
    try:
        report = run(stack, database, tmp_path, seconds=0.5)
    finally:
        stop.set()
        asking.join()
    assert level(database) == before
    [shape] = [one for one in report.facts.collections[0].shapes if one.kind == "find" and one.equality == ("city",)]
    assert shape.source == "profiler"
    assert AnalysisDirectory(tmp_path).profiler.read() is None


def test_without_a_request_it_is_left_alone(stack: SandboxStack, database: Database[Any], tmp_path: Path) -> None:
    run(stack, database, tmp_path)
    assert "system.profile" not in database.list_collection_names()


def test_a_profiler_that_was_on_stays_on(stack: SandboxStack, database: Database[Any], tmp_path: Path) -> None:
    database.command("profile", 2)
    run(stack, database, tmp_path, seconds=30)
    assert level(database) == 2


def test_stopped_it_is_put_back_at_once(stack: SandboxStack, database: Database[Any], tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Stopped):
        run(stack, database, tmp_path, seconds=60, stop=stop)
    assert level(database) == 0


@pytest.mark.timeout(120)
def test_killed_it_is_put_back_by_the_next_analysis(
    stack: SandboxStack, database: Database[Any], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "docferry.cli", "analyze", "--database", database.name, "--out", str(tmp_path)]
    env = {**os.environ, **stack.env(), "PYTHONPATH": str(ROOT / "include")}
    process = subprocess.Popen(
        [*command, "--profile-seconds", "60"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while level(database) != 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert level(database) == 2
    run(stack, database, tmp_path)
    assert level(database) == 0
    assert AnalysisDirectory(tmp_path).profiler.read() is None


def test_what_a_person_has_set_meanwhile_stays(stack: SandboxStack, database: Database[Any], tmp_path: Path) -> None:
    from docferry.ports.analyze import ProfilerLevel

    AnalysisDirectory(tmp_path).profiler.keep(ProfilerLevel(database=database.name, level=0))
    database.command("profile", 1)
    run(stack, database, tmp_path)
    assert level(database) == 1
