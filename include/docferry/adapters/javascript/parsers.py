"""Parsers of JavaScript and TypeScript. Nothing is run.

tree-sitter goes on behind what it does not understand: such a file is read as far as it can be, and the program says where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docferry.adapters.javascript.expressions import line_of
from docferry.adapters.javascript.statements import StatementReader
from docferry.core.source.program import syntax as s
from docferry.errors import ConfigError, Problem
from docferry.ports.analyze import SourceParser

LANGUAGES = {
    ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript",
    ".ts": "typescript", ".mts": "typescript", ".cts": "typescript", ".tsx": "tsx",
}  # fmt: skip


def javascript_parsers() -> Mapping[str, SourceParser]:
    """A file's ending -> what parses it. Raises: ConfigError if the extra is not installed."""
    try:
        import tree_sitter
        import tree_sitter_javascript
        import tree_sitter_typescript
    except ImportError as error:
        missing = Problem(where="tree-sitter", what="is not installed", suggestion='pip install "docferry[analyze]"')
        raise ConfigError("docferry analyze", [missing]) from error
    grammars = {
        "javascript": tree_sitter_javascript.language(),
        "typescript": tree_sitter_typescript.language_typescript(),
        "tsx": tree_sitter_typescript.language_tsx(),
    }
    parsers = {name: tree_sitter.Parser(tree_sitter.Language(one)) for name, one in grammars.items()}
    return {ending: _parser(parsers[name], name) for ending, name in LANGUAGES.items()}


def _parser(parser: Any, language: str) -> SourceParser:
    def parse(path: str, text: str) -> s.Program:
        root = parser.parse(text.encode()).root_node
        trouble = ""
        if root.has_error:
            trouble = f"cannot be parsed whole: line {_error_line(root)}; the calls around it may be missing"
        return s.Program(path, language, tuple(StatementReader().statements(root.named_children)), trouble)

    return parse


def _error_line(root: Any) -> int:
    """Where the first thing is that is not understood; the tree is walked without recursion."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.is_error or node.is_missing:
            return line_of(node)
        waiting += [one for one in reversed(node.children) if one.has_error or one.is_missing]
    return 1
