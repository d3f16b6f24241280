"""One process of the application that is moved in a drill: mixed traffic through `docferry.connect`, all of it written down.

    DOCFERRY_MONGO_URI=... python -m docferry.rehearsal.application --file shop.yaml --history FILE --number 3 --rate 10

Its writers own users and orders that no other process writes, so that its history (`drill_history`) says what these must be;
beside them they increment counters that all processes share (`make_counters` makes them beforehand), and people contend with
those of other processes for e-mail addresses (`registrations`). Its reader asks for all
of them by key, by e-mail address, and for a customer's orders. It runs until SIGTERM or Ctrl-C, and ends when what is under
way has been answered. A document whose write has failed may be or not be: it is left alone from then on, and another takes
its place.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import click
from bson import Decimal128, ObjectId

import docferry
from docferry.client import DualWriteManager
from docferry.rehearsal.history import Document, HistoryWriter, summary_of
from docferry.rehearsal.large import sometimes_large
from docferry.rehearsal.registrations import Registrar
from docferry.rehearsal.words import FIRST_NAMES, ORDER_STATUSES, PLACES, TAGS

WRITERS = 3
READS_SHARE = 0.2
"""Of all requests; the reader has them to itself, so that reads go on while writes wait."""
REGISTRATIONS_SHARE = 0.1
USERS = 4
ORDERS = 4
"""Documents of each writer. Few: each is written often, and no partition of an index grows large."""
COUNTERS = tuple(f"counter-{number}" for number in range(4))
COUNTED_SHARE = 0.08
DEBT_S = 0.1
"""How far behind its schedule a thread may catch up. What is older is given up: an application does not burst."""
OPENED = datetime(2024, 1, 1)  # noqa: DTZ001 - as the client reads dates


def make_counters(users: Any) -> None:
    """The shared documents, at 0. `users` is pymongo's collection."""
    users.insert_many([{"_id": ObjectId(), "username": name, "visits": 0} for name in COUNTERS])


# --- documents -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Owned:
    """A place for one document. `generation` tells its names apart from those of documents that were given up."""

    collection: str
    owner: str
    customer: ObjectId
    id: ObjectId = field(default_factory=ObjectId)
    generation: int = 0
    renamed: bool = False
    is_there: bool = False

    @property
    def name(self) -> str:
        return f"{self.owner}-{self.generation}{'-b' if self.renamed else ''}"

    @property
    def email(self) -> str:
        return f"{self.owner}-{self.generation}@drill.example"

    @property
    def query(self) -> Document:
        return {"username": self.name} if self.collection == "users" else {"_id": self.id}

    def give_up(self) -> None:
        self.generation += 1
        self.id, self.renamed, self.is_there = ObjectId(), False, False


def _user(owned: Owned, random: Random) -> Document:
    city = random.choice(PLACES)[0]
    return {
        "username": owned.name,
        "email": owned.email,
        "drill": owned.owner,
        "profile": {"firstName": random.choice(FIRST_NAMES), "location": {"city": city}},
        "addresses": [_address(random) for _ in range(random.randrange(3))],
        "tags": [],
        "visits": random.randrange(1_000),
        "best": random.randrange(1_000),
        "status": random.choice(("active", "inactive")),
        "lastLoginAt": _moment(random),
    }


def _order(owned: Owned, random: Random) -> Document:
    return {
        "userId": owned.customer,
        "drill": owned.owner,
        "status": random.choice(ORDER_STATUSES),
        "totalAmount": Decimal128(f"{random.randrange(100)}.50"),
        "items": [_line(random) for _ in range(random.randrange(3))],
        "revision": 0,
        "createdAt": _moment(random),
    }


def _address(random: Random) -> Document:
    return {"type": random.choice(("home", "work")), "zipCode": f"{random.randrange(5):05d}"}


def _line(random: Random) -> Document:
    price = Decimal128(f"{random.randrange(100)}.99")
    return {"productId": ObjectId(), "quantity": random.randrange(5), "price": price, "name": random.choice(TAGS)}


def _moment(random: Random) -> datetime:
    return OPENED + timedelta(seconds=random.randrange(10_000_000))


_MAKERS: dict[str, Callable[[Owned, Random], Document]] = {"users": _user, "orders": _order}


# --- writes ----------------------------------------------------------------------------------------------------------

