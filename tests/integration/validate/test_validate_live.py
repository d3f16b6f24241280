"""Validation on real servers while the application writes to MongoDB and replication follows."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from docferry.errors import LeaseHeld, Stopped
from docferry.flows.ledger.rooms.validation import VALIDATION
from docferry.flows.validate import first_pass as checking
from docferry.flows.validate import progress as validation_progress
from docferry.flows.validate import recheck as generations
from docferry.flows.validate.first_pass import latest_report
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import change_job
from support.backfill.rig import Rig, unguarded_shop_rig
from support.pace import Pace
from support.place import TESTS
from support.validate.live import Application, Replication, eventually_true, with_images
from support.validate.planting import MAKERS, Item, job_of, repair, validate

pytestmark = pytest.mark.xdist_group("validate_live")
DRIVER = TESTS / "support" / "validate" / "driver.py"
EACH = 60


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A small shop, loaded, whose changes can be followed."""
    monkeypatch.setattr(checking, "SETTLE_S", 0.2)
    monkeypatch.setattr(generations, "POLL_S", 0.05)
    made = unguarded_shop_rig(stack.env(), tmp_path, f"live_{ObjectId()}")
    made.migration = dataclasses.replace(
        made.migration, validate=dataclasses.replace(made.migration.validate, settle_s=2.0)
    )
    with_images(made)
    for name in MAKERS:
        made.database[name].insert_many([MAKERS[name](f"{name}{number}") for number in range(EACH)])
    made.load()
    yield made
    made.mongo.drop_database(made.migration.source.database)
    made.close()


def order_and_root(rig: Rig) -> tuple[dict[str, Any], Item]:
    order = rig.database["orders"].find_one({})
    assert order is not None
    return order, rig.scan()[(f"ORDER#{order['_id']}", "METADATA")]


def test_a_hundred_writes_a_second_and_nothing_is_found_that_is_not_there(rig: Rig) -> None:
    late_s = 1.5  # counted from the second of the write: never less than half a second behind it
    with Replication(rig, late_s=late_s) as replication, Application(rig) as application:
        eventually_true(lambda: application.writes > 100)
        began, before = time.monotonic(), application.writes
        with Pace() as pace:
            reports = [validate(rig) for _ in range(4)]
        rate = (application.writes - before) / (time.monotonic() - began)
    assert [report.render() for report in reports if not report.ok] == []
    assert rate * pace.slower > 50, rate
    assert replication.applied > 100
    assert all(report.rechecked > 0 and report.generations > 1 for report in reports), "something was on its way"


def test_planted_difference_is_found_with_path_and_age_while_writes_go_on_and_repair_mends_it(rig: Rig) -> None:
    order, item = order_and_root(rig)
    with Replication(rig, late_s=0.2), Application(rig, spared=frozenset({order["_id"]})) as application:
        rig.dynamodb.put_item(TableName=rig.table, Item={**item, "currency": {"S": "XXX"}})
        report = validate(rig)
        assert [(one.path, one.expected, one.actual) for one in report.differences] == [
            ("currency", "string EUR", "string XXX")
        ], report.render()
        (found,) = report.differences
        assert (found.id, found.pk) == (str(order["_id"]), f"ORDER#{order['_id']}")
        assert 2.0 <= found.age_s == report.largest_age_s < 30
        assert (report.verdict, report.equal_up_to) == ("DIFFERENT", None)
        done = repair(rig)
        assert (done.documents, done.written, done.complete) == (1, 1, True)
        after = validate(rig)
        assert after.ok, after.render()
        assert application.writes > 100


def test_equal_up_to_is_a_time_between_start_and_end_and_all_older_changes_are_there(rig: Rig) -> None:
    with Replication(rig, late_s=0.3), Application(rig) as application:
        eventually_true(lambda: application.writes > 50)
        before = job_of(rig).source.cluster_time()
        report = validate(rig)
        after = job_of(rig).source.cluster_time()
    assert report.ok, report.render()
    assert report.equal_up_to is not None
    assert before <= report.equal_up_to < after
    latest = latest_report(rig.ledger)
    assert latest is not None
    assert latest.equal_up_to == report.equal_up_to


