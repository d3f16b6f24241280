"""Type hints: what an item's `_t` says where the natural form does not tell the BSON type, and types that a file declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from docferry.core.bson_codec.plain import AttributeValue

Hints = dict[str, str]
DECLARABLE: Final[dict[str, frozenset[str]]] = {
    "oid": frozenset("S"),
    "date": frozenset("S"),
    "code": frozenset("S"),
    "timestamp": frozenset("S"),
    "double": frozenset(("N", "S")),
    "long": frozenset("N"),
    "decimal": frozenset(("N", "S")),
}
"""Types that a file may declare for an attribute, and the wire tags that they claim. `decimal:2` has two digits."""

NATURAL: Final = frozenset(("string", "int", "bool"))
"""Types whose natural form needs no hint. A file may declare them, too: parameters of access patterns take them."""


def parse_declared(text: str) -> str:
    """The hint that a declared type stands for. Raises ValueError if it is none."""
    name, _, digits = text.partition(":")
    if name not in DECLARABLE or (digits and name != "decimal") or (digits and not digits.isdigit()):
        raise ValueError(
            f"'{text}' is no type to declare; there are {', '.join(sorted((*DECLARABLE, *NATURAL)))} and decimal:<digits>"
        )
    return f"decimal:-{int(digits)}" if digits and int(digits) else name


def own_exponent(wire: AttributeValue) -> str:
    """The exponent that a plain number has by itself: minus its digits after the point."""
    if "N" not in wire:
        return ""
    _, _, fraction = wire["N"].partition(".")
    return f"-{len(fraction)}" if fraction else "0"


class HintTree:
    """`_t` as a tree of steps, made once an item. `misfits` counts hints that no longer fit the value."""

    __slots__ = ("misfits", "root")

    def __init__(self, hints: Mapping[str, str]) -> None:
        self.root: dict[str, Any] = {}
        self.misfits = 0
        for pointer, hint in hints.items():
            node = self.root
            first, *steps = pointer.split("/")
            if first or not steps or "" in steps:  # not ours: names are never empty once escaped
                self.misfits += 1
                continue
            for step in steps:
                node = node.setdefault(step.replace("~1", "/").replace("~0", "~"), {})
            node[""] = hint
