"""What every target promises: acknowledged or refused item by item, the newer version wins, nothing is left out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bson import Decimal128, Int64
from docferry.core.bson_codec.encode import encode_value
from docferry.core.mapping.items import Item, key_of
from docferry.core.versions import version_text
from docferry.errors import DocumentError, ItemTooLarge, LeaseLost, RefusedByStore, TableMissing, Throttled
from docferry.ports.flows import Grave, Target, Written
from docferry.testing.fakes import FakeTarget
from support.tables import Run


class NoLimit:
    """A budget that notes what it was asked for."""

    def __init__(self) -> None:
        self.taken = self.consumed = 0.0

    async def take(self, units: float) -> None:
        self.taken += units

    def settle(self, estimated: float, consumed: float) -> None:
        self.consumed += consumed


def no_guard() -> None:
    """Nothing stops the writing."""


def item(pk: str, sk: str = "DATA", version: int = 1, **attributes: Any) -> Item:
    return {"PK": {"S": pk}, "SK": {"S": sk}, "_v": {"S": version_text(version)}, **attributes}


async def put(target: Target, table: str, *items: Item) -> Written:
    return await target.put_all(table, target.pack(items), NoLimit(), no_guard)


async def everything(target: Target, table: str, segments: int = 1) -> list[Item]:
    found: list[Item] = []
    for segment in range(segments):
        start: Item | None = None
        while True:
            page = await target.scan(table, segment, segments, start)
            found += page.items
            if page.next is None:
                break
            start = page.next
    return found


# --- putting ---------------------------------------------------------------------------------------------------------


def test_all_items_are_stored_whatever_was_there(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        await put(target, table, item("p0", version=99, old={"S": "x"}))
        budget = NoLimit()
        items = [item(f"p{number}", version=1, n={"N": str(number)}) for number in range(130)]
        written = await target.put_all(table, target.pack(items), budget, no_guard)
        assert not written.refused
        assert not written.superseded
        assert written.units == budget.consumed >= 130
        assert await target.get_all(table, [key_of(one) for one in items]) == {key_of(one): one for one in items}

    run(use)


def test_putting_nothing_is_nothing(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        assert await put(target, table) == Written({}, frozenset(), 0.0)
        assert await target.put_newer(table, [], NoLimit(), no_guard) == Written({}, frozenset(), 0.0)
        assert await target.get_all(table, []) == {}

    run(use)


def test_every_type_of_attribute_comes_back(run: Run) -> None:
    stored = item(
        "p", s={"S": "ä🦜"}, empty={"S": ""}, n={"N": "-12.5"}, b={"B": "AP8="}, no_bytes={"B": ""}, t={"BOOL": True},
        nothing={"NULL": True}, m={"M": {"a": {"L": [{"N": "1"}, {"M": {}}]}, "": {"S": "x"}}}, ss={"SS": ["a", "b"]},
    )  # fmt: skip
    del stored["m"]["M"][""]

    async def use(target: Target, table: str) -> None:
        await put(target, table, stored)
        found = (await target.get_all(table, [("p", "DATA")]))["p", "DATA"]
        found["ss"]["SS"].sort()
        assert found == stored

    run(use)


@pytest.mark.parametrize(
    ("given", "stored"),
    [("1.0", "1"), ("007", "7"), ("-0", "0"), ("1E3", "1000"), ("12.500", "12.5"), ("1e-3", "0.001")],
)
def test_numbers_come_back_in_dynamodbs_spelling(
    run: Run, request: pytest.FixtureRequest, given: str, stored: str
) -> None:
    normalises_nested = "dynamodb_local" not in request.node.name  # DynamoDB Local 1.25 does not; AWS does
    nested = stored if normalises_nested else given

    async def use(target: Target, table: str) -> None:
        await put(target, table, item("p", n={"N": given}, m={"M": {"l": {"L": [{"N": given}]}}}))
        found = (await target.get_all(table, [("p", "DATA")]))["p", "DATA"]
        assert found["n"] == {"N": stored}
        assert found["m"] == {"M": {"l": {"L": [{"N": nested}]}}}

    run(use)


def test_what_the_codec_writes_is_spelled_so_that_it_comes_back_as_it_went(run: Run) -> None:
    """Whether nested or not: no engine has anything to normalise there."""
    numbers = [1, 7, 0, 1000, 12.5, 0.001, -0.0, 1e300, Decimal128("1E+3"), Decimal128("1.00"), Int64(2**62)]
    attributes: dict[str, Any] = {
        name: encode_value(value, name, {}) for name, value in (("top", 12.5), ("nested", {"in": numbers}))
    }

    async def use(target: Target, table: str) -> None:
        await put(target, table, item("p", **attributes))
        assert (await target.get_all(table, [("p", "DATA")]))["p", "DATA"] == item("p", **attributes)

    run(use)


def deep(levels: int) -> dict[str, Any]:
    return {"M": {"x": deep(levels - 1)}} if levels else {"S": "end"}


UNSTORABLE = {
    "empty key": item(""),
    "too large": item("large", x={"S": "x" * 410_000}),
    "too deep": item("deep", x=deep(33)),
    "too many digits": item("digits", x={"N": "1" * 39}),
    "number too great": item("great", x={"N": "1E126"}),
}


@pytest.mark.parametrize("case", UNSTORABLE)
def test_one_bad_item_is_refused_by_position_and_the_others_arrive(run: Run, case: str) -> None:
    items = [*(item(f"p{number}") for number in range(30)), UNSTORABLE[case], item("last")]

    async def use(target: Target, table: str) -> None:
        both = [await target.put_newer(table, items, NoLimit(), no_guard)]
        if case != "too large":  # that is seen before anything is sent
            both.append(await put(target, table, *items))
        for written in both:
            assert set(written.refused) == {30}
            assert isinstance(written.refused[30], ItemTooLarge if case == "too large" else RefusedByStore)
            assert written.refused[30].path == "DATA"
        assert len(await everything(target, table)) == 31

    run(use)


def test_bad_item_alone_is_refused_not_raised(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        assert set((await put(target, table, UNSTORABLE["too deep"])).refused) == {0}

    run(use)


@pytest.mark.parametrize(
    ("attribute", "error"), [({"S": "x" * 410_000}, ItemTooLarge), ({"S": "\ud800"}, RefusedByStore)]
)
def test_document_of_which_one_item_cannot_be_sent_is_not_packed(
    run: Run, attribute: Any, error: type[DocumentError]
) -> None:
    async def use(target: Target, table: str) -> None:
        with pytest.raises(error) as caught:
            target.pack([item("b"), item("b", "CHILD", x=attribute)])
        assert caught.value.path in ("CHILD", "DATA")

    run(use)


def test_newer_version_is_put_and_an_older_or_equal_one_superseded(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        await put(target, table, item("older", version=5), item("same", version=7), item("newer", version=9))
        await put(target, table, {"PK": {"S": "foreign"}, "SK": {"S": "DATA"}})
        names = ["older", "same", "newer", "absent", "foreign"]
        written = await target.put_newer(table, [item(n, version=7, x={"S": "x"}) for n in names], NoLimit(), no_guard)
        assert not written.refused
        assert written.superseded == {1, 2}
        assert written.units >= 5
        found = await target.get_all(table, [(name, "DATA") for name in names])
        assert {key[0] for key, one in found.items() if "x" in one} == {"older", "absent", "foreign"}

    run(use)


def test_same_version_is_put_where_that_is_asked_for(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        await put(target, table, item("older", version=5), item("same", version=7), item("newer", version=9))
        items = [item(n, version=7, x={"S": "x"}) for n in ("older", "same", "newer", "absent")]
        written = await target.put_newer(table, items, NoLimit(), no_guard, or_same=True)
        assert not written.refused
        assert written.superseded == {2}
        assert (await target.put_newer(table, items, NoLimit(), no_guard)).superseded == {0, 1, 2, 3}

    run(use)


def test_versions_compare_as_numbers_whatever_their_size(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        await put(target, table, item("p", version=(1 << 87) + 9))
        assert (await target.put_newer(table, [item("p", version=1 << 80)], NoLimit(), no_guard)).superseded == {0}
        assert not (await target.put_newer(table, [item("p", version=(1 << 88) - 1)], NoLimit(), no_guard)).superseded

    run(use)


def test_nothing_is_deleted_once_the_guard_objects(run: Run) -> None:
    def guard() -> None:
        raise LeaseLost("purge")

    async def use(target: Target, table: str) -> None:
        await put(target, table, item("p", version=7, **DEAD))
        with pytest.raises(LeaseLost):
            await target.delete_exact(table, [Grave(("p", "DATA"), version_text(7))], NoLimit(), guard)
        assert len(await everything(target, table)) == 1

    run(use)


@pytest.mark.parametrize("method", ["put_all", "put_newer"])
def test_nothing_is_sent_once_the_guard_objects(run: Run, method: str) -> None:
    def guard() -> None:
        raise LeaseLost("chunk")

    async def use(target: Target, table: str) -> None:
        items: Any = [item(f"p{number}") for number in range(60)]
        if method == "put_all":
            items = target.pack(items)
        with pytest.raises(LeaseLost):
            await getattr(target, method)(table, items, NoLimit(), guard)
        assert await everything(target, table) == []

    run(use)


def test_indexes_are_paid_for(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        plain = await put(target, table, item("p"))
        indexed = await put(target, table, item("q", GSI1PK={"S": "a"}, GSI1SK={"S": "b"}))
        assert (plain.units, indexed.units) == (1, 2)

    run(use)


def test_missing_table_is_said_at_once(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        for attempt in (
            put(target, table + "x", item("p")),
            target.put_newer(table + "x", [item("p")], NoLimit(), no_guard),
            target.delete_exact(table + "x", [Grave(("p", "DATA"), version_text(1))], NoLimit(), no_guard),
            target.get_all(table + "x", [("p", "DATA")]),
            target.scan(table + "x", 0, 1, None),
        ):
            with pytest.raises(TableMissing):
                await attempt

    run(use)


# --- deleting --------------------------------------------------------------------------------------------------------

DEAD: Any = {"_deleted": {"BOOL": True}}


async def delete(target: Target, table: str, version: int, *names: str, budget: NoLimit | None = None) -> Written:
    graves = [Grave((name, "DATA"), version_text(version)) for name in names]
    return await target.delete_exact(table, graves, budget or NoLimit(), no_guard)


def test_exactly_the_tombstones_named_are_deleted_and_nothing_else(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        spared = [
            item("newer", version=8, **DEAD),
            item("older", version=6, **DEAD),
            item("alive", version=7),
            item("odd", version=7, _deleted={"S": "true"}),
            item("not named", version=7, **DEAD),
            item("dead", "CHILD", version=7, **DEAD),
        ]
        await put(target, table, *spared, *(item(name, version=7, **DEAD) for name in ("dead", "dead, too")))
        budget = NoLimit()
        done = await delete(
            target, table, 7, "newer", "dead", "older", "alive", "nobody", "odd", "dead, too", budget=budget
        )
        assert done.superseded == {0, 2, 3, 4, 5}
        assert not done.refused
        assert done.units == budget.taken == 7
        assert budget.consumed == 2
        assert sorted(map(key_of, await everything(target, table))) == sorted(map(key_of, spared))

    run(use)


def test_tombstone_is_deleted_once_and_deleting_nothing_is_nothing(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        await put(target, table, item("p", version=7, **DEAD))
        assert not (await delete(target, table, 7, "p")).superseded
        assert (await delete(target, table, 7, "p")).superseded == {0}
        assert await delete(target, table, 7) == Written({}, frozenset(), 0.0)

    run(use)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_get_gives_what_exists_of_any_number_of_keys(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        await put(target, table, *(item(f"p{number}", f"s{number % 7}") for number in range(0, 230, 2)))
        found = await target.get_all(table, [(f"p{number}", f"s{number % 7}") for number in range(230)])
        assert set(found) == {(f"p{number}", f"s{number % 7}") for number in range(0, 230, 2)}

    run(use)


def test_get_of_more_than_16_megabytes_is_complete(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        await put(target, table, *(item(f"p{number}", x={"S": "x" * 390_000}) for number in range(45)))
        assert len(await target.get_all(table, [(f"p{number}", "DATA") for number in range(45)])) == 45

    run(use)


@pytest.mark.parametrize("segments", [1, 3])
def test_segments_of_a_scan_hold_every_item_once(run: Run, segments: int) -> None:
    async def use(target: Target, table: str) -> None:
        items = [item(f"p{number % 11}", f"s{number}", x={"S": "x" * 9_000}) for number in range(250)]
        await put(target, table, *items)
        found = await everything(target, table, segments)
        assert sorted(map(key_of, found)) == sorted(map(key_of, items))

    run(use)


def test_scan_gives_the_attributes_asked_for(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        odd: dict[str, Any] = {"a.b": {"S": "x"}, "size": {"N": "1"}}
        await put(target, table, item("p", **odd))
        page = await target.scan(table, 0, 1, None, ["PK", "SK", "a.b"])
        assert page.items == [{"PK": {"S": "p"}, "SK": {"S": "DATA"}, "a.b": {"S": "x"}}]

    run(use)


def test_partition_is_complete_and_in_key_order(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        names = ["b", "a", "ä", "B", "~", "b#1", "𝒳", "\uffff"]
        await put(target, table, *(item("p", name, x={"S": "x" * 200_000}) for name in names), item("q", "other"))
        found = [key_of(one) async for one in target.partition(table, "p")]
        assert found == [("p", name) for name in sorted(names, key=str.encode)]
        assert [one async for one in target.partition(table, "nobody")] == []

    run(use)


# --- the fake's own faults -------------------------------------------------------------------------------------------


def test_fake_gives_unprocessed_items_back_until_they_are_written() -> None:
    target = FakeTarget(tables={"T": {}}, unprocessed=0.5)
    asyncio.run(put(target, "T", *(item(f"p{number}") for number in range(100))))
    assert len(target.tables["T"]) == 100
    assert target.requests["BatchWriteItem"] > 4


def test_fake_refuses_throttles_and_hangs_when_asked() -> None:
    async def use() -> None:
        target = FakeTarget(tables={"T": {}}, refuses=lambda one: one["PK"]["S"] == "bad")
        assert set((await put(target, "T", item("good"), item("bad"))).refused) == {1}
        target.faults.fail_next(Throttled("slow down"))
        with pytest.raises(Throttled):
            await put(target, "T", item("late"))
        target.hang()
        waiting = asyncio.create_task(put(target, "T", item("later")))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        target.resume()
        await asyncio.wait_for(waiting, 5)
        assert set(target.tables["T"]) == {("good", "DATA"), ("later", "DATA")}

    asyncio.run(use())
