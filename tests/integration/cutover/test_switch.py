"""Changing who leads, under an application that writes without a pause: nothing is lost, and what fails goes back."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from docferry import wiring
from docferry.client.ticket import Writing
from docferry.client.transport.sync_driver import run
from docferry.core.cutover.instances import INSTANCES
from docferry.core.cutover.modes import Mode
from docferry.errors import HoldFailed, MigrationError, MoveRefused, PreflightFailed
from docferry.flows.cutover.return_evidence import WITHOUT_VALIDATION
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.reigns import read_reigns
from pymongo.errors import DuplicateKeyError
from support.backfill.rig import Rig, eventually
from support.client.rig import MODES, set_mode
from support.client.traffic import Traffic, in_dynamodb, in_mongodb
from support.cutover.switching import (
    READS,
    approved,
    as_before,
    gone_like,
    job_of,
    more,
    newest_version,
    own_stack,
    quick,
    ready,
    reversing,
    rig,
    switch,
    switch_back,
)
from support.replicate.rig import Following
from support.validate.planting import require_equal

__all__ = ["own_stack", "rig"]
pytestmark = pytest.mark.cutover


def test_way_there_and_back_under_traffic_loses_nothing(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager, Traffic(manager) as traffic:
        with Following(rig):
            set_mode(rig, MODES["DYNAMODB_READS 100"])
            more(traffic)
            require_equal(rig)
        approved(rig)
        switch(rig)
        more(traffic, 200)
        with pytest.raises(PreflightFailed, match="the last one judged MongoDB, which leads now"):
            switch_back(rig, waived=())
        with reversing(rig):
            require_equal(rig)
        back = switch_back(rig, waived=())
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
        assert recorded_fence(rig.ledger)[0] is Recorded.DOWN
        reigns, last = read_reigns(rig.ledger), newest_version(rig)
        assert last in reigns
        more(traffic)
        with Following(rig):
            more(traffic)
            eventually(lambda: newest_version(rig) > last, "a version that MongoDB gave")
    assert newest_version(rig) not in reigns
    assert traffic.errors == []
    assert in_mongodb(rig.database) == traffic.acknowledged()
    assert back.held_s < 3
    with Following(rig):
        require_equal(rig)
    assert in_dynamodb(rig.dynamodb, rig.table) == traffic.acknowledged()


def test_stop_that_is_asked_for_while_writes_wait_goes_back_at_once(rig: Rig) -> None:
    stop, asked = threading.Event(), []

    def ask() -> None:
        eventually(lambda: read_mode(rig.ledger).mode is Mode.HOLD, "the hold", every_s=0.01)
        asked.append(time.monotonic())
        stop.set()

    with wiring.connect(rig.file) as manager, Traffic(manager) as traffic:
        with Following(rig):
            set_mode(rig, READS)
            more(traffic)
            require_equal(rig)
        approved(rig)
        asking = threading.Thread(target=ask)
        asking.start()
        with pytest.raises(MigrationError):
            switch(rig, job_of(rig, stop))
        asking.join()
        assert time.monotonic() - asked[0] < 5
        assert replace(read_mode(rig.ledger), epoch=0) == replace(READS, epoch=0)
        assert recorded_fence(rig.ledger)[0] is Recorded.DOWN
        more(traffic)
    assert traffic.errors == []


def test_dynamodb_leads_and_no_acknowledged_write_is_lost(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager, Traffic(manager) as traffic:
        with Following(rig):
            set_mode(rig, MODES["DYNAMODB_READS 100"])
            eventually(lambda: traffic.writes > 100, "some writes")
            require_equal(rig)
        approved(rig)
        report = switch(rig)
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        before = traffic.writes
        eventually(lambda: traffic.writes > before + 100, "writes to DynamoDB alone")
        at_switch = in_mongodb(rig.database)
    assert traffic.errors == []
    found = in_dynamodb(rig.dynamodb, rig.table)
    others = {name for name in found if not name.startswith("w")}
    assert {name: visits for name, visits in found.items() if name not in others} == traffic.acknowledged()
    assert recorded_fence(rig.ledger)[0] is Recorded.UP
    assert in_mongodb(rig.database) == at_switch
    assert report.held_s < 3
    assert report.instances == 1


# --- what goes back --------------------------------------------------------------------------------------------------


def test_instance_that_does_not_acknowledge_is_named_and_everything_goes_back(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager:
        ready(rig)
        held = manager._parts.membership
        begun = run(held.begin(manager._parts.calls))  # a write that is in flight and does not end
        with (
            Writing(begun, held.ended),
            pytest.raises(HoldFailed, match=r"1 instance\(s\) have not acknowledged.*as it was"),
        ):
            switch(rig, quick(rig))
        as_before(rig, manager)


def test_vanished_instance_is_out_waited_or_waived_by_name(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager:
        ready(rig)
        switch(rig)
        gone = gone_like(rig, manager)
        rig.ledger.write(INSTANCES, "gone", replace(gone, lanes=0, at=()).to_body(), expect=None)
        with pytest.raises(PreflightFailed, match=r"disappeared without ending.*--waive gone"):
            switch_back(rig)
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        report = switch_back(rig, waived=("gone", WITHOUT_VALIDATION))
        assert report.after == "MONGO_ONLY"


def test_way_back_without_journals_says_that_it_is_not_proved(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager, Traffic(manager) as traffic:
        ready(rig)
        more(traffic)
        off = replace(rig.migration, cutover=replace(rig.migration.cutover, journal=False))
        switch(rig, replace(job_of(rig), migration=off))
        more(traffic)
        report = switch_back(rig)
        more(traffic)
    assert (report.evidence[:10], traffic.errors) == ("not proved", [])
    assert in_mongodb(rig.database) == traffic.acknowledged()


def test_unique_index_that_the_file_does_not_name_keeps_dynamodb_from_leading_unless_it_is_waived(rig: Rig) -> None:
    with wiring.connect(rig.file) as manager:
        some = {"phone": {"$gt": ""}}
        rig.database["users"].create_index("phone", unique=True, partialFilterExpression=some)
        ready(rig)
        refusal = r"users\.phone: is unique in MongoDB.*waived_unique: \[users\.phone\]"
        with pytest.raises(PreflightFailed, match=refusal):
            switch(rig, quick(rig))
        assert read_mode(rig.ledger) == READS
        assert switch(rig, quick(rig, hold_s=10.0, waived_unique=("users.phone",))).after == "DYNAMODB_ONLY"
        for name in ("one", "other"):
            manager["users"].insert_one({"username": name, "email": f"{name}@x", "phone": "1"})
        with pytest.raises(DuplicateKeyError):
            manager["users"].insert_one({"username": "third", "email": "one@x"})


def test_switch_is_refused_before_anything_is_touched(rig: Rig) -> None:
    with pytest.raises(MoveRefused, match="MONGO_ONLY cannot be held"):
        switch(rig)
    set_mode(rig, replace(READS, percent=50))
    with pytest.raises(MoveRefused, match="only 50 % of the reads"):
        switch(rig)
    set_mode(rig, READS)
    with pytest.raises(PreflightFailed, match="full validation: none has been recorded"):
        switch(rig)
    with Following(rig):
        require_equal(rig)
    with pytest.raises(PreflightFailed, match="application: is unknown: no instance is registered"):
        switch(rig)
    with wiring.connect(rig.file), pytest.raises(PreflightFailed, match="stop_mongo_writes: has no approval"):
        switch(rig)
    assert read_mode(rig.ledger) == READS
