"""A small world in which DynamoDB leads and MongoDB has what reverse replication brought."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.core.compare.diff import Difference
from docferry.flows.validate.first_pass import ValidationReport

from support.reverse.judged import Judged, hurry_judging

ANN: dict[str, Any] = {"_id": 1, "name": "ann", "mail": "a", "addresses": [{"street": "one"}, {"street": "two"}]}


BOB: dict[str, Any] = {"_id": 2, "name": "bob", "mail": "b", "inner": {"x": 1, "y": [1, {"z": 2}]}}


NOTE: dict[str, Any] = {"_id": 7, "text": "secret"}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry_judging(monkeypatch)


@pytest.fixture
def world() -> Judged:
    return filled(Judged())


def filled(made: Judged) -> Judged:
    made.start()
    made.put("users", ANN)
    made.put("users", BOB)
    made.put("notes", NOTE)
    made.follow()
    return made


def number_of(one: Difference) -> str:
    """Of a document whose id is an int32."""
    return one.id.removeprefix("~i")


def told(report: ValidationReport) -> list[tuple[str, str, str, str, str, str]]:
    return [
        (one.kind.value, one.collection, number_of(one), one.path, one.expected, one.actual)
        for one in report.differences
    ]
