"""A command of the operator's as a fence: what it is given, how long it may take, and what is told of what it says."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from docferry.adapters.local.fence_command import MOST_TOLD, About, CommandFence, FenceCommand
from docferry.core.cutover.fence_plan import FenceKind, FencePlan, FenceState
from docferry.errors import RequestRefused, TimedOut, Unavailable
from docferry.testing.fakes import FakeFence

ABOUT = About(migration="shop", database="shopdb", collections=("users", "orders"), users=("admin.app",))
PLAN = FencePlan(kind=FenceKind.EXTERNAL, memo="the memo")
GIVEN = {
    "PATH": "/usr/bin:/bin",
    "DOCFERRY_MONGO_URI": "mongodb://me:hidden@host",
    "AWS_SECRET_ACCESS_KEY": "hidden",
    "DOCFERRY_FENCE_ATLAS_PRIVATE_KEY": "a-private-key",
}


def command(tmp_path: Path, text: str, within_s: float = 10.0) -> FenceCommand:
    script = tmp_path / "fence.py"
    script.write_text("import json, os, sys, time\nword = sys.argv[-1]\n" + text)
    return FenceCommand((sys.executable, "-S", str(script)), within_s, ABOUT, GIVEN)


def test_it_gets_the_word_the_memo_and_what_it_is_about_and_no_secret_of_ours(tmp_path: Path) -> None:
    made = command(tmp_path, "print(json.dumps([word, sys.stdin.read(), dict(os.environ)]))")
    word, memo, environment = json.loads(made.run("close", "the memo"))
    assert (word, memo) == ("close", "the memo")
    assert (
        environment.items()
        >= {
            "DOCFERRY_FENCE_MIGRATION": "shop",
            "DOCFERRY_FENCE_DATABASE": "shopdb",
            "DOCFERRY_FENCE_COLLECTIONS": '["users", "orders"]',
            "DOCFERRY_FENCE_USERS": '["admin.app"]',
            "DOCFERRY_FENCE_WITHIN_S": "10",
            "DOCFERRY_FENCE_ATLAS_PRIVATE_KEY": "a-private-key",
        }.items()
    )
    assert "hidden" not in str(environment)


def test_of_several_databases_it_is_told_all_and_no_single_one() -> None:
    about = replace(ABOUT, collections=("users", "past_orders"), elsewhere={"past_orders": ("archive", "orders")})
    told = about.environment(10)
    assert "DOCFERRY_FENCE_DATABASE" not in told
    assert json.loads(told["DOCFERRY_FENCE_DATABASES"]) == ["shopdb", "archive"]
    assert json.loads(told["DOCFERRY_FENCE_COLLECTIONS"]) == ["shopdb.users", "archive.orders"]


def test_no_shell_reads_its_words(tmp_path: Path) -> None:
    made = FenceCommand(("echo", "$(touch x); > y"), 10.0, ABOUT, GIVEN)
    assert made.run("state") == "$(touch x); > y state\n"


@pytest.mark.parametrize(("status", "kind"), [(75, Unavailable), (1, RequestRefused), (3, RequestRefused)])
def test_its_exit_status_says_whether_it_may_be_tried_again(tmp_path: Path, status: int, kind: type[Exception]) -> None:
    made = command(tmp_path, f"print('no such project', file=sys.stderr); sys.exit({status})")
    with pytest.raises(kind, match=f"close ended with status {status}: no such project") as caught:
        made.run("close")
    assert type(caught.value) is kind


def test_what_it_says_is_bounded_and_told_without_secrets(tmp_path: Path) -> None:
    told = "print('x' * 1_000_000 + ' a-private-key https://me:word@host \\x1b[0m', file=sys.stderr); sys.exit(1)"
    with pytest.raises(RequestRefused) as caught:
        command(tmp_path, told).run("open")
    text = str(caught.value)
    assert text.endswith("*** https://***@host  [0m")
    assert len(text) < MOST_TOLD + 100


def test_one_that_takes_too_long_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    left, child = tmp_path / "left", tmp_path / "child.py"
    child.write_text(f"import time\ntime.sleep(1.5)\nopen({str(left)!r}, 'w')")
    text = f"import subprocess\nsubprocess.Popen([sys.executable, '-S', {str(child)!r}])\ntime.sleep(60)"
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"close took longer than 0.5 s"):
        command(tmp_path, text, within_s=0.5).run("close")
    assert time.monotonic() - began < 20
    time.sleep(2.0)  # so long the child would have taken
    assert not left.exists()


def test_one_that_is_not_there_is_refused() -> None:
    with pytest.raises(RequestRefused, match="cannot be run: No such file or directory"):
        FenceCommand(("/no/such/command",), 1.0, ABOUT, GIVEN).run("plan")


# --- as a fence ------------------------------------------------------------------------------------------------------


def fence_of(tmp_path: Path, text: str) -> CommandFence:
    return CommandFence(FakeFence(), command(tmp_path, text))


def test_closed_and_open_are_what_the_command_says(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.write_text("open")
    text = f"place = {str(place)!r}\n" + (
        "if word == 'state': print(open(place).read())\n"
        "elif word == 'plan': print('the memo', end='')\n"
        "else: open(place, 'w').write({'close': 'closed', 'open': 'open'}[word])"
    )
    made = fence_of(tmp_path, text)
    assert made.external_memo() == "the memo"
    assert made.fence_state(PLAN) is FenceState.DOWN
    made.raise_fence(PLAN)
    assert made.fence_state(PLAN) is FenceState.UP
    made.lift_fence(PLAN)
    assert made.fence_state(PLAN) is FenceState.DOWN


def test_a_state_is_asked_for_once_a_minute_and_one_that_is_not_sure_soon_again(tmp_path: Path) -> None:
    counted = tmp_path / "count"
    counted.write_text("")
    made = fence_of(tmp_path, f"open({str(counted)!r}, 'a').write('x'); print('closed')")
    now = [0.0]
    made.monotonic = lambda: now[0]
    for now[0] in (0.0, 30.0, 59.0, 61.0):
        assert made.fence_state(PLAN) is FenceState.UP
    assert counted.read_text() == "xx"


def test_a_word_that_is_no_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="state must say one of closed, open, partly"):
        fence_of(tmp_path, "print('perhaps')").fence_state(PLAN)


def test_the_other_kinds_are_mongodbs_own_affair(tmp_path: Path) -> None:
    made = fence_of(tmp_path, "sys.exit(1)")
    block = FencePlan(kind=FenceKind.WRITE_BLOCK)
    made.raise_fence(block)
    assert made.fence_state(block) is FenceState.UP
    made.lift_fence(block)
    assert made.fence_state(block) is FenceState.DOWN
