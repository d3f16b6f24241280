"""Blocking reads beside the event loop, that nobody has to wait for when asked to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from docferry.errors import Stopped
from docferry.ports import StopSignal

T = TypeVar("T")
LOOK_S = 0.25


async def read_aside(call: Callable[..., T], *arguments: Any, stop: StopSignal) -> T:
    """The result of a blocking call in a thread of its own.

    Raises Stopped within `LOOK_S` of the stop signal, even while the call still blocks: the thread is a daemon, and what it
    reads afterwards is dropped. So only for calls that change nothing. (`asyncio.to_thread` would keep the process until
    the call returns.)
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

    threading.Thread(target=run, name="read aside", daemon=True).start()
    while not future.done():
        await asyncio.wait([future], timeout=LOOK_S)
        if stop.is_set() and not future.done():
            future.cancel()
            raise Stopped("asked to stop while waiting for MongoDB; run again to continue")
    return future.result()


def _deliver(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], put: Callable[[Any], None], value: Any) -> None:
    def apply() -> None:
        if not future.done():
            put(value)

    if not loop.is_closed():
        loop.call_soon_threadsafe(apply)
