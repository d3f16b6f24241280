"""The cases of MongoDB's specifications, in the unified format, and one run of each through a client.

They stay outside this repository: `DOCFERRY_SPECIFICATIONS` names a directory with a clone of mongodb/specifications.
What the commands look like that a driver sends is not compared: the client sends others (docs/protocol.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bson import json_util
from pymongo.database import Database
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.write_concern import WriteConcern

from support.specifications.calls import (
    answer_of,
    arguments_of,
    bulk_counts,
    is_client_error,
    options_of,
    server_error,
    session_options,
    snake,
)
from support.specifications.matching import differs

DIRECTORY = os.environ.get("DOCFERRY_SPECIFICATIONS", "")
SUITES = ("crud/tests/unified", "transactions-convenient-api/tests/unified")
TRANSACTIONS = "transactions/tests/unified"
_PRESERVING = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED, tz_aware=False)
TRANSACTION_STATES = ("", "none", "starting", "in_progress", "committed", "committed", "aborted")
"""By pymongo's numbers."""
CURSORS = frozenset({"find", "aggregate", "list_indexes"})


class Unrunnable(Exception):
    """A case that asks for what no synchronous pymongo, or no replica set of this version, has."""


class NotAsExpected(AssertionError):
    """What a case expects has not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecificationCase:
    """One test of a file."""

    name: str
    file: Mapping[str, Any] = field(repr=False)
    test: Mapping[str, Any] = field(repr=False)

    def data(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self.file.get("initialData", ())
        return found

    def collections(self) -> set[str]:
        made = {
            one["collection"]["collectionName"] for one in self.file.get("createEntities", ()) if "collection" in one
        }
        return made | {one["collectionName"] for one in self.data()}

    @property
    def breaks_server(self) -> bool:
        """Whether it makes MongoDB fail, which nobody meets once DynamoDB leads."""
        return any(one["name"] == "failPoint" for one in self.test["operations"])

    def runs_on(self, version: tuple[int, ...]) -> bool:
        meets = all(_any_meets(one.get("runOnRequirements"), version) for one in (self.file, self.test))
        return meets and "skipReason" not in self.test


def _any_meets(requirements: Sequence[Mapping[str, Any]] | None, version: tuple[int, ...]) -> bool:
    return requirements is None or any(_meets(one, version) for one in requirements)


def _meets(one: Mapping[str, Any], version: tuple[int, ...]) -> bool:
    def parts(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split(".")))

    if "minServerVersion" in one and version < parts(one["minServerVersion"]):
        return False
    if "maxServerVersion" in one and version[: len(parts(one["maxServerVersion"]))] > parts(one["maxServerVersion"]):
        return False
    return "replicaset" in one.get("topologies", ["replicaset"]) and one.get("serverless") != "require"


def cases_of(suite: str) -> Iterator[SpecificationCase]:
    for path in sorted((Path(DIRECTORY) / "source" / suite).glob("*.json")):
        file = json_util.loads(path.read_text(), json_options=_PRESERVING)
        for test in file["tests"]:
            yield SpecificationCase(name=f"{path.stem}: {test['description']}", file=file, test=test)


class Running:
    """One case through one client. `database` is the application's, `plain` pymongo's of the same name. What the case has left is
    looked at in `plain`, or once DynamoDB leads in what `stored` gives of a collection."""

    def __init__(
        self,
        case: SpecificationCase,
        database: Any,
        plain: Database[Any],
        stored: Callable[[str], Sequence[Mapping[str, Any]]] | None = None,
        connect: Callable[[Mapping[str, Any]], Any] | None = None,
    ) -> None:
        """`connect` gives the application's database by a connection of its own, with options of the URI."""
        self._case, self._plain, self._connect = case, plain, connect
        self._stored = stored or (lambda name: list(plain[name].find(sort=[("_id", 1)])))
        self._entities: dict[str, Any] = {}
        self._points: list[str] = []
        self._sessions: list[Any] = []
        self._application = database
        self._makers: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "client": self._client, "database": self._database, "collection": self._collection, "session": self._session,
        }  # fmt: skip

    def run(self) -> None:
        """Raises: NotAsExpected, or what a call raised; Unrunnable."""
        try:
            self._make(self._case.file.get("createEntities", ()))
            for operation in self._case.test["operations"]:
                self._operate(operation)
            self._compare()
        finally:
            for point in self._points:
                self._plain.client.admin.command("configureFailPoint", point, mode="off")
            for session in self._sessions:
                session.end_session()

    # --- what a case has ---------------------------------------------------------------------------------------------

    def _make(self, entities: Sequence[Mapping[str, Any]]) -> None:
        for one in entities:
            ((kind, asked),) = one.items()
            if kind not in self._makers:
                raise Unrunnable(kind)
            self._entities[asked["id"]] = self._makers[kind](asked)

    def _client(self, asked: Mapping[str, Any]) -> Any:
        options = asked.get("uriOptions")
        if not options:
            return self._application.client
        if self._connect is None:
            raise Unrunnable("a client of its own")
        return self._connect(options).client

    def _database(self, asked: Mapping[str, Any]) -> Any:
        return self._entities[asked["client"]].get_database(
            self._plain.name, **options_of(asked.get("databaseOptions", {}))
        )

    def _collection(self, asked: Mapping[str, Any]) -> Any:
        options = options_of(asked.get("collectionOptions", {}))
        return self._entities[asked["database"]].get_collection(asked["collectionName"], **options)

    def _session(self, asked: Mapping[str, Any]) -> Any:
        options = session_options(asked.get("sessionOptions", {}))
        self._sessions.append(self._entities[asked["client"]].start_session(**options))
        return self._sessions[-1]

    # --- what it does ------------------------------------------------------------------------------------------------

    def _operate(self, operation: Mapping[str, Any], *, raises: bool = False) -> None:
        """`raises`: also an error that is expected; by it a transaction's callback ends, as the format wants."""
        try:
            found = self._call(operation)
        except (Unrunnable, NotAsExpected, NotImplementedError):
            raise
        except Exception as error:
            if "expectError" not in operation:
                if operation.get("ignoreResultAndError"):
                    return
                raise
            self._expect_error(operation["expectError"], error)
            if raises:
                raise
            return
        if "expectError" in operation:
            raise NotAsExpected(f"{operation['name']} did not raise")
        if "expectResult" in operation:
            self._same(operation["expectResult"], found)

    def _call(self, operation: Mapping[str, Any]) -> Any:
        name, of, asked = operation["name"], operation["object"], operation.get("arguments", {})
        if of == "testRunner":
            return self._tell_runner(name, asked)
        if name in ("count", "clientBulkWrite", "modifyCollection"):
            raise Unrunnable(name)
        target = self._entities[of]
        if name == "withTransaction":
            return self._with_transaction(target, asked)
        method = snake(name)
        arguments = arguments_of(method, asked)
        if "session" in arguments:
            arguments["session"] = self._entities[arguments["session"]]
        if method == "run_command":
            return target.command(**arguments)
        if method in ("create_collection", "drop_collection"):
            arguments["name" if method == "create_collection" else "name_or_collection"] = arguments.pop("collection")
        found = getattr(target, method)(**arguments)
        return list(found) if method in CURSORS and hasattr(found, "alive") else answer_of(found)

    def _tell_runner(self, name: str, asked: Mapping[str, Any]) -> None:
        if name == "createEntities":
            self._make(asked["entities"])
        elif name == "failPoint":
            self._plain.client.admin.command(asked["failPoint"])
            self._points.append(asked["failPoint"]["configureFailPoint"])
        elif name.startswith("assert"):
            self._assert(name, asked)
        else:
            raise Unrunnable(name)

    def _assert(self, name: str, asked: Mapping[str, Any]) -> None:
        if name in ("assertCollectionExists", "assertCollectionNotExists"):
            holds = asked["collectionName"] in self._plain.list_collection_names()
        elif name in ("assertIndexExists", "assertIndexNotExists"):
            holds = asked["indexName"] in self._plain[asked["collectionName"]].index_information()
        elif name == "assertSessionTransactionState":
            holds = TRANSACTION_STATES[self._entities[asked["session"]]._transaction.state] == asked["state"]
        else:
            raise Unrunnable(name)
        if holds == name.endswith("NotExists"):
            raise NotAsExpected(name)

    def _with_transaction(self, session: Any, asked: Mapping[str, Any]) -> None:
        def callback(_: Any) -> None:
            for operation in asked["callback"]:
                self._operate(operation, raises=True)

        session.with_transaction(
            callback, **options_of({name: one for name, one in asked.items() if name != "callback"})
        )

    # --- what is expected --------------------------------------------------------------------------------------------

    def _same(self, expected: Any, found: Any) -> None:
        if said := differs(expected, found):
            raise NotAsExpected(said)

    def _expect_error(self, expected: Mapping[str, Any], error: Exception) -> None:
        if expected.get("isClientError") and not is_client_error(error):
            raise NotAsExpected(f"{type(error).__name__} is a server's") from error
        told = f"{error} {getattr(error, 'details', '')}".lower()
        if expected.get("errorContains", "").lower() not in told:
            raise NotAsExpected(f"{error} does not say {expected['errorContains']}") from error
        said = server_error(error)
        for name, key in (("errorCode", "code"), ("errorCodeName", "codeName")):
            if name in expected and said.get(key, getattr(error, key, None)) != expected[name]:
                raise NotAsExpected(f"{name} is {said.get(key)}, not {expected[name]}") from error
        for name, wanted in (("errorLabelsContain", True), ("errorLabelsOmit", False)):
            for label in expected.get(name, ()):
                if not isinstance(error, PyMongoError) or error.has_error_label(label) is not wanted:
                    raise NotAsExpected(f"{label}: {error!r}") from error
        if "errorResponse" in expected:
            self._same(expected["errorResponse"], getattr(error, "details", None))
        if "expectResult" in expected and isinstance(error, BulkWriteError):
            self._same(expected["expectResult"], bulk_counts(error.details))

    def _compare(self) -> None:
        for one in self._case.test.get("outcome", ()):
            if one["databaseName"] != self._case.data()[0]["databaseName"]:
                raise Unrunnable("several databases")
            if said := differs(one["documents"], list(self._stored(one["collectionName"])), root=False):
                raise NotAsExpected(f"{one['collectionName']} {said}")


def fresh(case: SpecificationCase, plain: Database[Any]) -> None:
    """The collections of a case as it wants them to begin with, without documents; no transaction of the case before is open."""
    plain.client.admin.command("killAllSessions", [])
    majority = plain.with_options(write_concern=WriteConcern("majority"))
    for one in case.data():
        majority.drop_collection(one["collectionName"])
        majority.create_collection(one["collectionName"], **one.get("createOptions", {}))
