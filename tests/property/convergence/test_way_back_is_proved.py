"""Nothing acknowledged is lost on the way back, and nothing arrives behind it, whoever stalls, dies or is late; and not without
any one of the rules."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import pytest
from support.journals.broken import BROKEN
from support.journals.world import NeverEnds, run

RUNS = int(os.environ.get("DOCFERRY_SOAK_RUNS", "120"))
SEED = int(os.environ.get("DOCFERRY_SOAK_SEED", "0"))
SHARES = 4
FEW = 30
"""A share of them in `make test`; `make cutover` has them all, and breaks each rule."""
RUNS_TO_BREAK = 400
HAPPENS = (
    "unanswered", "RetryExhausted", "void", "seal", "LeaseLost", "resumed twice", "split", "copied transaction", "copied void",
)  # fmt: skip
"""What a share must have seen, or it proves nothing."""
ENOUGH_TO_SEE = 50


@pytest.mark.cutover
@pytest.mark.parametrize("share", range(SHARES))
def test_no_acknowledged_write_is_lost_and_none_arrives_behind_the_change(share: int) -> None:
    seeds = range(SEED + share, SEED + RUNS, SHARES)
    seen = none_goes_wrong(seeds)
    assert len(seeds) < ENOUGH_TO_SEE or not (set(HAPPENS) - set(seen)), seen


def test_none_of_a_few_runs_loses_an_acknowledged_write() -> None:
    seen = none_goes_wrong(range(FEW))
    assert not (set(HAPPENS) - set(seen)), seen


def none_goes_wrong(seeds: Sequence[int]) -> Counter[str]:
    """What has happened in the runs of these seeds."""
    seen: Counter[str] = Counter()
    bad: list[str] = []
    for seed in seeds:
        found = run(seed)
        seen += found
        if found["lost"] or found["stray"]:
            bad.append(f"seed {seed}: {found['lost']} lost, {found['stray']} strays of {found['acked']}")
    print(dict(seen))
    assert not bad, f"{len(bad)} of {len(seeds)} runs:\n" + "\n".join(bad[:5])
    return seen


@pytest.mark.cutover
@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_is_needed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[rule](monkeypatch)
    assert any(_goes_wrong(seed) for seed in range(RUNS_TO_BREAK)), f"{RUNS_TO_BREAK} runs do without"


def _goes_wrong(seed: int) -> bool:
    try:
        found = run(seed)
    except NeverEnds:
        return True
    return found["lost"] + found["stray"] > 0
