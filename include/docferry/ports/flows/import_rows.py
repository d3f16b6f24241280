"""Where the rows of an import lie until DynamoDB has made a table of them."""

from __future__ import annotations

from typing import Protocol


class ImportRows(Protocol):
    """Objects by table and name. Calls block, and may come from several threads. Raises StoreError."""

    def place(self, table: str) -> tuple[str, str]:
        """Bucket, and what the keys of a table's objects begin with: nothing else is below it."""

    def write(self, table: str, name: str, data: bytes) -> None:
        """Returns when it is there, whole."""

    def read(self, key: str) -> bytes:
        """An object by its key."""

    def count(self, table: str) -> int: ...

    def clear(self, table: str) -> None:
        """Delete a table's objects."""
