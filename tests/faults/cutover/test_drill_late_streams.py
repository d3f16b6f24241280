"""DynamoDB's streams answer empty pages for up to two minutes although there are records, while processes die and MongoDB becomes
the leader at once: what proves that it has everything are the journals, and nothing is lost."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from docferry.adapters.aws.streams import DynamoStreams
from docferry.core.cutover.modes import Mode
from docferry.flows.ledger.modes import read_mode
from docferry.ports.flows import StreamPage, StreamRecord
from docferry.sandbox import SandboxStack
from support.backfill import rig as backfill_rig
from support.client.drill import Returning, change_leader
from support.client.faulty import PATIENT, assert_nothing_failed, assert_nothing_lost, faulty, judge, ready_to_switch
from support.replicate.rig import Following

pytestmark = pytest.mark.cutover

LATE_S, LATE_SHARE = 120.0, 0.5


@pytest.fixture(scope="module")
def own_stack() -> Iterator[SandboxStack]:
    """The write block is for a cluster that holds nothing else."""
    with SandboxStack() as stack:
        yield stack


class LatePages(DynamoStreams):
    """A page shows up when its last record does; until then there is an empty one in its place."""

    first_seen: dict[str, float]
    withheld = 0

    def records(self, iterator: str, limit: int) -> StreamPage:
        page = super().records(iterator, limit)
        if all(self._shows(one) for one in page.records):
            return page
        type(self).withheld += 1
        return StreamPage([], iterator)

    def _shows(self, record: StreamRecord) -> bool:
        chance = zlib.crc32(record.sequence.encode()) / 2**32
        late_s = chance / LATE_SHARE * LATE_S if chance < LATE_SHARE else 0.0
        return time.monotonic() >= self.first_seen.setdefault(record.sequence, time.monotonic()) + late_s


def test_way_back_behind_pages_that_are_empty_for_two_minutes_loses_nothing(
    own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, float] = {}

    class Late(LatePages):
        first_seen = seen

    monkeypatch.setattr(backfill_rig, "DynamoStreams", Late)
    with faulty(own_stack, tmp_path, cutover=PATIENT) as (rig, processes):
        with Following(rig) as following:
            following.await_all()
            ready_to_switch(rig, processes)
        change_leader(rig, back=False)
        with Returning(rig):
            processes.await_more(15)
            processes.freeze(0)
            processes.kill(0)
            processes.start()
            back = change_leader(rig, back=True)
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
        assert "proved" in back.steps, back
        assert Late.withheld, "every record came at once"
        processes.await_more(3)
        replayed = judge(rig, processes)
    assert_nothing_lost(replayed, killed=[0])
    assert_nothing_failed(replayed)
