"""Expressions of JavaScript and TypeScript, as tree-sitter has them, as the nodes of an analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bson.regex import Regex

from docferry.core.source.program import syntax as s

MOST_DEPTH = 400
"""So deep may expressions be nested; generated code goes deeper."""


def line_of(node: Any) -> int:
    return int(node.start_point[0]) + 1


def text_of(node: Any) -> str:
    return str(node.text.decode())


def field_of(node: Any, name: str) -> Any:
    return node.child_by_field_name(name)


def named_of(node: Any) -> list[Any]:
    return [one for one in node.named_children if one.type != "comment"]


class ExpressionReader:
    """One file's tree as nodes."""

    def __init__(self) -> None:
        self._depth = 0

    # --- expressions -------------------------------------------------------------------------------------------------

    def expression(self, node: Any) -> s.SyntaxNode:
        """Raises ValueError for what is nested too deeply."""
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise ValueError("nested too deeply")
        try:
            read = _EXPRESSIONS.get(node.type)
            return read(self, node) if read is not None else self._other(node)
        finally:
            self._depth -= 1

    def _other(self, node: Any) -> s.SyntaxNode:
        return s.Other(line_of(node), tuple(self._inside(node)))

    def _inside(self, node: Any) -> Iterator[s.SyntaxNode]:
        for one in named_of(node):
            if self.is_statement(one):
                yield from self.statement(one)
            elif one.type not in TYPES:
                yield self.expression(one)

    def _name(self, node: Any) -> s.SyntaxNode:
        return s.Name(line_of(node), text_of(node))

    def _first(self, node: Any) -> s.SyntaxNode:
        """What stands inside: of parentheses, `await`, `as`, `!`."""
        inner = [one for one in named_of(node) if one.type not in TYPES]
        return self.expression(inner[0]) if len(inner) == 1 or node.type in _CASTS else self._other(node)

    def _await(self, node: Any) -> s.SyntaxNode:
        return s.Awaited(line_of(node), self._first(node))

    def _member(self, node: Any) -> s.SyntaxNode:
        name = field_of(node, "property")
        return s.MemberNode(line_of(name), self.expression(field_of(node, "object")), text_of(name))

    def _entry(self, node: Any) -> s.SyntaxNode:
        return s.EntryNode(
            line_of(node), self.expression(field_of(node, "object")), self.expression(field_of(node, "index"))
        )

    def _call(self, node: Any) -> s.SyntaxNode:
        of = field_of(node, "function") or field_of(node, "constructor")
        given = field_of(node, "arguments")
        if given is not None and given.type != "arguments":  # a tagged template
            return self._other(node)
        listed = named_of(given) if given is not None else []
        spread = any(one.type == "spread_element" for one in listed)
        plain = [one for one in listed if one.type != "spread_element"]
        name = field_of(of, "property") if of.type == "member_expression" else None
        return s.CallNode(
            line_of(name if name is not None else node),
            s.Name(line_of(of), "import") if of.type == "import" else self.expression(of),
            tuple(self.expression(one) for one in plain),
            (),
            spread,
            node.type == "new_expression",
        )

    def _string(self, node: Any) -> s.SyntaxNode:
        parts = [
            text_of(one) if one.type == "string_fragment" else _escaped(text_of(one)) for one in node.named_children
        ]
        return s.Constant(line_of(node), "".join(parts))

    def _template(self, node: Any) -> s.SyntaxNode:
        if any(one.type == "template_substitution" for one in node.named_children):
            return self._other(node)
        return self._string(node)

    def _number(self, node: Any) -> s.SyntaxNode:
        text = text_of(node).replace("_", "").rstrip("n")
        try:
            return s.Constant(line_of(node), int(text, 0))
        except ValueError:
            return s.Constant(line_of(node), _float(text))

    def _unary(self, node: Any) -> s.SyntaxNode:
        inner = self.expression(field_of(node, "argument"))
        minus = text_of(field_of(node, "operator")) == "-"
        if minus and isinstance(inner, s.Constant) and isinstance(inner.value, int | float):
            return s.Constant(line_of(node), -inner.value)
        return s.Other(line_of(node), (inner,))

    def _object(self, node: Any) -> s.SyntaxNode:
        return s.RecordNode(line_of(node), tuple(self._fields(node)))

    def _fields(self, node: Any) -> Iterator[tuple[s.SyntaxNode | None, s.SyntaxNode]]:
        for one in named_of(node):
            if one.type == "pair":
                yield self._key(field_of(one, "key")), self.expression(field_of(one, "value"))
            elif one.type == "spread_element":
                yield None, self._first(one)
            elif one.type == "method_definition":
                yield self._key(field_of(one, "name")), self._function(one)
            elif one.type == "shorthand_property_identifier":
                yield s.Constant(line_of(one), text_of(one)), self._name(one)

    def _key(self, node: Any) -> s.SyntaxNode:
        if node.type == "computed_property_name":
            return self._first(node)
        return self.expression(node) if node.type in ("string", "number") else s.Constant(line_of(node), text_of(node))

    def _array(self, node: Any) -> s.SyntaxNode:
        listed = named_of(node)
        if any(one.type == "spread_element" for one in listed):
            return self._other(node)
        return s.Listing(line_of(node), tuple(self.expression(one) for one in listed))

    def _ternary(self, node: Any) -> s.SyntaxNode:
        options = (self.expression(field_of(node, "consequence")), self.expression(field_of(node, "alternative")))
        return s.ChoiceNode(line_of(node), options, self.expression(field_of(node, "condition")))

    def _binary(self, node: Any) -> s.SyntaxNode:
        left, right = self.expression(field_of(node, "left")), self.expression(field_of(node, "right"))
        operator = text_of(field_of(node, "operator"))
        if operator in ("||", "??"):
            return s.ChoiceNode(line_of(node), (left, right))
        return (
            s.ChoiceNode(line_of(node), (right,), left) if operator == "&&" else s.Other(line_of(node), (left, right))
        )

    def _assignment(self, node: Any) -> s.SyntaxNode:
        value = self.expression(field_of(node, "right"))
        operator = field_of(node, "operator")
        if operator is not None and text_of(operator) not in ("||=", "??=", "&&=", "="):
            value = s.Other(line_of(node), (value,))
        return s.Let(line_of(node), self.pattern(field_of(node, "left")), value, False)

    def _function(self, node: Any) -> s.SyntaxNode:
        name = field_of(node, "name")
        body = field_of(node, "body")
        if body is None:
            return s.Other(line_of(node))
        inner: Sequence[s.SyntaxNode]
        if body.type == "statement_block":
            inner = tuple(self.statements(body.named_children))
        else:
            inner = (s.Return(line_of(body), self.expression(body)),)
        plain = node.type in ("method_definition", "function_declaration", "generator_function_declaration")
        called = text_of(name) if name is not None and plain else ""
        getter = any(one.type == "get" for one in node.children)
        return s.Function(line_of(node), called, tuple(self._parameters(node)), inner, getter)

    def _parameters(self, node: Any) -> Iterator[s.ParameterNode]:
        one = field_of(node, "parameter")
        listed = field_of(node, "parameters")
        for each in [one] if one is not None else named_of(listed) if listed is not None else []:
            if each.type in ("required_parameter", "optional_parameter"):
                pattern, kind = field_of(each, "pattern"), _kind(field_of(each, "type"))
                field = any(part.type in ("accessibility_modifier", "readonly") for part in each.children)
            else:
                pattern, kind, field = each, "", False
            if pattern is not None:
                yield s.ParameterNode(self.pattern(pattern), kind, None, field)

    def _class(self, node: Any) -> s.SyntaxNode:
        name, body = field_of(node, "name"), field_of(node, "body")
        bases = [one for part in named_of(node) if part.type == "class_heritage" for one in self._bases(part)]
        members = [inner for one in named_of(body) for inner in self._class_member(one)]
        return s.Class(line_of(node), text_of(name) if name is not None else "", tuple(bases), tuple(members))

    def _bases(self, node: Any) -> Iterator[s.SyntaxNode]:
        for one in named_of(node):
            if one.type == "extends_clause":
                yield self.expression(field_of(one, "value"))
            elif one.type != "implements_clause":
                yield self.expression(one)

    def _class_member(self, node: Any) -> Iterator[s.SyntaxNode]:
        name, value = field_of(node, "name") or field_of(node, "property"), field_of(node, "value")
        if node.type == "method_definition":
            yield self._function(node)
        elif node.type in ("field_definition", "public_field_definition") and name is not None:
            if value is not None:
                yield s.Let(line_of(node), s.Name(line_of(node), text_of(name)), self.expression(value))
            elif _kind(field_of(node, "type")):
                yield s.Other(line_of(node))
        elif node.type == "class_static_block":
            yield from self.statements(named_of(field_of(node, "body")))

    # --- targets -----------------------------------------------------------------------------------------------------

    def pattern(self, node: Any) -> s.SyntaxNode:
        """What is bound: a name, or what a value is taken apart into."""
        if node.type == "object_pattern":
            return s.RecordNode(line_of(node), tuple(self._pattern_fields(node)))
        if node.type == "array_pattern":
            return s.Listing(line_of(node), tuple(self.pattern(one) for one in named_of(node)))
        if node.type in ("assignment_pattern", "object_assignment_pattern"):
            return self.pattern(field_of(node, "left"))
        return s.Other(line_of(node)) if node.type == "rest_pattern" else self.expression(node)

    def _pattern_fields(self, node: Any) -> Iterator[tuple[s.SyntaxNode | None, s.SyntaxNode]]:
        for one in named_of(node):
            if one.type == "pair_pattern":
                yield self._key(field_of(one, "key")), self.pattern(field_of(one, "value"))
            elif one.type in ("shorthand_property_identifier_pattern", "object_assignment_pattern"):
                name = self.pattern(one)
                yield s.Constant(line_of(one), getattr(name, "id", "")), name

    # --- statements, which another module reads ----------------------------------------------------------------------

    def is_statement(self, node: Any) -> bool:
        raise NotImplementedError

    def statement(self, node: Any) -> Iterator[s.SyntaxNode]:
        raise NotImplementedError

    def statements(self, nodes: Sequence[Any]) -> Iterator[s.SyntaxNode]:
        for one in nodes:
            yield from self.statement(one)


