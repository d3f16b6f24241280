"""A program as an analysis of driver calls sees it: the same few nodes for Python, JavaScript and TypeScript. Pure.

Parentheses, Python's `await`, type annotations around an expression and the like are left out by the parsers. What has no node
of its own is `Other`: its value is not known, and the calls inside it are found all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class SyntaxNode:
    """Anything of a program. `line` counts from 1."""

    line: int


@dataclass(frozen=True, slots=True)
class Name(SyntaxNode):
    id: str


@dataclass(frozen=True, slots=True)
class MemberNode(SyntaxNode):
    """`of.name`"""

    of: SyntaxNode
    name: str


@dataclass(frozen=True, slots=True)
class EntryNode(SyntaxNode):
    """`of[key]`"""

    of: SyntaxNode
    key: SyntaxNode


@dataclass(frozen=True, slots=True)
class Constant(SyntaxNode):
    """A text, a number, a truth value, nothing, or a regular expression (bson.Regex)."""

    value: Any


@dataclass(frozen=True, slots=True)
class RecordNode(SyntaxNode):
    """A dict or an object; a key of None spreads another one into it."""

    fields: Sequence[tuple[SyntaxNode | None, SyntaxNode]]


@dataclass(frozen=True, slots=True)
class Listing(SyntaxNode):
    """A list, a tuple, an array."""

    values: Sequence[SyntaxNode]


@dataclass(frozen=True, slots=True)
class CallNode(SyntaxNode):
    """`named` are keyword arguments; a name of "" spreads a dict into them. `open`: more arguments may come from `*args`."""

    of: SyntaxNode
    arguments: Sequence[SyntaxNode] = ()
    named: Sequence[tuple[str, SyntaxNode]] = ()
    open: bool = False
    new: bool = False


@dataclass(frozen=True, slots=True)
class ChoiceNode(SyntaxNode):
    """One of several values: `a if c else b`, `a or b`, `a ?? b`. `test` is what decides."""

    options: Sequence[SyntaxNode]
    test: SyntaxNode | None = None


@dataclass(frozen=True, slots=True)
class Awaited(SyntaxNode):
    """`await of`, where it makes a difference: of a query of mongoose it is the document."""

    of: SyntaxNode


@dataclass(frozen=True, slots=True)
class ParameterNode:
    """`pattern` is a Name, or what a parameter is taken apart into. `field`: it becomes a field of the object, too."""

    pattern: SyntaxNode
    kind: str = ""
    """The last word of its type annotation."""
    default: SyntaxNode | None = None
    field: bool = False


@dataclass(frozen=True, slots=True)
class Function(SyntaxNode):
    """`getter`: it is called where its name is read (a property)."""

    name: str
    parameters: Sequence[ParameterNode]
    body: Sequence[SyntaxNode]
    getter: bool = False


@dataclass(frozen=True, slots=True)
class Class(SyntaxNode):
    name: str
    bases: Sequence[SyntaxNode]
    body: Sequence[SyntaxNode]


@dataclass(frozen=True, slots=True)
class Other(SyntaxNode):
    parts: Sequence[SyntaxNode] = ()


# --- statements ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Let(SyntaxNode):
    """`target = value`; a RecordNode or Listing as target takes the value apart. `declares`: the name is new in this block."""

    target: SyntaxNode
    value: SyntaxNode
    declares: bool = True


@dataclass(frozen=True, slots=True)
class Return(SyntaxNode):
    value: SyntaxNode | None


@dataclass(frozen=True, slots=True)
class Maybe(SyntaxNode):
    """Statements that may not run, or run several times: what they bind is one possibility."""

    body: Sequence[SyntaxNode]


@dataclass(frozen=True, slots=True)
class Outer(SyntaxNode):
    """Python's `global` and `nonlocal`: what is bound to these names here is bound outside."""

    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Import(SyntaxNode):
    """`names`: what of the module -> under which name here. "*" is the module itself, "default" what it exports by default."""

    module: str
    names: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Program:
    """One file. `path` is relative to the directory that is looked at, with `/`."""

    path: str
    language: str
    body: Sequence[SyntaxNode] = field(repr=False)
    trouble: str = ""
    """Where the file could not be understood, and was read on behind it."""

    @property
    def python(self) -> bool:
        return self.language == "python"