_UPDATES: dict[str, tuple[Callable[[Random], Document], ...]] = {
    "users": (
        lambda random: {"$inc": {"visits": random.randrange(1, 9)}, "$set": {"lastLoginAt": _moment(random)}},
        lambda random: {"$set": {"profile.firstName": random.choice(FIRST_NAMES), "preferences.theme": "dark"}},
        lambda random: {"$set": {"status": random.choice(("active", "inactive"))}, "$unset": {"preferences": ""}},
        lambda random: {"$push": {"addresses": _address(random)}},
        lambda random: {"$pull": {"addresses": {"zipCode": f"{random.randrange(5):05d}"}}},
        lambda random: {"$addToSet": {"tags": random.choice(TAGS[:4])}, "$max": {"best": random.randrange(2_000)}},
        lambda random: {"$min": {"best": random.randrange(1_000)}, "$unset": {"profile.location": ""}},
    ),
    "orders": (
        lambda random: {"$set": {"status": random.choice(ORDER_STATUSES)}, "$inc": {"revision": 1}},
        lambda random: {"$push": {"items": _line(random)}, "$inc": {"revision": 1}},
        lambda random: {"$pull": {"items": {"quantity": random.randrange(5)}}},
        lambda random: {"$set": {"totalAmount": Decimal128(f"{random.randrange(100)}.25")}},
    ),
}


