"""The client is asked what it does with a call: what it says is the verdict, and a migration file that says more changes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from docferry.client.transport.sync_driver import run
from docferry.config import Migration, load_migration, parse_migration
from docferry.core.source.bare_file import bare_file
from docferry.core.source.calls import SOME, CallVerdict, DriverCall
from docferry.core.source.shapes import call_of_counted
from docferry.rehearsal.trial import NOWHERE, ClosedMongoDB, Trial, trial_of
from pymongo.errors import InvalidOperation
from support.source.calls import SHOP

TEXT = SHOP.read_text()


@pytest.fixture(scope="module")
def shop() -> Iterator[Trial]:
    with trial_of(load_migration(SHOP)) as trial:
        yield trial


def find(query: Mapping[str, Any], collection: str = "users") -> DriverCall:
    return DriverCall(method="find", collection=collection, filter=query)


def migration(*changes: tuple[str, str]) -> Migration:
    text = TEXT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return parse_migration(text.encode(), "changed")


@pytest.mark.parametrize("heard", [False, True])
def test_mongodb_of_a_trial_is_closed_and_answers_at_once(heard: bool) -> None:
    with pytest.raises(InvalidOperation, match="after close"):
        run(ClosedMongoDB(NOWHERE, "x").run("x", "find_one", {}, heard=heard))


def test_call_that_every_mode_serves(shop: Trial) -> None:
    found = shop.judge(find({"email": SOME}))
    assert (found.verdict, found.by, set(found.modes.values())) == (CallVerdict.SERVED, "index GSI1", {"served"})


def test_call_that_needs_a_pattern_is_counted_while_mongodb_leads(shop: Trial) -> None:
    found = shop.judge(find({"visits": SOME}))
    assert found.verdict is CallVerdict.PATTERN
    assert found.modes == {
        "MONGO_ONLY": "served", "DUAL_WRITE": "counted", "DYNAMODB_READS": "counted", "DYNAMODB_ONLY": "refused",
    }  # fmt: skip


def test_access_pattern_of_the_file_decides() -> None:
    without = migration(('  user_by_email: {collection: users, index: GSI1, PK: "EMAIL#{email}", SK: USER}\n', ""))
    with trial_of(without) as trial:
        assert trial.judge(find({"email": SOME})).verdict is CallVerdict.PATTERN


def test_index_with_a_condition_serves_only_what_it_holds(shop: Trial) -> None:
    city = "profile.location.city"
    assert shop.judge(find({city: SOME, "status": "active"})).by == "index GSI2"
    found = shop.judge(find({city: SOME, "status": SOME}))
    assert found.verdict is CallVerdict.PATTERN
    assert found.advice.startswith("served only for")
    assert shop.judge(find({city: SOME, "status": "idle"})).verdict is CallVerdict.PATTERN


def test_unknown_filter_of_a_call_that_is_refused_whatever_it_is(shop: Trial) -> None:
    unknown = DriverCall(method="find", collection="users", filter=None, unknown="its filter")
    assert shop.judge(unknown).verdict is CallVerdict.UNKNOWN
    watched = DriverCall(method="watch", collection="users", filter=None, unknown="its filter")
    assert shop.judge(watched).verdict is CallVerdict.REFUSED


def test_without_a_file_the_id_is_the_key() -> None:
    with trial_of(parse_migration(bare_file(['odd "name"', "users"]).encode(), "bare")) as trial:
        assert trial.judge(find({"_id": SOME})).verdict is CallVerdict.SERVED
        assert trial.judge(find({"_id": SOME}, 'odd "name"')).verdict is CallVerdict.SERVED
        assert trial.judge(find({"email": SOME})).verdict is CallVerdict.PATTERN


def test_update_is_judged_by_what_it_does_to_a_document(shop: Trial) -> None:
    def update(change: Any) -> CallVerdict:
        asked = DriverCall(method="update_one", collection="users", filter={"username": SOME}, update=change)
        return shop.judge(asked).verdict

    assert update({"$push": {"tags": {"$each": SOME, "$slice": -5}}}) is CallVerdict.SERVED
    assert update({"$set": {"tags.$[one].a": SOME}}) is CallVerdict.SERVED
    assert update([{"$set": {"a": SOME}}]) is CallVerdict.SERVED
    assert update([{"$match": {"a": SOME}}]) is CallVerdict.REFUSED
    assert update({"$inc": SOME}) is CallVerdict.SERVED
    assert update(None) is CallVerdict.SERVED


SHAPES = {
    "users.find(visits $gt)": CallVerdict.PATTERN,
    "users.find_one(_id)": CallVerdict.PATTERN,
    "users.find(email; collation)": CallVerdict.REFUSED,
    "users.update_many(status)": CallVerdict.PATTERN,
    "users.find($or)": CallVerdict.PATTERN,
    "audit.find(nothing)": CallVerdict.REFUSED,
    "users.find(a very long list of names that was cut o": CallVerdict.UNKNOWN,
    "other shapes": CallVerdict.UNKNOWN,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_that_the_client_counted_is_judged_as_the_call(shop: Trial, shape: str) -> None:
    found = shop.judge(call_of_counted(shape, 7))
    assert (found.verdict, found.call.calls) == (SHAPES[shape], 7)


@pytest.mark.parametrize(
    ("pipeline", "verdict", "says"),
    [
        ([{"$match": {"status": SOME}}, {"$group": {"_id": "$userId"}}, {"$limit": SOME}], CallVerdict.SERVED, ""),
        ([{"$match": {"total": {"$gt": SOME}}}, {"$count": "n"}], CallVerdict.PATTERN, "scan: {allowed: true"),
        ([{"$match": {"status": SOME}}, {"$lookup": {"from": "users"}}], CallVerdict.REFUSED, "$lookup"),
        (None, CallVerdict.UNKNOWN, "its first $match"),
    ],
)
def test_aggregation_is_judged_by_its_stages(
    shop: Trial, pipeline: list[dict[str, Any]] | None, verdict: CallVerdict, says: str
) -> None:
    found = shop.judge(DriverCall(method="aggregate", collection="orders", pipeline=pipeline))
    assert found.verdict is verdict
    assert says in f"{found.why} {found.advice}"


def test_scan_that_the_file_allows_serves_what_no_key_leads_to() -> None:
    allowed = migration(("  products:\n", "  products:\n    scan: {allowed: true}\n"))
    with trial_of(allowed) as trial:
        found = trial.judge(find({"price": {"$gt": SOME}}, "products"))
    assert (found.verdict, found.by) == (CallVerdict.SERVED, "a scan")
