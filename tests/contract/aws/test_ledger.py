"""What every ledger promises: no change is overwritten unseen."""

from __future__ import annotations

import threading
from typing import Any

import boto3
import pytest
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.core.cutover.instances import EXPIRES
from docferry.errors import ConditionFailed, RequestRefused, TimedOut, UnsupportedType
from docferry.ports.flows import Ledger, Record
from docferry.testing.fakes import FakeLedger
from support.tables import make_ledgers

BODY: dict[str, Any] = {
    "text": "ä", "empty": "", "count": 7, "big": 2**62, "negative": -1, "data": b"\0\xff", "flag": True, "off": False,
    "none": None,
    "list": ["a", 1, b"x", []], "map": {"a": {"b": 1}},
}  # fmt: skip


def test_record_is_read_as_it_was_written(ledger: Ledger) -> None:
    written = ledger.write("chunks", "users#1", BODY, expect=None)
    assert (written.section, written.key, written.body) == ("chunks", "users#1", BODY)
    assert ledger.read("chunks", "users#1") == written
    assert type(written.body["count"]) is int


def test_record_that_is_not_there_is_none(ledger: Ledger) -> None:
    assert ledger.read("chunks", "nothing") is None
    assert ledger.list("chunks") == []


def test_record_is_created_once(ledger: Ledger) -> None:
    ledger.write("s", "k", {"n": 1}, expect=None)
    with pytest.raises(ConditionFailed):
        ledger.write("s", "k", {"n": 2}, expect=None)
    found = ledger.read("s", "k")
    assert found is not None
    assert found.body == {"n": 1}


def test_change_on_top_of_what_was_read_is_taken_and_a_late_one_refused(ledger: Ledger) -> None:
    first = ledger.write("s", "k", {"n": 1}, expect=None)
    second = ledger.write("s", "k", {"n": 2}, expect=first)
    with pytest.raises(ConditionFailed):
        ledger.write("s", "k", {"n": 3}, expect=first)
    assert ledger.read("s", "k") == second
    third = ledger.write("s", "k", {"n": 4}, expect=second)
    assert third.revision > second.revision > first.revision


def test_write_that_depends_on_another_record_is_refused_once_that_has_changed(ledger: Ledger) -> None:
    mode = ledger.write("mode", "all", {"epoch": 1}, expect=None)
    first = ledger.write("instances", "a", {"epoch": 1}, expect=None, unchanged=[mode])
    assert ledger.read("instances", "a") == first
    ledger.write("mode", "all", {"epoch": 2}, expect=mode)
    with pytest.raises(ConditionFailed):
        ledger.write("instances", "b", {"epoch": 1}, expect=None, unchanged=[mode])
    with pytest.raises(ConditionFailed):
        ledger.write("instances", "a", {"epoch": 9}, expect=first, unchanged=[mode])
    assert ledger.read("instances", "b") is None
    assert ledger.read("instances", "a") == first


def test_record_that_is_gone_cannot_be_changed(ledger: Ledger) -> None:
    record = ledger.write("s", "k", {"n": 1}, expect=None)
    ledger.delete(record)
    assert ledger.read("s", "k") is None
    with pytest.raises(ConditionFailed):
        ledger.write("s", "k", {"n": 2}, expect=record)
    with pytest.raises(ConditionFailed):
        ledger.delete(record)


def test_record_that_has_changed_is_not_deleted(ledger: Ledger) -> None:
    record = ledger.write("s", "k", {"n": 1}, expect=None)
    changed = ledger.write("s", "k", {"n": 2}, expect=record)
    with pytest.raises(ConditionFailed):
        ledger.delete(record)
    assert ledger.read("s", "k") == changed


def test_record_made_again_is_not_the_one_that_was_read(ledger: Ledger) -> None:
    """Else a process that closes a dead letter late closes the next one, which has not been looked at."""
    old = ledger.write("s", "k", {"n": 1}, expect=None)
    ledger.delete(old)
    ledger.write("s", "k", {"n": 2}, expect=None)
    with pytest.raises(ConditionFailed):
        ledger.delete(old)


def test_list_gives_the_records_of_a_prefix_in_key_order(ledger: Ledger) -> None:
    keys = ["b#2", "a#1", "b#10", "ä#1", "b", "~x", "B#1"]
    for key in keys:
        ledger.write("s", key, {"key": key}, expect=None)
    ledger.write("s2", "b#3", {}, expect=None)
    assert [record.key for record in ledger.list("s")] == sorted(keys, key=str.encode)
    assert [record.key for record in ledger.list("s", "b#")] == ["b#10", "b#2"]
    assert all(record == ledger.read("s", record.key) for record in ledger.list("s"))


