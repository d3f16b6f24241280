"""How many runs there are, from which seed on, and how to have one of them again."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from docferry.config import Migration

from support.convergence.sides import KEPT, MIGRATION, TRANSFORMED, FakeSide, Side
from support.convergence.world import Diverged, World

RUNS = int(os.environ.get("DOCFERRY_SOAK_RUNS", "960"))
REAL_RUNS = int(os.environ.get("DOCFERRY_SOAK_REAL_RUNS", "16"))
"""`make soak` asks for 20,000 and 200."""
SEED = int(os.environ.get("DOCFERRY_SOAK_SEED", "0"))
"""The first seed; the same in each invocation unless named."""
ENDS_WITHIN_S = 60.0


def shape_of(seed: int) -> tuple[int, int, Migration]:
    """(documents, lanes; 0 means wherever they fall; the file). Every fifth run has more documents than lanes, and every third a
    transform."""
    documents, lanes = (5, 2) if seed % 5 == 4 else (2, 0)
    return documents, lanes, TRANSFORMED if seed % 3 == 2 else MIGRATION


async def one_run(seed: int, side: Side, broken: str = "") -> Counter[str]:
    """What was seen in it. Raises Diverged; any error says how to have this run again."""
    world = World(seed, side, broken)
    try:
        async with asyncio.timeout(ENDS_WITHIN_S):
            await world.run()
    except BaseException as error:
        real = not isinstance(side, FakeSide)
        runs = f"DOCFERRY_SOAK_RUNS={0 if real else 1} DOCFERRY_SOAK_REAL_RUNS={1 if real else 0}"
        error.add_note(f"once more: DOCFERRY_SOAK_SEED={seed} {runs} make soak")
        raise
    finally:
        await world.close()
    return world.seen


def fake_run(runner: asyncio.Runner, seed: int, broken: str = "") -> Counter[str]:
    """Every third keeps the order of fields: real servers have orders of their own, of which `Documents` does not know."""
    documents, lanes, migration = shape_of(seed)
    return runner.run(one_run(seed, FakeSide(seed, documents, lanes, KEPT if seed % 3 == 1 else migration), broken))


def told(error: Diverged) -> str:
    return "; ".join([str(error), *error.__notes__])
