"""A history as an application tells it, and the two databases that the judge looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId, json_util
from docferry.rehearsal.independent.aftermath import compare_with_mongodb
from docferry.rehearsal.independent.history import HistoryVerdict, Replayed, read_history

ANN, BOB = ObjectId("650000000000000000000001"), ObjectId("650000000000000000000002")
LOST, RESURRECTED, FAILED, CONTRADICTED = (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)


Document = dict[str, Any]


def user(name: str = "ann", identity: ObjectId = ANN, **more: Any) -> Document:
    return {"_id": identity, "username": name, "email": f"{name}@drill.example", "drill": "p0", "visits": 1, **more}


class Told:
    """A history, request after request, one second each."""

    def __init__(self, path: Path, number: int = 0) -> None:
        self.path, self.now, self.last, self.mode = path, 0.0, 0, "MONGO_ONLY"
        self._line({"at": "start", "number": number})

    def _line(self, line: Document) -> None:
        text = json_util.dumps({**line, "time": self.now}, json_options=json_util.CANONICAL_JSON_OPTIONS)
        with self.path.open("a") as file:
            file.write(f"{text}\n")

    def begin(self, kind: str, method: str, *, collection: str = "users", **about: Any) -> int:
        self.last += 1
        line = {"at": "begin", "n": self.last, "kind": kind, "method": method, "collection": collection, **about}
        self._line({**line, "mode": self.mode})
        self.now += 1.0
        return self.last

    def end(self, number: int, **what: Any) -> None:
        self._line({"at": "end", "n": number, "outcome": "ok", "mode": self.mode, **what})

    def write(self, method: str, argument: Any, result: Any, identity: ObjectId = ANN, query: Any = None) -> None:
        query = {} if method == "insert_one" else query or {"username": "ann"}
        number = self.begin("write", method, _id=identity, query=query, argument=argument)
        self.end(number, result=result)

    def fail(self, method: str, argument: Any, error: str, **more: Any) -> None:
        query = {} if method == "insert_one" else {"username": "ann"}
        number = self.begin("write", method, _id=ANN, query=query, argument=argument, **more)
        self.end(number, outcome="failed", error=error)

    def insert(self, document: Document) -> None:
        self.write("insert_one", document, {"inserted": 1}, document["_id"])

    def count(self, **what: Any) -> None:
        number = self.begin("increment", "update_one", counter="c", query={"username": "c"})
        if what:
            self.end(number, **what)

    def read(self, found: Sequence[Document], **query: Any) -> None:
        number = self.begin("read", "find_one", query=query)
        self.end(number, result={"documents": list(found)})

    def replayed(self, **counters: int) -> Replayed:
        return Replayed([read_history(self.path)], counters)

    def verdict(self) -> HistoryVerdict:
        return self.replayed().verdict


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "history.jsonl")


# --- the databases, as far as the checker asks them ------------------------------------------------------------------


class Mongo(dict[str, list[Document]]):
    """Collections by name."""

    def get_collection(self, name: str, codec_options: Any = None) -> Mongo:
        return Mongo({"": self.get(name, [])})

    def __getitem__(self, name: str) -> Any:
        return self.get_collection(name)

    def find(self, query: Document) -> list[Document]:
        return [one for one in self.get("", []) if not query or one.get("username") in query["username"]["$in"]]


def in_mongodb(told: Told, *users: Document, **counters: int) -> HistoryVerdict:
    replayed = told.replayed(**counters)
    compare_with_mongodb(replayed, Mongo(users=list(users)))
    return replayed.verdict


NOTHING = (0, 0, 0, 0)
