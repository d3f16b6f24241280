"""Documents of one shape: the same field names with values of the same types, as nearly all of a collection are.

What becomes of each field depends on names and types alone, except for what is inside a value. So it is worked out once a
shape, and the next document of that shape only fills it in: no look-up and no question for each field. The shape also
knows which hints it always leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from docferry.core.bson_codec.decimals import DecimalEncoder, decimal_encoder
from docferry.core.bson_codec.encode import encode_declared, encode_value, encoder_of
from docferry.core.bson_codec.hints import DECLARABLE, Hints
from docferry.core.bson_codec.names import pointer_step
from docferry.core.bson_codec.plain import AttributeValue, iso_date

MOST_SHAPES: Final = 1_000
MOST_FIELDS: Final = 300
"""Documents make the shapes, so what is remembered of them needs an end; others are worked out each time."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A document field that becomes one attribute, under its own or another name."""

    attribute: str
    pointer: str
    declared: str | None
    path: tuple[str, ...] = ()


def leaf_of(attribute: str, declared: str | None, path: tuple[str, ...] = ()) -> Leaf:
    return Leaf(attribute, pointer_step(attribute), declared, path)


def encode_leaf(value: Any, leaf: Leaf, hints: Hints) -> AttributeValue:
    """A value as its attribute; its hints are added."""
    if leaf.declared is None:
        return encode_value(value, leaf.pointer, hints)
    return encode_declared(value, leaf.pointer, hints, leaf.declared)


ShapeKey = tuple[tuple[str, ...], tuple[type, ...]]


def shape_key(document: Mapping[str, Any]) -> ShapeKey:
    """What two documents of one shape have in common."""
    return tuple(document), tuple(map(type, document.values()))


@dataclass(slots=True)
class Shape:
    """The fields of a shape by what has to be done with them. `special` are left to the mapping."""

    strings: list[tuple[str, str]] = field(default_factory=list)
    oids: list[tuple[str, str]] = field(default_factory=list)
    dates: list[tuple[str, str]] = field(default_factory=list)
    decimals: list[tuple[str, str, str, DecimalEncoder]] = field(default_factory=list)
    values: list[tuple[str, str, str, Callable[[Any, str, Hints, int], AttributeValue]]] = field(default_factory=list)
    declared: list[tuple[str, Leaf]] = field(default_factory=list)
    special: list[tuple[str, Any]] = field(default_factory=list)
    hints: Hints = field(default_factory=dict)

    def add(self, name: str, kind: type, leaf: Leaf) -> None:
        """A field that becomes the attribute of `leaf`."""
        if kind is str:
            self.strings.append((leaf.attribute, name))
            if leaf.declared is not None and "S" in DECLARABLE[leaf.declared.partition(":")[0]]:
                self.hints[leaf.pointer] = "string"
        elif kind is ObjectId:
            self.oids.append((leaf.attribute, name))
            self._hint(leaf, "oid")
        elif kind is datetime:
            self.dates.append((leaf.attribute, name))
            self._hint(leaf, "date")
        elif kind is Decimal128:
            self.decimals.append((leaf.attribute, name, leaf.pointer, decimal_encoder(leaf.declared)))
        elif leaf.declared is None:
            self.values.append((leaf.attribute, name, leaf.pointer, encoder_of(kind)))
        else:
            self.declared.append((name, leaf))

    def _hint(self, leaf: Leaf, hint: str) -> None:
        if leaf.declared != hint:
            self.hints[leaf.pointer] = hint

    def fill(self, document: Mapping[str, Any], item: dict[str, AttributeValue], hints: Hints) -> None:
        """Put the attributes of a document of this shape into `item`, and its hints into `hints`."""
        for attribute, name in self.strings:
            item[attribute] = {"S": document[name]}
        for attribute, name in self.oids:
            item[attribute] = {"S": document[name].binary.hex()}
        for attribute, name in self.dates:
            item[attribute] = {"S": iso_date(document[name])}
        for attribute, name, pointer, encode in self.decimals:
            item[attribute], hint = encode(document[name].bid)
            if hint:
                hints[pointer] = hint
        for attribute, name, pointer, encoder in self.values:
            item[attribute] = encoder(document[name], pointer, hints, 1)
        for name, leaf in self.declared:
            item[leaf.attribute] = encode_leaf(document[name], leaf, hints)
        if self.hints:
            hints.update(self.hints)
