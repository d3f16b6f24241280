"""Cursors over documents that DynamoDB has answered, used as pymongo's command cursors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from docferry.core.mapping.items import Document


class _Listed:
    """Documents, one after the other. There is nothing to close on a server."""

    cursor_id = 0
    address: Any = None

    def __init__(self, documents: Sequence[Document], session: Any = None) -> None:
        self._left, self.session = list(reversed(documents)), session

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._left)} left)"

    @property
    def alive(self) -> bool:
        """Whether there are more documents."""
        return bool(self._left)

    def batch_size(self, batch_size: int) -> Self:
        return self

    def _some(self, length: int | None) -> list[Document]:
        if length is not None and length < 1:
            raise ValueError("to_list() length must be greater than 0")
        return [self._left.pop() for _ in range(min(len(self._left), length or len(self._left)))]

    def _try(self) -> Document | None:
        return self._left.pop() if self._left else None


class ListedCursor(_Listed):
    """For a synchronous application."""

    def __iter__(self) -> Iterator[Document]:
        return self

    def __next__(self) -> Document:
        if not self._left:
            raise StopIteration
        return self._left.pop()

    next = __next__

    def try_next(self) -> Document | None:
        return self._try()

    def to_list(self, length: int | None = None) -> list[Document]:
        return self._some(length)

    def close(self) -> None:
        self._left.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncListedCursor(_Listed):
    """For an asynchronous application."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Document:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()

    next = __anext__

    async def try_next(self) -> Document | None:
        return self._try()

    async def to_list(self, length: int | None = None) -> list[Document]:
        return self._some(length)

    async def close(self) -> None:
        self._left.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
