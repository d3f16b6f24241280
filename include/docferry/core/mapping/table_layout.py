"""How a table keeps an item: its key attributes have the file's names and types, and what is over 400 KB is fitted. Pure.

All other code knows one form of an item: `PK` and `SK`, and `XPK` and `XSK` of index X, always texts; empty is the sort key
of a table or an index that has none. A number stands there as DynamoDB writes it, bytes in base64. `stored` and `read` lead
from this form to the table's and back; of a table with plain keys both are the same, but for an item that is too large
(`core.mapping.large.overflow`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from docferry.core.bson_codec.plain import AttributeValue, plain_number
from docferry.core.limits import ITEM_BYTES, item_bytes
from docferry.core.mapping.items import KIND, Item, ItemKey
from docferry.core.mapping.large.overflow import PACKED, PARTS, Fitting, fitting_of
from docferry.core.mapping.large.parts import PART, cut, is_part, joined, name_of, names_in, overtaken, part_key
from docferry.core.settings import PLAIN_KEY, CollectionSettings, KeyAttribute, KeyDesign, KeyType


class TableLayout:
    """The key attributes of one table and its indexes, and what is fitted. Immutable; `plain` if every item is kept as it is
    everywhere else; `most_bytes`: no item is fitted that has not more."""

    __slots__ = ("_fitting", "_key", "_ours", "_theirs", "most_bytes", "plain")

    def __init__(
        self,
        key: KeyDesign = PLAIN_KEY,
        index_keys: Mapping[str, KeyDesign] | None = None,
        fitting: Fitting | None = None,
    ) -> None:
        self._key, self._fitting = key, fitting
        self.most_bytes = ITEM_BYTES if fitting is None else fitting.over
        ours: dict[str, KeyAttribute | None] = {"PK": key.PK, "SK": key.SK}
        for index, design in (index_keys or {}).items():
            ours |= {f"{index}PK": design.PK, f"{index}SK": design.SK}
        self._ours = {name: one for name, one in ours.items() if one != KeyAttribute(name=name)}
        self._theirs = {one.name: (name, one.type) for name, one in self._ours.items() if one is not None}
        self.plain = not self._ours and fitting is None

    def __repr__(self) -> str:
        return f"TableLayout({self.key_names})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TableLayout):
            return False
        return (self._key, self._ours, self._fitting) == (other._key, other._ours, other._fitting)

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def names(self) -> frozenset[str]:
        """The names that key attributes have where they are not plain: no field may bear them."""
        return frozenset(self._theirs)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The table's own key attributes."""
        return tuple(one.name for one in self._key.attributes)

    # --- items -------------------------------------------------------------------------------------------------------

    def stored(self, item: Item) -> Item:
        """An item as the table keeps it."""
        return item if self.plain else self.named(self.fitted(item))

    def fitted(self, item: Item) -> Item:
        """An item as the table keeps it, under our own names: what counts bytes asks for it."""
        fitting = self._fitting
        if fitting is None or not fitting.covers(item) or item_bytes(self.named(item)) <= fitting.over:
            return item
        return fitting.fitted(item)

    def named(self, item: Item) -> Item:
        """An item with the table's own names, whatever its size."""
        if not self._ours:
            return item
        found: Item = {}
        for name, value in item.items():
            if name in self._ours:
                attribute = self._ours[name]
                if attribute is not None:
                    found[attribute.name] = {attribute.type: value["S"]}
            else:
                found[name] = value
        return found

    def read(self, item: Item) -> Item:
        """The same back. What another program has put under one of our own names is read as the field of that name."""
        if self.plain:
            return item
        found = self._renamed(item) if self._ours else item
        return found if self._fitting is None else self._fitting.whole(found)

    def _renamed(self, item: Item) -> Item:
        found: Item = {}
        for name, value in item.items():
            if name in self._theirs:
                ours, kind = self._theirs[name]
                found[ours] = {"S": _text(kind, value[kind])} if kind in value else value
            elif name in self._ours:
                found.setdefault(f"~{name}", value)
            else:
                found[name] = value
        for name, attribute in self._ours.items():
            if attribute is None and f"{name[:-2]}PK" in found:
                found[name] = {"S": ""}
        return found

    # --- parts -------------------------------------------------------------------------------------------------------

    @property
    def splits(self) -> bool:
        """Whether the table may hold parts of items."""
        return self._fitting is not None and bool(self._fitting.splits)

    @property
    def as_objects(self) -> bool:
        """Whether those are objects beside the table, and none of its items."""
        return self._fitting is not None and self._fitting.as_objects

    def may_have_parts(self, stored: Item) -> bool:
        """Whether an item, in either form, is of a kind that is cut where it is too large: others may have a field `_p`."""
        return self._fitting is not None and stored.get(KIND, {}).get("S") in self._fitting.splits

    def cut(self, stored: Item) -> tuple[Item, list[Item]]:
        """An item in the table's form as it is sent, and its parts, which are sent before it."""
        fitting = self._fitting
        if fitting is None or PACKED not in stored or not self.may_have_parts(stored):
            return stored, []
        if item_bytes(stored) <= fitting.limit:
            return stored, []
        item, parts = cut(stored, self.key_names, fitting.ttl_attribute, fitting.part_bytes, checked=fitting.as_objects)
        return item, [self.wire_key(part_key(name)) | part for name, part in parts]

    def names_parts(self, stored: Item) -> bool:
        """Whether an item in the table's form has parts."""
        return PARTS in stored and PACKED not in stored and self.may_have_parts(stored)

    def part_keys(self, stored: Item) -> list[Item]:
        """The keys of the parts that an item in the table's form names, in the table's form."""
        return [self.wire_key(part_key(name)) for name in names_in(stored)] if self.names_parts(stored) else []

    def joined(self, stored: Item, parts: Iterable[Item]) -> Item:
        """An item with what its parts hold; as it is if one is missing."""
        if not self.names_parts(stored):
            return stored
        return joined(stored, {name_of(self.key_of(part)[0]): part for part in parts})

    def overtaken(self, part: Item, item: Item | None) -> bool:
        """Whether a part, or what is known of it, was given up; `item` is its item as read behind the part's put."""
        return overtaken(name_of(self.key_of(part)[0]), part["_v"]["S"], item)

    def is_part(self, stored: Item) -> bool:
        """Whether an item in the table's form, or its key, is a part."""
        names = self.key_names
        found = [stored.get(name, {}).get("S") for name in names]
        return self.splits and is_part(found[0] or "") and found[1:] in ([], [PART])

    # --- keys --------------------------------------------------------------------------------------------------------

    def wire_key(self, key: ItemKey) -> Item:
        """A key as GetItem takes it."""
        return self.stored({"PK": {"S": key[0]}, "SK": {"S": key[1]}})

    def key_of(self, stored: Mapping[str, Any]) -> ItemKey:
        """The key of an item, or of what DynamoDB gives as one, in the table's form."""
        found = self.read({name: stored[name] for name in self.key_names})
        return found["PK"]["S"], found["SK"]["S"]

    def name_of(self, attribute: str) -> str | None:
        """What the table calls one of our key attributes; None: it has none such."""
        if attribute not in self._ours:
            return attribute
        found = self._ours[attribute]
        return found.name if found is not None else None

    def value(self, attribute: str, text: str) -> AttributeValue:
        """A key's value as the table has it."""
        return {self._type(attribute): text}

    def order(self, attribute: str, text: str) -> Any:
        """By what DynamoDB sorts a key attribute."""
        return Decimal(text) if self._type(attribute) == "N" else text

    def _type(self, attribute: str) -> KeyType:
        found = self._ours.get(attribute)
        return found.type if found is not None else "S"


def _text(kind: KeyType, value: str) -> str:
    return plain_number(Decimal(value)) if kind == "N" else value


def layout_of(settings: CollectionSettings) -> TableLayout:
    """The layout of a collection's table."""
    return TableLayout(settings.key, settings.index_keys, fitting_of([settings]))


PLAIN: Final = TableLayout()
