"""Validation while DynamoDB leads, on fakes: what is different, what is on its way, what is not known, and what is refused."""

from __future__ import annotations

import asyncio

import pytest
from bson import Int64
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.mapping.items import key_of
from docferry.errors import PreflightFailed, Stopped
from docferry.flows.ledger.approvals import evidence_of
from docferry.flows.validate.first_pass import latest_report, validate
from docferry.flows.validate.repair import repair
from docferry.flows.validate.replay import replay_letters
from support.reverse.judged import Judged
from support.reverse.rig import TABLE
from support.validate.reverse_world import ANN, BOB, NOTE, filled, hurried, number_of, told, world

__all__ = ["hurried", "world"]


# --- equal -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_items", [1, 2, 100])
def test_equal_databases_are_found_equal_however_documents_are_cut_by_pages(world: Judged, page_items: int) -> None:
    world.target.page_items = page_items
    report = world.validate()
    assert (report.verdict, report.rechecked, report.differences) == ("EQUAL", 0, ()), report.render()
    assert [(one.collection, one.documents, one.items) for one in report.collections] == [
        ("users", 2, 4),
        ("notes", 1, 1),
    ]
    assert (report.direction, report.equal_up_to) == ("reverse", None)


def test_report_says_from_when_to_when_it_looked_and_becomes_the_latest(world: Judged) -> None:
    report = world.validate()
    latest = latest_report(world.ledger)
    assert latest is not None
    assert (latest.direction, latest.ok, latest.equal_up_to) == ("reverse", True, None)
    looked = latest.to_dict()
    assert looked["looked_from"] <= looked["looked_to"]
    assert f"as of looks made from {looked['looked_from']} to {looked['looked_to']}" in report.render()
    assert "DynamoDB leads: MongoDB must hold what it does" in report.render()


def test_order_of_fields_is_no_difference(world: Judged) -> None:
    world.tamper("users", dict(reversed(BOB.items())))
    assert world.validate().verdict == "EQUAL"


def test_tombstones_are_no_documents(world: Judged) -> None:
    world.put("users", ANN | {"name": "eve", "addresses": []})
    world.remove("users", 2)
    world.follow()
    report = world.validate()
    assert report.verdict == "EQUAL", report.render()
    assert report.collections[0].documents == 1


# --- different -------------------------------------------------------------------------------------------------------


def test_planted_differences_of_every_kind_are_found_with_their_paths(world: Judged) -> None:
    world.put("users", {"_id": 3, "name": "cyd"})
    world.follow()
    world.tamper("users", ANN | {"addresses": [{"street": "one"}, {"street": "2"}], "added": True})
    world.tamper("users", BOB | {"inner": {"x": Int64(1), "y": [1, {"z": 3}]}})
    world.tamper_away("users", 3)
    world.tamper("users", {"_id": 4, "name": "dan"})
    world.tamper("notes", {"_id": 8})
    report = world.validate()
    assert sorted(told(report)) == sorted(
        [
            ("different", "users", "1", "addresses.1.street", "string two", "string 2"),
            ("different", "users", "1", "added", "missing", "bool True"),
            ("different", "users", "2", "inner.x", "int32 1", "int64 1"),
            ("different", "users", "2", "inner.y.1.z", "int32 2", "int32 3"),
            ("missing", "users", "3", "", "a document", "missing"),
            ("extra", "users", "4", "", "no document", "a document"),
            ("extra", "notes", "8", "", "no document", "a document"),
        ]
    )
    counts = [(one.missing, one.different, one.extra, one.unaccounted) for one in report.collections]
    assert (report.verdict, counts) == ("DIFFERENT", [(1, 2, 1, 0), (0, 0, 1, 0)])
    assert ("USER#ann", "PROFILE") in [(one.pk, one.sk) for one in report.differences]


def test_masked_fields_stay_out_of_the_report() -> None:
    world = filled(Judged(masked=("text", "name", "inner")))
    world.tamper("notes", NOTE | {"text": "other"})
    world.tamper("users", BOB | {"inner": {"x": 2}})
    report = world.validate()
    assert {one.path: one.actual for one in report.differences} == {
        "text": "string (masked)",
        "inner.x": "int32 (masked)",
        "inner.y": "missing",
    }
    assert {one.pk for one in report.differences} == {"NOTE#~i7", "USER#{name}"}
    assert not any(word in report.render() for word in ("secret", "other", "bob"))


