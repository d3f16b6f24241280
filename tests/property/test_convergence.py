"""DynamoDB becomes what MongoDB is, whoever writes when; and does not, with any one rule taken out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from converging.world import BROKEN, Diverged, World, calls_inline

RUNS = int(os.environ.get("DOCFERRY_SOAK_RUNS", "1200"))
"""`make soak` asks for 20,000."""
RUNS_TO_BREAK = 400
SHARES = 4


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with calls_inline(monkeypatch):
        yield


def diverges(seed: int, broken: str = "") -> str:
    """Empty, or how DynamoDB differs from MongoDB at the end of one run."""
    try:
        asyncio.run(asyncio.wait_for(World(seed, broken).run(), 60))
    except Diverged as found:
        return f"seed {seed}: {found}"
    return ""


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.timeout(3600)
def test_every_interleaving_converges(share: int) -> None:
    found = [text for seed in range(share, RUNS, SHARES) if (text := diverges(seed))]
    assert found == []


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_is_needed(rule: str) -> None:
    assert any(diverges(seed, rule) for seed in range(RUNS_TO_BREAK)), (
        f"{rule}: nothing diverged, so nothing guards the rule"
    )
