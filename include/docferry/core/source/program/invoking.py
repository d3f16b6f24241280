"""Calls in a program: what they are called on decides whether they are a driver's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bson.regex import Regex

from docferry.core.source.program import syntax as s
from docferry.core.source.program.drivers import (
    CLIENT_METHODS,
    CLIENTS,
    DATABASE_METHODS,
    DATABASES,
    PASSES_ON,
    TABLES,
    TO_COLLECTION,
    TO_DATABASE,
    Method,
)
from docferry.core.source.program.guessing import guessed, handle_of
from docferry.core.source.program.models import (
    conditions_of,
    either,
    field_of,
    is_query_symbol,
    model_of,
    mongoose_model,
    query_set,
    schema_of,
)
from docferry.core.source.program.reading import Reader
from docferry.core.source.program.recording import Arguments, chained, recorded
from docferry.core.source.program.values import (
    UNKNOWN,
    ClientHandle,
    CollectionHandle,
    DatabaseHandle,
    Document,
    Fields,
    FoundCall,
    FunctionValue,
    Kind,
    MethodValue,
    NameScope,
    Plain,
    QConditions,
    QueryHandle,
    Several,
    Symbol,
    Thing,
    Unknown,
    Value,
    joined,
)
from docferry.core.source.program.world import World

MOST_DEPTH = 3
MOST_FOLLOWED = 5_000
"""So deep, and for so many expressions, are functions followed for what they return."""
_SAVES: Mapping[str, str] = {
    "save": "update_one", "delete": "delete_one", "deleteOne": "delete_one", "remove": "delete_one", "reload": "find_one",
    "update": "update_one", "updateOne": "update_one", "modify": "find_one_and_update",
}  # fmt: skip
"""Methods of one document of a model, and the call that they make."""


class Caller(Reader):
    """A reader that follows calls."""

    def __init__(self, world: World, program: s.Program) -> None:
        super().__init__(world, program)
        self._returned: dict[Any, tuple[Value, Arguments]] = {}
        """What functions return, by what they are given, which is kept: the key names it by where it is in memory."""

    def call(self, node: s.CallNode, scope: NameScope) -> Value:
        if isinstance(node.of, s.MemberNode):
            receiver = self.eval(node.of.of, scope)
            given = self._arguments(node, scope)
            if node.of.name == "then":
                self._then(node, receiver)
            return self._method(node, receiver, given, scope)
        callee = self.eval(node.of, scope)
        return self._plain(node, callee, self._arguments(node, scope))

    def _arguments(self, node: s.CallNode, scope: NameScope) -> Arguments:
        values = tuple(self.eval(one, scope) for one in node.arguments)
        named: dict[str, Value] = {}
        for name, inner in node.named:
            value = self.eval(inner, scope)
            if name:
                named[name] = value
            elif isinstance(value, Fields):
                named.update(value.fields)
            else:
                named[""] = UNKNOWN
        given = Arguments(values, named, node.open)
        self._handed_on(node, given)
        return given

    def _handed_on(self, node: s.CallNode, given: Arguments) -> None:
        """`to_thread(users.find_one, {...})`: the call that is made of a method; else, that there is one is all that is known."""
        called = (
            node.of.name if isinstance(node.of, s.MemberNode) else node.of.id if isinstance(node.of, s.Name) else ""
        )
        for position, value in enumerate(given.values):
            if not isinstance(value, MethodValue):
                continue
            known = called in PASSES_ON
            rest = Arguments(given.values[position + 1 :] if known else (), given.named if known else {}, not known)
            method = TABLES[value.of.driver][value.name]
            self.record(recorded(node.line, value.of, value.name, method, rest))

    def got(self, getter: FunctionValue) -> Value:
        return self._call_function(getter, None, Arguments())

    def _then(self, node: s.CallNode, receiver: Value) -> None:
        """`promise.then(client => ...)`: the parameter is what the promise is of."""
        for one in node.arguments[:1]:
            if isinstance(one, s.Function):
                self.given[id(one)] = (receiver,)

    # --- methods -----------------------------------------------------------------------------------------------------

    def _method(self, node: s.CallNode, receiver: Value, given: Arguments, scope: NameScope) -> Value:
        assert isinstance(node.of, s.MemberNode)
        on = _ON.get(type(receiver))
        if on is not None:
            found = on(self, receiver, node, node.of.name, given)
            if found is not None:
                return found
        if isinstance(receiver, Fields) and node.of.name in ("update", "setdefault", "pop"):
            self._changed(node.of, receiver, given, scope)
        if node.of.name == "freeze" and isinstance(node.of.of, s.Name) and node.of.of.id == "Object":
            return given.first() or UNKNOWN
        found = self.member_of(receiver, node.of.name, node.of)
        if found != UNKNOWN:
            return self._plain(node, found, given)
        return self._guessed(node, node.of, receiver, given)

    def _on_query(self, of: QueryHandle, node: s.CallNode, name: str, given: Arguments) -> Value | None:
        call = of.call
        if call.driver == "mongoengine":
            return self._on_query_set(of, node, name, given)
        if call.driver == "mongoose" and name in ("save", "remove") and call.method.startswith("find_one"):
            return self._on_document(Document(_collection_of(call)), node, name, given)
        if chained(call, name, given):
            if name == "populate":
                call.cursor.append("populate")
            return of
        return UNKNOWN

    def _on_query_set(self, of: QueryHandle, node: s.CallNode, name: str, given: Arguments) -> Value | None:
        call = of.call
        ended = query_set(call, name, given) if not call.used else None
        if call.used:
            call = self._again(call, node)
            ended = query_set(call, name, given)
        if isinstance(ended, str):
            call.method, call.written, call.used, call.line = ended, name, True, node.line
            return Document(_collection_of(call)) if ended.startswith("find_one") or name == "create" else UNKNOWN
        return QueryHandle(call) if ended else UNKNOWN

    def _again(self, call: FoundCall, node: s.CallNode) -> FoundCall:
        """A query set that has been read is asked another time."""
        more = replace(call, line=node.line, method="find", written="objects", used=False)
        more.options, more.cursor, more.update = dict(call.options), list(call.cursor), None
        return self.record(more)

    def document_of(self, of: QueryHandle) -> Value:
        return Document(_collection_of(of.call)) if of.call.driver in ("mongoengine", "mongoose") else UNKNOWN

    def query_set(self, of: CollectionHandle, line: int) -> FoundCall:
        return self.record(recorded(line, of, "objects", Method("find", (), True), Arguments()))

    def _on_collection(self, of: CollectionHandle, node: s.CallNode, name: str, given: Arguments) -> Value | None:
        method = TABLES.get(of.driver, {}).get(name)
        if of.driver == "mongoengine" and name == "objects":
            found = self.query_set(of, node.line)
            query_set(found, "__call__", given)
            return QueryHandle(found)
        if of.driver == "mongoengine" and name in ("drop_collection", "ensure_indexes", "create_index"):
            method = Method({"drop_collection": "drop"}.get(name, "create_index"), ())
        if method is None:
            return UNKNOWN if name in ("hydrate", "populate", "init", "db") else None
        found = self.record(recorded(node.line, of, name, method, given))
        if name in ("with_options", "withOptions"):
            return of
        if method.query:
            return QueryHandle(found)
        return Document(of) if of.driver == "mongoose" and method.name == "insert_one" else UNKNOWN

    def _on_document(self, of: Document, node: s.CallNode, name: str, given: Arguments) -> Value | None:
        method = _SAVES.get(name)
        if method is None:
            return None
        if name == "save" and of.new:
            found = recorded(node.line, of.of, name, Method("insert_one", ()), Arguments(named=given.named))
            found.documents = [of.fields or UNKNOWN]
        else:
            found = recorded(node.line, of.of, name, Method(method, ()), Arguments(named={}))
            found.filter = Fields({"_id": UNKNOWN})
            found.update = Fields({"$set": UNKNOWN}) if method.startswith(("update", "find_one_and_update")) else None
        self.record(found)
        return of

    def _on_database(self, of: DatabaseHandle, node: s.CallNode, name: str, given: Arguments) -> Value | None:
        if name in TO_COLLECTION:
            first = given.first() or given.named.get("name")
            text = first.value if isinstance(first, Plain) and isinstance(first.value, str) else None
            return CollectionHandle(text, self._driver())
        if name == "model":
            return mongoose_model(given)
        if name in ("with_options", "useDb", "asPromise"):
            return of
        if name in DATABASE_METHODS:
            found = FoundCall(node.line, self._driver(), name, DATABASE_METHODS[name], "", of="database")
            self.record(found)
            return UNKNOWN
        return UNKNOWN if name in CLIENT_METHODS else None

    def _on_client(self, of: ClientHandle, node: s.CallNode, name: str, given: Arguments) -> Value | None:
        if name in TO_DATABASE:
            return DatabaseHandle()
        if name in ("connect", "with_options"):
            return of
        if name in CLIENT_METHODS:
            self.record(FoundCall(node.line, self._driver(), name, "client", "", of="database"))
            return UNKNOWN
        return None if self.program.python else UNKNOWN

    def _on_conditions(self, of: QConditions, node: s.CallNode, name: str, given: Arguments) -> Value | None:
        words = {"__or__": "$or", "__and__": "$and"}
        return either(of, given.first() or UNKNOWN, words[name]) if name in words else UNKNOWN

    def _changed(self, node: s.MemberNode, of: Fields, given: Arguments, scope: NameScope) -> None:
        """`filter.update(...)`, on a dict."""
        if isinstance(node.of, s.Name):
            holder = scope.holder(node.of.id)
            more = given.first()
            if holder is not None:
                known = node.name == "update" and isinstance(more, Fields) and holder is scope
                fields = more.fields if isinstance(more, Fields) else {}
                holder.names[node.of.id] = Fields({**of.fields, **fields}) if known else UNKNOWN

    # --- functions and classes ---------------------------------------------------------------------------------------

    def _plain(self, node: s.CallNode, callee: Value, given: Arguments) -> Value:
        called = _CALLED.get(type(callee))
        if called is not None:
            return called(self, callee, node, given)
        if isinstance(node.of, s.Name) and node.of.id in ("require", "import"):
            return self._required(given)
        first = given.first()
        if isinstance(node.of, s.Name) and node.of.id == "dict" and not given.values and "" not in given.named:
            return Fields(given.named)
        if isinstance(node.of, s.Name) and node.of.id == "Depends" and isinstance(first, FunctionValue):
            return self._call_function(first, node, Arguments())
        if isinstance(node.of, s.Name) and node.of.id in TO_COLLECTION:
            return handle_of(UNKNOWN, node.of.id, given, self._driver()) or UNKNOWN
        if isinstance(node.of, s.Name) and node.of.id == "RegExp":
            return Plain(Regex("."))
        return UNKNOWN

    def _required(self, given: Arguments) -> Value:
        first = given.first()
        spec = first.value if isinstance(first, Plain) and isinstance(first.value, str) else ""
        if not spec:
            return UNKNOWN
        self.world.note_import(self.program, spec)
        return self.world.imported(self.program, spec, "default")

    def _call_function(self, of: FunctionValue, node: s.CallNode | None, given: Arguments) -> Value:
        """What it returns. Its calls are found where it is written, once."""
        key = (id(of.node), id(of.self_.kind) if isinstance(of.self_, Thing) else 0, _told(given))
        if key in self._returned:
            return self._returned[key][0]
        if self.silent >= MOST_DEPTH or self.followed > MOST_FOLLOWED:
            return UNKNOWN
        self._returned[key] = UNKNOWN, given  # for one that calls itself
        self.silent += 1
        try:
            returns = self.enter(of, given.values, given.named)
        finally:
            self.silent -= 1
            self.followed = 0 if not self.silent else self.followed
        found: Value | None = None
        for one in returns:
            found = joined(found, one)
        made = UNKNOWN if found is None or isinstance(found, QueryHandle) else found
        self._returned[key] = made, given
        return made

    def _call_kind(self, of: Kind, node: s.CallNode, given: Arguments) -> Value:
        model = model_of(of)
        if model is not None:
            return Document(model, new=True, fields=Fields(given.named) if "" not in given.named else None)
        start = of.get("__init__") or of.get("constructor")
        if isinstance(start, FunctionValue):
            self._call_function(FunctionValue(start.node, start.scope, Thing(of)), node, given)
        return Thing(of)

    def _call_collection(self, of: CollectionHandle, node: s.CallNode, given: Arguments) -> Value:
        """`new User({...})`"""
        return Document(of, new=True, fields=given.first()) if of.driver in ("mongoose", "mongoengine") else UNKNOWN

    def _call_method(self, of: MethodValue, node: s.CallNode, given: Arguments) -> Value:
        """`find = users.find; find({...})`"""
        return self._on_collection(of.of, node, of.name, given) or UNKNOWN

    def _call_query(self, of: QueryHandle, node: s.CallNode, given: Arguments) -> Value:
        """`User.objects(...)`"""
        if of.call.driver == "mongoengine":
            query_set(of.call, "__call__", given)
            return of
        return UNKNOWN

    def _call_symbol(self, of: Symbol, node: s.CallNode, given: Arguments) -> Value:
        path = of.path
        if path in CLIENTS:
            return ClientHandle()
        if path in DATABASES:
            return DatabaseHandle()
        if is_query_symbol(of):
            return conditions_of(given, {"id": "_id", "pk": "_id"})
        if path.endswith(".MongoEngine"):  # flask_mongoengine: it has all of mongoengine's names
            return Symbol("mongoengine")
        if path in ("re.compile", "bson.Regex", "bson.regex.Regex"):
            return Plain(Regex("."))
        if path in ("mongoose.model", "mongoose.models"):
            return mongoose_model(given)
        if path.endswith("mongoose.Schema"):
            return schema_of(given)
        if path == "mongoose.startSession":
            self.record(FoundCall(node.line, "mongoose", "startSession", "client", "", of="database"))
        return field_of(path, given) or UNKNOWN

    # --- what is not known to be a driver's --------------------------------------------------------------------------

    def _guessed(self, node: s.CallNode, member: s.MemberNode, receiver: Value, given: Arguments) -> Value:
        """A call by a driver's name on what cannot be known."""
        made = handle_of(receiver, member.name, given, self._driver())
        if made is not None:
            return made
        asked = guessed(member, receiver, given, self.program, uses=self.program.path in self.world.users)
        if asked is None:
            return UNKNOWN
        method, driver = asked
        found = self.record(recorded(node.line, CollectionHandle(None, driver), member.name, method, given))
        return QueryHandle(found) if method.query else UNKNOWN

    # --- found -------------------------------------------------------------------------------------------------------

    def record(self, found: FoundCall) -> FoundCall:
        if not self.silent:
            self.found.append(found)
        return found


