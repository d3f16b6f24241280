"""While a majority of data-bearing members is missing docferry waits, says why once, reminds, and says when it is over."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from docferry.errors import RetryExhausted, Stopped, TimedOut, Unavailable
from docferry.flows.kernel.retry import retrying
from docferry.flows.preflight import majority
from docferry.flows.preflight.majority import MajorityWatch, wait_for_majority
from docferry.ports.flows import MemberFacts, ServerFacts
from docferry.testing.fakes import FakeSource

MEMBERS = (
    MemberFacts(name="a:1", state="PRIMARY", follows=True),
    MemberFacts(name="b:2", state="SECONDARY", follows=True),
    MemberFacts(name="c:3", state="(not reachable/healthy)", follows=False),
    MemberFacts(name="d:4", state="ARBITER", follows=False),
)
WHOLE = ServerFacts(version=(6, 0, 5), replica_set="rs0", mongos=False, write_majority_ok=True, write_majority=3)
LACKING = replace(WHOLE, write_majority_ok=False, members=MEMBERS)


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(majority, "LOOK_S", 0.0)


def test_it_is_said_once_why_and_once_that_it_is_over() -> None:
    source, said = FakeSource(), Said()
    watch = MajorityWatch(source, said, "the load")
    assert watch.look() == ""
    source.facts = LACKING
    for _ in range(3):
        assert "too few data-bearing members" in watch.look()
    source.facts = WHOLE
    assert watch.look() == watch.look() == ""
    waits, goes_on = said.lines
    assert waits.startswith(
        "the load waits: MongoDB has too few data-bearing members up, 2 of the 3 that make a majority"
    )
    assert "(a:1 PRIMARY, b:2 SECONDARY, c:3 (not reachable/healthy), d:4 ARBITER)" in waits
    assert goes_on == "the load goes on: MongoDB has a majority of data-bearing members again"


def test_it_reminds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(majority, "REMIND_S", 0.0)
    source, said = FakeSource(), Said()
    source.facts = LACKING
    watch = MajorityWatch(source, said, "the load")
    for _ in range(3):
        watch.look()
    assert len(said.lines) == 3


def test_while_nobody_can_be_asked_what_is_known_stays() -> None:
    source, said = FakeSource(), Said()
    watch = MajorityWatch(source, said, "the load")
    source.facts = LACKING
    known = watch.look()
    source.faults.fail_next(Unavailable("no primary"))
    assert watch.look() == known
    assert len(said.lines) == 1


def test_wait_ends_when_the_member_is_back() -> None:
    source, said = FakeSource(), Said()
    source.facts = LACKING
    timer = threading.Timer(0.3, lambda: setattr(source, "facts", WHOLE))
    timer.start()
    wait_for_majority(source, said, threading.Event(), "the load")
    assert [line.split()[2] for line in said.lines] == ["waits:", "goes"]


def test_wait_ends_after_its_time_and_when_asked_to_stop() -> None:
    source, stop = FakeSource(), threading.Event()
    source.facts = LACKING
    wait_for_majority(source, Said(), stop, "the load", 0.1)
    stop.set()
    with pytest.raises(Stopped):
        wait_for_majority(source, Said(), stop, "the load")


def test_time_without_a_majority_does_not_count_as_trying() -> None:
    reasons = iter(["no majority"] * 3 + [""] * 100)

    def call() -> str:
        raise TimedOut("the snapshot is not there yet")

    with pytest.raises(RetryExhausted) as caught:
        retrying("read", call, threading.Event(), for_s=0.0, must_wait=lambda: next(reasons))
    assert caught.value.attempts == 4
