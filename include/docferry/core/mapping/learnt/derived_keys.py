"""Keys that a learnt shape cannot copy out of a value, and computes: numbers, what sorts by a format of its own, and shards.

Everything else of the document is copied as ever. The template itself makes the key, so there is no second rule for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bson.decimal128 import Decimal128
from bson.int64 import Int64

from docferry.core.limits import PARTITION_KEY_BYTES, SORT_KEY_BYTES
from docferry.core.mapping.item_plan import ItemPlan
from docferry.core.mapping.key_templates import MISSING, Template, lookup
from docferry.errors import DocumentError

_NUMBERS: Final = frozenset({Int64, float, Decimal128})
"""Whose text in a key is not that of the attribute, as that of an int32 is."""
_MUST_ESCAPE: Final = frozenset(map(chr, [*range(32), ord('"'), ord("\\")]))
Value = Callable[[Sequence[str], Sequence[Any]], Any]
"""A field of a document, from its texts and what is of a fixed length in it."""


@dataclass(frozen=True, slots=True)
class DerivedKey:
    """One key attribute. `must`: of the table, where every field must be there. `mark` stands for it while a shape is learnt."""

    attribute: str
    template: Template
    must: bool
    mark: str

    def text(self, document: Mapping[str, Any]) -> str | None:
        """None where the mapping itself must be asked."""
        try:
            found = self.template.render_key(document) if self.must else self.template.render(document)
        except DocumentError:
            return None
        most = PARTITION_KEY_BYTES if self.attribute.endswith("PK") else SORT_KEY_BYTES
        # Whatever JSON escapes, and whatever may be too long: four bytes a character at most.
        return None if found is None or 4 * len(found) > most or not _MUST_ESCAPE.isdisjoint(found) else found


def derived_keys(plan: ItemPlan, document: Mapping[str, Any]) -> list[DerivedKey]:
    """Those of a document like this one."""
    named = [("PK", plan.pk, True), ("SK", plan.sk, True)]
    for index in plan.indexes:
        named += [(index.pk_name, index.pk, False), (index.sk_name, index.sk, False)]
    found = [(name, template, must) for name, template, must in named if _is_computed(template, document)]
    return [DerivedKey(*one, mark=f"\ue000{number}\ue001") for number, one in enumerate(found)]


def _is_computed(template: Template, document: Mapping[str, Any]) -> bool:
    if template.kind != "S" or any(one.integer or one.order or one.shards for one in template.placeholders):
        return True
    return any(type(lookup(document, one.path)) in _NUMBERS for one in template.placeholders)


def copied_fields(plan: ItemPlan, derived: Sequence[DerivedKey]) -> frozenset[str]:
    """The fields of the keys that are copied."""
    computed = {one.attribute for one in derived}
    named = {"PK": plan.pk, "SK": plan.sk}
    for index in plan.indexes:
        named |= {index.pk_name: index.pk, index.sk_name: index.sk}
    return frozenset(part for name, template in named.items() if name not in computed for part in template.fields)


@dataclass(slots=True)
class KeyMaker:
    """The derived keys of one shape. `fields`: those that they are made of, with where their values are."""

    keys: Sequence[DerivedKey] = ()
    fields: Mapping[tuple[str, ...], Value] = field(default_factory=dict)

    def texts(self, texts: Sequence[str], fixed: Sequence[Any]) -> list[str | None]:
        """The keys of a document."""
        document: dict[str, Any] = {}
        for path, value in self.fields.items():
            inner = document
            for step in path[:-1]:
                inner = inner.setdefault(step, {})
            inner[path[-1]] = value(texts, fixed)
        return [one.text(document) for one in self.keys]


def constant_field(document: Mapping[str, Any], path: tuple[str, ...]) -> Value | None:
    """A field that has one value in all documents of a shape; None if it is not there."""
    value = lookup(document, path)
    return None if value is MISSING else lambda texts, fixed: value
