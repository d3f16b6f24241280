"""What the demo's traffic knows of the shop that it writes to: its collections, some ids, and how much it has changed."""

from __future__ import annotations

import contextlib
import os
from collections import Counter, deque
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from bson import Decimal128, ObjectId
from docferry.rehearsal.oddities import AWKWARD
from docferry.rehearsal.shop import COLLECTIONS, EPOCH, SPAN_S, Document, ShopPlan, make_document
from docferry.rehearsal.words import ADDRESS_TYPES, ADJECTIVES, NOUNS, PLACES, STREETS
from pymongo import WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.results import BulkWriteResult, DeleteResult, InsertManyResult, InsertOneResult, UpdateResult

Result = InsertOneResult | InsertManyResult | UpdateResult | DeleteResult | BulkWriteResult

POOL_IDS = 48
"""Ids known at a time, a collection. Few, so that one document is often changed several times in a row."""
REFRESH_IDS = 24
REFRESH_AFTER_PICKS = 120
SKIP_MAX = 20_000
"""How far a refresh reaches into `_id` order, from either end: the server walks what is skipped."""
AWKWARD_SHARE = 0.08
BROKEN_MAX = 20
MAJORITY = WriteConcern("majority")


class UniqueField(NamedTuple):
    """A field that MongoDB keeps unique."""

    collection: str
    field: str


UNIQUE = (
    UniqueField("users", "username"),
    UniqueField("users", "email"),
    UniqueField("products", "sku"),
    UniqueField("categories", "slug"),
)


