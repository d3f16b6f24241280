"""Trying again, for what is worth it: only errors whose type says so, with full jitter, up to a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from docferry.core.backoff import Backoff
from docferry.errors import Stopped, TransientStoreError
from docferry.ports.flows import StopSignal

T = TypeVar("T")
BACKOFF = Backoff()


def _no_reason() -> str:
    return ""


def retrying(
    operation: str,
    call: Callable[[], T],
    stop: StopSignal,
    for_s: float = 120.0,
    must_wait: Callable[[], str] = _no_reason,
) -> T:
    """The result of `call`, tried again while it raises TransientStoreError.

    `must_wait` is asked after each error: while it gives a reason, no time counts.

    Raises: RetryExhausted after `for_s` seconds with the last error as its cause; Stopped; any other error at once.
    """
    attempts = replace(BACKOFF, for_s=for_s).attempts(operation)
    while True:
        if stop.is_set():
            raise Stopped(f"asked to stop before {operation}")
        try:
            return call()
        except TransientStoreError as error:
            _sleep(attempts.excused() if must_wait() else attempts.failed(error), stop)


def _sleep(seconds: float, stop: StopSignal) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not stop.is_set():
        time.sleep(min(left, 0.5))
