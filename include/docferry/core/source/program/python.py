"""Python's own syntax tree as the nodes of an analysis. Nothing is imported or run. Pure.

parse_python("app/users.py", text) -> Program        Raises: SyntaxError, ValueError, RecursionError for what is no Python
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from docferry.core.source.program.syntax import (
    CallNode,
    ChoiceNode,
    Class,
    Constant,
    EntryNode,
    Function,
    Import,
    Let,
    Listing,
    Maybe,
    MemberNode,
    Name,
    Other,
    Outer,
    ParameterNode,
    Program,
    RecordNode,
    Return,
    SyntaxNode,
)


def parse_python(path: str, text: str) -> Program:
    """A file as a program."""
    return Program(path, "python", tuple(_statements(ast.parse(text).body)))


# --- expressions -----------------------------------------------------------------------------------------------------


def _expression(node: ast.AST) -> SyntaxNode:
    made = _EXPRESSIONS.get(type(node))
    return made(node) if made is not None else _other(node)


def _other(node: ast.AST) -> Other:
    """Whatever it is: the expressions inside it."""
    return Other(_line(node), tuple(_inside(node)))


def _inside(node: ast.AST) -> Iterator[SyntaxNode]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield _expression(child)
        elif isinstance(child, ast.stmt):
            yield from _statement(child)
        else:
            yield from _inside(child)


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0)


def _call(node: ast.Call) -> SyntaxNode:
    spread = any(isinstance(one, ast.Starred) for one in node.args)
    arguments = tuple(_expression(one) for one in node.args if not isinstance(one, ast.Starred))
    named = tuple((one.arg or "", _expression(one.value)) for one in node.keywords)
    # The line of the method's name: a chain of calls goes over several lines.
    line = node.func.end_lineno or node.lineno
    return CallNode(line, _expression(node.func), arguments, named, open=spread)


def _record(node: ast.Dict) -> SyntaxNode:
    return RecordNode(
        node.lineno,
        tuple(
            (_expression(key) if key is not None else None, _expression(value))
            for key, value in zip(node.keys, node.values, strict=True)
        ),
    )


def _lambda(node: ast.Lambda) -> SyntaxNode:
    body = Return(node.lineno, _expression(node.body))
    return Function(node.lineno, "", tuple(_parameters(node.args)), (body,))


def _listing(node: Any) -> SyntaxNode:
    if any(isinstance(one, ast.Starred) for one in node.elts):
        return _other(node)
    return Listing(node.lineno, tuple(_expression(one) for one in node.elts))


def _choice(node: ast.IfExp) -> SyntaxNode:
    return ChoiceNode(node.lineno, (_expression(node.body), _expression(node.orelse)), _expression(node.test))


def _either(node: ast.BoolOp) -> SyntaxNode:
    parts = tuple(map(_expression, node.values))
    return ChoiceNode(node.lineno, parts) if isinstance(node.op, ast.Or) else Other(node.lineno, parts)


def _operation(node: ast.BinOp) -> SyntaxNode:
    """`Q(...) | Q(...)` and dicts joined by `|` are told apart by what they are made of."""
    left, right = _expression(node.left), _expression(node.right)
    if isinstance(node.op, ast.BitOr | ast.BitAnd):
        name = "__or__" if isinstance(node.op, ast.BitOr) else "__and__"
        return CallNode(node.lineno, MemberNode(node.lineno, left, name), (right,))
    return Other(node.lineno, (left, right))


def _negative(node: ast.UnaryOp) -> SyntaxNode:
    inner = _expression(node.operand)
    if isinstance(node.op, ast.USub) and isinstance(inner, Constant) and isinstance(inner.value, int | float):
        return Constant(node.lineno, -inner.value)
    return Other(node.lineno, (inner,))


def _entry(node: ast.Subscript) -> SyntaxNode:
    return EntryNode(node.lineno, _expression(node.value), _expression(node.slice))


def _named_expression(node: ast.NamedExpr) -> SyntaxNode:
    return Let(node.lineno, _expression(node.target), _expression(node.value))


_EXPRESSIONS: Mapping[type[ast.AST], Callable[[Any], SyntaxNode]] = {
    ast.Name: lambda node: Name(node.lineno, node.id),
    ast.Attribute: lambda node: MemberNode(node.end_lineno or node.lineno, _expression(node.value), node.attr),
    ast.Subscript: _entry,
    ast.Constant: lambda node: Constant(node.lineno, node.value),
    ast.Dict: _record,
    ast.List: _listing,
    ast.Tuple: _listing,
    ast.Call: _call,
    ast.Await: lambda node: _expression(node.value),
    ast.Lambda: _lambda,
    ast.IfExp: _choice,
    ast.BoolOp: _either,
    ast.BinOp: _operation,
    ast.UnaryOp: _negative,
    ast.NamedExpr: _named_expression,
}


# --- statements ------------------------------------------------------------------------------------------------------


def _statements(body: Sequence[ast.stmt]) -> Iterator[SyntaxNode]:
    for one in body:
        yield from _statement(one)


def _statement(node: ast.stmt) -> Iterator[SyntaxNode]:
    made = _STATEMENTS.get(type(node))
    if made is not None:
        yield from made(node)
    else:
        yield _other(node)


def _assign(node: ast.Assign) -> Iterator[SyntaxNode]:
    for target in node.targets:
        yield Let(node.lineno, _expression(target), _expression(node.value))


def _annotated(node: ast.AnnAssign) -> Iterator[SyntaxNode]:
    if node.value is not None:
        yield Let(node.lineno, _expression(node.target), _expression(node.value))


def _augmented(node: ast.AugAssign) -> Iterator[SyntaxNode]:
    yield Let(node.lineno, _expression(node.target), Other(node.lineno, (_expression(node.value),)))


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[SyntaxNode]:
    yield from (Other(one.lineno, (_expression(one),)) for one in node.decorator_list)
    getter = any(ast.unparse(one).rpartition(".")[2] in ("property", "cached_property") for one in node.decorator_list)
    yield Function(node.lineno, node.name, tuple(_parameters(node.args)), tuple(_statements(node.body)), getter)


def _parameters(arguments: ast.arguments) -> Iterator[ParameterNode]:
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(plain, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    for one, default in pairs:
        yield ParameterNode(
            Name(one.lineno, one.arg),
            _kind(one.annotation),
            _expression(default) if default is not None else None,
        )
    for rest in (arguments.vararg, arguments.kwarg):
        if rest is not None:
            yield ParameterNode(Name(rest.lineno, rest.arg), "*")


def _kind(annotation: ast.expr | None) -> str:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    if isinstance(annotation, ast.Attribute):
        return annotation.attr
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value.split("[")[0].rpartition(".")[2]
    return annotation.id if isinstance(annotation, ast.Name) else ""


def _class(node: ast.ClassDef) -> Iterator[SyntaxNode]:
    yield Class(node.lineno, node.name, tuple(map(_expression, node.bases)), tuple(_statements(node.body)))


def _import(node: ast.Import) -> Iterator[SyntaxNode]:
    for one in node.names:
        whole = one.name if one.asname else one.name.split(".")[0]
        yield Import(node.lineno, whole, (("*", one.asname or whole),))


def _import_from(node: ast.ImportFrom) -> Iterator[SyntaxNode]:
    names = tuple((one.name, one.asname or one.name) for one in node.names)
    yield Import(node.lineno, "." * node.level + (node.module or ""), names)


def _loop(node: ast.For | ast.AsyncFor) -> Iterator[SyntaxNode]:
    over = _expression(node.iter)
    each = Let(node.lineno, _expression(node.target), EntryNode(node.lineno, over, Other(node.lineno)))
    yield Maybe(node.lineno, (each, *_statements(node.body), *_statements(node.orelse)))


def _condition(node: ast.If | ast.While) -> Iterator[SyntaxNode]:
    yield Other(node.lineno, (_expression(node.test),))
    yield Maybe(node.lineno, tuple(_statements(node.body)))
    yield Maybe(node.lineno, tuple(_statements(node.orelse)))


def _attempt(node: Any) -> Iterator[SyntaxNode]:
    yield from _statements(node.body)
    for handler in node.handlers:
        yield Maybe(node.lineno, tuple(_statements(handler.body)))
    yield from _statements([*node.orelse, *node.finalbody])


def _with(node: ast.With | ast.AsyncWith) -> Iterator[SyntaxNode]:
    for one in node.items:
        value = _expression(one.context_expr)
        yield Let(node.lineno, _expression(one.optional_vars), value) if one.optional_vars is not None else value
    yield from _statements(node.body)


def _return(node: ast.Return) -> Iterator[SyntaxNode]:
    yield Return(node.lineno, _expression(node.value) if node.value is not None else None)


def _do(node: ast.Expr) -> Iterator[SyntaxNode]:
    yield _expression(node.value)


def _match(node: ast.Match) -> Iterator[SyntaxNode]:
    yield Other(node.lineno, (_expression(node.subject),))
    for case in node.cases:
        if case.guard is not None:
            yield Other(node.lineno, (_expression(case.guard),))
        yield Maybe(node.lineno, tuple(_statements(case.body)))


def _outer(node: ast.Global | ast.Nonlocal) -> Iterator[SyntaxNode]:
    yield Outer(node.lineno, tuple(node.names))


def _nothing(node: ast.stmt) -> Iterator[SyntaxNode]:
    return iter(())


_STATEMENTS: Mapping[type[ast.AST], Callable[[Any], Iterator[SyntaxNode]]] = {
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.FunctionDef: _function,
    ast.AsyncFunctionDef: _function,
    ast.ClassDef: _class,
    ast.Import: _import,
    ast.ImportFrom: _import_from,
    ast.For: _loop,
    ast.AsyncFor: _loop,
    ast.If: _condition,
    ast.While: _condition,
    ast.Try: _attempt,
    ast.TryStar: _attempt,
    ast.With: _with,
    ast.AsyncWith: _with,
    ast.Return: _return,
    ast.Expr: _do,
    ast.Match: _match,
    ast.Global: _outer,
    ast.Nonlocal: _outer,
    ast.Pass: _nothing,
}
