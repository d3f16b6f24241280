"""What a report says and what it keeps to itself: masked paths, stops, many differences."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import Any

import pytest
from docferry.errors import Stopped
from docferry.flows.validate.first_pass import latest_report
from docferry.testing.jobs import change_job
from support.backfill.rig import Rig
from support.validate.loaded_shop import hosts, rig, table
from support.validate.planting import (
    SECRET,
    Item,
    at_once,
    item_of,
    job_of,
    keys,
    ledger_dump,
    masking,
    plant_named,
    validate,
)

__all__ = ["at_once", "hosts", "rig", "table"]

pytestmark = [pytest.mark.xdist_group("validate"), pytest.mark.usefixtures("at_once")]


# --- masks -----------------------------------------------------------------------------------------------------------


def test_masked_paths_stay_out_of_report_and_ledger(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item]
) -> None:
    """A mask covers the field, what is below it, what it is a part of, and every key that is made of it."""
    host = hosts["missing root"]
    item = item_of(table, plant_named("missing root"), host)
    masked = masking(rig, "username", "email", "profile.location.city", "addresses.street")
    address = item_of(table, plant_named("tombstone of a child"), hosts["tombstone of a child"])
    changed = {
        **item,
        "username": {"S": "mallory-name"},
        "email": {"S": "mallory-mail"},
        "GSI1PK": {"S": "EMAIL#mallory-mail"},
        "GSI2PK": {"S": "CITY#mallory-town"},
        "profile": {"S": "mallory-town"},
    }
    extra = {**item, "PK": {"S": "USER#mallory-extra"}}
    stranger = {"PK": {"S": "USER#mallory-stranger"}, "SK": {"S": "PROFILE"}}
    for one in (changed, extra, stranger, {**address, "street": {"S": "mallory-street"}}):
        rig.dynamodb.put_item(TableName=rig.table, Item=one)
    try:
        report = validate(masked)
    finally:
        for one in (extra, stranger):
            rig.dynamodb.delete_item(TableName=rig.table, Key=keys(one))
        for one in (item, address):
            rig.dynamodb.put_item(TableName=rig.table, Item=one)
    found = {one.path for one in report.differences}
    assert {"username", "email", "GSI1PK", "GSI2PK", "profile", "addresses.0.street"} <= found
    assert [one.kind.value for one in report.differences].count("extra") == 2
    recorded = latest_report(rig.ledger)
    assert recorded is not None
    assert len(recorded.shown["differences"]) == len(report.differences)
    everything = [report.render(), repr(report), json.dumps(report.to_dict()), json.dumps(recorded.to_dict())]
    secrets = ("mallory", host["username"], host["email"], "London", "1 First St")
    leaked = [(secret, text) for text in everything for secret in secrets if secret in text]
    assert not leaked
    assert all("(masked)" in one.actual for one in report.differences if one.path in ("username", "GSI1PK", "profile"))


def test_masked_id_is_masked_wherever_it_shows(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item]
) -> None:
    host = hosts["removed attribute"]
    item = item_of(table, plant_named("removed attribute"), host)
    rig.dynamodb.put_item(TableName=rig.table, Item={**item, "productId": {"S": "x"}, "stock": {"N": "1"}})
    try:
        report = validate(masking(rig, "_id"))
    finally:
        rig.dynamodb.put_item(TableName=rig.table, Item=item)
    assert {one.path for one in report.differences} == {"_id", "stock"}
    assert str(host["_id"]) not in report.render() + json.dumps(report.to_dict())


def test_repr_and_progress_carry_no_document(
    rig: Rig, hosts: dict[str, dict[str, Any]], table: dict[Any, Item]
) -> None:
    class Talking:
        said: list[str] = []

        def say(self, text: str) -> None:
            self.said.append(text)

        def advance(self, *args: Any) -> None:
            self.said.append(repr(args))

    item = item_of(table, plant_named("removed attribute"), hosts["removed attribute"])
    rig.dynamodb.put_item(TableName=rig.table, Item={**item, "stock": {"N": "1"}})
    try:
        job = job_of(rig, progress=Talking())
        report = validate(rig, job=job)
    finally:
        rig.dynamodb.put_item(TableName=rig.table, Item=item)
    assert not report.ok
    assert Talking.said
    assert SECRET not in repr(report) + repr(job) + "".join(Talking.said) + json.dumps(report.to_dict())


# --- edges -----------------------------------------------------------------------------------------------------------


def test_stop_ends_it_without_a_report(rig: Rig, hosts: dict[str, Any]) -> None:
    before = ledger_dump(rig)
    stop = threading.Event()
    stop.set()
    job = change_job(job_of(rig), stop=stop)
    with pytest.raises(Stopped):
        validate(rig, job=job)
    assert ledger_dump(rig) == before


def test_validation_changes_no_item(rig: Rig, table: dict[Any, Item]) -> None:
    validate(rig)
    assert rig.scan() == table


def test_report_with_more_differences_than_a_ledger_record_holds_is_still_recorded(
    rig: Rig, hosts: dict[str, Any]
) -> None:
    many = 4_000
    items = [{"PK": {"S": f"STRANGER#{n}" + "x" * 100}, "SK": {"S": "s"}} for n in range(many)]
    requests = [{"PutRequest": {"Item": item}} for item in items]
    for start in range(0, many, 25):
        rig.dynamodb.batch_write_item(RequestItems={rig.table: requests[start : start + 25]})
    settings = dataclasses.replace(rig.migration.validate, first_differences=100_000)
    wide = dataclasses.replace(rig, migration=dataclasses.replace(rig.migration, validate=settings))
    try:
        report = validate(wide)
    finally:
        for start in range(0, many, 25):
            deletes = [{"DeleteRequest": {"Key": item}} for item in items[start : start + 25]]
            rig.dynamodb.batch_write_item(RequestItems={rig.table: deletes})
    assert report.foreign == many
    assert len(report.differences) == many
    recorded = latest_report(rig.ledger)
    assert recorded is not None
    assert recorded.shown["foreign"] == many
    assert 100 < len(recorded.shown["differences"]) < many
