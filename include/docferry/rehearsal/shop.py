"""A shop's data, the same for the same seed: users, orders, products and categories, with odd ones among them.

Nothing here reads a clock or the global random state. An `_id` depends on (seed, collection, position) alone, so that
orders can name users and products that have not been made yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import islice
from random import Random
from typing import Any

from bson import Decimal128, ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel, MongoClient, WriteConcern
from pymongo.errors import PyMongoError

from docferry.errors import RequestRefused, Unavailable
from docferry.rehearsal.oddities import AWKWARD, UNSTORABLE, Mutation
from docferry.rehearsal.words import (
    ADDRESS_TYPES,
    ADJECTIVES,
    COLOURS,
    CURRENCIES,
    FIRST_NAMES,
    LAST_NAMES,
    NOUNS,
    ORDER_STATUSES,
    PLACES,
    STREETS,
    TAGS,
    USER_STATUSES,
)

Document = dict[str, Any]

COLLECTIONS = ("users", "orders", "products", "categories")
CHILDREN: Mapping[str, str] = {"users": "addresses", "orders": "items"}
"""The array whose elements become items of their own."""
GUARDED: Mapping[str, Sequence[str]] = {
    "users": ("_id", "email"),
    "orders": (),
    "products": ("sku",),
    "categories": ("slug",),
}
"""What a guard keeps unique once DynamoDB leads: the fields of unique indexes of which no table key is made."""
BATCH_DOCUMENTS = 500
EPOCH = datetime(2021, 3, 1, tzinfo=UTC)
SPAN_S = 5 * 365 * 86_400
"""The shop opened at EPOCH and sold for five years."""

INDEXES: Mapping[str, list[IndexModel]] = {
    "users": [
        IndexModel("username", unique=True),
        # Partial: users without an e-mail address, or with an empty one, do not collide.
        IndexModel("email", unique=True, partialFilterExpression={"email": {"$gt": ""}}),
        IndexModel([("profile.location.city", ASCENDING), ("lastLoginAt", DESCENDING)]),
    ],
    "orders": [IndexModel([("userId", ASCENDING), ("createdAt", DESCENDING)]), IndexModel("status")],
    "products": [IndexModel("sku", unique=True), IndexModel("categoryId")],
    "categories": [IndexModel("slug", unique=True), IndexModel("parentId")],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionCounts:
    """`documents` holds all, `awkward` and `unstorable` ones included; `items` is what DynamoDB should hold of them."""

    documents: int = 0
    items: int = 0
    awkward: int = 0
    unstorable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopCounts:
    """Per collection, and summed over all of them."""

    collections: Mapping[str, CollectionCounts]

    def __getitem__(self, collection: str) -> CollectionCounts:
        return self.collections[collection]

    @property
    def documents(self) -> int:
        return sum(counts.documents for counts in self.collections.values())

    @property
    def items(self) -> int:
        return sum(counts.items for counts in self.collections.values())

    @property
    def unstorable(self) -> int:
        return sum(counts.unstorable for counts in self.collections.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopDocument:
    """One document, and what should become of it. `oddity` names what was done to it, '' for an ordinary one."""

    document: Document
    oddity: str = ""
    storable: bool = True

    def expected_items(self, collection: str) -> int:
        """Items in DynamoDB: one for the document, each child and each unique value; none if it must become a dead letter."""
        if not self.storable:
            return 0
        guards = sum(bool(self.document.get(name)) for name in GUARDED[collection])
        return 1 + len(self.document.get(CHILDREN.get(collection, "")) or ()) + guards


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopPlan:
    """How many of what. Two equal plans make equal shops."""

    users: int = 5_000
    seed: int = 7
    awkward: int = 300
    unstorable: int = 12

    def size(self, collection: str) -> int:
        """Documents of a collection. 5,000 users make about 50,000 items in all."""
        sizes = {
            "users": self.users,
            "orders": max(20, self.users * 7 // 4),
            "products": max(20, self.users * 2 // 5),
            "categories": max(20, self.users // 50),
        }
        return sizes[collection]

    def mutations(self, collection: str) -> dict[int, Mutation]:
        """Position -> what is odd about the document there, spread evenly. Every kind comes up before one repeats.

        Raises: RequestRefused if the collection is too small for its share of unstorable documents.
        """
        size = self.size(collection)
        bad = _share(UNSTORABLE, self.unstorable)[collection]
        # At most half of a collection is awkward: small shops stay mostly ordinary.
        odd = [AWKWARD[collection][i % len(AWKWARD[collection])] for i in range(self._awkward(collection))]
        wanted = bad + odd[: max(0, size // 2 - len(bad))]
        if len(wanted) > size:
            raise RequestRefused(f"{len(bad)} unstorable documents do not fit into {size} {collection}")
        # Interleaved by a seeded shuffle, or all that DynamoDB refuses would come first.
        Random(f"{self.seed}/{collection}/order").shuffle(wanted)
        return {(2 * i + 1) * size // (2 * len(wanted)): mutation for i, mutation in enumerate(wanted)}

    def _awkward(self, collection: str) -> int:
        percent = {"users": 40, "orders": 30, "products": 20, "categories": 10}[collection]
        return self.awkward * percent // 100


def load_shop(
    uri: str,
    database: str = "myapp",
    users: int = 5_000,
    seed: int = 7,
    awkward: int = 300,
    *,
    unstorable: int = 12,
    pre_images: bool = False,
) -> ShopCounts:
    """Create the shop's four collections with their indexes, and fill them, `w: majority`.

    `awkward` documents are odd but storable; `unstorable` ones must become dead letters. Both replace ordinary ones,
    so `users` is the number of documents in users. `pre_images` switches pre- and post-images of
    change streams on, which is else left to provision.
    Memory does not grow with `users`.
    Raises: RequestRefused if a collection holds documents already; Unavailable if MongoDB refuses or goes away.
    """
    plan = ShopPlan(users=users, seed=seed, awkward=awkward, unstorable=unstorable)
    try:
        with MongoClient[Document](uri) as client:
            target = client.get_database(database, write_concern=WriteConcern("majority"))
            for name in COLLECTIONS:
                if target[name].find_one(projection={"_id": 1}) is not None:
                    raise RequestRefused(f"{database}.{name} holds documents already; drop the database first")
            existing = set(target.list_collection_names())
            for name in COLLECTIONS:
                if name not in existing:
                    target.create_collection(name, changeStreamPreAndPostImages={"enabled": pre_images})
                target[name].create_indexes(INDEXES[name])
            with ThreadPoolExecutor(len(COLLECTIONS)) as pool:
                counts = pool.map(lambda name: _load(target[name], plan), COLLECTIONS)
                return ShopCounts(collections=dict(zip(COLLECTIONS, counts, strict=True)))
    except PyMongoError as error:
        raise Unavailable(f"the shop could not be loaded: {type(error).__name__}: {error}") from error


def shop_documents(collection: str, plan: ShopPlan) -> Iterator[ShopDocument]:
    """The documents of one collection in order of position, made one at a time; needs no server."""
    make, mutations = _MAKERS[collection], plan.mutations(collection)
    for position in range(plan.size(collection)):
        # A generator of its own for each: one document can be made again without all before it.
        random = Random(f"{plan.seed}/{collection}/{position}")
        document = make(plan, position, random)
        if mutation := mutations.get(position):
            mutation.apply(document, random)
            yield ShopDocument(document=document, oddity=mutation.name, storable=mutation.storable)
        else:
            yield ShopDocument(document=document)


def make_document(collection: str, plan: ShopPlan, position: int, random: Random) -> Document:
    """One ordinary document; positions past the plan's size will do, too."""
    return _MAKERS[collection](plan, position, random)


