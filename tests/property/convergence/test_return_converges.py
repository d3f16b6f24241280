"""MongoDB becomes what DynamoDB is, in every order of writes; and does not, with any one rule taken out."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Sequence

import pytest
from support.reverse.rules import BROKEN, one_run, rule_broken
from support.reverse.world import Diverged

RUNS = int(os.environ.get("DOCFERRY_SOAK_RUNS", "120"))
SEED = int(os.environ.get("DOCFERRY_SOAK_SEED", "0"))
SHARES = 4
SOME = 60
"""In `make test`; `make cutover` has them all, and breaks each rule."""
RUNS_TO_BREAK = 400
HAPPENS = (
    "APPLIED",
    "REMOVED",
    "SAME",
    "IGNORED",
    "duplicate",
    "set aside",
    "torn read",
    "crash at work",
    "iterator expired",
)
"""What a share must have seen, or it proves nothing."""
ENOUGH_TO_SEE = 50


@pytest.mark.cutover
@pytest.mark.parametrize("share", range(SHARES))
def test_every_interleaving_converges(share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = range(SEED + share, SEED + RUNS, SHARES)
    seen = all_converge(seeds, monkeypatch)
    assert len(seeds) < ENOUGH_TO_SEE or not (set(HAPPENS) - set(seen)), seen


def test_some_interleavings_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = all_converge(range(SOME), monkeypatch)
    assert not (set(HAPPENS) - set(seen)), seen


def all_converge(seeds: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What has happened in the runs of these seeds."""
    seen: Counter[str] = Counter()
    found: list[str] = []
    with rule_broken(monkeypatch, ""), asyncio.Runner() as runner:
        for seed in seeds:
            try:
                seen += runner.run(one_run(seed))
            except Diverged as error:
                found.append("; ".join([str(error), *error.__notes__]))
    assert not found, f"{len(found)} of {len(seeds)} runs diverged:\n" + "\n".join(found[:5])
    return seen


@pytest.mark.cutover
@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_is_needed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def until_one_diverges() -> None:
        for seed in range(RUNS_TO_BREAK):
            runner.run(one_run(seed, rule))

    with rule_broken(monkeypatch, rule), asyncio.Runner() as runner, pytest.raises(Diverged):
        until_one_diverges()
