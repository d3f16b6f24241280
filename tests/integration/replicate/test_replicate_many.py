"""Many mixed events in one run: the lag goes back to 0, every event is accounted for, and memory stays flat.

DOCFERRY_SOAK_EVENTS says how many; what was measured is printed (pytest -s).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from demo.traffic import make_events
from docferry.flows.ledger.positions import REPLICATION, applied_position
from docferry.rehearsal.shop import load_shop
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.replicate.rig import assert_equal, await_applied, end, live_shop

pytestmark = pytest.mark.xdist_group("replicate_many")
EVENTS = int(os.environ.get("DOCFERRY_SOAK_EVENTS", "4000"))
"""`make soak` asks for 20,000."""
PATIENCE_S = 120 + EVENTS / 20
MOST_MB = 300
MOST_GROWTH = 1.15
WARM = max(EVENTS / 4, 2_000)
"""Events until memory is first looked at: a quarter, and in short runs until clients and caches have been filled."""


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    load_shop(stack.env()["DOCFERRY_MONGO_URI"], "many", users=100, unstorable=0, pre_images=True)
    made = live_shop(stack.env(), tmp_path, "many")
    yield made
    end(made)


@contextmanager
def replicating(rig: Rig) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-m", "docferry.cli", "replicate", str(rig.file), "--json"]
    process = subprocess.Popen(line, env={**rig.env, "PATH": ""}, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def resident_mb(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def events(rig: Rig) -> int:
    record = rig.ledger.read(*REPLICATION)
    return int(record.body.get("events", 0)) if record is not None else 0


@pytest.mark.slow
def test_many_events_leave_no_lag_and_no_memory(rig: Rig) -> None:
    made: list[Any] = []
    writer = threading.Thread(
        target=lambda: made.append(make_events(rig.env["DOCFERRY_MONGO_URI"], "many", EVENTS, 17)), daemon=True
    )
    with replicating(rig) as process:
        eventually(lambda: applied_position(rig.ledger) is not None, "it to begin", 60)
        writer.start()
        eventually(lambda: events(rig) >= WARM or process.poll() is not None, "the first of them", PATIENCE_S, 0.2)
        assert process.poll() is None, f"it has ended with {process.returncode}"
        first = resident_mb(process)
        writer.join(PATIENCE_S)
        assert made, "the writer did not come to an end"
        await_applied(rig, timeout_s=PATIENCE_S)
        last = resident_mb(process)
        process.terminate()
        report = json.loads(process.communicate(timeout=30)[0])
    told = {name: report[name] for name in ("events", "written", "superseded", "dead", "rate", "lag_s")}
    print(
        f"\n{told}; {first:.0f} MB after {WARM:.0f} events, {last:.0f} MB at the end; written at {made[0].rate_reached}/s"
    )
    assert report["events"] == made[0].documents_changed >= EVENTS
    assert report["lag_s"] <= 1
    assert report["dead"] == 0
    assert last < MOST_MB
    assert last <= first * MOST_GROWTH
    assert_equal(rig)
