"""What a flip of the reads rests on: enough reads, fast enough, and no call that DynamoDB cannot answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from docferry.core.access.read_plan import shape_of
from docferry.core.cutover.instances import INSTANCES, Instance, unserved_by
from docferry.core.cutover.latency import TOOK, bucket_of, percentile_ms
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.errors import SteppedBack
from docferry.flows.cutover import flip
from docferry.flows.cutover.flip_evidence import USUAL, FlipBounds, counts_of
from docferry.flows.cutover.flip_reasons import compared
from docferry.flows.cutover.refusals import Asked
from docferry.flows.ledger.modes import list_moves, read_mode
from docferry.flows.ledger.times import now_ms
from docferry.testing.fakes import FakeFence, FakeLedger
from support.cutover.jobs import job_of, set_mode


def instance(id: str = "a", ended: bool = False, unserved: Mapping[str, int] | None = None, **counts: int) -> Instance:
    return Instance(
        id=id, name=id, mark="", epoch=1, registered_ms=0, beat_ms=now_ms(), until_ms=now_ms() + 60_000, ended=ended,
        counts={name.replace("__", "."): count for name, count in counts.items()}, unserved=unserved or {},
    )  # fmt: skip


def took(database: str, milliseconds: float, times: int) -> dict[str, int]:
    return {f"{TOOK}{database}.{bucket_of(milliseconds / 1000)}".replace(".", "__"): times}


# --- a share while it soaks ------------------------------------------------------------------------------------------


class Soaking:
    """A share that soaks, with one process that counts what a test says."""

    def __init__(self, **counts: Any) -> None:
        self.ledger = FakeLedger()
        self.ledger.write(*MODE, ModeState(mode=Mode.DYNAMODB_READS, epoch=2, percent=10).to_body(), expect=None)
        self.ledger.write(INSTANCES, "a", instance(**counts).to_body(), expect=None)

    def soak(self, bounds: FlipBounds, soak_s: float = 0.02, percent: int = 10) -> flip.FlipReport:
        job = job_of(FakeFence(), self.ledger)
        report = flip.FlipReport(mode="", epoch=2)
        before = ModeState(mode=Mode.DUAL_WRITE, epoch=1, percent=100)
        soak = flip._Soak(before=before, at_start=counts_of([]), soak_s=soak_s, percent=percent, bounds=bounds)
        flip._soak(job, report, soak)
        return report


def test_a_share_that_served_no_read_steps_back_and_says_why() -> None:
    world = Soaking()
    with pytest.raises(SteppedBack, match="only 0 reads came from DynamoDB while 10 % soaked, of 30 at least"):
        world.soak(USUAL)
    assert read_mode(world.ledger).mode is Mode.DUAL_WRITE


def test_a_share_that_served_enough_stays_and_soaks_no_longer_than_it_was_asked_to() -> None:
    world = Soaking(read__served=30)
    assert world.soak(USUAL, soak_s=1.0).soaked_s < 2.0
    assert read_mode(world.ledger).percent == 10


def test_no_reads_are_asked_for_where_they_are_waived() -> None:
    assert Soaking().soak(FlipBounds(reads=0)).seen.served == 0


@pytest.mark.parametrize(("percent", "least"), [(1, 3), (10, 30), (100, 300)])
def test_a_larger_share_takes_more_evidence(percent: int, least: int) -> None:
    assert USUAL.served_by(percent) == least


def test_a_share_that_is_much_slower_than_mongodb_steps_back() -> None:
    world = Soaking(read__served=200, **took("dynamodb", 200, 200), **took("mongodb", 20, 200))
    with pytest.raises(SteppedBack, match=r"the p95 of reads is .* ms from DynamoDB and .* ms from MongoDB"):
        world.soak(USUAL)
    world = Soaking(read__served=200, **took("dynamodb", 200, 200), **took("mongodb", 20, 200))
    world.soak(FlipBounds(slower=0))


@pytest.mark.parametrize("dynamodb_ms", [40, 55])
def test_a_share_within_the_bound_stays(dynamodb_ms: int) -> None:
    """Up to 50 ms, or three times MongoDB's."""
    Soaking(read__served=200, **took("dynamodb", dynamodb_ms, 200), **took("mongodb", 30, 200)).soak(USUAL)


def test_what_was_asked_for_less_than_usual_is_in_the_history() -> None:
    assert (USUAL.described(), FlipBounds(reads=5, slower=0).described()) == (
        "",
        "reads 5 instead of 300, slower 0 instead of 3",
    )
    assert list_moves(Soaking().ledger) == []


# --- before ----------------------------------------------------------------------------------------------------------


def test_few_compared_reads_are_no_evidence() -> None:
    world = Soaking(shadow__equal=299)
    job = job_of(FakeFence(), world.ledger)
    set_mode(world.ledger, ModeState(mode=Mode.DUAL_WRITE, epoch=2, percent=100))
    (problem,) = compared(Asked(job=job))
    assert "299 of the application's reads have been compared; 300 are needed" in problem.what
    assert list(compared(Asked(job=job, bounds=FlipBounds(reads=299)))) == []


def test_unserved_calls_of_ended_processes_block_until_their_shape_is_waived() -> None:
    gone = instance("gone", ended=True, unserved={"users.find(status)": 2})
    here = instance("here", unserved={"users.find(status)": 1, "orders.find(total; hint)": 4})
    assert unserved_by([gone], ()) == {"users.find(status)": 2}
    assert unserved_by([gone, here], ["users.find(status)"]) == {"orders.find(total; hint)": 4}


def test_the_shape_of_a_call_names_its_options_and_no_value() -> None:
    query: Any = {"status": "s3cr3t"}
    assert shape_of("users", "find", query) == "users.find(status)"
    assert shape_of("users", "find", query, ["max", "hint"]) == "users.find(status; hint, max)"


# --- percentiles -----------------------------------------------------------------------------------------------------


def test_a_percentile_is_half_as_much_again_at_most() -> None:
    buckets: dict[int, int] = {}
    for milliseconds in range(1, 101):
        bucket = bucket_of(milliseconds / 1000)
        buckets[bucket] = buckets.get(bucket, 0) + 1
    found = percentile_ms(buckets, 0.95, 1)
    assert found is not None
    assert 95 <= found <= 95 * 1.5
    assert percentile_ms(buckets, 0.95, 101) is None
    assert percentile_ms({}, 0.95, 0) is None
