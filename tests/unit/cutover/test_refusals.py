"""A dry run never says yes where the run says no: for each reason there is, both are asked, and say the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from docferry.core.cutover.fence_plan import UserFacts
from docferry.core.cutover.modes import Mode
from docferry.core.cutover.mongodb_clients import Doing, Sighting
from docferry.core.mapping.raw import id_bytes
from docferry.errors import AccessDenied, ItemTooLarge
from docferry.flows.cutover import flip, phases
from docferry.flows.cutover.refusals import Asked, Phase, Reason
from docferry.flows.cutover.return_evidence import WITHOUT_VALIDATION
from docferry.flows.cutover.rollback import finalize, plan_finalize, plan_rollback, roll_back
from docferry.flows.cutover.to_dynamodb import require_ready, switch_to_dynamodb
from docferry.flows.ledger.approvals import FINALIZE, approve, evidence_of
from docferry.flows.ledger.dead_letters import open_letter
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.reports import LATEST, SECTION
from docferry.flows.ledger.reverse_letters import open_reverse_letter
from docferry.flows.ledger.rooms.fence import FENCE
from docferry.flows.ledger.rooms.owners import OWNERS
from docferry.flows.ledger.rooms.reverse_stream import REVERSE
from docferry.flows.ledger.rooms.strays import Stray, open_stray
from docferry.flows.ledger.rooms.watch import Old, Watch, begin_watch, end_watch
from docferry.flows.ledger.times import now_ms
from docferry.flows.reporting.health import Status
from docferry.testing.fakes import FakeClients
from support.cutover.refusing import ALONE, DUAL, READS, Ready, led, verdict
from support.place import ROOT

Break = Callable[[Ready], Any]
FOREIGN = Sighting(
    app="cron", driver="pymongo 4", user="admin.cron", host="h", doing=Doing.WRITE, namespace="myapp.users"
)


def report(world: Ready, **changes: Any) -> None:
    """The last validation, with another word in it."""
    record = world.ledger.read(SECTION, LATEST)
    assert record is not None
    shown = json.loads(record.body["report"]) | changes
    body = {"report": json.dumps(shown).encode(), "ok": shown["verdict"] == "EQUAL", "at": shown["at_ms"]}
    world.ledger.write(SECTION, LATEST, {**record.body, **body}, expect=record)


def different(world: Ready) -> None:
    report(world, verdict="DIFFERENT", ok=False)


def owned_by_another(world: Ready) -> None:
    claims = world.ledger.of_table("Tab")
    record = claims.read(*OWNERS)
    assert record is not None
    (mine,) = record.body["claims"]
    claims.write(*OWNERS, {"claims": [{**mine, "migration": "other"}]}, expect=record)


def user(world: Ready, **changes: Any) -> None:
    found = UserFacts(id="admin.job", bypasses=False, writes=False)
    world.mongo.found = replace(world.mongo.found, users=(*world.mongo.found.users, replace(found, **changes)))


def archived(world: Ready) -> None:
    world.estate.tables["Tab"] = replace(world.estate.tables["Tab"], status="ARCHIVED")


def denied(world: Ready) -> None:
    world.leader.faults["rehearse"].fail_always(AccessDenied("not allowed"))
    world.leader.faults["write"].fail_always(AccessDenied("not allowed"))


def letter(world: Ready) -> None:
    open_letter(world.ledger, "users", ItemTooLarge("too large", id="7"), b"", 7)


def late_lift(world: Ready) -> None:
    world.put(*FENCE, state="down", late_by="slow", late_at=now_ms())


def short_oplog(world: Ready) -> None:
    world.changed(0, x=1)
    world.source.history_from = world.source.cluster_time()


def wide(world: Ready) -> None:
    world.changed("wide", notes=[{"n": number} for number in range(120)])


def no_majority(world: Ready) -> None:
    world.source.facts = replace(world.source.facts, write_majority_ok=False)


def unapproved(world: Ready) -> None:
    for record in world.ledger.list("approvals"):
        world.ledger.delete(record)


def unloaded(world: Ready) -> None:
    world.gone("backfill", "users")


def another_mapping(world: Ready) -> None:
    world.put("backfill", "users", mapping="f1-another")


def no_application(world: Ready) -> None:
    world.gone("instances", "i1")


def watched(world: Ready) -> None:
    begin_watch(world.ledger, Watch(old=Old.DYNAMODB, begun_ms=now_ms(), least_s=900.0))


def stray(world: Ready) -> None:
    found = Stray(old=Old.MONGODB, place="a", collection="users", id="7", operation="update", at="now")
    assert open_stray(world.ledger, found)


STRAYS: dict[str, Break] = {"stray writes that are not settled": stray}
MARKER: dict[str, Break] = {"docferry's user cannot write `docferry.leader` in a transaction": denied}
UNWELL: dict[str, Break] = {
    "no majority of data-bearing members": no_majority,
    "tables that are not active": archived,
}
LOADED: dict[str, Break] = {
    "a mapping that has changed since the load": another_mapping,
    "a table that is another migration's": owned_by_another,
}
STOP: dict[str, Break] = {
    **MARKER, **UNWELL, **LOADED, **STRAYS,
    "a watch of DynamoDB, after a way back, that is not over": watched,
    "the mode is not DYNAMODB_READS with 100 %": lambda world: world.set_mode(replace(READS, percent=50)),
    "no full validation, one that is not EQUAL, or of another leader": different,
    "a report without a time up to which all is equal": lambda world: report(world, equal_up_to=None),
    "a collection that is not loaded": unloaded,
    "open dead letters": letter,
    "a load, repair or replay under way": lambda world: world.put(
        "writers", "repair", owner="other", mark="alive", until=now_ms() + 60_000
    ),
    "requests of a load that may still be carried out": lambda world: world.put(
        "backfill", "users", unanswered=3, unanswered_ms=now_ms()
    ),
    "oplog or images that no longer reach back to replication's position, or to the validation": short_oplog,
    "a table without a stream that holds both images": lambda world: setattr(world.streams, "images", False),
    "a process that replicates in reverse": lambda world: world.put(
        *REVERSE, owner="other", mark="alive", until=now_ms() + 60_000
    ),
    "a unique index that no key stands for, and that is not waived": lambda world: world.source.unique.update(
        {"users": (frozenset({"email"}),)}
    ),
    "a document with more than 99 children": wide,
    "no kind of fence would hold": lambda world: user(world, bypasses=True),
    "a transaction that has been open for longer than writes may wait": lambda world: world.mongo.begin(open_s=3600.0),
    "a lift of the fence that may be on its way": late_lift,
    "a user of the application who cannot read `docferry.leader`": lambda world: user(
        world, writes=True, reads_marker=False
    ),
    "no process of the application, or one that has not followed": no_application,
    "a program that writes to MongoDB without the client, and is not waived": lambda world: setattr(
        world, "clients", FakeClients([FOREIGN])
    ),
    "no table for the journals": lambda world: setattr(world.journal, "missing", True),
    "a process whose docferry knows no journal": lambda world: world.instance(lanes=0),
    "no approval of this evidence": unapproved,
}  # fmt: skip
DUAL_WRITE: dict[str, Break] = {
    **MARKER, **LOADED,
    "the mode is none from which DUAL_WRITE": lambda world: world.set_mode(replace(READS, mode=Mode.FINAL)),
    "a collection that is not loaded": unloaded,
    "replication that does not run": lambda world: world.replicator(at=now_ms() - 3_600_000),
}  # fmt: skip
FLIP: dict[str, Break] = {
    **MARKER, **UNWELL, **LOADED,
    "the mode is none from which DYNAMODB_READS": lambda world: world.set_mode(ALONE),
    "a collection that is not loaded": unloaded,
    "no full validation, one that is not EQUAL, or of another leader": different,
    "a validation that is over 26 hours old": lambda world: report(world, at_ms=now_ms() - 27 * 3_600_000),
    "open dead letters": letter,
    "replication that does not run": lambda world: world.replicator(lag_s=3_600),
    "a call that DynamoDB cannot answer": lambda world: world.instance(unserved={"users.find(x)": 1}),
    "too few compared reads": lambda world: world.instance(counts={"shadow.equal": 300, "shadow.mismatch": 30}),
    "no process of the application, or one that has not followed": lambda world: world.instance(epoch=2),
    "no approval of this evidence": unapproved,
}  # fmt: skip
RETURN: dict[str, Break] = {
    **MARKER, **UNWELL, **LOADED, **STRAYS,
    "the mode is not DYNAMODB_ONLY": lambda world: world.set_mode(replace(READS, mode=Mode.FINAL)),
    "a process that vanished": lambda world: world.instance(until_ms=now_ms() - 120_000, lanes=0),
    "no full validation since DynamoDB leads": lambda world: report(world, direction="forward"),
    "open dead letters of reverse replication": lambda world: open_reverse_letter(
        world.ledger, "Tab", ("USER#7", "DATA"), id_bytes(7), ItemTooLarge("too large", id="7")
    ),
    "no start of reverse replication": lambda world: world.put(*REVERSE, reached=now_ms() - 25 * 3_600_000),
    "as far as DUAL_WRITE": unloaded,
}  # fmt: skip

END: dict[str, Break] = {
    **STRAYS,
    "the mode is none from which FINAL": lambda world: world.set_mode(READS),
    "no full validation, one that is not EQUAL": different,
    "no approval of this evidence": unapproved,
    "a watch of MongoDB that is not over": lambda world: begin_watch(
        world.ledger, Watch(old=Old.MONGODB, begun_ms=now_ms(), least_s=900.0, floor=read_mode(world.ledger).floor)
    ),
    "a program that still uses MongoDB": lambda world: setattr(world, "clients", FakeClients([FOREIGN])),
}


def row(phase: Phase, words: str) -> Reason:
    """The reason that begins so."""
    (found,) = [one for one in phase.refusals if one.what.startswith(words)]
    return found


def finds(one: Reason, asked: Asked) -> bool:
    """Whether this very reason has something to say, or the mode refuses it."""
    said: list[Any] = []
    kind, _ = verdict(lambda: said.extend(one.find(asked)))
    return bool(said) or kind == "MoveRefused"


@pytest.mark.parametrize(
    ("phase", "cases"),
    [(phases.STOP, STOP), (phases.DUAL, DUAL_WRITE), (phases.FLIP, FLIP), (phases.RETURN, RETURN), (phases.END, END)],
    ids=lambda one: one.subject if isinstance(one, Phase) else "",
)
def test_every_reason_has_a_case_here(phase: Phase, cases: dict[str, Break]) -> None:
    assert sorted(row(phase, words).what for words in cases) == sorted(one.what for one in phase.refusals)


# --- to DynamoDB -----------------------------------------------------------------------------------------------------


def could_stop(world: Ready) -> tuple[str, list[str]]:
    return verdict(lambda: require_ready(world.job(), look_s=0.0))


def stop(world: Ready) -> tuple[str, list[str]]:
    return verdict(lambda: asyncio.run(switch_to_dynamodb(world.job(), world.target, look_s=0.0)))


def test_dry_run_of_stop_mongo_writes_says_yes_where_nothing_is_in_the_way() -> None:
    assert could_stop(Ready(READS)) == ("yes", [])


@pytest.mark.parametrize("words", STOP)
def test_stop_mongo_writes_is_refused_by_its_dry_run_as_by_itself(words: str) -> None:
    world = Ready(READS)
    STOP[words](world)
    before = read_mode(world.ledger)
    assert finds(row(phases.STOP, words), Asked(job=world.job(), look_s=0.0))
    said = could_stop(world)
    assert said[0] in ("PreflightFailed", "MoveRefused")
    assert stop(world) == said
    assert read_mode(world.ledger) == before


@pytest.mark.parametrize("words", [words for words in STOP if row(phases.STOP, words).standing])
def test_health_says_what_lasts_and_would_refuse_it(words: str) -> None:
    world = Ready(READS)
    assert phases.full_health(world.job()).parts["switch"].status is Status.HEALTHY
    STOP[words](world)
    assert phases.full_health(world.job()).parts["switch"].status is Status.UNHEALTHY


@pytest.mark.parametrize("words", [words for words in STOP if row(phases.STOP, words).early])
def test_check_says_long_before_what_would_refuse_it(words: str) -> None:
    world = Ready(ALONE)
    assert phases.early_problems(world.job()) == []
    STOP[words](world)
    assert phases.early_problems(world.job()) != []


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (short_oplog, "replication: is at a position to which the oplog no longer reaches back"),
        (short_oplog, "full validation: found all equal up to a time to which the oplog no longer reaches back"),
        (lambda world: setattr(world.source, "expire_s", -1.0), "replication: is at a position whose images"),
        (lambda world: world.replicator(lost=True), "replication: is at a position to which the oplog no longer"),
    ],
)
def test_each_window_that_is_too_short_is_named(breaks: Break, said: str) -> None:
    world = Ready(READS)
    breaks(world)
    assert [one for one in could_stop(world)[1] if one.startswith(said)] != []


# --- dual writes and reads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", DUAL_WRITE)
def test_dual_writes_are_refused_by_their_dry_run_as_by_themselves(words: str) -> None:
    world = Ready(ALONE)
    assert verdict(lambda: flip.plan_dual_write(world.job())) == ("yes", [])
    DUAL_WRITE[words](world)
    before = read_mode(world.ledger)
    assert finds(row(phases.DUAL, words), Asked(job=world.job(), percent=100))
    said = verdict(lambda: flip.plan_dual_write(world.job()))
    assert said[0] in ("PreflightFailed", "MoveRefused")
    assert verdict(lambda: flip.begin_dual_write(world.job())) == said
    assert read_mode(world.ledger) == before


@pytest.mark.parametrize("words", FLIP)
def test_flip_of_reads_is_refused_by_its_dry_run_as_by_itself(words: str) -> None:
    world = Ready(DUAL)
    assert verdict(lambda: flip.plan_flip(world.job(), 10)) == ("yes", [])
    FLIP[words](world)
    before = read_mode(world.ledger)
    assert finds(row(phases.FLIP, words), Asked(job=world.job(), percent=10))
    said = verdict(lambda: flip.plan_flip(world.job(), 10))
    assert said[0] in ("PreflightFailed", "MoveRefused")
    assert verdict(lambda: flip.flip_reads(world.job(), 10)) == said
    assert read_mode(world.ledger) == before


def test_dual_write_and_flip_that_nothing_refuses_begin() -> None:
    world = Ready(ALONE)
    flip.begin_dual_write(world.job())
    assert read_mode(world.ledger).mode is Mode.DUAL_WRITE
    world.instance(epoch=99)
    flip.flip_reads(world.job(), 10)
    assert read_mode(world.ledger).mode is Mode.DYNAMODB_READS


# --- back ------------------------------------------------------------------------------------------------------------


def back(world: Ready, to: Mode, waived: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    return verdict(lambda: asyncio.run(roll_back(world.job(), world.target, to, waived)))


@pytest.mark.parametrize("words", RETURN)
def test_rollback_is_refused_by_its_dry_run_as_by_itself(words: str) -> None:
    world = led()
    report(world, direction="reverse", at_ms=now_ms() + 1_000)
    assert verdict(lambda: plan_rollback(world.job(), Mode.DUAL_WRITE)) == ("yes", [])
    RETURN[words](world)
    before = read_mode(world.ledger)
    assert finds(row(phases.RETURN, words), Asked(job=world.job(), to=Mode.DUAL_WRITE))
    said = verdict(lambda: plan_rollback(world.job(), Mode.DUAL_WRITE))
    assert said[0] in ("PreflightFailed", "MoveRefused")
    assert back(world, Mode.DUAL_WRITE) == said
    assert read_mode(world.ledger) == before


def test_validation_that_is_waived_refuses_neither() -> None:
    world = led()
    assert verdict(lambda: plan_rollback(world.job(), Mode.MONGO_ONLY))[0] == "PreflightFailed"
    assert verdict(lambda: plan_rollback(world.job(), Mode.MONGO_ONLY, [WITHOUT_VALIDATION])) == ("yes", [])


@pytest.mark.parametrize("mode", [DUAL, READS])
@pytest.mark.parametrize("breaks", [None, denied], ids=["well", "denied"])
def test_end_of_dual_writes_is_refused_by_its_dry_run_as_by_itself(mode: Any, breaks: Break | None) -> None:
    world = Ready(mode)
    world.instance(epoch=99)
    if breaks is not None:
        breaks(world)
    said = verdict(lambda: plan_rollback(world.job(), Mode.MONGO_ONLY))
    assert said[0] == ("yes" if breaks is None else "PreflightFailed")
    assert back(world, Mode.MONGO_ONLY) == said


# --- the end ---------------------------------------------------------------------------------------------------------


def at_the_end() -> Ready:
    """DynamoDB has led for long: MongoDB was judged by it, the watch is over, and the end is approved."""
    world = led()
    report(world, direction="reverse", at_ms=now_ms() + 1_000)
    approve(world.ledger, FINALIZE, evidence_of(world.ledger).digest, "me", "a test")
    floor = read_mode(world.ledger).floor
    begin_watch(world.ledger, Watch(old=Old.MONGODB, begun_ms=now_ms(), least_s=900.0, floor=floor))
    end_watch(world.ledger, Old.MONGODB, "it is over")
    return world


@pytest.mark.parametrize("words", END)
def test_finalize_is_refused_by_its_dry_run_as_by_itself(words: str) -> None:
    world = at_the_end()
    assert verdict(lambda: plan_finalize(world.job(), look_s=0.0))[0] == "yes"
    END[words](world)
    before = read_mode(world.ledger)
    assert finds(row(phases.END, words), Asked(job=world.job(), look_s=0.0))
    said = verdict(lambda: plan_finalize(world.job(), look_s=0.0))
    assert said[0] in ("PreflightFailed", "MoveRefused")
    assert verdict(lambda: finalize(world.job(), look_s=0.0)) == said
    assert read_mode(world.ledger) == before


def test_finalize_that_nothing_refuses_is_the_end() -> None:
    world = at_the_end()
    finalize(world.job(), look_s=0.0)
    assert read_mode(world.ledger).mode is Mode.FINAL
    assert verdict(lambda: plan_finalize(world.job(), look_s=0.0))[0] == "MoveRefused"


# --- the page --------------------------------------------------------------------------------------------------------


def rows_of(command: str) -> list[tuple[str, str]]:
    """The table of docs/cutover.md under the heading that names this command."""
    page = (ROOT / "docs/cutover.md").read_text()
    text = page.partition(f"### `{command}`\n")[2].partition("\n#")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [(what, source) for what, source in lines[2:]]


@pytest.mark.parametrize("command", phases.PHASES)
def test_page_has_every_reason_in_its_order_and_no_other(command: str) -> None:
    assert rows_of(command) == [(one.what, one.source) for one in phases.PHASES[command].refusals]
