"""Nothing acknowledged is lost on the way back, and nothing arrives behind it, whoever stalls, dies or is late; and not without
any one of the rules."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from support.journals.broken import BROKEN
from support.journals.world import NeverEnds, run

pytestmark = pytest.mark.cutover

RUNS = int(os.environ.get("DOCFERRY_SOAK_RUNS", "120"))
SEED = int(os.environ.get("DOCFERRY_SOAK_SEED", "0"))
SHARES = 4
RUNS_TO_BREAK = 400
HAPPENS = ("unanswered", "RetryExhausted", "void", "seal", "LeaseLost")
"""What a share must have seen, or it proves nothing."""
ENOUGH_TO_SEE = 50


@pytest.mark.parametrize("share", range(SHARES))
def test_no_acknowledged_write_is_lost_and_none_arrives_behind_the_change(share: int) -> None:
    seen: Counter[str] = Counter()
    bad: list[str] = []
    seeds = range(SEED + share, SEED + RUNS, SHARES)
    for seed in seeds:
        found = run(seed)
        seen += found
        if found["lost"] or found["stray"]:
            bad.append(f"seed {seed}: {found['lost']} lost, {found['stray']} strays of {found['acked']}")
    print(dict(seen))
    assert not bad, f"{len(bad)} of {len(seeds)} runs:\n" + "\n".join(bad[:5])
    assert len(seeds) < ENOUGH_TO_SEE or not (set(HAPPENS) - set(seen)), seen


def test_records_that_show_95_s_late_behind_empty_pages_lose_nothing_while_every_process_lives() -> None:
    runs = [run(seed, late_s=95.0) for seed in range(5)]
    assert sum(found["acked"] for found in runs) > 50
    assert sum(found["lost"] + found["stray"] for found in runs) == 0


def test_streams_alone_lose_what_shows_95_s_late(monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN["streams_are_believed"](monkeypatch)
    assert run(0, late_s=95.0)["lost"] > 5


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
