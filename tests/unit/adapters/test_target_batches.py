"""How the fast writer cuts batches, and what it does with those that are refused or come back."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from docferry.adapters.aws import dynamodb
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.core.backoff import Backoff
from docferry.core.limits import BATCH_BYTES
from docferry.core.mapping.items import Item
from docferry.errors import RetryExhausted
from docferry.ports.flows import Unanswered
from support.aws.answering import Answer, NoLimit, answered_by, item


def taken(operation: str, request: dict[str, Any], length: int) -> tuple[int, Any]:
    return 200, {}


def numbers(key: str) -> Item:
    """About 390 KB as DynamoDB counts it, and three times as much as JSON."""
    return item(key, list={"L": [{"N": "1"}] * 130_000})


def test_a_batch_is_cut_by_bytes_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(target: DynamoTarget) -> Any:
        return await target.put_all("T", target.pack([numbers(str(n)) for n in range(25)]), NoLimit(), lambda: None)

    written, server = answered_by(monkeypatch, taken, use)
    assert not written.refused
    assert len(server.seen) > 1
    assert sum(count for _, count, _ in server.seen) == 25
    assert max(length for _, _, length in server.seen) <= BATCH_BYTES + 1_000


def too_large_above(limit: int, reply: Any) -> Answer:
    def answer(operation: str, request: dict[str, Any], length: int) -> tuple[int, Any]:
        return (413, reply) if length > limit else (200, {})

    return answer


@pytest.mark.parametrize("reply", [{}, {"__type": "x#RequestEntityTooLargeException"}, {"__type": "x#SomethingNew"}])
def test_a_batch_that_is_too_large_goes_one_by_one_and_one_that_is_still_too_large_is_refused_alone(
    monkeypatch: pytest.MonkeyPatch, reply: Any
) -> None:
    items = [item(str(n), text={"S": "x" * (50_000 if n == 7 else 1_000)}) for n in range(25)]

    async def use(target: DynamoTarget) -> Any:
        return await target.put_all("T", target.pack(items), NoLimit(), lambda: None)

    written, server = answered_by(monkeypatch, too_large_above(20_000, reply), use)
    assert list(written.refused) == [7]
    assert [operation for operation, _, _ in server.seen].count("putitem") == 25


class Slow(NoLimit):
    """A budget that is so small that waiting for it takes longer than any patience."""

    async def take(self, units: float) -> None:
        await asyncio.sleep(0.3)


def some_unprocessed(rounds: int) -> Answer:
    left = itertools.count()

    def answer(operation: str, request: dict[str, Any], length: int) -> tuple[int, Any]:
        ((table, puts),) = request["RequestItems"].items()
        return 200, {"UnprocessedItems": {table: puts[:1]} if next(left) < rounds else {}}

    return answer


def test_waiting_for_the_budget_is_no_trouble_of_dynamodb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamodb, "BACKOFF", Backoff(for_s=0.5, first_s=0.01))

    async def use(target: DynamoTarget) -> Any:
        return await target.put_all("T", target.pack([item("one")]), Slow(), lambda: None)

    written, server = answered_by(monkeypatch, some_unprocessed(4), use)
    assert not written.refused
    assert len(server.seen) == 5


def test_items_of_which_some_get_through_in_each_round_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamodb, "BACKOFF", Backoff(for_s=0.0, first_s=0.01))
    first = iter(range(3, 0, -1))

    def answer(operation: str, request: dict[str, Any], length: int) -> tuple[int, Any]:
        ((table, puts),) = request["RequestItems"].items()
        return 200, {"UnprocessedItems": {table: puts[: next(first)]} if len(puts) > 1 else {}}

    async def use(target: DynamoTarget) -> Any:
        return await target.put_all("T", target.pack([item(str(n)) for n in range(4)]), NoLimit(), lambda: None)

    written, _ = answered_by(monkeypatch, answer, use)
    assert not written.refused


def test_items_that_never_get_through_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamodb, "BACKOFF", Backoff(for_s=0.2, first_s=0.05))

    async def use(target: DynamoTarget) -> Any:
        with pytest.raises(RetryExhausted):
            await target.put_all("T", target.pack([item("one")]), NoLimit(), lambda: None)

    answered_by(monkeypatch, some_unprocessed(10_000), use)


THROTTLED = 400, {"__type": "x#ProvisionedThroughputExceededException", "message": "past twice its peak"}


def test_a_throttled_request_waits_for_its_turn_while_others_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = itertools.count()

    def answer(operation: str, request: dict[str, Any], length: int) -> tuple[int, Any]:
        ((_, puts),) = request["RequestItems"].items()
        unlucky = puts[0]["PutRequest"]["Item"]["PK"]["S"] == "unlucky"
        return THROTTLED if unlucky and next(refusals) < 6 else (200, {})

    async def use(target: DynamoTarget) -> Any:
        put = asyncio.ensure_future(target.put_all("T", target.pack([item("unlucky")]), NoLimit(), lambda: None))
        while not put.done():
            await target.put_all("T", target.pack([item("lucky")]), NoLimit(), lambda: None)
        return put.result()

    written, _ = answered_by(monkeypatch, answer, use, Backoff(for_s=0.3, first_s=0.05, uniform=lambda low, high: high))
    assert not written.refused
    assert next(refusals) > 6


def test_a_table_that_takes_nothing_at_all_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(target: DynamoTarget) -> Any:
        with pytest.raises(RetryExhausted):
            await target.put_all("T", target.pack([item("one")]), NoLimit(), lambda: None)

    answered_by(monkeypatch, lambda *_: THROTTLED, use, Backoff(for_s=0.2, first_s=0.05))


@pytest.mark.parametrize(
    ("trouble", "unknown"),
    [((0, {}), 1), ((500, {"__type": "x#InternalServerError"}), 1), ((400, {"__type": "x#ThrottlingException"}), 0)],
)
def test_a_request_whose_fate_is_unknown_is_kept_until_its_signature_has_expired(
    monkeypatch: pytest.MonkeyPatch, trouble: tuple[int, Any], unknown: int
) -> None:
    answers = iter([trouble])
    unanswered = Unanswered()

    def answer(operation: str, request: dict[str, Any], length: int) -> tuple[int, Any]:
        return next(answers, (200, {}))

    async def use(target: DynamoTarget) -> Any:
        return await target.put_all("T", target.pack([item("one")]), NoLimit(), lambda: None, unanswered)

    answered_by(monkeypatch, answer, use)
    assert unanswered.requests == unknown
    assert bool(unanswered.last_signed_ms) == bool(unknown)


def test_a_request_that_was_in_flight_when_the_writer_was_cancelled_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    unanswered = Unanswered()

    async def use(target: DynamoTarget) -> Any:
        put = asyncio.ensure_future(
            target.put_all("T", target.pack([item("one")]), NoLimit(), lambda: None, unanswered)
        )
        while not unanswered.requests:  # noqa: ASYNC110 - sent is what is awaited
            await asyncio.sleep(0.005)
        put.cancel()
        await asyncio.gather(put, return_exceptions=True)

    def never(operation: str, request: dict[str, Any], length: int) -> tuple[int, Any]:
        raise ConnectionError

    answered_by(monkeypatch, never, use)
    assert unanswered.requests >= 1
