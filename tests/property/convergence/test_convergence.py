"""DynamoDB becomes what MongoDB is, in every order of writes; and does not, with any one rule taken out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy

import pytest
from docferry.core.mapping.document_filter import compile_document_filter
from docferry.core.mapping.items import Item
from docferry.core.mapping.mapping import DocumentMapping
from support.convergence.rules import BROKEN, calls_inline, rule_broken
from support.convergence.runs import RUNS, SEED, fake_run, told
from support.convergence.sides import DOCS, KEPT, MAPPING, MIGRATION, TRANSFORMED, Document
from support.convergence.world import Diverged
from support.transforms import counted

SHARES = 8
RUNS_TO_BREAK = 600
RUNS_OF_A_PART = 240
HAPPENS = (
    "torn read", "whole read", "superseded put", "letter stored", "letter still_dead", "replicator killed at work",
    "replicator frozen at work", "killed World.application", "killed World.load", "killed _Repair.documents",
    "request that arrived twice",
)  # fmt: skip
"""What a share must have seen, or it proves nothing."""
ENOUGH_TO_SEE = 100


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner]:
    with calls_inline(monkeypatch), asyncio.Runner() as opened:
        yield opened


@pytest.mark.parametrize("share", range(SHARES))
def test_every_interleaving_converges(share: int, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    found: list[str] = []
    seeds = range(SEED + share, SEED + RUNS, SHARES)
    with rule_broken(monkeypatch, ""):
        for seed in seeds:
            try:
                seen += fake_run(runner, seed)
            except Diverged as error:
                found.append(told(error))
    assert not found, f"{len(found)} of {len(seeds)} runs diverged:\n" + "\n".join(found[:5])
    assert len(seeds) < ENOUGH_TO_SEE or not (set(HAPPENS) - set(seen)), seen


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_is_needed(rule: str, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def until_one_diverges() -> None:
        for seed in range(RUNS_TO_BREAK):
            fake_run(runner, seed, rule)

    with rule_broken(monkeypatch, rule), pytest.raises(Diverged):
        until_one_diverges()


@pytest.mark.parametrize("seed", [12139, 12847])
def test_a_load_or_repair_that_died_amid_a_document_that_cannot_be_stored_is_run_again(
    seed: int, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by 20,000 runs: what it had put of the document is newer than every change of it."""
    with rule_broken(monkeypatch, ""):
        fake_run(runner, seed)
        with pytest.raises(Diverged):
            fake_run(runner, seed, "what died is not run again")


def only_the_active(monkeypatch: pytest.MonkeyPatch) -> None:
    for migration in (MIGRATION, TRANSFORMED, KEPT):
        monkeypatch.setattr(migration.mapping(DOCS), "filter", compile_document_filter({"active": True}))


def test_a_part_of_a_collection_converges_though_documents_cross_its_border(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[str] = Counter()
    only_the_active(monkeypatch)
    with rule_broken(monkeypatch, ""):
        for seed in range(SEED, SEED + RUNS_OF_A_PART):
            seen += fake_run(runner, seed)
    assert min(seen["letter stored"], seen["letter outside"]) > RUNS_OF_A_PART / 10, seen


@pytest.mark.parametrize("rule", ["no values in a pre-image", "a letter closed by its own event"])
def test_a_part_of_a_collection_needs_each_rule(
    rule: str, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_one_diverges() -> None:
        for seed in range(RUNS_TO_BREAK):
            fake_run(runner, seed, rule)

    only_the_active(monkeypatch)
    with rule_broken(monkeypatch, rule), pytest.raises(Diverged):
        until_one_diverges()


def test_a_transform_needs_all_items_written_at_each_change(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_one_diverges() -> None:
        for seed in range(RUNS_TO_BREAK):
            fake_run(runner, seed)

    monkeypatch.setattr(MAPPING, "encode", _counted_behind_the_mapping)
    with rule_broken(monkeypatch, ""), pytest.raises(Diverged):
        until_one_diverges()


def _counted_behind_the_mapping(document: Document, version: int) -> list[Item]:
    """A transform of which the mapping, and so replication, does not know."""
    return DocumentMapping.encode(MAPPING, counted.forward(deepcopy(document)), version)
