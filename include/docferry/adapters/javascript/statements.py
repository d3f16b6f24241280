"""Statements of JavaScript and TypeScript as the nodes of an analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from docferry.adapters.javascript.expressions import TYPES, ExpressionReader, field_of, line_of, named_of, text_of
from docferry.core.source.program import syntax as s


class StatementReader(ExpressionReader):
    """One file's tree as nodes."""

    def is_statement(self, node: Any) -> bool:
        return node.type in _STATEMENTS

    def statement(self, node: Any) -> Iterator[s.SyntaxNode]:
        if node.type in TYPES:
            return
        made = _STATEMENTS.get(node.type)
        if made is not None:
            yield from made(self, node)
        else:
            yield self.expression(node)

    def _inner(self, node: Any) -> Iterator[s.SyntaxNode]:
        yield from self.statements(named_of(node)) if node is not None else ()

    def _body(self, node: Any) -> tuple[s.SyntaxNode, ...]:
        """A block, or one statement in its place."""
        if node is None:
            return ()
        return tuple(self._inner(node) if node.type in ("statement_block", "else_clause") else self.statement(node))

    def _declaration(self, node: Any) -> Iterator[s.SyntaxNode]:
        for one in named_of(node):
            if one.type == "variable_declarator":
                value = field_of(one, "value")
                made = self.expression(value) if value is not None else s.Constant(line_of(one), None)
                yield s.Let(line_of(one), self.pattern(field_of(one, "name")), made)

    def _return(self, node: Any) -> Iterator[s.SyntaxNode]:
        inner = named_of(node)
        yield s.Return(line_of(node), self.expression(inner[0]) if inner else None)

    def _if(self, node: Any) -> Iterator[s.SyntaxNode]:
        yield s.Other(line_of(node), (self.expression(field_of(node, "condition")),))
        yield s.Maybe(line_of(node), self._body(field_of(node, "consequence")))
        yield s.Maybe(line_of(node), self._body(field_of(node, "alternative")))

    def _for_each(self, node: Any) -> Iterator[s.SyntaxNode]:
        over = s.EntryNode(line_of(node), self.expression(field_of(node, "right")), s.Other(line_of(node)))
        each = s.Let(line_of(node), self.pattern(field_of(node, "left")), over)
        yield s.Maybe(line_of(node), (each, *self._body(field_of(node, "body"))))

    def _loop(self, node: Any) -> Iterator[s.SyntaxNode]:
        """`for`, `while`, `do`, `switch`: all that is in them may run."""
        yield s.Maybe(line_of(node), tuple(self._inner(node)))

    def _try(self, node: Any) -> Iterator[s.SyntaxNode]:
        yield from self._inner(field_of(node, "body"))
        handler, last = field_of(node, "handler"), field_of(node, "finalizer")
        if handler is not None:
            yield s.Maybe(line_of(handler), tuple(self._inner(field_of(handler, "body"))))
        if last is not None:
            yield from self._inner(field_of(last, "body"))

    def _import(self, node: Any) -> Iterator[s.SyntaxNode]:
        source = field_of(node, "source")
        clause = next((one for one in named_of(node) if one.type == "import_clause"), None)
        required = next((one for one in node.named_children if one.type == "import_require_clause"), None)
        if required is not None:  # import x = require("y")
            name = next(one for one in named_of(required) if one.type == "identifier")
            yield s.Import(line_of(node), self._text_in(field_of(required, "source")), (("default", text_of(name)),))
        elif clause is not None and source is not None:
            yield s.Import(line_of(node), self._text_in(source), tuple(self._imported(clause)))

    def _imported(self, clause: Any) -> Iterator[tuple[str, str]]:
        for one in named_of(clause):
            if one.type == "identifier":
                yield "default", text_of(one)
            elif one.type == "namespace_import":
                yield "*", text_of(named_of(one)[0])
            else:
                yield from map(self._renamed, [each for each in named_of(one) if each.type == "import_specifier"])

    def _renamed(self, node: Any) -> tuple[str, str]:
        name, alias = field_of(node, "name"), field_of(node, "alias")
        return text_of(name), text_of(alias if alias is not None else name)

    def _text_in(self, node: Any) -> str:
        made = self.expression(node) if node is not None else None
        return str(made.value) if isinstance(made, s.Constant) else ""

    def _export(self, node: Any) -> Iterator[s.SyntaxNode]:
        line, declared, value = line_of(node), field_of(node, "declaration"), field_of(node, "value")
        source = self._text_in(field_of(node, "source"))
        default = any(one.type == "default" for one in node.children)
        if declared is not None:
            for one in self.statement(declared):
                yield one
                for name in _names_of(one):
                    yield _exported(line, "default" if default else name, s.Name(line, name))
        elif value is not None:
            yield _exported(line, "default", self.expression(value))
        for clause in named_of(node):
            if clause.type == "export_clause":
                yield from self._export_clause(clause, source)
        if source and any(one.type == "*" for one in node.children):
            yield s.Import(line, source, (("*", f"* {source}"),))
            yield _exported(line, f"*{source}", s.Name(line, f"* {source}"))

    def _export_clause(self, clause: Any, source: str) -> Iterator[s.SyntaxNode]:
        line = line_of(clause)
        for one in named_of(clause):
            if one.type != "export_specifier":
                continue
            name, alias = self._renamed(one)
            if source:
                yield s.Import(line, source, ((name, f"{name} of {source}"),))
            yield _exported(line, alias, s.Name(line, f"{name} of {source}" if source else name))

    def _enum(self, node: Any) -> Iterator[s.SyntaxNode]:
        """As an object of its members; those without a value are numbers, which name nothing."""
        members = [one for one in named_of(field_of(node, "body")) if one.type == "enum_assignment"]
        fields = [(self._key(field_of(one, "name")), self.expression(field_of(one, "value"))) for one in members]
        line = line_of(node)
        yield s.Let(line, self.expression(field_of(node, "name")), s.RecordNode(line, tuple(fields)))

    def _expression_statement(self, node: Any) -> Iterator[s.SyntaxNode]:
        for one in named_of(node):
            yield from self.statement(one)