def test_document_of_mongodb_that_maps_to_no_key_is_extra(world: Judged) -> None:
    world.tamper("users", {"_id": 5, "nameless": True})
    assert told(world.validate()) == [("extra", "users", "5", "", "no document", "a document")]


def test_document_whose_key_differs_is_told_once_and_not_as_extra(world: Judged) -> None:
    world.tamper("users", BOB | {"name": "rob"})
    assert told(world.validate()) == [("different", "users", "2", "name", "string bob", "string rob")]


def test_document_that_is_alive_at_two_places_differs_at_one_of_them(world: Judged) -> None:
    other = world.migration.mapping("users").encode(BOB | {"name": "rob"}, 99)
    world.target.tables[TABLE] |= {key_of(item): item for item in other}
    report = world.validate()
    assert [(one.pk, one.path, one.actual) for one in report.differences] == [("USER#rob", "name", "string bob")]


def test_items_that_make_no_document_are_unaccounted_for(world: Judged) -> None:
    del world.target.tables[TABLE]["USER#ann", "ADDRESS#001"]
    del world.target.tables[TABLE]["USER#bob", "PROFILE"]
    world.target.tables[TABLE]["USER#bob", "ADDRESS#000"] = {
        **world.target.tables[TABLE]["USER#ann", "ADDRESS#000"],
        "PK": {"S": "USER#bob"},
        "_id": {"N": "2"},
    }
    report = world.validate()
    found = {(one.kind.value, number_of(one)): one.actual for one in report.differences}
    assert set(found) == {("unaccounted", "1"), ("unaccounted", "2")}
    assert "digest" in found["unaccounted", "1"]
    assert "no root" in found["unaccounted", "2"]


def test_items_of_no_collection_are_counted_as_foreign_and_told(world: Judged) -> None:
    world.target.tables[TABLE]["X", "Y"] = {"PK": {"S": "X"}, "SK": {"S": "Y"}, "entityType": {"S": "NEW"}}
    report = world.validate()
    assert (report.foreign, report.verdict) == (1, "DIFFERENT")
    assert [(one.collection, one.pk, one.sk) for one in report.differences] == [("(no collection)", "X", "Y")]


def test_item_that_names_no_possible_document_is_unaccounted_for(world: Judged) -> None:
    item = world.target.tables[TABLE]["NOTE#~i7", "NOTE"]
    world.target.tables[TABLE]["NOTE#~i8", "NOTE"] = {**item, "PK": {"S": "NOTE#~i8"}, "_id": {"L": []}}
    report = world.validate()
    assert [(one.kind.value, one.collection, one.path) for one in report.differences] == [
        ("unaccounted", "notes", "_id")
    ]
    assert report.collections[1].unaccounted == 1


def test_dead_letter_of_the_way_back_is_a_difference(world: Judged) -> None:
    world.sink.refuses = lambda document: document["_id"] == 9
    world.put("notes", {"_id": 9})
    report = world.validate()
    assert told(report) == [("missing", "notes", "9", "", "a document", "missing")]
    assert [letter.id for letter in world.letters()] == ["~i9"]


