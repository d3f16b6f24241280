"""What an expression may be, as far as the source tells. Values are immutable, but for a call that a chain goes on to shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.source.calls import SOME
from docferry.core.source.program.syntax import Class, Function


@dataclass(frozen=True, slots=True)
class Unknown:
    """Anything."""


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Plain:
    """A constant."""

    value: Any


@dataclass(frozen=True, slots=True)
class Fields:
    """A dict or object, all of whose keys are known."""

    fields: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Several:
    """A list or tuple, of known length."""

    values: Sequence[Value]


@dataclass(frozen=True, slots=True)
class Symbol:
    """Something of a library, by its dotted path: `pymongo.MongoClient`."""

    path: str


@dataclass(frozen=True, slots=True)
class ClientHandle:
    """A connection to a server."""


@dataclass(frozen=True, slots=True)
class DatabaseHandle:
    """A database, whichever it is."""


@dataclass(frozen=True, slots=True)
class CollectionHandle:
    """A collection, or a model of one. `names`: a model's field -> the document's."""

    name: str | None
    driver: str
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MethodValue:
    """A method of a collection that is handed on, to be called elsewhere."""

    of: CollectionHandle
    name: str


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a model, which has methods that call the driver. `new`: it is made here, of `fields`."""

    of: CollectionHandle
    new: bool = False
    fields: Value | None = None


@dataclass(frozen=True, slots=True)
class QueryHandle:
    """A cursor, a query or a query set: what is called on it still shapes the call. `conditions`: of a Q object."""

    call: FoundCall


@dataclass(frozen=True, slots=True)
class QConditions:
    """mongoengine's Q: a filter; None: not known."""

    filter: Fields | None


@dataclass(frozen=True, slots=True)
class FunctionValue:
    """A function with the names that it sees."""

    node: Function
    scope: NameScope
    self_: Value | None = None


@dataclass(slots=True, eq=False)
class Kind:
    """A class. `attributes` are those of its objects, too: an object is as its class is."""

    node: Class
    bases: Sequence[Value]
    scope: NameScope
    attributes: dict[str, Value] = field(default_factory=dict)

    def get(self, name: str, depth: int = 8) -> Value | None:
        if name in self.attributes:
            return self.attributes[name]
        for base in self.bases:
            if isinstance(base, Kind) and depth:
                found = base.get(name, depth - 1)
                if found is not None:
                    return found
        return None

    def is_a(self, path: str, depth: int = 8) -> bool:
        return any(
            (isinstance(base, Symbol) and base.path == path)
            or (isinstance(base, Kind) and depth > 0 and base.is_a(path, depth - 1))
            for base in self.bases
        )


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of a class."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Module:
    """A file of the application."""

    path: str


Value = (
    Unknown | Plain | Fields | Several | Symbol | ClientHandle | DatabaseHandle | CollectionHandle | Document | QueryHandle
    | QConditions | MethodValue | FunctionValue | Kind | Thing | Module
)  # fmt: skip
HANDLES = (ClientHandle, DatabaseHandle, CollectionHandle, Document, Symbol, Kind, Thing, Module, FunctionValue)


@dataclass(slots=True, eq=False)
class FoundCall:
    """A call as it is found, before it is finished: a cursor's methods change it."""

    line: int
    driver: str
    written: str
    method: str
    collection: str | None
    of: str = "collection"
    filter: Value = field(default_factory=lambda: Fields({}))
    update: Value | None = None
    projection: Value | None = None
    pipeline: Value | None = None
    sort: list[tuple[str, int]] = field(default_factory=list)
    options: dict[str, Value] = field(default_factory=dict)
    cursor: list[str] = field(default_factory=list)
    documents: list[Value] = field(default_factory=list)
    names: Mapping[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    used: bool = False
    """A query set that is never read, or a model's query that only begins another, makes no call of its own."""


@dataclass(slots=True, eq=False)
class NameScope:
    """Names of one function or file. `outer_names`: those that are bound outside (`global`)."""

    outer: NameScope | None = None
    names: dict[str, Value] = field(default_factory=dict)
    outer_names: set[str] = field(default_factory=set)
    function: bool = False

    def find(self, name: str) -> Value | None:
        scope: NameScope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None

    def holder(self, name: str) -> NameScope | None:
        """The scope that has the name."""
        scope: NameScope | None = self
        while scope is not None and name not in scope.names:
            scope = scope.outer
        return scope


def joined(known: Value | None, new: Value) -> Value:
    """What a name is, if it may be either. A connection that is made later counts, whatever stands there until then."""
    if known is None or known == new:
        return new
    if isinstance(new, HANDLES) and (not isinstance(known, HANDLES) or isinstance(known, Symbol)):
        return new
    if isinstance(known, HANDLES) and (new == UNKNOWN or new == Plain(None)):
        return known
    return UNKNOWN


def plain_of(value: Value | None) -> Any:
    """A value as it may stand in a filter; SOME where it is not known."""
    if isinstance(value, Plain):
        return value.value
    if isinstance(value, Fields):
        return {name: plain_of(inner) for name, inner in value.fields.items()}
    if isinstance(value, Several):
        return [plain_of(inner) for inner in value.values]
    return SOME