def _exported(line: int, name: str, value: s.SyntaxNode) -> s.SyntaxNode:
    return s.Let(line, s.MemberNode(line, s.Name(line, "exports"), name), value, False)


def _names_of(node: s.SyntaxNode) -> Iterator[str]:
    """What a statement declares."""
    if isinstance(node, s.Function | s.Class):
        yield node.name
    elif isinstance(node, s.Let):
        targets = [node.target]
        while targets:
            one = targets.pop()
            if isinstance(one, s.Name):
                yield one.id
            elif isinstance(one, s.RecordNode):
                targets += [inner for _, inner in one.fields]
            elif isinstance(one, s.Listing):
                targets += one.values


_STATEMENTS: Mapping[str, Callable[[Any, Any], Iterator[s.SyntaxNode]]] = {
    "lexical_declaration": StatementReader._declaration,
    "variable_declaration": StatementReader._declaration,
    "expression_statement": StatementReader._expression_statement,
    "enum_declaration": StatementReader._enum,
    "return_statement": StatementReader._return,
    "if_statement": StatementReader._if,
    "for_in_statement": StatementReader._for_each,
    "for_statement": StatementReader._loop,
    "while_statement": StatementReader._loop,
    "do_statement": StatementReader._loop,
    "switch_statement": StatementReader._loop,
    "switch_body": StatementReader._inner,
    "switch_case": StatementReader._inner,
    "switch_default": StatementReader._inner,
    "else_clause": StatementReader._inner,
    "statement_block": StatementReader._inner,
    "labeled_statement": StatementReader._inner,
    "try_statement": StatementReader._try,
    "import_statement": StatementReader._import,
    "export_statement": StatementReader._export,
    "internal_module": StatementReader._inner,
    "module": StatementReader._inner,
    "ERROR": StatementReader._inner,
}
