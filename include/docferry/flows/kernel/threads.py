"""Blocking calls beside the event loop, which need not be waited for when asked to stop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from contextvars import copy_context
from typing import Any, TypeVar

from docferry.errors import Stopped, TimedOut
from docferry.ports.flows import StopSignal

T = TypeVar("T")
LOOK_S = 0.25
ENDING_S = 4.0
"""How long work that was cancelled may take to put its things away."""


async def in_thread(
    call: Callable[..., T], *arguments: Any, stop: StopSignal | None = None, within_s: float | None = None
) -> T:
    """The result of a blocking call in a thread of its own.

    Raises Stopped within `LOOK_S` of the stop signal, or TimedOut after `within_s`, even while the call still blocks: the
    thread is a daemon, and what it returns afterwards is dropped. So only for reads, and for conditional changes of
    the ledger, which may happen or not. (`asyncio.to_thread` would keep the process until the call returns.)
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = call(*arguments)
        except BaseException as error:  # noqa: BLE001 - handed to the task that awaits
            _deliver(loop, future, future.set_exception, error)
        else:
            _deliver(loop, future, future.set_result, result)

    threading.Thread(target=copy_context().run, args=(run,), name="aside", daemon=True).start()
    until = time.monotonic() + within_s if within_s is not None else None
    try:
        while not future.done():
            await asyncio.wait([future], timeout=LOOK_S)
            if future.done():
                break
            if stop is not None and stop.is_set():
                raise Stopped("asked to stop while waiting for an answer; run again to continue")
            if until is not None and time.monotonic() > until:
                raise TimedOut(f"no answer within {within_s} s", operation=getattr(call, "__name__", "call"))
        return future.result()
    finally:
        future.cancel()  # if it is left, by who is cancelled, too: what the call raises afterwards is no news


async def unless_stopped(work: Coroutine[Any, Any, T], stop: StopSignal) -> T:
    """The result of `work`, which is cancelled when asked to stop, whatever it waits for: only for reads, and for work that
    may end at any of its awaits.

    Raises Stopped within `LOOK_S + ENDING_S` of the stop signal.
    """
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=LOOK_S)
            if stop.is_set() and not task.done():
                raise Stopped("asked to stop while waiting for an answer; run again to continue")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=ENDING_S)


async def to_its_end(call: Callable[..., T], *arguments: Any) -> T:
    """The result of a blocking write, which is waited for even by who is cancelled: once it was sent it may still happen,
    and no other task may write to the same place before that is known."""
    task = asyncio.ensure_future(in_thread(call, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # looked at: the cancelled caller has no use for it
        raise


def _deliver(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], put: Callable[[Any], None], value: Any
) -> None:
    def apply() -> None:
        if not future.done():
            put(value)

    if not loop.is_closed():
        loop.call_soon_threadsafe(apply)


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """End these tasks, and take note of what they raised, so that it is not missed."""
    ended = list(tasks)
    for task in ended:
        task.cancel()
    await asyncio.gather(*ended, return_exceptions=True)