def _constant(value: Any) -> Callable[[Any, Any], s.SyntaxNode]:
    return lambda reader, node: s.Constant(line_of(node), value)


def _escaped(text: str) -> str:
    """An escape sequence; what is no plain one stays as it is written."""
    return {"\\n": "\n", "\\t": "\t", "\\r": "\r"}.get(text, text[1:] if len(text) == 2 else text)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _kind(node: Any) -> str:
    """The last word of a type annotation."""
    inner = named_of(node)[:1] if node is not None else []
    while inner and inner[0].type == "generic_type":
        inner = [field_of(inner[0], "name")]
    return text_of(inner[0]).rpartition(".")[2] if inner else ""


_CASTS = frozenset({"as_expression", "satisfies_expression", "non_null_expression"})
TYPES = frozenset({
    "type_annotation", "type_arguments", "type_parameters", "interface_declaration", "type_alias_declaration",
    "ambient_declaration", "function_signature", "method_signature", "abstract_method_signature", "type_identifier",
    "predefined_type", "generic_type", "union_type", "intersection_type", "object_type", "array_type", "literal_type",
    "nested_type_identifier", "type_query", "index_signature", "implements_clause", "accessibility_modifier", "override_modifier",
    "function_type", "tuple_type", "readonly_type", "lookup_type", "conditional_type", "parenthesized_type", "comment", "as",
    "const", "import_require_clause", "hash_bang_line", "type_predicate_annotation", "asserts_annotation",
})  # fmt: skip
"""What is there for the compiler of types alone."""

