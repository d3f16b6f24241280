"""The order of a document's fields, as hints beside an item: DynamoDB's maps and items keep none.

Without a hint fields are read in the order of their names (of code points). A document or subdocument that has another order gets
a hint in `_t`, under `#` and its pointer: for each place the rank of the field there among the sorted names, each a letter or
digit where 36 do, else numbers with commas. {"zip": 1, "city": 2, "a": 3} at `profile` is `#/profile: 210`. Elements of an array
that all have one order share one hint, at `-`. The top level's is `#`; `_id` comes first there, as in MongoDB, and is not
counted: its own content has no hint, because its encoding keeps the order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

from bson import DBRef

from docferry.core.bson_codec.names import escape_name, pointer_step
from docferry.core.bson_codec.plain import AttributeValue
from docferry.core.bson_codec.references import fields_of, reference_of

_MARK: Final = "#"
"""What type hints' pointers never begin with."""
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_RANKS: Final = {digit: rank for rank, digit in enumerate(_DIGITS)}

Orders = dict[str, str]
"""Pointer -> the order of the fields there."""


def orders_of(document: Mapping[str, Any], elsewhere: Collection[str] = (), *, element: bool = False) -> Orders:
    """What one item must say of its document's order, or of its element's. `elsewhere`: pointers to what other items hold."""
    fields = document if element else {name: value for name, value in document.items() if name != "_id"}
    found: Orders = {}
    _gather(fields, "", frozenset(elsewhere), found)
    return found


def _gather(value: Any, pointer: str, elsewhere: frozenset[str], found: Orders) -> None:
    if pointer in elsewhere:
        return
    if (fields := fields_of(value)) is not None:
        _note(fields, pointer, found)
        for name, inner in fields.items():
            _gather(inner, pointer + _step(name), elsewhere, found)
    elif type(value) is list:
        _gather_elements(value, pointer, found)


def _gather_elements(values: list[Any], pointer: str, found: Orders) -> None:
    each: list[Orders] = []
    for value in values:
        inner: Orders = {}
        _gather(value, "", frozenset(), inner)
        each.append(inner)
    if len(each) > 1 and all(one == each[0] for one in each):
        found |= {f"{pointer}/-{inner}": order for inner, order in each[0].items()}
    else:
        found |= {f"{pointer}/{at}{inner}": order for at, one in enumerate(each) for inner, order in one.items()}


def _note(fields: Mapping[str, Any], pointer: str, found: Orders) -> None:
    names = list(fields)
    if len(names) < 2 or all(one < other for one, other in pairwise(names)):
        return
    ranks = {name: rank for rank, name in enumerate(sorted(names))}
    places = [ranks[name] for name in names]
    found[pointer] = (
        "".join(_DIGITS[one] for one in places) if len(names) <= len(_DIGITS) else ",".join(map(str, places))
    )


def hints_of(orders: Orders) -> dict[str, str]:
    """As they stand in `_t`."""
    return {_MARK + pointer: order for pointer, order in orders.items()}


def is_order(pointer: str) -> bool:
    """Whether a hint in `_t` tells of an order, and not of a type."""
    return pointer[:1] == _MARK


def stored_orders(item: Mapping[str, AttributeValue]) -> Orders:
    """What an item says of orders."""
    hints: Mapping[str, Any] = item.get("_t", {}).get("M", {})
    return {pointer[1:]: hint["S"] for pointer, hint in hints.items() if is_order(pointer) and "S" in hint}


# --- read back -------------------------------------------------------------------------------------------------------


_Node = Mapping[str, Any] | None


class Ordering:
    """Puts the fields of a document's subdocuments in order. `misfits` counts hints that another program's write made unfit."""

    def __init__(self, orders: Orders) -> None:
        self.misfits = 0
        self._tree: dict[str, Any] = {}
        for pointer, order in orders.items():
            node = self._tree
            for step in pointer.split("/")[1:]:
                node = node.setdefault(step, {})
            node[""] = order

    def of_document(self, document: dict[str, Any], elsewhere: Collection[str] = ()) -> dict[str, Any]:
        """`elsewhere`: pointers to what other items hold, and are in order."""
        fields = {name: value for name, value in document.items() if name != "_id"}
        return {"_id": document["_id"], **self._fields(fields, self._tree, "", frozenset(elsewhere))}

    def of_element(self, element: dict[str, Any]) -> dict[str, Any]:
        return self._fields(element, self._tree, "", frozenset())

    def _of(self, value: Any, node: _Node, pointer: str, elsewhere: frozenset[str]) -> Any:
        if pointer in elsewhere:
            return value
        if (fields := fields_of(value)) is not None:
            found = self._fields(fields, node, pointer, elsewhere)
            return reference_of(found) if isinstance(value, DBRef) else found
        if type(value) is list:
            each = node.get("-") if node else None
            inner = (each or (node.get(str(at)) if node else None) for at in range(len(value)))
            return [self._of(one, of_it, "", frozenset()) for one, of_it in zip(value, inner, strict=True)]
        return value

    def _fields(
        self, fields: Mapping[str, Any], node: _Node, pointer: str, elsewhere: frozenset[str]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in self._names(fields, node.get("") if node else None):
            step = _step(name)
            found[name] = self._of(fields[name], node.get(step[1:]) if node else None, pointer + step, elsewhere)
        return found

    def _names(self, fields: Mapping[str, Any], order: str | None) -> list[str]:
        names = sorted(fields)
        if order is None:
            return names
        places = list(_places(order))
        if sorted(places) != list(range(len(names))):
            self.misfits += 1
            return names
        return [names[place] for place in places]


def pointer_of(path: Iterable[str]) -> str:
    return "".join(map(_step, path))


def _step(name: str) -> str:
    return pointer_step(escape_name(name))


def _places(order: str) -> Iterator[int]:
    if "," in order:
        yield from (int(one) if one.isdigit() else -1 for one in order.split(","))
    else:
        yield from (_RANKS.get(one, -1) for one in order)
