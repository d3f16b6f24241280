"""Where parts of items are kept that are no items themselves."""

from __future__ import annotations

from typing import Protocol

from docferry.core.mapping.items import Item


class PartObjects(Protocol):
    """Objects beside DynamoDB, by table and name. Calls block, and may come from several threads. Raises StoreError.

    A part is given in its table's form. It never changes under its name, so that putting it twice, or late, does no harm.
    """

    def put(self, table: str, name: str, part: Item) -> None:
        """Returns when it is there to be read."""

    def get(self, table: str, name: str) -> Item | None:
        """The part; None if there is none, or what is there cannot be read as one."""

    def delete(self, table: str, name: str) -> None:
        """Also where there is none."""

    def heads(self, table: str, after: str) -> tuple[list[Item], str]:
        """Some of a table's parts in the order of their names, without their content, and behind which name to go on ('': no
        more)."""
