"""What the files of an application know of one another: their names, their classes, what they import. Kept over all rounds."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field

from docferry.core.source.program import syntax as s
from docferry.core.source.program.drivers import CLIENT_KINDS, DATABASE_ATTRIBUTES, DATABASE_KINDS, is_library
from docferry.core.source.program.syntax import Class, Program
from docferry.core.source.program.values import (
    UNKNOWN,
    ClientHandle,
    DatabaseHandle,
    Kind,
    Module,
    NameScope,
    Symbol,
    Value,
)

_ENDINGS = (".ts", ".tsx", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts")


@dataclass(slots=True)
class World:
    """All files of an application."""

    scopes: dict[str, NameScope] = field(default_factory=dict)
    exports: dict[str, dict[str, Value]] = field(default_factory=dict)
    kinds: dict[tuple[str, int], Kind] = field(default_factory=dict)
    paths: frozenset[str] = frozenset()
    _called: dict[str, list[str]] = field(default_factory=dict)
    _modules: dict[tuple[str, str, bool], Module | None] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    """Files that use a driver: that import one, or a file that does."""
    stars: dict[str, list[str]] = field(default_factory=dict)
    """File -> libraries of which it imports all names."""

    def open(self, programs: Iterable[Program]) -> None:
        self.paths = frozenset(one.path for one in programs)
        for path in sorted(self.paths):
            self._called.setdefault(posixpath.basename(path), []).append(path)
            self.scopes[path], self.exports[path] = NameScope(), {}

    def module(self, spec: str, program: Program) -> Module | None:
        """The file of the application that is imported, if it is one."""
        key = (spec, posixpath.dirname(program.path), program.python)
        if key not in self._modules:
            self._modules[key] = self._module(spec, program)
        return self._modules[key]

    def _module(self, spec: str, program: Program) -> Module | None:
        wanted = _python_paths(spec, program.path) if program.python else _javascript_paths(spec, program.path)
        for exact, path in wanted:
            if exact and path in self.paths:
                return Module(path)
            if not exact:
                alike = self._called.get(posixpath.basename(path), ())
                found = sorted((one for one in alike if one == path or one.endswith(f"/{path}")), key=len)
                if found:
                    return Module(found[0])
        return None

    def taken(self, program: Program, node: s.Import) -> dict[str, Value]:
        """What an import binds: name -> value."""
        found: dict[str, Value] = {}
        for name, alias in node.names:
            if (name, alias) == ("*", "*"):
                found |= self.all_of(program, node.module)
            else:
                found[alias] = self.imported(program, node.module, name)
        self.note_import(program, node.module)
        return found

    def imported(self, program: Program, spec: str, name: str) -> Value:
        """What an import binds: a name of another file, a file, or something of a library."""
        module = self.module(spec, program)
        if module is not None:
            found = self.exported(module, name)
            if name in ("*", "default"):
                return found or module
            return (
                found
                or self.module(f"{spec.rstrip('.')}.{name}" if spec.strip(".") else f"{spec}{name}", program)
                or UNKNOWN
            )
        if program.python and spec.startswith("."):
            return self.module(f"{spec}{name}", program) or UNKNOWN
        if is_library(spec) or spec in ("re", "bson", "bson.regex"):
            return symbol_of(spec if name in ("*", "default") else f"{spec}.{name}")
        return (self.module(f"{spec}.{name}", program) if program.python else None) or UNKNOWN

    def note_import(self, program: Program, spec: str) -> None:
        """Whether the file uses a driver, by what it imports."""
        module = self.module(spec, program)
        if is_library(spec) or (module is not None and module.path in self.users):
            self.users.add(program.path)

    def all_of(self, program: Program, spec: str) -> dict[str, Value]:
        """`from spec import *`"""
        module = self.module(spec, program)
        if module is not None:
            return dict(self.scopes[module.path].names)
        if is_library(spec) and spec not in self.stars.setdefault(program.path, []):
            self.stars[program.path].append(spec)
        return {}

    def starred(self, program: Program, name: str) -> Value | None:
        """A name of a library of which all names are imported."""
        libraries = self.stars.get(program.path)
        return symbol_of(f"{libraries[0]}.{name}") if libraries else None

    def exported(self, module: Module, name: str, depth: int = 4) -> Value | None:
        """A name of another file: what it exports, or, in Python, whatever is bound there."""
        exports = self.exports[module.path]
        if name in exports:
            return exports[name]
        for key, value in exports.items():  # export * from ...
            if key[:1] == "*" and isinstance(value, Module) and depth and name not in ("*", "default"):
                found = self.exported(value, name, depth - 1)
                if found is not None:
                    return found
        return self.scopes[module.path].names.get(name) if module.path.endswith(".py") else None

    def kind(self, path: str, node: Class, bases: list[Value], scope: NameScope) -> Kind:
        """The class, which keeps what is known of it from round to round."""
        known = self.kinds.get((path, node.line))
        if known is None:
            known = self.kinds[path, node.line] = Kind(node, bases, scope)
        known.bases, known.scope = bases, scope
        return known


def symbol_of(path: str) -> Value:
    """Something of a library, by its path."""
    return DatabaseHandle() if path in DATABASE_ATTRIBUTES else Symbol(path)


def _python_paths(spec: str, path: str) -> list[tuple[bool, str]]:
    """Where a module may be. Exactly there, or anywhere below: an application's root is not known."""
    dots = len(spec) - len(spec.lstrip("."))
    steps = [one for one in spec.lstrip(".").split(".") if one]
    if dots:
        base = path.split("/")[:-dots]
        names = ["/".join([*base, *steps])]
        return [(True, f"{name}{end}".lstrip("/")) for name in names for end in (".py", "/__init__.py")]
    name = "/".join(steps)
    beside = posixpath.join(posixpath.dirname(path), name)
    return [(True, f"{beside}.py"), (False, f"{name}.py"), (False, f"{name}/__init__.py")]


def _javascript_paths(spec: str, path: str) -> list[tuple[bool, str]]:
    if spec.startswith("."):
        exact, name = True, posixpath.normpath(posixpath.join(posixpath.dirname(path), spec))
    elif spec.startswith(("@/", "~/", "src/")):
        exact, name = False, spec.split("/", 1)[1]
    else:
        return []
    stem, dot = posixpath.splitext(name)
    names = [name] if dot in _ENDINGS else []
    names += [stem + end for end in _ENDINGS] if dot in (".js", ".mjs", ".cjs") else []
    names += [name + end for end in _ENDINGS] + [f"{name}/index{end}" for end in _ENDINGS]
    return [(exact, one) for one in names]


def name_of(parameter: s.ParameterNode) -> str:
    return parameter.pattern.id if isinstance(parameter.pattern, s.Name) else ""


def by_kind(parameter: s.ParameterNode) -> Value:
    """What its type annotation says of a parameter."""
    if parameter.kind in DATABASE_KINDS:
        return DatabaseHandle()
    return ClientHandle() if parameter.kind in CLIENT_KINDS else UNKNOWN


def is_exports(node: s.SyntaxNode) -> bool:
    if isinstance(node, s.MemberNode):
        return isinstance(node.of, s.Name) and (node.of.id, node.name) == ("module", "exports")
    return isinstance(node, s.Name) and node.id == "exports"
