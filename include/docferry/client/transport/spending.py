"""What DynamoDB takes for one call of the application's: added up for its shape, whatever threads and tasks the call uses."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol


class Book(Protocol):
    """Where it is added up."""

    def count_spent(self, shape: str, read_units: float, write_units: float) -> None: ...


class spending:
    """Around what is asked of DynamoDB for one call. Of calls that make others the outermost counts.

    `shape` is asked at the end, and told by what the documents were found, empty if that was not planned within.
    """

    __slots__ = ("_book", "_outermost", "_shape", "reads", "way", "writes")

    def __init__(self, book: Book, shape: Callable[[str], str], way: str = "") -> None:
        self._book, self._shape, self.way = book, shape, way
        self.reads: list[float] = []
        self.writes: list[float] = []
        """Units of each request. It is told from any thread."""
        self._outermost = False

    def __enter__(self) -> None:
        self._outermost = _ASKING.get() is None
        if self._outermost:
            _ASKING.set(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._outermost:
            return
        _ASKING.set(None)  # and no reset: a coroutine that is not awaited any more is closed in any context
        if self.reads or self.writes:
            self._book.count_spent(self._shape(self.way), sum(self.reads), sum(self.writes))


_ASKING: ContextVar[spending | None] = ContextVar("docferry_asking", default=None)


def tell_spent(units: float, *, writes: bool) -> None:
    """What a request has consumed: for the call that it belongs to, if any."""
    if (asking := _ASKING.get()) is not None:
        (asking.writes if writes else asking.reads).append(units)


def tell_way(way: str) -> None:
    """By what a call finds its documents, as `ReadPlan.by` says it; the first plan counts."""
    if (asking := _ASKING.get()) is not None and not asking.way:
        asking.way = way