class BusyShop:
    """The shop as one writer sees it. Every choice comes from the seeded `random`.

    `changed` counts documents as the server's replies do, which is also the number of change events caused.
    The same seed on the same data makes the same writes, but for a mark in new ids and unique fields: a second run
    must not collide with the first one's documents.
    """

    def __init__(self, database: Database[Document], seed: int) -> None:
        self.random = Random(f"{seed}/traffic")
        self.changed = 0
        self.broken: deque[tuple[str, Any, Document]] = deque()
        """(collection, _id, the update that heals it) of documents that were made unstorable on purpose."""
        self._client = database.client
        self._collections = {name: database.get_collection(name, write_concern=MAJORITY) for name in COLLECTIONS}
        self._plan = ShopPlan(seed=seed)
        self._mark = os.urandom(5)
        self._serial = 0
        self._pools: dict[str, list[Any]] = {name: [] for name in COLLECTIONS}
        self._picks: Counter[str] = Counter()
        self._born: Counter[str] = Counter()

    def __getitem__(self, name: str) -> Collection[Document]:
        return self._collections[name]

    # --- counting ---------------------------------------------------------------------------------------------------

    def count(self, result: Result) -> int:
        """Add what a write has changed, and return it."""
        changed = _changed(result)
        self.changed += changed
        return changed

    def bulk(self, name: str, requests: list[Any], *, ordered: bool) -> None:
        """A bulk write; what it did before an error is counted, too."""
        try:
            self.count(self[name].bulk_write(requests, ordered=ordered))
        except BulkWriteError as error:
            parts = ("nInserted", "nModified", "nRemoved", "nUpserted")
            self.changed += sum(error.details.get(part, 0) for part in parts)
            raise

    @contextlib.contextmanager
    def transaction(self, *, abort: bool = False) -> Iterator[ClientSession]:
        """A transaction, aborted at the end if `abort` says so. Only what is committed counts as changed."""
        before = self.changed, self._born.copy()
        try:
            with self._client.start_session() as session:
                session.start_transaction(ReadConcern("snapshot"), MAJORITY)
                yield session
                if abort:
                    session.abort_transaction()
                    self.changed, self._born = before
                else:
                    session.commit_transaction()
        except BaseException:
            self.changed, self._born = before
            raise

    # --- which documents --------------------------------------------------------------------------------------------

    def collection(self) -> str:
        """One of the four, orders and users more often."""
        return self.random.choices(COLLECTIONS, (35, 35, 20, 10))[0]

    def pick(self, name: str) -> Any:
        """The `_id` of a document that exists, as far as is known."""
        return self.picks(name, 1)[0]

    def picks(self, name: str, count: int) -> list[Any]:
        """`count` different ids. Where the collection holds too few, documents are inserted."""
        self._picks[name] += 1
        if len(self._pools[name]) < count or self._picks[name] % REFRESH_AFTER_PICKS == 0:
            self._refresh(name)
        while len(self._pools[name]) < count:
            self.insert(name, self.fresh(name))
        return self.random.sample(self._pools[name], count)

    def _refresh(self, name: str) -> None:
        """Bring in a few neighbours from anywhere in `_id` order, and drop as many of those known."""
        target, pool, random = self[name], self._pools[name], self.random
        skip = random.randrange(max(1, min(SKIP_MAX, target.estimated_document_count() - REFRESH_IDS)))
        found = target.find({}, {"_id": 1}).sort("_id", random.choice((1, -1))).skip(skip).limit(REFRESH_IDS)
        new = [document["_id"] for document in found]
        kept = [one for one in pool if one not in new]
        pool[:] = new + random.sample(kept, min(len(kept), POOL_IDS - len(new)))

    def insert(self, name: str, document: Document, session: ClientSession | None = None) -> None:
        self.count(self[name].insert_one(document, session=session))
        self.remember(name, document["_id"])

    def remember(self, name: str, *ids: Any) -> None:
        """Tell of documents that were born."""
        self._born[name] += len(ids)
        self._pools[name] = [*ids, *self._pools[name]][: 2 * POOL_IDS]

    def forget(self, name: str, *ids: Any) -> None:
        """Tell of documents that were deleted."""
        self._born[name] -= len(ids)
        self._pools[name] = [one for one in self._pools[name] if one not in ids]

    def births(self, name: str) -> int:
        """How many to insert at a time, and `deaths` to delete: each collection keeps its size."""
        return self.random.randint(2, 6) if self._born[name] <= 0 else 1

    def deaths(self, name: str) -> int:
        return self.random.randint(2, 6) if self._born[name] > 0 else 1

    # --- what to write ----------------------------------------------------------------------------------------------

    def fresh(self, name: str, identity: Any = None) -> Document:
        """A new document whose unique fields are not taken, odd now and then, under its own or the given `_id`."""
        self._serial += 1
        document = make_document(name, self._plan, self._serial % self._plan.size(name), self.random)
        document["_id"] = self._new_id()
        document |= {at.field: self.unused(name) for at in UNIQUE if at.collection == name}
        if name == "users":
            document["email"] += "@example.com"
        if self.random.random() < AWKWARD_SHARE:
            self.random.choice(AWKWARD[name]).apply(document, self.random)
        if identity is not None:
            document["_id"] = identity
        return document

    def replacement(self, name: str, identity: Any = None) -> Document:
        """The same, without top-level names such as `$set`: an insert takes them, a replacement does not."""
        document = self.fresh(name, identity)
        return {key: value for key, value in document.items() if not key.startswith("$")}

    def _new_id(self) -> ObjectId:
        at_s = int(EPOCH.timestamp()) + SPAN_S + self._serial
        return ObjectId(at_s.to_bytes(4, "big") + self._mark + (self._serial % 2**24).to_bytes(3, "big"))

    def unused(self, name: str) -> str:
        """A value for any of the collection's unique fields that no document has."""
        self._serial += 1
        return f"{name}-{self._mark.hex()}-{self._serial}"

    def word(self) -> str:
        return f"{self.random.choice(ADJECTIVES)} {self.random.choice(NOUNS)} {self.random.randrange(10_000)}"

    def place(self) -> Document:
        city, state, _ = self.random.choice(PLACES)
        return {"city": city, "state": state}

    def address(self) -> Document:
        street = f"{self.random.randrange(1, 9999)} {self.random.choice(STREETS)}"
        return {"type": self.random.choice(ADDRESS_TYPES), "street": street, **self.place()}

    def line(self) -> Document:
        """A line of an order."""
        price, quantity = self.money(), self.random.randint(1, 4)
        return {"productId": self.pick("products"), "quantity": quantity, "price": price, "name": self.word()}

    def money(self) -> Decimal128:
        return Decimal128(f"{self.random.randrange(500)}.{self.random.randrange(100):02d}")

    def child(self) -> tuple[str, str, Document]:
        """(collection, array, element) of one of the two arrays whose elements become items."""
        if self.random.random() < 0.5:
            return "users", "addresses", self.address()
        return "orders", "items", self.line()


def _changed(result: Result) -> int:
    if isinstance(result, InsertOneResult):
        return 1
    if isinstance(result, InsertManyResult):
        return len(result.inserted_ids)
    if isinstance(result, DeleteResult):
        return result.deleted_count
    if isinstance(result, UpdateResult):
        return result.modified_count + result.did_upsert
    return result.inserted_count + result.modified_count + result.deleted_count + result.upserted_count
