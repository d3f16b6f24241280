"""What an analysis keeps of each collection that it has finished, so that a later run goes on from there. Pure.

A file of lines of JSON: one says which analysis it is, each other one is a collection. It holds what a report holds: no value
of a document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from docferry.core.analyze.facts import CollectionFacts, HeavyValue, IndexFacts, MissingFact, PathFacts, Spread

FORM = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCollection:
    """One collection, and what the whole analysis had read by then."""

    facts: CollectionFacts
    missing: Sequence[MissingFact]
    documents: int
    bytes: int
    server_bytes: int
    seconds: float
    yielded_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRun:
    """Which analysis it is: another database, sample, or server is another one. `began` as ISO 8601, UTC."""

    database: str
    server: str
    collections: Sequence[str]
    documents: int
    began: str

    def same_as(self, other: AnalysisRun) -> bool:
        return replace(self, began="") == replace(other, began="")


def encode_run(run: AnalysisRun) -> str:
    return json.dumps({"form": FORM, **asdict(run)})


def encode_finished(one: FinishedCollection) -> str:
    """A line. Calls of the application are left out: they are asked for again."""
    return json.dumps(asdict(replace(one, facts=replace(one.facts, shapes=()))), default=str)


def decode_lines(lines: Sequence[str]) -> tuple[AnalysisRun, list[FinishedCollection]] | None:
    """None for what is no such file, or one of another version. A line that was cut off ends it."""
    try:
        head = json.loads(lines[0])
        if head.pop("form") != FORM:
            return None
        run = AnalysisRun(**{**head, "collections": tuple(head["collections"])})
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    found: list[FinishedCollection] = []
    for line in lines[1:]:
        try:
            found.append(_finished(json.loads(line)))
        except (LookupError, TypeError, ValueError):
            break
    return run, found


def _finished(tree: dict[str, Any]) -> FinishedCollection:
    missing = tuple(MissingFact(**one) for one in tree["missing"])
    return FinishedCollection(**{**tree, "facts": _collection(tree["facts"]), "missing": missing})


def _collection(tree: Mapping[str, Any]) -> CollectionFacts:
    return CollectionFacts(**{
        **tree,
        "paths": tuple(_path(one) for one in tree["paths"]),
        "item_bytes": Spread(**tree["item_bytes"]),
        "indexes": tuple(_index(one) for one in tree["indexes"]),
        "shapes": (),
    })  # fmt: skip


def _path(tree: Mapping[str, Any]) -> PathFacts:
    lengths = Spread(**tree["lengths"]) if tree["lengths"] is not None else None
    heavy = tuple(HeavyValue(**one) for one in tree["heavy"])
    return PathFacts(**{**tree, "lengths": lengths, "heavy": heavy, "examples": tuple(tree["examples"])})


def _index(tree: Mapping[str, Any]) -> IndexFacts:
    return IndexFacts(**{**tree, "keys": tuple((name, way) for name, way in tree["keys"])})
