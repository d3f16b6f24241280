"""A job opens what a flow uses, once, and closes it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from docferry.errors import InvariantBroken
from docferry.flows.kernel.job import Ports


class Opened:
    def __init__(self, closed: list[str], name: str) -> None:
        self.closed, self.name = closed, name

    def close(self) -> None:
        self.closed.append(self.name)


def test_a_port_is_opened_when_it_is_used_and_only_what_was_opened_is_closed() -> None:
    closed: list[str] = []
    opened: list[str] = []

    def opener(name: str) -> Opened:
        opened.append(name)
        return Opened(closed, name)

    ports = Ports({name: partial(opener, name) for name in ("source", "sink", "fence")})
    assert opened == []
    source = ports.get("source")
    ports.get("sink")
    assert ports.get("source") is source
    ports.close()
    assert (opened, closed) == (["source", "sink"], ["sink", "source"])


def test_a_port_that_two_threads_use_at_once_is_opened_once() -> None:
    opened: list[object] = []
    both = threading.Barrier(2)

    def opener() -> object:
        opened.append(object())
        return opened[-1]

    ports = Ports({"source": opener})

    def use() -> object:
        both.wait(5)
        return ports.get("source")

    with ThreadPoolExecutor(2) as threads:
        found = [future.result() for future in [threads.submit(use) for _ in range(2)]]
    assert found[0] is found[1]
    assert len(opened) == 1


def test_a_port_that_a_job_was_not_given_is_a_bug_that_names_it() -> None:
    with pytest.raises(InvariantBroken, match="no port 'sink'"):
        Ports({"source": object}).get("sink")
