"""Blocking calls beside the event loop, that nobody has to wait for when asked to stop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from docferry.errors import Stopped, TimedOut
from docferry.ports import StopSignal

T = TypeVar("T")
LOOK_S = 0.25


async def aside(
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
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits
            _deliver(loop, future, future.set_exception, error)
        else:
            _deliver(loop, future, future.set_result, result)

    threading.Thread(target=run, name="aside", daemon=True).start()
    until = time.monotonic() + within_s if within_s is not None else None
    while not future.done():
        await asyncio.wait([future], timeout=LOOK_S)
        if future.done():
            break
        if stop is not None and stop.is_set():
            future.cancel()
            raise Stopped("asked to stop while waiting for an answer; run again to continue")
        if until is not None and time.monotonic() > until:
            future.cancel()
            raise TimedOut(f"no answer within {within_s} s", operation=getattr(call, "__name__", "call"))
    return future.result()


def _deliver(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], put: Callable[[Any], None], value: Any
) -> None:
    def apply() -> None:
        if not future.done():
            put(value)

    if not loop.is_closed():
        loop.call_soon_threadsafe(apply)
