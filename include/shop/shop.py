"""The operations of the shop, by the playbook's names.

They speak to one thing, `DualWriteManager`, in pymongo's words; where reads and writes go is the mode's business. Documents go
in and come out as MongoDB has them. What is not there is None, or [], or one of `shop.errors`; what could not be asked raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from bson.errors import InvalidId
from bson.objectid import ObjectId
from docferry.client import DualWriteManager, DynamoDBClient, Ended, ScanPage

from shop.errors import NeedsDynamoDB, NoSuchOrder, NoSuchUser, OtherDatabase

Document = dict[str, Any]

KEYS: Final[Mapping[str, str]] = {"users": "username", "orders": "_id", "products": "_id", "categories": "_id"}
"""By which field each collection's documents are fetched: of this its table key is made."""
BATCH: Final = 1_000
_MONGODB: Final = "mongodb-"
COUNTERS: Final = (
    "mongo_writes",
    "dynamodb_writes",
    "mongo_write_failures",
    "dynamodb_write_failures",
    "validation_failures",
)


class Shop:
    """The shop over a client. Thread-safe, as the client is."""

    def __init__(self, db: DualWriteManager, dynamodb: DynamoDBClient | None = None) -> None:
        self._db, self._dynamodb = db, dynamodb
        self._users, self._orders = db["users"], db["orders"]

    def __repr__(self) -> str:
        return f"Shop({self._db!r}, {self._dynamodb!r})"

    # --- users -------------------------------------------------------------------------------------------------------

    def get_user_profile(self, username: str) -> Document | None:
        """The user of this name."""
        return self._users.find_one({"username": username})

    def get_user_by_email(self, email: str) -> Document | None:
        """The user with this address."""
        return self._users.find_one({"email": email})

    def get_user_addresses(self, username: str) -> list[Document]:
        """A user's addresses in their order. Raises NoSuchUser."""
        user = self._users.find_one({"username": username}, {"addresses": 1})
        if user is None:
            raise NoSuchUser(username)
        return list(user.get("addresses") or [])

    def create_user(self, user: Mapping[str, Any]) -> Any:
        """The new user's id; the profile and all addresses appear together. Raises pymongo's DuplicateKeyError."""
        return self._users.insert_one(dict(user)).inserted_id

    def update_user(self, username: str, changes: Mapping[str, Any]) -> None:
        """Set fields, dotted paths among them. Raises NoSuchUser: a change makes no user."""
        if not self._users.update_one({"username": username}, {"$set": dict(changes)}).matched_count:
            raise NoSuchUser(username)

    def get_active_users_in_city(self, city: str, last_login_after: datetime | str) -> list[Document]:
        """Users who are active and were here since then, in the order of their last visit.

        `last_login_after` is a moment, or its ISO-8601 text: "2024-01-01" is from midnight (UTC) on, not on that day.
        """
        query = {"profile.location.city": city, "status": "active", "lastLoginAt": {"$gte": _moment(last_login_after)}}
        return list(self._users.find(query).sort("lastLoginAt", 1))

    # --- orders ------------------------------------------------------------------------------------------------------

    def get_order(self, order_id: ObjectId | str) -> Document | None:
        """An order with its items."""
        return self._orders.find_one({"_id": _id(order_id)})

    def get_user_orders(self, user_id: ObjectId | str, limit: int = 20) -> list[Document]:
        """The newest orders of a user, by the user's id."""
        return list(self._orders.find({"userId": _id(user_id)}).sort("createdAt", -1).limit(limit))

    def get_orders_of(self, username: str, limit: int = 20) -> list[Document]:
        """The same by the user's name. Raises NoSuchUser."""
        user = self._users.find_one({"username": username}, {"_id": 1})
        if user is None:
            raise NoSuchUser(username)
        return self.get_user_orders(user["_id"], limit)

    def get_orders_by_status(self, status: str, limit: int = 100) -> list[Document]:
        """Some orders in this status, in no order that is promised."""
        return list(self._orders.find({"status": status}).limit(limit))

    def create_order(self, order: Mapping[str, Any]) -> Any:
        """The new order's id; the order and all its items appear together, or not at all. Raises DuplicateKeyError."""
        return self._orders.insert_one(dict(order)).inserted_id

    def update_order_status(self, order_id: ObjectId | str, new_status: str) -> None:
        """Raises NoSuchOrder: no order is made by having a status."""
        change = {"$set": {"status": new_status, "updatedAt": _moment(datetime.now(UTC))}}
        if not self._orders.update_one({"_id": _id(order_id)}, change).matched_count:
            raise NoSuchOrder(str(order_id))

    # --- any collection ----------------------------------------------------------------------------------------------

    def batch_get_items(self, collection: str, keys: Sequence[Any]) -> list[Document]:
        """The documents with these usernames or ids, any number, in the order of the keys; what is not there is left out."""
        name = KEYS[collection]
        wanted = list(dict.fromkeys(_id(key) if name == "_id" else key for key in keys))
        found: dict[Any, Document] = {}
        for start in range(0, len(wanted), BATCH):
            some = self._db[collection].find({name: {"$in": wanted[start : start + BATCH]}})
            found.update((one[name], one) for one in some)
        return [found[key] for key in wanted if key in found]

    def scan_with_filter(
        self,
        collection: str,
        filter: Mapping[str, Any],
        *,
        limit: int = 100,
        max_read_units: float = 50.0,
        start: str | None = None,
    ) -> ScanPage:
        """Documents that match a MongoDB filter, from where reads go: for reports, not for requests of users.

        `next` of one page is the `start` of the next. In DynamoDB it reads all that passes by, and stops at `max_read_units`.
        Raises: NeedsDynamoDB; OtherDatabase, if reads have moved since the list began.
        """
        if not self._db.get_metrics()["configuration"]["read_from_dynamodb"]:
            return self._scan_mongodb(collection, filter, limit, start)
        if self._dynamodb is None:
            raise NeedsDynamoDB("scan_with_filter: reads go to DynamoDB, so make the shop with a DynamoDBClient")
        if start is not None and start.startswith(_MONGODB):
            raise OtherDatabase("the list began in MongoDB")
        return self._dynamodb.scan(collection, filter, limit=limit, max_read_units=max_read_units, start=start)

    def _scan_mongodb(self, collection: str, filter: Mapping[str, Any], limit: int, start: str | None) -> ScanPage:
        """A page by `_id`: all ids of the shop are ObjectIds."""
        query = dict(filter)
        if start is not None:
            if not start.startswith(_MONGODB):
                raise OtherDatabase("the list began in DynamoDB")
            query = {"$and": [query, {"_id": {"$gt": _id(start.removeprefix(_MONGODB))}}]}
        found = list(self._db[collection].find(query).sort("_id", 1).limit(limit))
        more = len(found) == limit
        token = f"{_MONGODB}{found[-1]['_id']}" if more else None
        return ScanPage(documents=found, next=token, ended=Ended.LIMIT if more else Ended.END, read_units=0.0)

    # --- the migration -----------------------------------------------------------------------------------------------

    def get_metrics(self) -> Mapping[str, Any]:
        """The playbook's five counters of this process, and its flags as they are now."""
        metrics = self._db.get_metrics()
        return {name: metrics[name] for name in (*COUNTERS, "configuration")}

    def to_document(self, collection: str, items: Iterable[Mapping[str, Any]]) -> Document:
        """A document from its items as boto3's resource gives them: the way back, BSON types included."""
        return self._db.parts.mappings[collection].to_document(items)


def _id(given: ObjectId | str) -> ObjectId | str:
    """An id as it is stored; a text that is none is left as it is, and nothing has it."""
    try:
        return ObjectId(given)
    except InvalidId:
        return given


def _moment(given: datetime | str) -> datetime:
    """UTC in milliseconds, as MongoDB keeps it."""
    moment = datetime.fromisoformat(given) if isinstance(given, str) else given
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