_EXPRESSIONS: Mapping[str, Callable[[Any, Any], s.SyntaxNode]] = {
    "identifier": ExpressionReader._name,
    "property_identifier": ExpressionReader._name,
    "shorthand_property_identifier": ExpressionReader._name,
    "shorthand_property_identifier_pattern": ExpressionReader._name,
    "this": ExpressionReader._name,
    "super": ExpressionReader._name,
    "member_expression": ExpressionReader._member,
    "subscript_expression": ExpressionReader._entry,
    "call_expression": ExpressionReader._call,
    "new_expression": ExpressionReader._call,
    "await_expression": ExpressionReader._await,
    "parenthesized_expression": ExpressionReader._first,
    "as_expression": ExpressionReader._first,
    "satisfies_expression": ExpressionReader._first,
    "non_null_expression": ExpressionReader._first,
    "type_assertion": ExpressionReader._first,
    "string": ExpressionReader._string,
    "template_string": ExpressionReader._template,
    "number": ExpressionReader._number,
    "true": _constant(True),
    "false": _constant(False),
    "null": _constant(None),
    "undefined": _constant(None),
    "regex": _constant(Regex(".")),
    "object": ExpressionReader._object,
    "array": ExpressionReader._array,
    "unary_expression": ExpressionReader._unary,
    "ternary_expression": ExpressionReader._ternary,
    "binary_expression": ExpressionReader._binary,
    "assignment_expression": ExpressionReader._assignment,
    "augmented_assignment_expression": ExpressionReader._assignment,
    "arrow_function": ExpressionReader._function,
    "function_expression": ExpressionReader._function,
    "generator_function": ExpressionReader._function,
    "function_declaration": ExpressionReader._function,
    "generator_function_declaration": ExpressionReader._function,
    "class": ExpressionReader._class,
    "class_declaration": ExpressionReader._class,
    "abstract_class_declaration": ExpressionReader._class,
}
