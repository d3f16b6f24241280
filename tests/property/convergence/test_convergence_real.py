"""The same interleavings on a real mongod and DynamoDB's emulator, through docferry's own adapters."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from docferry.sandbox import SandboxStack
from support.convergence.real_side import RealServers
from support.convergence.rules import rule_broken
from support.convergence.runs import REAL_RUNS, SEED, one_run, shape_of, told
from support.convergence.world import Diverged

SHARES = 4
HAPPENS = ("torn read", "whole read", "superseded put", "transact", "replace_replicator", "kill")
ENOUGH_TO_SEE = 40


@pytest.fixture(scope="module")
def servers(stack: SandboxStack) -> Iterator[RealServers]:
    opened = RealServers(stack.env())
    yield opened
    opened.close()


async def real_run(servers: RealServers, seed: int) -> Counter[str]:
    async with servers.side(seed, *shape_of(seed)) as side:
        return await one_run(seed, side)


@pytest.mark.parametrize("share", range(SHARES))
def test_every_interleaving_converges_on_real_servers(
    share: int, servers: RealServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[str] = Counter()
    found: list[str] = []
    seeds = range(SEED + share, SEED + REAL_RUNS, SHARES)
    with rule_broken(monkeypatch, ""):
        for seed in seeds:
            try:
                seen += asyncio.run(real_run(servers, seed))
            except Diverged as error:
                found.append(told(error))
    assert not found, f"{len(found)} of {len(seeds)} runs diverged:\n" + "\n".join(found[:5])
    assert len(seeds) < ENOUGH_TO_SEE or not (set(HAPPENS) - set(seen)), seen
