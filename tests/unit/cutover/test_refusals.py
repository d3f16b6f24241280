"""A dry run never says yes where the run says no: for each reason there is, both are asked, and say the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from docferry.core.cutover.modes import Mode
from docferry.flows.cutover import flip, phases
from docferry.flows.cutover.refusals import Asked, Phase, Reason
from docferry.flows.cutover.return_evidence import WITHOUT_VALIDATION
from docferry.flows.cutover.rollback import finalize, plan_finalize, plan_rollback, roll_back
from docferry.flows.cutover.to_dynamodb import require_ready, switch_to_dynamodb
from docferry.flows.ledger.approvals import FINALIZE, approve, evidence_of
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.rooms.watch import Old, Watch, begin_watch, end_watch
from docferry.flows.ledger.times import now_ms
from docferry.flows.reporting.health import Status
from support.cutover.refusal_cases import DUAL_WRITE, END, FLIP, RETURN, STOP, Break, denied, report, short_oplog
from support.cutover.refusing import ALONE, DUAL, READS, Ready, led, verdict
from support.place import ROOT


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
