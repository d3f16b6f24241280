"""What the application does to its documents, and what they are and were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import bson
from bson.timestamp import Timestamp

from support.convergence.sides import DOCS, Document, Made, Side

TOO_DEEP: Any = 1
for _ in range(34):
    TOO_DEEP = {"x": TOO_DEEP}


class Documents:
    """`now` is what MongoDB must hold, `times` are those of all writes; changes are drawn from `random`."""

    def __init__(self, random: Random, side: Side, start: Timestamp) -> None:
        self.random, self.ids, self.kinds = random, side.ids, side.kinds
        self.names, self.mails = side.names, side.mails
        self.now: dict[int, Document] = {}
        self.times = [start]
        self._once: set[str] = set()
        self._serial = 0
        keeps_order = side.migration.mapping(DOCS).keeps_order
        self._orders = Random(random.getstate()[1][0]) if keeps_order else None  # drawn from no other's numbers

    # --- what was ----------------------------------------------------------------------------------------------------

    def note(self, changes: Sequence[Made], time: Timestamp) -> None:
        """States inside a transaction count, too: replication applies its changes one by one."""
        self.times.append(time)
        now = dict(self.now)
        for key, document, _ in changes:
            if document is None:
                del now[key]
            else:
                now[key] = document
                self._once.add(self._plain(document))
        self.now = now

    def earlier(self, most: int) -> Timestamp:
        """The time of one of the last writes."""
        return self.random.choice(self.times[-most - 1 :])

    def once_was(self, document: Document) -> bool:
        return self._plain(document) in self._once

    def _plain(self, document: Document) -> str:
        """A document in one spelling. Whether an array is empty or absent, a reader of items cannot always tell."""
        told = {name: value for name, value in document.items() if value != []}
        return json.dumps(told, sort_keys=self._orders is None)

    # --- what comes --------------------------------------------------------------------------------------------------

    def one(self) -> list[Made]:
        return [self.change(self.random.choice(self.ids), self.now)]

    def several(self) -> list[Made]:
        """Changes of one time, of which each sees those before it."""
        if self.random.random() < 0.4 and (swap := self._swap()):
            return swap
        docs, changes = dict(self.now), []
        for _ in range(self.random.randint(2, 4)):
            made = self.change(self.random.choice(self.ids), docs)
            changes.append(made)
            key, document, _touched = made
            if document is None:
                del docs[key]
            else:
                docs[key] = document
        return changes

    def change(self, key: int, docs: dict[int, Document]) -> Made:
        made_of, document, touched = self._change(key, docs)
        if self._orders is not None and document is not None:
            document = self._reordered(document, touched)
        return made_of, document, touched

    def _reordered(self, document: Document, touched: tuple[str, ...] | None) -> Document:
        """What is written whole may come in any order, and what is updated may be removed and come again, at the end."""
        assert self._orders is not None
        draw = self._orders.random()
        if touched is None:
            document = {"_id": document["_id"], **_shuffled(document, self._orders)}
        elif "n" in touched and draw < 0.5:
            document = document | {"n": document.pop("n")}
        if (touched is None or "parts" in touched) and "parts" in document:
            document["parts"] = [_shuffled(part, self._orders) for part in document["parts"]]
        return document

    def _change(self, key: int, docs: dict[int, Document]) -> Made:
        old = docs.get(key)
        draw = self.random.random()
        if old is not None and draw < 0.15:
            return key, None, None
        if old is None or draw < 0.3:
            return key, self._new_document(key, docs), None
        self._serial += 1
        document, touched = bson.decode(bson.encode(old)), []
        if self.random.random() < 0.5:
            document["n"] = self._serial
            touched.append("n")
        if self.random.random() < 0.25:
            document["name"] = self.random.choice(self._free_names(key, docs))
            touched.append("name")
        touched += self._change_values(key, document, docs)
        touched += self._change_parts(document)
        touched += self._change_storability(document)
        if document == old:
            document["n"] = self._serial
            touched.append("n")
        return key, document, tuple(touched)

    def _swap(self) -> list[Made]:
        """Two documents exchange their mails: inside a transaction, too, values are unique."""
        holders = [key for key, one in self.now.items() if "mail" in one]
        if len(holders) < 2:
            return []
        self._serial += 1
        one, other = self.random.sample(holders, 2)
        mine, theirs = self.now[one], self.now[other]
        bare = {name: value for name, value in mine.items() if name != "mail"} | {"n": self._serial}
        return [
            (one, bare, ("mail", "n")),
            (other, theirs | {"mail": mine["mail"], "n": self._serial}, ("mail", "n")),
            (one, bare | {"mail": theirs["mail"]}, ("mail",)),
        ]

    def _change_values(self, key: int, document: Document, docs: dict[int, Document]) -> list[str]:
        """Of what is unique: taken, given up, or left out of the index."""
        touched = []
        if self.random.random() < 0.35:
            mails = self._free_mails(key, docs)
            touched += self._set(document, "mail", self.random.choice([*mails, *mails, None]))
            touched += self._set(document, "active", True if self.random.random() < 0.8 else None)
        if self.random.random() < 0.15:
            taken = {tag for other, one in docs.items() if other != key for tag in one.get("tags", ())}
            free = [tag for tag in self.mails if tag not in taken]
            touched += self._set(document, "tags", self.random.sample(free, self.random.randint(0, len(free))) or None)
        return touched

    @staticmethod
    def _set(document: Document, name: str, value: Any) -> list[str]:
        """None: it is gone."""
        if document.get(name) == value:
            return []
        document.pop(name, None)
        document |= {} if value is None else {name: value}
        return [name]

    def _free_mails(self, key: int, docs: dict[int, Document]) -> list[str]:
        taken = {one.get("mail") for other, one in docs.items() if other != key}
        return [mail for mail in self.mails if mail not in taken]

    def _free_names(self, key: int, docs: dict[int, Document]) -> list[str]:
        """A unique index keeps names apart."""
        taken = {one["name"] for other, one in docs.items() if other != key}
        return [name for name in self.names if name not in taken]

    def _new_document(self, key: int, docs: dict[int, Document]) -> Document:
        self._serial += 1
        names = self._free_names(key, docs)
        old = docs.get(key)
        name = old["name"] if old and self.random.random() < 0.6 else self.random.choice(names)
        document: Document = {"_id": key, "name": name, "n": self._serial}
        if self.random.random() < 0.8:
            document["parts"] = self._new_parts()
        if self.random.random() < 0.12:
            document["deep"] = TOO_DEEP
        self._change_values(key, document, docs)
        return document

    def _new_parts(self) -> list[Document]:
        return [
            {"kind": self.random.choice(self.kinds), "c": self._serial * 10 + index}
            for index in range(self.random.randrange(3))
        ]

    def _change_parts(self, document: Document) -> list[str]:
        draw = self.random.random()
        parts = document.get("parts")
        if draw < 0.2:
            document["parts"] = self._new_parts()
            return ["parts"]
        if draw < 0.25 and parts is not None:
            del document["parts"]
            return ["parts"]
        if draw < 0.5 and parts:
            at = self.random.randrange(len(parts))
            parts[at]["c"] = self._serial * 10 + at
            return [f"parts.{at}.c"]
        if draw < 0.6 and parts:
            at = self.random.randrange(len(parts))
            parts[at]["kind"] = self.random.choice(self.kinds)
            return [f"parts.{at}.kind"]
        return []

    def _change_storability(self, document: Document) -> list[str]:
        if "deep" in document and self.random.random() < 0.6:
            del document["deep"]
            return ["deep"]
        if "deep" not in document and self.random.random() < 0.08:
            document["deep"] = TOO_DEEP
            return ["deep"]
        return []


def _shuffled(document: Document, random: Random) -> Document:
    return {name: document[name] for name in random.sample(list(document), len(document))}
