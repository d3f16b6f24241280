"""Once DynamoDB leads a unique value is one document's in every order of calls; and is not, with any one rule taken out."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import pytest
from support.unique.leading import BROKEN, Diverged, one_run, rule_broken

RUNS = int(os.environ.get("DOCFERRY_SOAK_RUNS", "960"))
SEED = int(os.environ.get("DOCFERRY_SOAK_SEED", "0"))
RUNS_TO_BREAK = 2_000
HAPPENS = {"insert", "change", "delete", "swap", "pass", "taken", "lost the race"}


def test_every_interleaving_keeps_values_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    with rule_broken(monkeypatch, ""), asyncio.Runner() as runner:
        for seed in range(SEED, SEED + RUNS):
            try:
                seen += one_run(runner, seed)
            except Diverged as error:
                error.add_note(f"seed {seed}")
                raise
    assert set(seen) >= HAPPENS, seen


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_is_needed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def until_one_diverges() -> None:
        for seed in range(RUNS_TO_BREAK):
            one_run(runner, seed)

    with rule_broken(monkeypatch, rule), asyncio.Runner() as runner, pytest.raises(Diverged):
        until_one_diverges()
