"""MongoDB follows DynamoDB on real servers, and both are equal at the end by a comparison that shares no code with docferry."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from docferry.errors import NotApplied, PreflightFailed
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.reverse_letters import list_reverse_letters
from docferry.flows.reverse.follower import record_stream_start, reverse
from docferry.flows.reverse.proof import wait_until_applied
from docferry.flows.reverse.report import ReverseReport
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.processes import Victim
from support.replicate.rig import assert_equal, end, live_shop, verdict
from support.reverse.application import Application, begin_here, job_of, switch_stream_on
from support.reverse.rig import dynamodb_leads
from support.validate.planting import with_target


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = live_shop(stack.env(), tmp_path)
    yield made
    end(made)


@pytest.fixture
def job(rig: Rig) -> Iterator[Job]:
    made = job_of(rig, begin_here(rig), threading.Event())
    yield made
    made.sink.close()  # type: ignore[attr-defined]


def follow(rig: Rig, job: Job) -> ReverseReport:
    report: ReverseReport = with_target(rig, lambda target: reverse(job, target, until_caught_up=True))
    return report


def test_everything_written_to_dynamodb_reaches_mongodb_exactly(rig: Rig, job: Job) -> None:
    application = Application(rig, 1)
    for _ in range(60):
        application.step()
    assert verdict(rig).counts != (0, 0, 0)
    with pytest.raises(NotApplied):
        with_target(rig, lambda target: wait_until_applied(job, target, application.writes[-20:], 0.2))
    report = follow(rig, job)
    assert (report.dead, report.ignored, report.lag_s) == (0, application.guards, 0.0)
    assert report.records >= len(application.writes)
    with_target(rig, lambda target: wait_until_applied(job, target, application.writes, 10.0))
    found = assert_equal(rig)
    assert found.documents == len(application.live)
    assert follow(rig, job).records == 0


def test_followed_while_it_is_written_and_goes_on_behind_what_is_applied(rig: Rig, job: Job) -> None:
    application = Application(rig, 2)
    found: list[ReverseReport] = []
    follower = threading.Thread(
        target=lambda: found.append(with_target(rig, lambda target: reverse(job, target, for_s=6.0))), daemon=True
    )
    follower.start()
    for _ in range(40):
        application.step()
    follower.join(60)
    assert found[0].records > 0
    follow(rig, job)
    with_target(rig, lambda target: wait_until_applied(job, target, application.writes, 10.0))
    assert_equal(rig)


def test_username_that_moves_to_another_user_passes_the_unique_index(rig: Rig, job: Job) -> None:
    application = Application(rig, 3)
    one, other = [document for (name, _), document in application.live.items() if name == "users"][:2]
    name = one["username"]
    application.change("users", one, one | {"username": "between"})
    application.change("users", other, other | {"username": name})
    application.change("users", one | {"username": "between"}, one | {"username": other["username"]})
    report = follow(rig, job)
    assert report.dead == 0
    assert list_reverse_letters(rig.ledger) == []
    assert rig.database["users"].find_one({"_id": other["_id"]})["username"] == name
    assert_equal(rig)


def test_table_without_a_stream_is_refused_by_name(rig: Rig) -> None:
    streams = switch_stream_on(rig)
    rig.dynamodb.update_table(TableName=rig.table, StreamSpecification={"StreamEnabled": False})
    with pytest.raises(PreflightFailed, match=rf"tables\.{rig.table}: has no stream"):
        record_stream_start(rig.ledger, streams, [rig.table])


def test_command_follows_from_where_dynamodb_began_to_lead_and_tells_what_it_did(rig: Rig, tmp_path: Path) -> None:
    switch_stream_on(rig)
    log = tmp_path / "log"
    with Victim(rig, log, "reverse", "--until-caught-up") as early:
        assert early.wait(60.0) == 3
    assert "MongoDB leads" in early.said()
    dynamodb_leads(rig.ledger)
    with Victim(rig, log, "reverse", "--until-caught-up") as without:
        assert without.wait(60.0) == 3
    assert "no start is recorded" in without.said()
    begin_here(rig)
    application = Application(rig, 5)
    for _ in range(5):
        application.step()
    with Victim(rig, log, "reverse", "--until-caught-up") as last:
        assert last.wait(60.0) == 0, last.said()
    assert re.search(r"\d+ records = \d+ applied \+ \d+ the same already \+ \d+ removed .* lag 0 s", last.said())
    assert_equal(rig)
