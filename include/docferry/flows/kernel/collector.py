"""Python's garbage collector, where many containers are made and no cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def raised_gc_threshold() -> Iterator[None]:
    """Encoding makes no reference cycles, but many containers: Python's collector would look at them every 700.

    That is a quarter of the loader's time. Cycles elsewhere are still found, every 100,000.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
