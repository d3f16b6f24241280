"""An error that no code foresees is a bug that one document brings out: a dead letter, or the stream would stand for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from docferry.core.backoff import Backoff
from docferry.errors import MigrationError, Unforeseen

T = TypeVar("T")
ATTEMPTS = 3
AGAIN = Backoff(first_s=0.2, cap_s=1.0)


async def foreseen(attempt: Callable[[], Awaitable[T]], again: Backoff = AGAIN) -> T:
    """The result of `attempt`, made ATTEMPTS times at most.

    Raises: Unforeseen, which quotes nothing of the document, if each attempt ended with an error that is none of ours; ours at
            once (InvariantBroken is about the whole stream, and ends it), and MemoryError.
    """
    number = 1
    while True:
        try:
            return await attempt()
        except (MigrationError, MemoryError):
            raise
        except Exception as error:
            if number == ATTEMPTS:
                raise Unforeseen.of(error, ATTEMPTS) from error
        await asyncio.sleep(again.wait_s(number))
        number += 1
