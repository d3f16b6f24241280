"""Positions of shards: behind what is applied and nothing else, children after parents, and no shard lost unseen."""

from __future__ import annotations

import asyncio
import threading

import bson
import pytest
from bson import Int64
from docferry.core.mapping.raw import same_content
from docferry.errors import StreamTrimmed
from docferry.flows.kernel.threads import to_its_end
from docferry.flows.reverse.shards import SKEW_MS, ShardOutcome, TableStream, begin, decode_stream, encode_stream
from docferry.ports.flows import Shard, StreamRecord
from hypothesis import given
from hypothesis import strategies as st

PARENT = Shard(id="p", parent=None, closed=False)
CHILDREN = [Shard(id=name, parent="p", closed=False) for name in ("c1", "c2")]


def record(number: int, created_ms: int = 10_000) -> StreamRecord:
    return StreamRecord(sequence=f"{number:05d}", key=("a", "b"), created_ms=created_ms)


@pytest.fixture
def stream() -> TableStream:
    return begin("T", "arn", [PARENT], 5_000)


@given(st.permutations(range(6)))
def test_position_is_behind_the_last_record_before_which_all_are_applied(order: list[int]) -> None:
    shard = begin("T", "arn", [PARENT], 0).shards["p"]
    pending = [shard.take(record(number)) for number in range(6)]
    for one in pending:
        one.left = 1
    done: set[int] = set()
    for number in order:
        pending[number].left = 0
        done.add(number)
        list(shard.advance())
        behind = next((place for place in range(6) if place not in done), 6)
        assert shard.after == (f"{behind - 1:05d}" if behind else None)


def test_children_are_read_after_their_parent_is_read_to_its_end_and_applied(stream: TableStream) -> None:
    stream.learn([PARENT, *CHILDREN])
    parent = stream.shards["p"]
    assert stream.readable() == [parent]
    pending = parent.take(record(1))
    pending.left = 1
    parent.ended = True
    list(parent.advance())
    assert stream.readable() == []
    pending.left = 0
    list(parent.advance())
    assert [one.id for one in stream.readable()] == ["c1", "c2"]


def test_closed_shards_are_behind_the_start_and_open_ones_before_it() -> None:
    old = Shard(id="old", parent=None, closed=True)
    started = begin("T", "arn", [old, Shard(id="new", parent="old", closed=False)], 0)
    assert [one.id for one in started.readable()] == ["new"]


def test_finished_shard_without_known_children_keeps_it_from_being_caught_up(stream: TableStream) -> None:
    shard = stream.shards["p"]
    shard.ended = True
    list(shard.advance())
    assert shard.finished
    assert not stream.has_caught_up(1)
    stream.learn([PARENT, *CHILDREN])
    assert not stream.has_caught_up(1)
    for child in CHILDREN:
        stream.shards[child.id].asked_ms = 1
    assert stream.has_caught_up(1)
    assert not stream.has_caught_up(2)


def test_child_that_is_listed_late_is_read_and_not_taken_for_an_ancestor(stream: TableStream) -> None:
    shard = stream.shards["p"]
    shard.ended = True
    list(shard.advance())
    stream.learn([PARENT, CHILDREN[0]])
    stream.learn([PARENT, *CHILDREN])
    assert [one.id for one in stream.readable()] == ["c1", "c2"]


def test_finished_shard_is_forgotten_once_it_is_not_listed_and_an_unfinished_one_is_missed(stream: TableStream) -> None:
    shard = stream.shards["p"]
    shard.ended = True
    list(shard.advance())
    stream.learn(CHILDREN)
    assert set(stream.shards) == {"c1", "c2"}
    with pytest.raises(StreamTrimmed, match="c2"):
        stream.learn(CHILDREN[:1])


def test_positions_survive_the_ledger_and_what_was_not_applied_is_read_again(stream: TableStream) -> None:
    shard = stream.shards["p"]
    first, second = shard.take(record(1)), shard.take(record(2))
    first.outcome, second.left = ShardOutcome.SAME, 1
    list(shard.advance())
    again = decode_stream("T", encode_stream(stream))
    assert (again.arn, again.since_ms) == ("arn", 5_000)
    assert (again.shards["p"].after, again.shards["p"].read, again.shards["p"].finished) == ("00001", "00001", False)


def test_reached_is_the_time_of_the_oldest_record_that_is_not_applied(stream: TableStream) -> None:
    assert stream.reached_ms(99_000) == 5_000
    shard = stream.shards["p"]
    pending = shard.take(record(1, created_ms=7_000))
    pending.left = 1
    shard.take(record(2, created_ms=9_000))
    assert stream.reached_ms(99_000) == 7_000
    pending.left = 0
    list(shard.advance())
    assert stream.reached_ms(99_000) == 9_000
    shard.asked_ms = 50_000
    assert stream.reached_ms(99_000) == 50_000
    assert stream.reached_ms(49_000) == 49_000


def test_finished_shard_holds_back_until_its_children_are_known() -> None:
    stream = begin("T", "arn", [Shard(id="parent", parent=None, closed=False)], 1_000)
    parent = stream.shards["parent"]
    parent.take(record(1, 2_000)).left = 0
    parent.ended = True
    list(parent.advance())
    assert (parent.finished, stream.reached_ms(9_000)) == (True, 2_000)
    stream.learn([Shard(id="parent", parent=None, closed=True), Shard(id="child", parent="parent", closed=False)])
    stream.shards["child"].asked_ms = 8_000
    assert stream.reached_ms(9_000) == 8_000


def test_record_is_early_only_if_no_clock_can_make_it_late() -> None:
    stream = begin("T", "arn", [PARENT], SKEW_MS * 2)
    assert stream.is_early(record(1, SKEW_MS - 1))
    assert not stream.is_early(record(1, SKEW_MS))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"_id": 1, "a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}, "_id": 1}, True),
        ({"_id": 1, "a": [1, 2]}, {"_id": 1, "a": [2, 1]}, False),
        ({"_id": 1, "a": 1}, {"_id": 1, "a": 1.0}, False),
        ({"_id": 1, "a": 1}, {"_id": 1, "a": Int64(1)}, False),
        ({"_id": 1, "a": True}, {"_id": 1, "a": 1}, False),
        ({"_id": 1, "a": None}, {"_id": 1}, False),
        ({"_id": 1, "a": [{"x": 1, "y": 2}]}, {"_id": 1, "a": [{"y": 2, "x": 1}]}, True),
        ({"_id": 1, "a": float("nan")}, {"a": float("nan"), "_id": 1}, True),
    ],
)
def test_content_is_the_same_whatever_the_order_of_fields_but_not_the_types(
    one: object, other: object, same: bool
) -> None:
    assert same_content(bson.encode(one), bson.encode(other)) is same  # type: ignore[arg-type]


def test_write_that_has_begun_is_waited_for_by_who_is_cancelled() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        begun.set()
        may_end.wait(10)
        ended.set()

    async def run() -> bool:
        task = asyncio.create_task(to_its_end(write))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        await asyncio.wait([task], timeout=0.2)
        assert not task.done()
        may_end.set()
        await asyncio.gather(task, return_exceptions=True)
        return ended.is_set() and task.cancelled()

    assert asyncio.run(run())
