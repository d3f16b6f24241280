"""Virtual time for real code, blocking and asynchronous: one thread, repeatable, and as fast as the processor.

The event loop's clock moves to the next timer when nothing is left to do. A thread is a greenlet on that loop: where the code
under test starts one, or lets a blocking call run in one, it runs until it sleeps or waits, and others run meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from greenlet import getcurrent, greenlet

EPOCH = 1_800_000_000.0
"""Wall clocks begin here."""


class _Selector(selectors.SelectSelector):
    """Nothing comes from outside: waiting is a step of the clock."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everybody waits for ever")
        self.loop.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock nobody waits for."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.hub = getcurrent()

    def time(self) -> float:
        return self.now

    def _write_to_self(self) -> None:
        """There is no other thread to be woken by."""

    def green(self, call: Callable[[], Any]) -> greenlet:
        """Run a blocking call beside the others, from the next turn of the loop on."""
        made = greenlet(call, parent=self.hub)
        self.call_soon(made.switch)
        return made

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # any arguments
        future = self.create_future()

        def run() -> None:
            try:
                result = func(*args)
            except BaseException as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.green(run)
        return future

    def block(self, seconds: float) -> None:
        """What a blocking call does while it waits."""
        me = getcurrent()
        if me is self.hub:
            raise RuntimeError("the event loop itself would wait")
        self.call_later(max(0.0, seconds), me.switch)
        self.hub.switch()


class _Thread:
    def __init__(self, target: Callable[..., Any], args: Any = (), name: str = "", daemon: bool = True) -> None:
        self._target, self._args = target, args
        self._green: greenlet | None = None

    def start(self) -> None:
        loop = LOOPS[-1]
        self._green = loop.green(lambda: self._target(*self._args))

    def join(self, timeout: float | None = None) -> None:
        loop, until = LOOPS[-1], None if timeout is None else LOOPS[-1].now + timeout
        while self._green is not None and not self._green.dead and (until is None or loop.now < until):
            loop.block(0.01)


class _Event:
    def __init__(self) -> None:
        self._set = False
        self._waiting: list[greenlet] = []

    def set(self) -> None:
        self._set = True
        loop, waiting = LOOPS[-1], self._waiting
        self._waiting = []
        for one in waiting:
            loop.call_soon(self._wake, one)

    @staticmethod
    def _wake(one: greenlet) -> None:
        if getattr(one, "waits", False):
            one.waits = False
            one.switch()

    def is_set(self) -> bool:
        return self._set

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            loop, me = LOOPS[-1], getcurrent()
            me.waits = True
            self._waiting.append(me)
            if timeout is not None:
                loop.call_later(timeout, self._wake, me)
            loop.hub.switch()
        return self._set


LOOPS: list[VirtualLoop] = []


@contextmanager
def virtual_time(seed: int) -> Iterator[VirtualLoop]:
    """Within the block clocks, sleeps, threads and events are those of the loop, and chance is the seed's."""
    loop, chance = VirtualLoop(), random.Random(f"names {seed}")
    random.seed(seed)
    kept = [(time, name, getattr(time, name)) for name in ("monotonic", "time", "time_ns", "sleep")]
    kept += [(uuid, "uuid4", uuid.uuid4)]
    kept += [(threading, name, getattr(threading, name)) for name in ("Thread", "Event")]
    mine, asleep = threading.get_ident(), time.sleep  # pymongo's own threads, of clients of other tests, go on sleeping

    def sleep(seconds: Any) -> None:
        (loop.block if threading.get_ident() == mine else asleep)(seconds)

    LOOPS.append(loop)
    try:
        time.monotonic = lambda: 1000.0 + loop.now
        time.time = lambda: EPOCH + loop.now
        time.time_ns = lambda: int((EPOCH + loop.now) * 1e9)
        time.sleep = sleep
        uuid.uuid4 = lambda: uuid.UUID(int=chance.getrandbits(128))
        threading.Thread = _Thread  # type: ignore[assignment,misc]
        threading.Event = _Event  # type: ignore[assignment,misc]
        yield loop
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
        LOOPS.pop()
        loop.close()
