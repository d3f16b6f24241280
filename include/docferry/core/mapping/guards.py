"""Guards: items that keep a value unique. Each says which document holds a value of one of MongoDB's unique indexes.

A guard is a further item of its document, under its version, with a key of its own: PK `UNIQUE#<collection>.<index>#<value>#...`,
SK `UNIQUE`. It holds the document's `_id` and nothing else of it, and has no part in the digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from bson.decimal128 import Decimal128

from docferry.core.bson_codec.references import fields_of
from docferry.core.limits import PARTITION_KEY_BYTES
from docferry.core.mapping.items import GUARD, Document, Item, ItemKey
from docferry.core.mapping.key_templates import render_value, table_key_fields
from docferry.core.mql.index_entries import EMPTY_ARRAY, Entry, IndexEntries, compile_index
from docferry.core.settings import CollectionSettings, UniqueSettings


@dataclass(frozen=True, slots=True)
class Guard:
    """One value of a unique index that a document holds: the key of its guard item, and the fields with their values."""

    key: ItemKey
    plan: GuardPlan
    values: Mapping[str, Any] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class GuardPlan:
    """How the guards of one unique index are made."""

    entity: str
    sk: str
    entries: IndexEntries
    ordered: bool = False
    """Whether subdocuments differ by the order of their fields, as they do in MongoDB's indexes."""

    @property
    def settings(self) -> UniqueSettings:
        return self.entries.settings

    @property
    def template(self) -> str:
        """Of the partition keys."""
        return "#".join((self.entity, *(f"{{{name}}}" for name in self.settings.fields)))

    def guards(self, document: Document) -> dict[ItemKey, Guard]:
        """A document's guards, by their keys. Raises DocumentError."""
        found: dict[ItemKey, Guard] = {}
        for entry in self.entries.of(document):
            key = self.key_of(entry)
            if key not in found:
                shown = (None if value is EMPTY_ARRAY else value for value in entry)
                found[key] = Guard(key, self, dict(zip(self.settings.fields, shown, strict=True)))
        return found

    def key_of(self, entry: Entry) -> ItemKey:
        """Equal for entries that MongoDB holds equal. Values for which there is no room are written as their digests."""
        texts = [index_text(value, ordered=self.ordered) for value in entry]
        pk = "#".join((self.entity, *texts))
        if len(pk.encode()) > PARTITION_KEY_BYTES:
            pk = "#".join((self.entity, *map(_digest_text, texts)))
        return pk, self.sk


def guard_item(guard: Guard, of_all: Item) -> Item:
    """`of_all`: whose it is, and of which version."""
    pk, sk = guard.key
    return {"PK": {"S": pk}, "SK": {"S": sk}, "entityType": {"S": guard.plan.entity}} | of_all


def index_text(value: Any, *, ordered: bool = False) -> str:
    """A value of a unique index inside a key: equal texts are equal values as MongoDB's indexes have it, whatever their types.

    Shape:  "a@b.c" -> a@b.c;  5, 5.0, Decimal128("5.00") -> ~i5;  0.5 -> ~d5E-1;  null, missing -> ~n;  [] -> ~e
    Subdocuments are written as digests. Not `ordered`, the order of fields does not count in them: DynamoDB does not keep it.
    """
    if value is EMPTY_ARRAY:
        return "~e"
    if isinstance(value, list):
        return _digest_text(json.dumps(["array", *(index_text(one, ordered=ordered) for one in value)]))
    if (fields := fields_of(value)) is not None:
        names = fields if ordered else sorted(fields)
        return _digest_text(
            json.dumps(["document", *([name, index_text(fields[name], ordered=ordered)] for name in names)])
        )
    if isinstance(value, int | float | Decimal128) and not isinstance(value, bool):
        return _number_text(value)
    return render_value(value)


def _number_text(value: Any) -> str:
    """By its exact value, as an index has it: a query compares a double with a Decimal128 by 34 digits only."""
    exact = value.to_decimal() if isinstance(value, Decimal128) else Decimal(value)
    if exact.is_nan():
        return "~dNaN"
    if not exact or exact.is_infinite():
        return f"~d{exact}" if exact else "~i0"
    sign, digits, exponent = exact.as_tuple()
    text = "".join(map(str, digits))
    bare = text.rstrip("0")
    power = int(exponent) + len(text) - len(bare)
    minus = "-" if sign else ""
    if power >= 0 and len(bare) + power <= INTEGER_DIGITS:
        return f"~i{minus}{bare}{'0' * power}"
    return f"~d{minus}{bare}E{power}"


INTEGER_DIGITS: Final = 19
"""A whole number with no more is written out in an index's text; a greater one with an exponent."""


def guard_name_problem(collection: str, index: str) -> str:
    """Why no guard's key can begin with these names; '' if it can."""
    if not index or re.search(r"[#{}~]", collection + index):
        return f"'{collection}.{index}' cannot stand in a key, which it is to begin"
    if len(f"{collection}{index}".encode()) > NAME_BYTES:
        return f"its name is too long for a key: at most {NAME_BYTES} bytes"
    return ""


NAME_BYTES: Final = 300
"""Of a collection and its index together: the rest of the key is for values."""


def _digest_text(text: str) -> str:
    return "~k" + hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


def compile_guards(collection: CollectionSettings) -> tuple[GuardPlan, ...]:
    """Of the unique indexes for which the table key does not stand already. Raises as `compile_index` does."""
    key = table_key_fields(collection.item.key)
    found = [one for one in collection.unique if not key <= set(one.fields)]
    return tuple(
        GuardPlan(
            entity=f"{GUARD}#{collection.name}.{one.name}",
            sk=GUARD if collection.key.SK is not None else "",
            entries=compile_index(one, ordered=collection.order == "keep"),
            ordered=collection.order == "keep",
        )
        for one in sorted(
            found, key=lambda one: one.fields != ("_id",)
        )  # the order in which MongoDB tells of duplicates
    )