def test_replication_that_stands_still_is_told_and_its_changes_are_no_mismatch(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Replication(rig) as replication, Application(rig) as application:
        eventually_true(lambda: replication.applied > 20)
        replication.paused.set()
        begun = application.writes
        eventually_true(lambda: application.writes > begun + 50)
        with monkeypatch.context() as impatient:
            impatient.setattr(generations, "STILL_S", 1.0)
            report = validate(rig)
        assert (report.ok, report.verdict, report.equal_up_to) == (False, "UNDECIDED", None)
        assert report.pending > 10
        assert "stands still" in report.why_pending
        assert not any(one.mismatches for one in report.collections), report.render()
        replication.paused.clear()
        report = validate(rig)
    assert report.ok, report.render()


# --- processes -------------------------------------------------------------------------------------------------------


class Process:
    """The driver, as far as it has said."""

    def __init__(self, rig: Rig, name: str) -> None:
        words = [sys.executable, str(DRIVER), str(rig.file), name]
        self.process = subprocess.Popen(words, env={**os.environ, **rig.env}, stdout=subprocess.PIPE, text=True)

    def until(self, start: str, at_least: int = 0) -> int:
        """The number in the first line that begins so and is large enough."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start) and int(line.rpartition(":")[2]) >= at_least:
                return int(line.rpartition(":")[2])
        raise AssertionError(f"it ended before {start}")

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.communicate(timeout=20)


@pytest.fixture
def driver(rig: Rig) -> Iterator[Process]:
    for name in ("products", "orders"):
        rig.database[name].insert_many([MAKERS[name](f"more{number}") for number in range(400)])
    rig.ledger.delete(next(one for one in rig.ledger.list("backfill", "orders")))
    rig.ledger.delete(next(one for one in rig.ledger.list("backfill", "products")))
    for name in ("orders", "products"):
        for record in rig.ledger.list(f"chunks:{name}"):
            rig.ledger.delete(record)
    rig.load()
    made = Process(rig, "the first one")
    yield made
    made.process.kill()
    made.process.communicate(timeout=20)


def test_killed_validation_goes_on_from_its_last_checkpoint(rig: Rig, driver: Process) -> None:
    order, item = order_and_root(rig)
    rig.dynamodb.put_item(TableName=rig.table, Item={**item, "currency": {"S": "XXX"}})
    driver.until("validate products", 50)
    driver.end()
    record = rig.ledger.read(*VALIDATION)
    assert record is not None
    so_far = validation_progress.decode_so_far(record.body["so_far"])
    behind = sum(one.documents for one in so_far.results.values())
    assert EACH + 460 + 30 <= behind < 2 * EACH + 2 * 460, "it was killed in the midst of it"
    read: list[int] = []

    class Counting:
        def __init__(self, source: Any) -> None:
            self.source = source

        def __getattr__(self, name: str) -> Any:
            return getattr(self.source, name)

        def read_page(self, *args: Any) -> Any:
            page = self.source.read_page(*args)
            read.append(len(page))
            return page

    job = job_of(rig)
    report = validate(rig, job=change_job(job, source=Counting(job.source)))
    assert sum(read) == 2 * EACH + 2 * 460 - behind
    assert [one.documents for one in report.collections] == [EACH, 460, 460, EACH]
    assert [(one.path, one.id) for one in report.differences] == [("currency", str(order["_id"]))], (
        "found before the kill"
    )
    assert report.at_ms == so_far.started_ms
    read.clear()
    rig.dynamodb.put_item(TableName=rig.table, Item=item)
    assert validate(rig, job=change_job(job, source=Counting(job.source))).ok
    assert sum(read) == 2 * EACH + 2 * 460, "and the next one begins anew"


def test_second_one_says_who_holds_the_first(rig: Rig, driver: Process) -> None:
    driver.until("validate orders", 20)
    driver.process.send_signal(signal.SIGSTOP)
    with pytest.raises(LeaseHeld, match="the first one"):
        validate(rig)
    assert validate(rig, "users").ok, "one of some collections is another kind"
    driver.process.send_signal(signal.SIGCONT)
    out, _ = driver.process.communicate(timeout=60)
    assert json.loads(out.splitlines()[-1])["ok"]
    assert validate(rig).ok


# --- stopping --------------------------------------------------------------------------------------------------------


def test_stop_ends_within_five_seconds_though_dynamodb_does_not_answer(rig: Rig, stack: SandboxStack) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        job = job_of(rig)
        stop = threading.Event()
        env = {**rig.env, "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{deaf.getsockname()[1]}"}
        unheard = dataclasses.replace(rig, env=env)
        refused: list[bool] = []

        def run() -> None:
            with pytest.raises(Stopped):
                validate(unheard, "orders", job=change_job(job, stop=stop))
            refused.append(True)

        thread = threading.Thread(target=run)
        thread.start()
        deaf.settimeout(20)
        heard, _ = deaf.accept()
        with Pace() as pace:
            stop.set()
            thread.join(timeout=60)
        heard.close()
    assert not thread.is_alive()
    assert refused == [True]
    assert pace.seconds < 5