def test_suspects_beyond_the_limit_are_counted_and_nothing_is_called_equal(
    world: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docferry.flows.validate.suspects.MAX_SUSPECTS", 2)
    for number in range(20, 25):
        world.tamper("notes", {"_id": number})
    report = world.validate()
    assert (report.unchecked, report.collections[1].extra, report.verdict) == (3, 2, "DIFFERENT")


# --- a part of it, and what is refused -------------------------------------------------------------------------------


def test_only_some_collections_are_compared_and_the_report_is_not_the_latest(world: Judged) -> None:
    world.tamper("users", {"_id": 4, "name": "dan"})
    world.tamper("notes", {"_id": 8})
    report = world.validate("notes")
    assert [(one.collection, number_of(one)) for one in report.differences] == [("notes", "8")]
    assert [one.collection for one in report.collections] == ["notes"]
    assert latest_report(world.ledger) is None


def test_sample_says_what_it_proves(world: Judged) -> None:
    report = world.validate(sample=2)
    assert report.ok
    assert report.confidence.startswith("0 of 3 sampled documents differ"), report.confidence
    assert latest_report(world.ledger) is None


def test_sample_finds_what_differs_in_it_and_what_is_extra(world: Judged) -> None:
    world.tamper("users", ANN | {"mail": "x"})
    world.tamper("users", {"_id": 4, "name": "dan"})
    report = world.validate(sample=10)
    assert sorted((one.kind.value, number_of(one), one.path) for one in report.differences) == [
        ("different", "1", "mail"),
        ("extra", "4", ""),
    ]


def set_mode(world: Judged, mode: ModeState) -> None:
    world.ledger.write(*MODE, mode.to_body(), expect=world.ledger.read(*MODE))


def test_after_finalize_it_is_refused_by_name(world: Judged) -> None:
    set_mode(world, ModeState(mode=Mode.FINAL, epoch=2))
    with pytest.raises(PreflightFailed, match="mode: is FINAL: MongoDB is not kept up to date any more"):
        world.validate_alone()
    assert latest_report(world.ledger) is None


def test_report_is_not_recorded_if_the_leader_changes_meanwhile(world: Judged) -> None:
    world.tamper("notes", {"_id": 8})

    async def change() -> None:
        while world.target.requests.get("Scan", 0) == scans:  # noqa: ASYNC110 - until it has begun
            await asyncio.sleep(0.001)
        set_mode(world, ModeState(mode=Mode.DYNAMODB_ONLY, epoch=9, floor=17))

    scans = world.target.requests.get("Scan", 0)

    with pytest.raises(PreflightFailed, match="has changed meanwhile"):
        world.validate(meanwhile=change)
    assert latest_report(world.ledger) is None


def test_stop_ends_it(world: Judged) -> None:
    job = world.validation()
    job.stop.set()  # type: ignore[attr-defined]
    with pytest.raises(Stopped):
        asyncio.run(validate(job, world.target))


@pytest.mark.parametrize("mode", [Mode.DYNAMODB_ONLY, Mode.FINAL])
def test_repair_and_replay_are_refused_while_dynamodb_leads(world: Judged, mode: Mode) -> None:
    world.tamper("notes", NOTE | {"text": "older"})
    set_mode(world, ModeState(mode=mode, epoch=2))
    before = dict(world.target.tables[TABLE])
    with pytest.raises(PreflightFailed, match=f"repair: .*\n.*mode: is {mode}"):
        asyncio.run(repair(world.validation(), world.target))
    with pytest.raises(PreflightFailed, match=f"replaying dead letters: .*\n.*mode: is {mode}"):
        asyncio.run(replay_letters(world.validation(), world.target, "notes"))
    assert world.target.tables[TABLE] == before


# --- as evidence -----------------------------------------------------------------------------------------------------


def test_approval_rests_on_a_validation_made_since_the_same_database_leads(world: Judged) -> None:
    reverse = world.validate()
    assert evidence_of(world.ledger).equal == reverse.equal
    set_mode(world, ModeState(mode=Mode.DYNAMODB_READS, epoch=2, percent=100))
    with pytest.raises(PreflightFailed, match="judged MongoDB, which leads now: the mode is DYNAMODB_READS"):
        evidence_of(world.ledger)
    assert world.validate_alone().direction == "forward"
    assert evidence_of(world.ledger).direction == "forward"
    set_mode(world, ModeState(mode=Mode.DYNAMODB_ONLY, epoch=3))
    with pytest.raises(PreflightFailed, match="judged DynamoDB, which leads now: the mode is DYNAMODB_ONLY"):
        evidence_of(world.ledger)


def test_difference_in_mongodb_is_no_evidence(world: Judged) -> None:
    world.tamper("notes", {"_id": 8})
    world.validate()
    with pytest.raises(PreflightFailed, match="was not EQUAL"):
        evidence_of(world.ledger)
