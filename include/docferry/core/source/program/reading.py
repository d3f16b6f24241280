"""A program read from top to bottom, statement by statement, without running it: which name is which connection or collection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from docferry.core.source.program import syntax as s
from docferry.core.source.program.drivers import (
    CLIENT_METHODS,
    DATABASE_METHODS,
    DATABASE_NAME,
    TABLES,
    TO_COLLECTION,
    TO_DATABASE,
)
from docferry.core.source.program.models import model_of
from docferry.core.source.program.values import (
    HANDLES,
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
    Module,
    NameScope,
    Plain,
    QueryHandle,
    Several,
    Symbol,
    Thing,
    Value,
    joined,
)
from docferry.core.source.program.world import World, by_kind, is_exports, name_of, symbol_of

MOST_STEPS = 400_000
"""Expressions that are looked at in one file, and no more: a file of generated code has its end."""


class TooMuch(Exception):
    """The file has more than is looked at."""


class Reader:
    """One file in one round. `found` are its calls, in the order in which they are met."""

    def __init__(self, world: World, program: s.Program) -> None:
        self.world, self.program = world, program
        self.found: list[FoundCall] = []
        self.silent = self.followed = 0
        self._steps = 0
        self._waiting: list[FunctionValue] = []
        self.given: dict[int, Sequence[Value]] = {}
        """What the parameters of a function are known to be, by its node's id: of `.then(...)`."""

    def read(self) -> None:
        """Raises TooMuch."""
        scope = self.world.scopes[self.program.path]
        self.run(self.program.body, scope, again=True)
        while self._waiting:
            function = self._waiting.pop(0)
            self.enter(function, self.given.get(id(function.node), ()))

    def enter(
        self, function: FunctionValue, values: Sequence[Value], named: Mapping[str, Value] | None = None
    ) -> list[Value]:
        """The body of a function; what it returns."""
        scope = NameScope(outer=function.scope, function=True)
        parameters = list(function.node.parameters)
        if function.self_ is not None:
            scope.names["this"] = function.self_
            if self.program.python and parameters:
                scope.names[name_of(parameters.pop(0))] = function.self_
        for position, one in enumerate(parameters):
            value = values[position] if position < len(values) else (named or {}).get(name_of(one), UNKNOWN)
            value = self._default(one, function.scope) if value == UNKNOWN else value
            self.bind(one.pattern, value, scope, declares=True)
            if one.field and isinstance(function.self_, Thing):
                self._keep(function.self_.kind.attributes, name_of(one), value)
        returns: list[Value] = []
        self.run(function.node.body, scope, returns=returns)
        return returns

    def _default(self, parameter: s.ParameterNode, scope: NameScope) -> Value:
        """What a parameter is that is not given: by its annotation, or a connection that it has by default."""
        made = self.eval(parameter.default, scope) if parameter.default is not None else UNKNOWN
        return made if isinstance(made, HANDLES) else by_kind(parameter)

    # --- statements --------------------------------------------------------------------------------------------------

    def run(
        self, body: Sequence[s.SyntaxNode], scope: NameScope, *, maybe: bool = False, again: bool = False,
        returns: list[Value] | None = None,
    ) -> None:  # fmt: skip
        """`again`: what was bound in an earlier round is still there, and a connection is not forgotten."""
        for node in body:
            if isinstance(node, s.Maybe):
                self.run(node.body, scope, maybe=True, again=again, returns=returns)
            elif isinstance(node, s.Let):
                self._let(node, scope, maybe or again)
            elif isinstance(node, s.Return):
                value = self.eval(node.value, scope) if node.value is not None else Plain(None)
                if returns is not None:
                    returns.append(value)
            elif isinstance(node, s.Import):
                scope.names.update(self.world.taken(self.program, node))
            elif isinstance(node, s.Outer):
                scope.outer_names.update(node.names)
            else:
                self.eval(node, scope)

    def _let(self, node: s.Let, scope: NameScope, maybe: bool) -> Value:
        value = self.eval(node.value, scope)
        self.bind(node.target, value, scope, declares=node.declares, maybe=maybe)
        return value

    def bind(
        self, target: s.SyntaxNode, value: Value, scope: NameScope, *, declares: bool, maybe: bool = False
    ) -> None:
        if isinstance(target, s.Name):
            self._bind_name(target.id, value, scope, declares, maybe)
        elif isinstance(target, s.MemberNode):
            self._bind_member(target, value, scope, maybe)
        elif isinstance(target, s.EntryNode):
            key = self.eval(target.key, scope)
            self._bind_field(target.of, key, value, scope, maybe)
        elif isinstance(target, s.RecordNode):
            for name, inner in target.fields:
                part = self.member_of(value, str(getattr(name, "value", "")), target) if name is not None else UNKNOWN
                self.bind(inner, part, scope, declares=declares, maybe=maybe)
        elif isinstance(target, s.Listing):
            for position, inner in enumerate(target.values):
                known = isinstance(value, Several) and position < len(value.values)
                part = value.values[position] if known and isinstance(value, Several) else UNKNOWN
                self.bind(inner, part, scope, declares=declares, maybe=maybe)
        elif isinstance(target, s.Let):  # a default, where nothing is given
            self.bind(target.target, value, scope, declares=declares, maybe=maybe)

    def _bind_name(self, name: str, value: Value, scope: NameScope, declares: bool, maybe: bool) -> None:
        holder = scope
        if name in scope.outer_names or not declares:
            start = scope.outer if name in scope.outer_names and scope.outer is not None else scope
            holder = start.holder(name) or (
                scope if name not in scope.outer_names else self.world.scopes[self.program.path]
            )
            maybe = maybe or holder is not scope
        if maybe:
            self._keep(holder.names, name, value)
        else:
            holder.names[name] = value

    @staticmethod
    def _keep(names: dict[str, Value], name: str, value: Value) -> None:
        names[name] = joined(names.get(name), value)

    def _bind_member(self, target: s.MemberNode, value: Value, scope: NameScope, maybe: bool) -> None:
        if isinstance(target.of, s.Name) and (target.of.id, target.name) == ("module", "exports"):
            self.export("default", value)
            for name, inner in value.fields.items() if isinstance(value, Fields) else ():
                self.export(name, inner)
            return
        if is_exports(target.of):
            self.export(target.name, value)
            return
        of = self.eval(target.of, scope)
        if isinstance(of, Thing | Kind):
            self._keep((of.kind if isinstance(of, Thing) else of).attributes, target.name, value)
        else:
            self._bind_field(target.of, Plain(target.name), value, scope, maybe)

    def _bind_field(self, of: s.SyntaxNode, key: Value, value: Value, scope: NameScope, maybe: bool) -> None:
        """`filter["name"] = value`: one more field, if the dict is known and this is sure to happen."""
        if not isinstance(of, s.Name):
            return
        holder = scope.holder(of.id)
        known = holder.names[of.id] if holder is not None else None
        if holder is None or not isinstance(known, Fields):
            return
        sure = not maybe and holder is scope and isinstance(key, Plain)
        holder.names[of.id] = (
            Fields({**known.fields, str(key.value): value}) if sure and isinstance(key, Plain) else UNKNOWN
        )

    def export(self, name: str, value: Value) -> None:
        self._keep(self.world.exports[self.program.path], name, value)

    # --- expressions -------------------------------------------------------------------------------------------------

    def eval(self, node: s.SyntaxNode, scope: NameScope) -> Value:
        """What an expression may be; every call in it is found."""
        if self.silent:
            self.followed += 1
        else:
            self._steps += 1
        if max(self._steps, self.followed) > MOST_STEPS:
            raise TooMuch
        read = _EXPRESSIONS.get(type(node))
        if read is not None:
            return read(self, node, scope)
        self.run([node], scope)
        return UNKNOWN

    def _name(self, node: s.Name, scope: NameScope) -> Value:
        found = scope.find(node.id)
        if found is None and node.id[:1].isupper():
            found = self.world.starred(self.program, node.id)
        if (found is None or found == UNKNOWN) and DATABASE_NAME.search(node.id):
            return DatabaseHandle()
        return UNKNOWN if found is None else found

    def _member(self, node: s.MemberNode, scope: NameScope) -> Value:
        if is_exports(node):
            return UNKNOWN
        return self.member_of(self.eval(node.of, scope), node.name, node)

    def member_of(self, of: Value, name: str, node: s.SyntaxNode) -> Value:
        """`of.name`"""
        found = _MEMBERS[type(of)](self, of, name, node) if type(of) in _MEMBERS else UNKNOWN
        return DatabaseHandle() if found == UNKNOWN and DATABASE_NAME.search(name) else found

    def _of_database(self, of: DatabaseHandle, name: str, node: s.SyntaxNode) -> Value:
        if name in DATABASE_METHODS or name in TO_COLLECTION or name in TO_DATABASE or name.startswith("__"):
            return DatabaseHandle() if name in ("db", "with_options") else UNKNOWN
        return CollectionHandle(name, self._driver())

    def _of_client(self, of: ClientHandle, name: str, node: s.SyntaxNode) -> Value:
        if not self.program.python:
            return UNKNOWN
        return UNKNOWN if name in CLIENT_METHODS or name in TO_DATABASE - {"db"} else DatabaseHandle()

    def _of_collection(self, of: CollectionHandle, name: str, node: s.SyntaxNode) -> Value:
        if of.driver == "mongoengine" and name == "objects":
            return QueryHandle(self.query_set(of, node.line))
        if name in TABLES.get(of.driver, {}):
            return MethodValue(of, name)
        if of.driver != "pymongo" or name.startswith("_"):
            return DatabaseHandle() if name in ("database", "db") else UNKNOWN
        return CollectionHandle(f"{of.name}.{name}" if of.name else None, of.driver)

    def query_set(self, of: CollectionHandle, line: int) -> FoundCall:
        raise NotImplementedError

    def got(self, getter: FunctionValue) -> Value:
        """What a property is."""
        raise NotImplementedError

    def _of_symbol(self, of: Symbol, name: str, node: s.SyntaxNode) -> Value:
        return symbol_of(f"{of.path}.{name}")

    def _of_fields(self, of: Fields, name: str, node: s.SyntaxNode) -> Value:
        return of.fields.get(name, UNKNOWN)

    def _of_thing(self, of: Thing, name: str, node: s.SyntaxNode) -> Value:
        return self._of_kind(of.kind, name, node, of)

    def _of_kind(self, of: Kind, name: str, node: s.SyntaxNode, thing: Thing | None = None) -> Value:
        found = of.get(name)
        if isinstance(found, FunctionValue) and thing is not None:
            found = FunctionValue(found.node, found.scope, thing)
            return self.got(found) if found.node.getter else found
        model = model_of(of) if found is None and name == "objects" else None
        return QueryHandle(self.query_set(model, node.line)) if model is not None else found or UNKNOWN

    def _of_module(self, of: Module, name: str, node: s.SyntaxNode) -> Value:
        return self.world.exported(of, name) or UNKNOWN

    def _of_document(self, of: Document, name: str, node: s.SyntaxNode) -> Value:
        return of.of if name == "constructor" else UNKNOWN

    def _driver(self) -> str:
        return "pymongo" if self.program.python else "mongodb"

    def _entry(self, node: s.EntryNode, scope: NameScope) -> Value:
        of, key = self.eval(node.of, scope), self.eval(node.key, scope)
        text = key.value if isinstance(key, Plain) and isinstance(key.value, str) else None
        if isinstance(of, ClientHandle):
            return DatabaseHandle()
        if isinstance(of, DatabaseHandle):
            return CollectionHandle(text, self._driver())
        if isinstance(of, CollectionHandle) and of.driver == "pymongo":
            return CollectionHandle(f"{of.name}.{text}" if of.name and text else None, of.driver)
        if isinstance(of, QueryHandle):
            return self.document_of(of)
        if isinstance(of, Several) and isinstance(key, Plain) and isinstance(key.value, int):
            return of.values[key.value] if 0 <= key.value < len(of.values) else UNKNOWN
        return self.member_of(of, text, node) if text is not None and isinstance(of, Fields | Module) else UNKNOWN

    def document_of(self, of: QueryHandle) -> Value:
        """One document out of a query."""
        return UNKNOWN

    def _constant(self, node: s.Constant, scope: NameScope) -> Value:
        return Plain(node.value)

    def _record(self, node: s.RecordNode, scope: NameScope) -> Value:
        fields: dict[str, Value] = {}
        known = True
        for key, inner in node.fields:
            name, value = self.eval(key, scope) if key is not None else None, self.eval(inner, scope)
            if name is None and isinstance(value, Fields):
                fields.update(value.fields)
            elif isinstance(name, Plain) and isinstance(name.value, str | int):
                fields[str(name.value)] = value
            else:
                known = False
        return Fields(fields) if known else UNKNOWN

    def _listing(self, node: s.Listing, scope: NameScope) -> Value:
        return Several(tuple(self.eval(one, scope) for one in node.values))

    def _choice(self, node: s.ChoiceNode, scope: NameScope) -> Value:
        if node.test is not None:
            self.eval(node.test, scope)
        found: Value | None = None
        for one in node.options:
            found = joined(found, self.eval(one, scope))
        return found or UNKNOWN

    def _function(self, node: s.Function, scope: NameScope) -> Value:
        made = FunctionValue(node, scope)
        if node.name:
            scope.names[node.name] = made
        self.wait_for(made)
        return made

    def wait_for(self, function: FunctionValue) -> None:
        """It is read when the file has been: what it sees may be bound below it."""
        if not self.silent:
            self._waiting.append(function)

    def _class(self, node: s.Class, scope: NameScope) -> Value:
        bases = [self.eval(one, scope) for one in node.bases]
        kind = self.world.kind(self.program.path, node, bases, scope)
        if node.name:
            scope.names[node.name] = kind
        inner = NameScope(outer=scope, names=dict.fromkeys(["this"], Thing(kind)))
        for one in node.body:
            if isinstance(one, s.Function):
                method = FunctionValue(one, scope, Thing(kind))
                kind.attributes[one.name] = method
                self.wait_for(method)
                continue
            self.run([one], inner)
        for name, value in inner.names.items():
            if name != "this":
                self._keep(kind.attributes, name, value)
        return kind

    def _other(self, node: s.Other, scope: NameScope) -> Value:
        for one in node.parts:
            self.eval(one, scope)
        return UNKNOWN

    def _awaited(self, node: s.Awaited, scope: NameScope) -> Value:
        value = self.eval(node.of, scope)
        one = isinstance(value, QueryHandle) and value.call.method.startswith("find_one")
        return self.document_of(value) if isinstance(value, QueryHandle) and one else value

    def _let_expression(self, node: s.Let, scope: NameScope) -> Value:
        return self._let(node, scope, False)

    def _call(self, node: s.CallNode, scope: NameScope) -> Value:
        return self.call(node, scope)

    def call(self, node: s.CallNode, scope: NameScope) -> Value:
        raise NotImplementedError


_EXPRESSIONS: Mapping[type[s.SyntaxNode], Callable[[Any, Any, NameScope], Value]] = {
    s.Name: Reader._name,
    s.MemberNode: Reader._member,
    s.EntryNode: Reader._entry,
    s.Constant: Reader._constant,
    s.RecordNode: Reader._record,
    s.Listing: Reader._listing,
    s.ChoiceNode: Reader._choice,
    s.Function: Reader._function,
    s.Class: Reader._class,
    s.Other: Reader._other,
    s.Awaited: Reader._awaited,
    s.Let: Reader._let_expression,
    s.CallNode: Reader._call,
}
_MEMBERS: Mapping[type[Any], Callable[[Any, Any, str, s.SyntaxNode], Value]] = {
    DatabaseHandle: Reader._of_database,
    ClientHandle: Reader._of_client,
    CollectionHandle: Reader._of_collection,
    Symbol: Reader._of_symbol,
    Fields: Reader._of_fields,
    Thing: Reader._of_thing,
    Kind: Reader._of_kind,
    Module: Reader._of_module,
    Document: Reader._of_document,
}
