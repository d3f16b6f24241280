"""A replica set that is closed by another thread while it is started."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from docferry.sandbox import SandboxReplicaSet
from docferry.sandbox.processes import wait_until


def test_a_set_that_is_closed_while_it_starts_ends_its_start_at_once(tmp_path: Path) -> None:
    opened = SandboxReplicaSet(tmp_path, 1)
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(opened.open)
        member = opened._members[0]
        wait_until(lambda: (opened._hello(member) or {}).get("setName"), timeout_s=30, what="a member of the set")
        opened.close()
        start.exception(timeout=10)  # it may have been up already