def _load(target: Any, plan: ShopPlan) -> CollectionCounts:
    documents = items = awkward = bad = 0
    source = shop_documents(target.name, plan)
    while batch := list(islice(source, BATCH_DOCUMENTS)):
        target.insert_many((entry.document for entry in batch), ordered=False)
        documents += len(batch)
        items += sum(entry.expected_items(target.name) for entry in batch)
        awkward += sum(bool(entry.oddity) and entry.storable for entry in batch)
        bad += sum(not entry.storable for entry in batch)
    return CollectionCounts(documents=documents, items=items, awkward=awkward, unstorable=bad)


def _share(kinds: tuple[tuple[str, Mutation], ...], count: int) -> dict[str, list[Mutation]]:
    """The first `count` of (collection, mutation) pairs, by collection: first what there is once, then the others in turn."""
    once = [pair for pair in kinds if pair[1].once]
    again = [pair for pair in kinds if not pair[1].once]
    taken = [once[i] if i < len(once) else again[(i - len(once)) % len(again)] for i in range(count)]
    return {name: [mutation for where, mutation in taken if where == name] for name in COLLECTIONS}


# --- ordinary documents ---------------------------------------------------------------------------------------------


def document_id(seed: int, collection: str, position: int, size: int) -> ObjectId:
    """An ObjectId as a driver would have made it: time of creation, a host's five bytes, a counter."""
    at_s = int(EPOCH.timestamp()) + position * SPAN_S // size
    host = blake2b(f"{seed}/{collection}".encode(), digest_size=5).digest()
    return ObjectId(at_s.to_bytes(4, "big") + host + (position % 2**24).to_bytes(3, "big"))


def _id(plan: ShopPlan, collection: str, position: int) -> ObjectId:
    return document_id(plan.seed, collection, position, plan.size(collection))


def _moment(random: Random, after: datetime, within_days: int) -> datetime:
    """A time with milliseconds, which is all that BSON keeps."""
    return after + timedelta(milliseconds=random.randrange(within_days * 86_400_000))


def _money(cents: int) -> Decimal128:
    return Decimal128(f"{cents // 100}.{cents % 100:02d}")