def _collection_of(call: FoundCall) -> CollectionHandle:
    return CollectionHandle(call.collection, call.driver, call.names)


def _told(given: Arguments) -> Any:
    """What a function is given, as far as it decides what it returns."""
    named = tuple((name, _key_of(value)) for name, value in given.named.items())
    return tuple(map(_key_of, given.values)), named


def _key_of(value: Value) -> Any:
    if isinstance(value, Plain):
        return ("", value.value) if isinstance(value.value, str | int | None) else id(value)
    return type(value).__name__ if isinstance(value, Unknown | ClientHandle | DatabaseHandle) else id(value)


def _no_method(reader: Caller, of: Any, node: s.CallNode, name: str, given: Arguments) -> Value | None:
    return UNKNOWN


_ON: Mapping[type[Any], Callable[[Any, Any, s.CallNode, str, Arguments], Value | None]] = {
    QueryHandle: Caller._on_query,
    CollectionHandle: Caller._on_collection,
    Document: Caller._on_document,
    DatabaseHandle: Caller._on_database,
    ClientHandle: Caller._on_client,
    QConditions: Caller._on_conditions,
    Several: _no_method,
    Plain: _no_method,
}
_CALLED: Mapping[type[Any], Callable[[Any, Any, s.CallNode, Arguments], Value]] = {
    FunctionValue: Caller._call_function,
    MethodValue: Caller._call_method,
    Kind: Caller._call_kind,
    CollectionHandle: Caller._call_collection,
    QueryHandle: Caller._call_query,
    Symbol: Caller._call_symbol,
}
