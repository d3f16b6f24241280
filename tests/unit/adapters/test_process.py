"""Marks of processes: a dead one is proved dead, and nothing is proved about the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from docferry.adapters.local.process import has_ended, identity, this_host

CHILD = "from docferry.adapters.local.process import identity; print(identity().mark, flush=True); input()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


def mark_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_this_process_lives() -> None:
    me = identity("ann")
    assert me.name == "ann"
    assert str(os.getpid()) in me.mark
    assert not me.ended(me.mark)


def test_unnamed_process_is_called_by_its_pid() -> None:
    assert str(os.getpid()) in identity().name


def test_killed_process_is_proved_dead_before_and_after_it_is_waited_for(child: subprocess.Popen[str]) -> None:
    mark = mark_of(child)
    assert not has_ended(mark)
    child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while not has_ended(mark) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert has_ended(mark)  # a zombie: its parent has not waited for it
    child.wait()
    assert has_ended(mark)


def test_frozen_process_lives(child: subprocess.Popen[str]) -> None:
    mark = mark_of(child)
    child.send_signal(signal.SIGSTOP)
    assert not has_ended(mark)
    child.send_signal(signal.SIGCONT)


def test_process_that_got_the_pid_of_a_dead_one_is_told_apart_by_its_start(child: subprocess.Popen[str]) -> None:
    parts = mark_of(child).split("/")
    parts[3] = str(int(parts[3]) - 1)
    assert has_ended("/".join(parts))


@pytest.mark.parametrize("part", [0, 1, 4, 5], ids=["boot", "pid namespace", "machine id", "host name"])
def test_nothing_is_proved_about_another_host_or_container(part: int) -> None:
    parts = f"{identity().mark}".split("/")
    parts[2] = "4194304"  # no such process here
    assert has_ended("/".join(parts))
    parts[part] = "elsewhere"
    assert not has_ended("/".join(parts))


@pytest.mark.parametrize("unknown", [{"machine": ""}, {"name": "localhost"}, {"name": ""}, {"boot": ""}], ids=str)
def test_nothing_is_proved_on_a_host_that_cannot_be_told_from_its_twin(unknown: dict[str, str]) -> None:
    here = this_host()._replace(**unknown)
    dead = f"{here.boot}/{here.namespace}/4194304/1/{here.machine}/{here.name}"
    assert not has_ended(dead, here)
    assert has_ended(f"{this_host().boot}/{here.namespace}/4194304/1/{this_host().machine}/{this_host().name}")


def test_mark_of_an_earlier_docferry_proves_nothing() -> None:
    assert not has_ended("/".join([*identity().mark.split("/")[:2], "4194304", "1"]))


@pytest.mark.parametrize("mark", ["", "/", "x", "a/b/c", "a/b/c/d/e", "a/b/c/d/e/f", "a/b/c/d/e/f/g"])
def test_unreadable_mark_proves_nothing(mark: str) -> None:
    assert not has_ended(mark)


def test_mark_without_a_pid_proves_nothing() -> None:
    parts = identity().mark.split("/")
    assert not has_ended("/".join([*parts[:2], "not a pid", *parts[3:]]))
