"""Time as it passes on a machine of one's own: what else runs beside a test makes it slower, and proves nothing."""

from __future__ import annotations

import threading
import time
from hashlib import pbkdf2_hmac
from types import TracebackType

ROUNDS = 30_000
"""Work for some 20 ms, without Python's lock."""
EVERY_S = 0.1


class Pace:
    """Measures a block: `seconds` that it would have taken alone, and how many times `slower` this machine was meanwhile.

    A thread does a piece of work ten times a second: how long it took, by how long it computed, is how much slower.
    """

    def __init__(self) -> None:
        self._waited_s = self._worked_s = self._took_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while True:
            began, computed = time.monotonic(), time.thread_time()
            pbkdf2_hmac("sha256", b"pace", b"pace", ROUNDS)
            self._worked_s += time.thread_time() - computed
            self._waited_s += time.monotonic() - began
            if self._over.wait(EVERY_S):
                return

    def __enter__(self) -> Pace:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._took_s = time.monotonic() - self._began
        self._over.set()
        self._thread.join()

    @property
    def slower(self) -> float:
        """1 on an idle machine, 4 where three others want each core."""
        return max(1.0, self._waited_s / self._worked_s)

    @property
    def seconds(self) -> float:
        return self._took_s / self.slower
