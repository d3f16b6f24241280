"""Two small applications, whose every driver call has its verdict written down: no call is missed, and no verdict is wrong."""

from __future__ import annotations

import threading
from collections import defaultdict
from functools import cache

import pytest
from docferry.config import load_migration
from docferry.core.source.calls import JudgedCall
from docferry.flows.analyze.source import SourceScan, read_source
from docferry.rehearsal.trial import trial_of
from docferry.testing.jobs import Quiet
from docferry.wiring_design import application_source
from support.source.calls import APPLICATIONS, SHOP, Expected, expected_of, marks_in

NAMES = ["python", "javascript"]
ALL = [(name, one) for name in NAMES for one in expected_of(name)]


@cache
def judged(application: str) -> dict[str, JudgedCall]:
    """Mark -> what the analysis says of the call there; a call without a mark stands under its place."""
    ports = application_source(APPLICATIONS / application)
    found = read_source(SourceScan(tree=ports.tree, parsers=ports.parsers, progress=Quiet(), stop=threading.Event()))
    assert found.passed_over == []
    marks: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for file, line, mark in marks_in(APPLICATIONS / application):
        marks[file, line].append(mark)
    with trial_of(load_migration(SHOP)) as trial:
        return {_take(marks, one): one for one in map(trial.judge, found.calls)}


def _take(marks: dict[tuple[str, int], list[str]], one: JudgedCall) -> str:
    there = marks.get((one.call.file, one.call.line))
    return there.pop(0) if there else f"{one.call.place} {one.call.method}"


@pytest.mark.parametrize("application", NAMES)
def test_forty_calls_are_found_and_no_other(application: str) -> None:
    expected = [one.mark for one in expected_of(application)]
    assert len(expected) == 40
    assert sorted(judged(application)) == sorted(expected)


@pytest.mark.parametrize(("application", "expected"), ALL, ids=[one.mark for _, one in ALL])
def test_verdict_is_the_one_that_was_written_down(application: str, expected: Expected) -> None:
    one = judged(application)[expected.mark]
    where = one.call.collection if one.call.collection is not None else "?"
    called = one.call.method if one.call.of == "database" else f"{where}.{one.call.method}"
    assert (called, str(one.verdict), one.by) == (expected.call, expected.verdict, expected.by)
    assert expected.says in f"{one.why}; {one.advice}; {one.call.unknown}"


def test_every_verdict_is_shown() -> None:
    verdicts = {str(one.verdict) for name in NAMES for one in judged(name).values()}
    assert verdicts == {"served", "needs an access pattern", "refused", "unknown"}
