"""A blocking call that is left, in a thread of its own: what it raises afterwards is dropped without a word."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from docferry.errors import Unavailable
from docferry.flows.kernel.threads import in_thread


def test_what_a_call_raises_whose_waiter_was_cancelled_is_no_news() -> None:
    heard: list[dict[str, Any]] = []
    goes_on, ended = threading.Event(), threading.Event()

    def call() -> None:
        goes_on.wait(30)
        ended.set()
        raise Unavailable("the connection is gone", operation="read")

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))
        waiting = asyncio.ensure_future(in_thread(call))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        del waiting
        goes_on.set()
        await asyncio.to_thread(ended.wait, 30)
        await asyncio.sleep(0.05)  # the thread hands over what it has
        gc.collect()

    asyncio.run(leave())
    assert heard == []
