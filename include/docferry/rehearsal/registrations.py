"""People in a drill's application who contend for e-mail addresses: a unique index is all that keeps them apart.

The addresses are a pool that all processes share, and there are more people than addresses: people register, move to another
address, exchange addresses in one transaction, leave, and register again. A refusal is no failure. The judge finds out whether an
address was ever two people's, and whether one was refused that was free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession

from docferry.client import DualWriteManager
from docferry.rehearsal.history import Document, HistoryWriter, summary_of

PEOPLE = 4
"""Of each process."""
POOL = tuple(f"pool-{number}@drill.example" for number in range(20))
REFUSED = "DuplicateKeyError"


@dataclass(slots=True)
class Person:
    """A place for one user. `generation` tells its names apart from those of users who were given up."""

    owner: str
    generation: int = 0
    id: ObjectId = field(default_factory=ObjectId)
    email: str = ""
    is_there: bool = False

    @property
    def query(self) -> Document:
        return {"username": f"{self.owner}-{self.generation}"}

    def give_up(self) -> None:
        """It may be there or not: nothing more is done to it."""
        self.generation, self.email, self.is_there = self.generation + 1, "", False


class Registrar:
    """What the people of one process do, one request after the other."""

    def __init__(
        self,
        manager: DualWriteManager,
        history: HistoryWriter,
        name: str,
        *,
        people: int = PEOPLE,
        pool: Sequence[str] = POOL,
    ) -> None:
        """`pool` are the addresses, two at least; all processes have the same."""
        self._manager, self._users, self._history = manager, manager["users"], history
        self._name, self._random, self._pool = name, Random(name), pool
        self.people = [Person(f"{name}-{place}") for place in range(people)]
        self._kinds: dict[Callable[[Person], None], int] = {
            self._move: 4,
            self._exchange: 4,
            self._leave: 4,
            self._look: 1,
        }

    def step(self) -> None:
        """One request."""
        person = self._random.choice(self.people)
        if not person.is_there:
            self._register(person)
            return
        (kind,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
        kind(person)

    def _register(self, person: Person) -> None:
        """A person who has left often wants the same address again."""
        email = person.email if person.email and self._random.random() < 0.5 else self._random.choice(self._pool)
        person.id = ObjectId()
        document = {"_id": person.id, **person.query, "email": email, "drill": self._name, "visits": 0}
        about = {"method": "insert_one", "_id": person.id, "query": {}, "argument": document, "contested": "email"}
        if self._ask(lambda: summary_of(self._users.insert_one(document)), about, person):
            person.email, person.is_there = email, True

    def _move(self, person: Person) -> None:
        email = self._random.choice([one for one in self._pool if one != person.email])
        change = {"$set": {"email": email}}
        about = {"method": "update_one", "_id": person.id, "query": person.query, "argument": change}
        asked = {**about, "contested": "email"}
        if self._ask(lambda: summary_of(self._users.update_one(person.query, change)), asked, person):
            person.email = email

    def _leave(self, person: Person) -> None:
        about = {"method": "delete_one", "_id": person.id, "query": person.query, "argument": None}
        if self._ask(lambda: summary_of(self._users.delete_one(person.query)), about, person):
            person.is_there = False

    def _look(self, person: Person) -> None:
        def ask() -> Document:
            found = self._users.find_one(person.query)
            return {"documents": [] if found is None else [found]}

        self._history.request(ask, {"kind": "read", "method": "find_one", "collection": "users", "query": person.query})

    def _exchange(self, person: Person) -> None:
        """Two of this process's people. In MongoDB an address must be free before another document takes it."""
        others = [one for one in self.people if one.is_there and one is not person]
        if not others:
            self._move(person)
            return
        other = self._random.choice(others)
        changes = [(one.query, {"$set": {"email": email}}) for one, email in self._crossed(person, other)]

        def within(session: ClientSession) -> Document:
            self._users.update_one(person.query, {"$unset": {"email": ""}}, session=session)
            done = [self._users.update_one(*change, session=session) for change in reversed(changes)]
            return {"writes": [summary_of(one) for one in reversed(done)]}

        def ask() -> Any:
            with self._manager.client.start_session() as session:
                return session.with_transaction(within)

        writes = [
            {"method": "update_one", "_id": one.id, "query": query, "argument": change}
            for one, (query, change) in zip((person, other), changes, strict=True)
        ]
        if self._ask(ask, {"kind": "exchange", "method": "with_transaction", "writes": writes}, person, other):
            person.email, other.email = other.email, person.email

    @staticmethod
    def _crossed(one: Person, other: Person) -> list[tuple[Person, str]]:
        return [(one, other.email), (other, one.email)]

    def _ask(self, ask: Callable[[], Any], about: Document, *people: Person) -> bool:
        """One write, and whether it happened. People of whom it is not known are given up."""
        _, error = self._history.request(ask, {"kind": "write", "collection": "users", **about})
        if error and not (error == REFUSED and "contested" in about):
            for person in people:
                person.give_up()
        return not error