def _user(plan: ShopPlan, position: int, random: Random) -> Document:
    first, last, place = random.choice(FIRST_NAMES), random.choice(LAST_NAMES), random.choice(PLACES)
    identity = _id(plan, "users", position)
    created = identity.generation_time
    # The position makes it unique; names are ASCII here, the awkward ones are not.
    username = f"{_ascii(first)}_{_ascii(last)}_{position}".lower()
    document: Document = {
        "_id": identity,
        "username": username,
        "email": f"{username}@example.com",
        "profile": {
            "firstName": first,
            "lastName": last,
            "dateOfBirth": datetime(1950, 1, 1, tzinfo=UTC) + timedelta(days=random.randrange(20_000)),
            "avatar": f"https://cdn.example.com/avatars/{identity}.jpg",
            "location": {"city": place[0], "state": place[1]},
        },
        "preferences": {
            "theme": random.choice(("dark", "light", "system")),
            "notifications": {"email": random.random() < 0.7, "push": random.random() < 0.4},
        },
        "addresses": _addresses(random, place),
        "createdAt": created,
        "lastLoginAt": _moment(random, created, 300),
        "status": random.choice(USER_STATUSES),
    }
    return document


def _addresses(random: Random, home: tuple[str, str, str]) -> list[Document]:
    kinds = random.sample(ADDRESS_TYPES, random.randrange(4))
    return [_address(random, kind, home if i == 0 else random.choice(PLACES)) for i, kind in enumerate(kinds)]


def _address(random: Random, kind: str, place: tuple[str, str, str]) -> Document:
    city, state, prefix = place
    return {
        "type": kind,
        "street": f"{random.randrange(1, 9999)} {random.choice(STREETS)}",
        "city": city,
        "state": state,
        "zipCode": f"{prefix}{random.randrange(100):02d}",
    }


def _ascii(name: str) -> str:
    return "".join(c for c in name if c.isascii() and c.isalpha())


def _order(plan: ShopPlan, position: int, random: Random) -> Document:
    identity = _id(plan, "orders", position)
    created = identity.generation_time + timedelta(milliseconds=random.randrange(1000))
    lines = [_line(plan, random) for _ in range(random.randint(1, 5))]
    total = sum(line["quantity"] * cents for line, cents in lines)
    return {
        "_id": identity,
        "userId": _id(plan, "users", random.randrange(plan.users)),
        "status": random.choice(ORDER_STATUSES),
        "totalAmount": _money(total),
        "currency": random.choice(CURRENCIES),
        "items": [line for line, _ in lines],
        "createdAt": created,
        "updatedAt": _moment(random, created, 14),
    }


def _line(plan: ShopPlan, random: Random) -> tuple[Document, int]:
    """One line of an order, and its price in cents. The price is that of the day, not today's of the product."""
    position, cents = random.randrange(plan.size("products")), random.randrange(99, 50_000)
    line = {
        "productId": _id(plan, "products", position),
        "quantity": random.randint(1, 4),
        "price": _money(cents),
        "name": _product_name(plan, position),
    }
    return line, cents


def _product_name(plan: ShopPlan, position: int) -> str:
    return f"{ADJECTIVES[(position + plan.seed) % len(ADJECTIVES)]} {NOUNS[position % len(NOUNS)]}"


def _product(plan: ShopPlan, position: int, random: Random) -> Document:
    identity = _id(plan, "products", position)
    name = _product_name(plan, position)
    return {
        "_id": identity,
        "sku": f"SKU-{position:06d}",
        "name": name,
        "description": f"{name} in {random.choice(COLOURS)}, made to be used every day.",
        "price": _money(random.randrange(99, 50_000)),
        "categoryId": _id(plan, "categories", random.randrange(plan.size("categories"))),
        "stock": random.randrange(500),
        "attributes": {
            "colour": random.choice(COLOURS),
            "weightKg": random.randrange(1, 400) / 16,
            "dimensions": {"widthCm": random.randrange(5, 200), "heightCm": random.randrange(5, 200)},
        },
        "tags": random.sample(TAGS, random.randrange(4)),
        "createdAt": identity.generation_time,
    }


def _category(plan: ShopPlan, position: int, random: Random) -> Document:
    # A tree: the first five are roots, the others hang below an earlier one.
    parent = None if position < 5 else random.randrange(position) // 4
    slug = f"{ADJECTIVES[position % len(ADJECTIVES)]}-{NOUNS[position % len(NOUNS)]}-{position}".lower()
    return {
        "_id": _id(plan, "categories", position),
        "slug": slug,
        "name": slug.replace("-", " ").title(),
        "parentId": None if parent is None else _id(plan, "categories", parent),
        "path": [] if parent is None else [f"level-{parent % 5}", f"node-{parent}"],
    }


_MAKERS: Mapping[str, Callable[[ShopPlan, int, Random], Document]] = {
    "users": _user,
    "orders": _order,
    "products": _product,
    "categories": _category,
}