def test_list_is_complete_past_a_page_of_a_megabyte(ledger: Ledger) -> None:
    for number in range(6):
        ledger.write("s", f"k{number}", {"data": bytes(300_000)}, expect=None)
    assert [record.key for record in ledger.list("s", "k")] == [f"k{number}" for number in range(6)]


def test_migrations_do_not_see_each_other(session: boto3.Session | None) -> None:
    one, other = make_ledgers(session)
    one.write("s", "k", {"n": 1}, expect=None)
    assert other.read("s", "k") is None
    assert other.list("s") == []
    other.write("s", "k", {"n": 2}, expect=None)


def test_what_is_of_a_table_all_migrations_see_and_may_change_once(session: boto3.Session | None) -> None:
    one, other = make_ledgers(session)
    mine, theirs = one.of_table("Shop"), other.of_table("Shop")
    first = mine.write("owners", "all", {"n": 1}, expect=None)
    assert theirs.read("owners", "all") == first
    assert theirs.list("owners") == [first]
    assert (one.read("owners", "all"), one.of_table("Other").read("owners", "all")) == (None, None)
    theirs.write("owners", "all", {"n": 2}, expect=first)
    with pytest.raises(ConditionFailed):
        mine.write("owners", "all", {"n": 3}, expect=first)


def test_float_is_refused_because_it_would_not_come_back(ledger: Ledger) -> None:
    with pytest.raises(UnsupportedType):
        ledger.write("s", "k", {"n": 0.1}, expect=None)


def test_body_given_is_not_the_body_kept(ledger: Ledger) -> None:
    body: dict[str, Any] = {"list": [1]}
    ledger.write("s", "k", body, expect=None)
    body["list"].append(2)
    found = ledger.read("s", "k")
    assert found is not None
    assert found.body == {"list": [1]}


def test_of_many_who_change_one_record_each_sees_the_others(ledger: Ledger) -> None:
    ledger.write("s", "counter", {"n": 0}, expect=None)

    def add() -> None:
        for _ in range(5):
            while True:
                record = ledger.read("s", "counter")
                assert record is not None
                try:
                    ledger.write("s", "counter", {"n": record.body["n"] + 1}, expect=record)
                    break
                except ConditionFailed:
                    continue

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = ledger.read("s", "counter")
    assert record is not None
    assert record.body == {"n": 20}


def test_record_that_says_when_it_expires_has_that_as_the_tables_ttl(session: boto3.Session | None) -> None:
    if session is None:
        return  # the fake has no TTL
    ledger, _ = make_ledgers(session)
    assert isinstance(ledger, DynamoLedger)
    ledger.write("instances", "a", {"n": 1}, expect=None)
    ledger.write("instances", "b", {"n": 1, EXPIRES: 1_800_000_000}, expect=None)
    items = session.client("dynamodb").scan(TableName=ledger._table)["Items"]
    assert {one["SK"]["S"]: one.get("_ttl") for one in items} == {"a": None, "b": {"N": "1800000000"}}
    found = ledger.read("instances", "b")
    assert found is not None
    assert found.body == {"n": 1, EXPIRES: 1_800_000_000}


# --- the fake alone --------------------------------------------------------------------------------------------------


def test_fake_can_fail_before_and_after_it_has_written() -> None:
    ledger = FakeLedger()
    ledger.faults.fail_next(TimedOut("no answer"))
    with pytest.raises(TimedOut):
        ledger.write("s", "k", {}, expect=None)
    assert ledger.read("s", "k") is None
    ledger.faults.lose_next_answers(TimedOut("no answer"))
    with pytest.raises(TimedOut):
        ledger.write("s", "k", {}, expect=None)
    assert ledger.read("s", "k") is not None


def test_new_records_beside_a_change_are_made_with_it_or_not_at_all(ledger: Ledger) -> None:
    first = ledger.write("mode", "mode", {"n": 1}, expect=None)
    second = ledger.write("mode", "mode", {"n": 2}, expect=first, beside=[Record("moves", "1", 0, {"why": "a"})])
    found = ledger.read("moves", "1")
    assert found is not None
    assert found.body == {"why": "a"}
    with pytest.raises(ConditionFailed):
        ledger.write("mode", "mode", {"n": 3}, expect=first, beside=[Record("moves", "2", 0, {"why": "b"})])
    assert ledger.read("moves", "2") is None
    with pytest.raises(ConditionFailed):
        ledger.write("mode", "mode", {"n": 3}, expect=second, beside=[Record("moves", "1", 0, {"why": "c"})])
    assert ledger.read("mode", "mode") == second


def test_a_record_larger_than_an_item_is_refused_and_changes_nothing(ledger: Ledger) -> None:
    first = ledger.write("s", "k", {"n": 1}, expect=None)
    with pytest.raises(RequestRefused):
        ledger.write("s", "k", {"data": b"x" * 410_000}, expect=first)
    assert ledger.read("s", "k") == first