class Writer:
    """Changes its own documents, one request after the other."""

    def __init__(self, manager: DualWriteManager, history: HistoryWriter, name: str, large: float = 0.0) -> None:
        """`large` is the share of its documents that are over 400 KB."""
        self._manager, self._history, self._random, self._large = manager, history, Random(name), large
        customer = ObjectId()
        self.owned = [
            Owned(collection, f"{name}-{collection}-{place}", customer)
            for collection, places in (("users", USERS), ("orders", ORDERS))
            for place in range(places)
        ]
        self._kinds: dict[Callable[[Owned], None], int] = {
            self._update: 8,
            self._find_and_update: 3,
            self._replace: 2,
            self._delete: 3,
            self._rename: 1,
            self._insert_again: 1,
        }

    def step(self) -> None:
        """One request."""
        if self._random.random() < COUNTED_SHARE:
            self._count()
            return
        owned = self._random.choice(self.owned)
        if not owned.is_there:
            self._insert(owned)
            return
        (kind,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
        kind(owned)

    def _ask(self, owned: Owned, method: str, *arguments: Document, **options: Any) -> bool:
        """One write, and whether it did what it was to do; else the document is given up."""
        argument = arguments[-1] if len(arguments) > 1 or method == "insert_one" else None
        about = {
            "kind": "write",
            "method": method,
            "collection": owned.collection,
            "_id": argument["_id"] if method == "insert_one" and argument else owned.id,
            "query": {} if method == "insert_one" else arguments[0],
            "argument": argument,
        }
        call = getattr(self._manager[owned.collection], method)
        told, error = self._history.request(lambda: summary_of(call(*arguments, **options)), about)
        done = not error and told not in _NOTHING
        if not done:
            owned.give_up()
        return done

    def _document(self, owned: Owned) -> Document:
        return sometimes_large(_MAKERS[owned.collection](owned, self._random), self._large, self._random)

    def _insert(self, owned: Owned) -> None:
        if owned.collection == "users" and self._random.random() < 0.5:
            owned.id = ObjectId()
        if self._ask(owned, "insert_one", {"_id": owned.id, **self._document(owned)}):
            owned.is_there = True

    def _update(self, owned: Owned) -> None:
        self._ask(owned, "update_one", owned.query, self._random.choice(_UPDATES[owned.collection])(self._random))

    def _find_and_update(self, owned: Owned) -> None:
        change = self._random.choice(_UPDATES[owned.collection])(self._random)
        self._ask(owned, "find_one_and_update", owned.query, change, return_document=True)

    def _replace(self, owned: Owned) -> None:
        self._ask(owned, "replace_one", owned.query, self._document(owned))

    def _delete(self, owned: Owned) -> None:
        if self._ask(owned, "delete_one", owned.query):
            owned.is_there = False

    def _rename(self, owned: Owned) -> None:
        """The key in DynamoDB moves."""
        if owned.collection != "users":
            self._update(owned)
            return
        before = owned.query
        owned.renamed = not owned.renamed
        self._ask(owned, "update_one", before, {"$set": {"username": owned.name}})

    def _insert_again(self, owned: Owned) -> None:
        """Another document under a key that is taken: it must be refused."""
        other = ObjectId() if owned.collection == "users" else owned.id
        document = {"_id": other, **_MAKERS[owned.collection](owned, self._random)}
        about = {
            "kind": "write", "method": "insert_one", "collection": owned.collection, "_id": other, "query": {},
            "argument": document, "refused": True,
        }  # fmt: skip
        insert = self._manager[owned.collection].insert_one
        _, error = self._history.request(lambda: summary_of(insert(document)), about)
        if error != "DuplicateKeyError":
            owned.give_up()

    def _count(self) -> None:
        name = self._random.choice(COUNTERS)
        query, change = {"username": name}, {"$inc": {"visits": 1}}
        about = {"kind": "increment", "method": "update_one", "collection": "users", "counter": name, "query": query}
        self._history.request(lambda: summary_of(self._manager["users"].update_one(query, change)), about)


_NOTHING = ({"matched": 0, "modified": 0}, {"deleted": 0}, {"document": None})


# --- reads -----------------------------------------------------------------------------------------------------------


class ApplicationReader:
    """Asks for what the writers of this process write, whether it is there or not, and for the counters."""

    def __init__(self, manager: DualWriteManager, history: HistoryWriter, name: str, owned: list[Owned]) -> None:
        self._manager, self._history, self._random, self._owned = manager, history, Random(name), owned

    def step(self) -> None:
        """One request."""
        if self._random.random() < 0.1:
            self._find_one("users", {"username": self._random.choice(COUNTERS)})
            return
        owned = self._random.choice(self._owned)
        if self._random.random() < 0.6:
            self._find_one(owned.collection, owned.query)
        elif owned.collection == "users":
            self._find_one("users", {"email": owned.email})
        else:
            self._orders_of(owned.customer)

    def _find_one(self, collection: str, query: Document) -> None:
        def ask() -> Document:
            found = self._manager[collection].find_one(query)
            return {"documents": [] if found is None else [found]}

        self._history.request(ask, {"kind": "read", "method": "find_one", "collection": collection, "query": query})

    def _orders_of(self, customer: ObjectId) -> None:
        query = {"userId": customer}

        def ask() -> Document:
            return {"documents": self._manager["orders"].find(query).sort("createdAt", -1).to_list()}

        self._history.request(ask, {"kind": "read", "method": "find", "collection": "orders", "query": query})


# --- the process -----------------------------------------------------------------------------------------------------


class Worker(threading.Thread):
    """Does one step after the other, `rate` a second, until told to stop. `trouble` is an error of its own, not of a request."""

    def __init__(self, name: str, step: Callable[[], None], rate: float, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._step, self._rate, self._stop_it = step, rate, stop
        self.trouble: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in _ticks(self._rate, self._stop_it):
                self._step()
        except BaseException as error:  # noqa: BLE001 - raised by the main thread
            self.trouble = error
            self._stop_it.set()


def _ticks(rate: float, stop: threading.Event) -> Iterator[None]:
    """One item each time a request is due."""
    due = time.monotonic() + Random().random() / rate
    while not stop.wait(max(0.0, due - time.monotonic())):
        yield
        due = max(due + 1 / rate, time.monotonic() - DEBT_S)


def work(
    manager: DualWriteManager, history: HistoryWriter, number: int, rate: float, stop: threading.Event, large: float
) -> None:
    """Traffic until `stop`. Raises what a thread ended with."""
    writers = [Writer(manager, history, f"p{number}-{one}", large) for one in range(WRITERS)]
    reader = ApplicationReader(manager, history, f"p{number}-reader", [owned for one in writers for owned in one.owned])
    each = rate * (1 - READS_SHARE - REGISTRATIONS_SHARE) / WRITERS
    workers = [Worker(f"writer {index}", one.step, each, stop) for index, one in enumerate(writers)]
    registrar = Registrar(manager, history, f"p{number}-people")
    workers.append(Worker("registrar", registrar.step, rate * REGISTRATIONS_SHARE, stop))
    workers.append(Worker("reader", reader.step, rate * READS_SHARE, stop))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for worker in workers:
        if worker.trouble is not None:
            raise worker.trouble


@click.command(help=(__doc__ or "").partition("\n\n")[0])
@click.option(
    "--file", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Migration file."
)
@click.option("--history", "path", required=True, type=click.Path(dir_okay=False, path_type=Path), help="A new file.")
@click.option("--number", required=True, type=int, help="Tells this process's documents from those of the others.")
@click.option(
    "--rate", default=10.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Requests/s."
)
@click.option("--large", default=0.0, type=click.FloatRange(0, 1), help="Share of documents over 400 KB.")
def main(file: Path, path: Path, number: int, rate: float, large: float) -> None:
    stop = threading.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: stop.set())
    with docferry.connect(file) as manager:

        def mode() -> str:
            return str(manager.get_metrics()["configuration"]["mode"])

        with HistoryWriter(path, number, mode) as history:
            work(manager, history, number, rate, stop, large)
            history.stop(manager.get_metrics()["counts"])


if __name__ == "__main__":
    main()
