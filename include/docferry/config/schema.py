"""Reads a migration file into frozen settings. Every problem is reported at once, with its line and a suggestion.

The file holds no secret (connections are names) and is never evaluated: YAML's safe subset, templates of our own.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from docferry.core import settings as s
from docferry.core.bson_codec.codec import parse_declared
from docferry.core.mapping.key_templates import Template, disjoint, parse_template
from docferry.core.mapping.mapping import SYSTEM, DocumentMapping
from docferry.errors import ConfigError, Problem

MAX_FILE_BYTES = 1_000_000
MAX_NODES = 200_000
"""Values in the file once every alias is written out."""
Path_ = tuple[str | int, ...]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{3,255}$")]
"""DynamoDB's rule for table and index names."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _TableFile(_Model):
    indexes: tuple[Name, ...] = ()
    billing: s.Billing = "on_demand"
    capacity: s.Capacity | None = None
    pitr: bool = True
    encryption: str = Field("KMS", pattern="^(KMS|AWS_OWNED)$")
    kms_key: str | None = None
    stream: bool = True
    deletion_protection: bool = True
    ttl_attribute: str = "_ttl"
    tags: dict[str, str] = Field(default_factory=dict)


class _KeyFile(_Model):
    PK: str
    SK: str


class _IndexFile(_KeyFile):
    when: dict[str, str | int | float | bool | None] = Field(default_factory=dict)


class _ItemFile(_Model):
    entity: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,255}$")
    key: dict[str, str]
    index: dict[str, _IndexFile] = Field(default_factory=dict)
    attributes: dict[str, str] = Field(default_factory=dict)
    types: dict[str, str] = Field(default_factory=dict)


class _CollectionFile(_Model):
    table: str | None = None
    item: _ItemFile | None = None
    children: dict[str, _ItemFile] = Field(default_factory=dict)
    unmapped: s.Unmapped = "keep"


class _PatternFile(_Model):
    collection: str
    index: str | None = None
    PK: str
    SK: str | None = None


class _MigrationFile(_Model):
    migration: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    source: s.SourceSettings
    target: s.TargetSettings = Field(default_factory=s.TargetSettings)
    tables: dict[Name, _TableFile] = Field(min_length=1)
    collections: dict[str, _CollectionFile | None] = Field(min_length=1)
    access_patterns: dict[str, _PatternFile] = Field(default_factory=dict)
    ledger: s.LedgerSettings = Field(default_factory=s.LedgerSettings)
    dax: s.DaxSettings | None = None
    backfill: s.BackfillSettings = Field(default_factory=s.BackfillSettings)
    validate_: s.ValidateSettings = Field(default_factory=s.ValidateSettings, alias="validate")
    cutover: s.CutoverSettings = Field(default_factory=s.CutoverSettings)
    rollback_points: s.RollbackPointSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One migration: its settings and its compiled mappings. `digest` names the file's exact content."""

    name: str
    path: str
    digest: str
    source: s.SourceSettings
    target: s.TargetSettings
    tables: tuple[s.TableSettings, ...]
    collections: tuple[s.CollectionSettings, ...]
    access_patterns: tuple[s.AccessPattern, ...]
    ledger: s.LedgerSettings
    dax: s.DaxSettings | None
    backfill: s.BackfillSettings
    validate: s.ValidateSettings
    cutover: s.CutoverSettings
    rollback_points: s.RollbackPointSettings | None
    mappings: Mapping[str, DocumentMapping] = field(compare=False, repr=False)

    def mapping(self, collection: str) -> DocumentMapping:
        """The compiled mapping of a collection. Raises ConfigError, with what there is, for an unknown one."""
        if collection not in self.mappings:
            known = ", ".join(self.mappings)
            raise ConfigError(
                self.path, [Problem(where="collections", what=f"there is no {collection}; there are {known}")]
            )
        return self.mappings[collection]

    def table(self, name: str) -> s.TableSettings:
        """The settings of a table that the file names."""
        return next(table for table in self.tables if table.name == name)

    def entities(self, table: str) -> dict[str, DocumentMapping]:
        """entityType -> mapping, for all items that may be in a table."""
        found = [mapping for mapping in self.mappings.values() if mapping.table == table]
        return {entity: mapping for mapping in found for entity in (mapping.root.entity, *mapping.children)}


def load_migration(path: str | Path) -> Migration:
    """Read a migration file. Raises ConfigError with all its problems; nothing but the file is touched."""
    source = str(path)
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(source, [Problem(where="file", what=f"cannot be read: {error.strerror}")]) from error
    return parse_migration(text, source)


def parse_migration(text: bytes, source: str = "<migration>") -> Migration:
    """The same from the file's bytes."""
    tree, lines, problems = _read_yaml(text, source)
    if problems:
        raise ConfigError(source, problems)
    file, problems, cut = _validated(tree, lines)
    if file is not None:
        problems += [problem for problem in _Checker(file, lines).problems() if not _follows(problem, cut)]
    if problems or file is None:
        raise ConfigError(source, sorted(problems, key=lambda problem: problem.line or 0))
    return _build(file, source, hashlib.sha256(text).hexdigest()[:16])


def _validated(tree: Any, lines: Mapping[Path_, int]) -> tuple[_MigrationFile | None, list[Problem], list[Path_]]:
    """(the file, problems of form, the places they were cut out at).

    What has a wrong form is cut out and the rest is read again, so that one wrong key does not hide what else is wrong.
    """
    problems: list[Problem] = []
    cut: list[Path_] = []
    for _ in range(50):
        try:
            return _MigrationFile.model_validate(tree), problems, cut
        except ValidationError as error:
            found = error.errors()
            problems += [_schema_problem(one, lines, tree) for one in found]
            places = [_cut_out(tree, _path_of(one)) for one in found]
            if None in places:
                return None, problems, cut
            cut += [place for place in places if place is not None]
    return None, problems, cut


def _cut_out(tree: Any, path: Path_) -> Path_ | None:
    """Remove what stands at `path`, or where something is missing, what it is missing from. None if nothing is left."""
    nodes = [tree]
    for step in path:
        inner = nodes[-1]
        if not isinstance(inner, dict) or step not in inner:
            break
        nodes.append(inner[step])
    depth = len(nodes) - 1
    if depth == 0:
        return None
    del nodes[depth - 1][path[depth - 1]]
    return path[:depth]


def _follows(problem: Problem, cut: Sequence[Path_]) -> bool:
    """Whether a problem may only be there because something beside it has been cut out."""
    if cut and problem.where.startswith("access_patterns"):
        return True
    steps = tuple(problem.where.split("."))
    for place in cut:
        parent = tuple(map(str, place[:-1]))
        beside = steps[: len(parent)] == parent and len(steps) <= len(place)
        if beside or (place[0] == "tables" and "table" in problem.what):
            return True
    return False


def _path_of(error: Any) -> Path_:
    return tuple(step for step in error["loc"] if step != "[key]" and not str(step).startswith("function-"))


# --- YAML with line numbers ------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Says where a value is that its type cannot have: 2024-99-99 is no date."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError) as error:
            what = "this is no value of the type that YAML takes it for: put it in quotes if it is a text"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from error


def _read_yaml(text: bytes, source: str) -> tuple[Any, dict[Path_, int], list[Problem]]:
    if len(text) > MAX_FILE_BYTES:
        return None, {}, [Problem(where="file", what=f"over {MAX_FILE_BYTES} bytes: this is no migration file")]
    try:
        node = yaml.compose(text.decode(), Loader=yaml.SafeLoader)
        if node is not None and _size(node, {}) > MAX_NODES:
            return None, {}, [Problem(where="YAML", what="its aliases multiply, or one contains itself", line=1)]
        tree = yaml.load(text.decode(), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        return None, {}, [Problem(where="YAML", what=what, line=mark.line + 1 if mark else None)]
    if node is None or not isinstance(tree, dict):
        return None, {}, [Problem(where="file", what="is empty or no mapping; see include/migrations for examples")]
    lines: dict[Path_, int] = {}
    twice: list[Problem] = []
    _walk(node, (), lines, twice, set())
    return tree, lines, twice


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for. An alias that contains itself stands for endlessly many."""
    found = known.get(id(node))
    if found is None:
        known[id(node)] = MAX_NODES + 1  # what a cycle finds
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        found = known[id(node)] = 1 + sum(_size(part, known) for part in inner)
    return found


def _walk(node: yaml.Node, path: Path_, lines: dict[Path_, int], twice: list[Problem], seen: set[int]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if id(node) in seen:  # an alias: its content has its lines already
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, inner in enumerate(node.value):
            _walk(inner, (*path, index), lines, twice, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, inner in node.value:
            name = str(key.value)
            if name in keys:
                twice.append(Problem(where=_dotted((*path, name)), what="is there twice", line=key.start_mark.line + 1))
            keys.add(name)
            lines[(*path, name)] = key.start_mark.line + 1
            _walk(inner, (*path, name), lines, twice, seen)


def _dotted(path: Path_) -> str:
    return ".".join(str(step) for step in path) or "file"


def _line(lines: Mapping[Path_, int], path: Path_) -> int | None:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def _schema_problem(error: Any, lines: Mapping[Path_, int], tree: Any) -> Problem:
    path = _path_of(error)
    what = error["msg"][0].lower() + error["msg"][1:]
    suggestion = ""
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        what = "is not known here"
        close = difflib.get_close_matches(str(path[-1]), _known_names(path[:-1]), n=1)
        suggestion = f"did you mean {close[0]}?" if close else "known: " + ", ".join(_known_names(path[:-1]))
    elif error["type"] in ("missing", "missing_argument"):
        what, suggestion = "is missing", "add it"
    elif error["type"] == "string_pattern_mismatch":
        what, suggestion = (
            f"{error['input']!r} has a form that is not allowed here",
            f"allowed: {error['ctx']['pattern']}",
        )
    return Problem(where=_dotted(path), what=what, suggestion=suggestion, line=_line(lines, path))


_SHAPES: dict[str, type] = {
    "source": s.SourceSettings,
    "target": s.TargetSettings,
    "ledger": s.LedgerSettings,
    "dax": s.DaxSettings,
    "backfill": s.BackfillSettings,
    "validate": s.ValidateSettings,
    "cutover": s.CutoverSettings,
    "rollback_points": s.RollbackPointSettings,
    "capacity": s.Capacity,
    "item": _ItemFile,
}
_SHAPES_BELOW: dict[str, type] = {
    "tables": _TableFile,
    "collections": _CollectionFile,
    "children": _ItemFile,
    "index": _IndexFile,
    "access_patterns": _PatternFile,
}


def _known_names(path: Path_) -> list[str]:
    """The keys that may stand at a place of the file, for suggestions."""
    if not path:
        return [info.alias or name for name, info in _MigrationFile.model_fields.items()]
    shape = _SHAPES.get(str(path[-1])) or (_SHAPES_BELOW.get(str(path[-2])) if len(path) > 1 else None)
    if shape is None:
        return []
    fields = getattr(shape, "model_fields", None) or getattr(shape, "__dataclass_fields__", {})
    return list(fields)


# --- what the schema cannot say --------------------------------------------------------------------------------------


_RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "backfill": {
        "chunk_documents": (1, 1_000_000_000),
        "page_documents": (1, 100_000),
        "max_tasks": (1, 200),
        "budget_wcu": (0, 10_000_000),
        "dead_letter_share": (0, 1),
        "dead_letter_count": (0, 1_000_000_000),
        "lease_s": (1, 3_600),
        "concurrency": (1, 1_000),
    },
    "validate_": {"first_differences": (0, 100_000), "settle_s": (0, 3_600)},
    "dax": {"nodes": (1, 11)},
    "cutover": {"hold_s": (1, 300), "drain_s": (0, 300)},
}
_CAPACITY: Mapping[str, tuple[float, float]] = {
    "read_units": (1, 10_000_000),
    "write_units": (1, 10_000_000),
    "max_read_units": (1, 10_000_000),
    "max_write_units": (1, 10_000_000),
    "target_percent": (20, 90),  # Application Auto Scaling's own range
}


class _Checker:
    """Looks for everything in a well-formed file that could not be carried out or reversed."""

    def __init__(self, file: _MigrationFile, lines: Mapping[Path_, int]) -> None:
        self.file, self.lines = file, lines
        self.sound = False

    def problems(self) -> list[Problem]:
        found = [*self._secrets(), *self._tables(), *self._target(), *self._numbers(), *self._names(), *self._cutover()]
        found += self._rollback_points()
        for name, collection in self.file.collections.items():
            found += self._collection(name, collection or _CollectionFile())
        self.sound = not found
        if self.sound:
            found += self._shared_keys()
        return found + list(self._patterns())

    def _problem(self, path: Path_, what: str, suggestion: str = "") -> Problem:
        return Problem(where=_dotted(path), what=what, suggestion=suggestion, line=_line(self.lines, path))

    def _secrets(self) -> Iterator[Problem]:
        for side, value in (("source", self.file.source.connection), ("target", self.file.target.connection)):
            if "://" in value or "@" in value:
                path = (side, "connection")
                yield self._problem(path, "looks like an address or a secret", "name an Airflow connection instead")

    def _numbers(self) -> Iterator[Problem]:
        for section, ranges in _RANGES.items():
            settings = getattr(self.file, section)
            if settings is not None:
                path = (section.rstrip("_"),)
                yield from self._ranges(path, settings, ranges)
        for name, table in self.file.tables.items():
            if table.capacity is not None:
                yield from self._ranges(("tables", name, "capacity"), table.capacity, _CAPACITY)
                for kind in ("read", "write"):
                    low, high = (getattr(table.capacity, f"{prefix}{kind}_units") for prefix in ("", "max_"))
                    if high is not None and high < low:
                        at = ("tables", name, "capacity", f"max_{kind}_units")
                        yield self._problem(at, f"{high} is less than {kind}_units")

    def _ranges(self, path: Path_, settings: Any, ranges: Mapping[str, tuple[float, float]]) -> Iterator[Problem]:
        for key, (low, high) in ranges.items():
            value = getattr(settings, key)
            if value is not None and not low <= value <= high:  # not <=: NaN is in no range
                yield self._problem((*path, key), f"{value} is out of range", f"from {low:,} to {high:,}")

    def _cutover(self) -> Iterator[Problem]:
        cutover = self.file.cutover
        if not cutover.drain_s < cutover.hold_s:
            at = ("cutover", "drain_s")
            yield self._problem(
                at, f"{cutover.drain_s} leaves nothing of hold_s for the fence", "make it less than hold_s"
            )
        for key in ("app_users", "waived_writers", "waived_readers"):
            names = getattr(cutover, key)
            if not all(name.strip() for name in names):
                yield self._problem(("cutover", key), "holds a name that is empty", "remove it")
        if cutover.fence == "revoke" and not cutover.app_users:
            at = ("cutover", "app_users")
            yield self._problem(at, "names nobody whose roles could be revoked", "name the application's users")

    def _rollback_points(self) -> Iterator[Problem]:
        points = self.file.rollback_points
        if points is None:
            return
        at: Path_ = ("rollback_points", "to")
        if points.method == "snapshot":
            if points.to:
                yield self._problem(at, "a snapshot is made elsewhere, and only named here", "remove to")
        elif not points.to:
            yield self._problem(at, "is missing", "an absolute path, or s3://bucket/prefix")
        elif points.to.startswith("s3://"):
            if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/-]*)?", points.to):
                yield self._problem(at, "is no bucket and prefix", "such as s3://backups/shop")
        elif "://" in points.to:
            yield self._problem(at, "is neither a path nor s3://", "an absolute path, or s3://bucket/prefix")
        elif not Path(points.to).is_absolute():
            yield self._problem(at, "is relative, and tasks run anywhere", "an absolute path, or s3://bucket/prefix")

    def _target(self) -> Iterator[Problem]:
        target = self.file.target
        for path, region in [
            (("target", "region"), target.region),
            *((("target", "replicas", index), region) for index, region in enumerate(target.replicas)),
        ]:
            if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+){1,2}-\d", region):
                yield self._problem(path, f"'{region}' is no AWS region", "such as eu-west-1")
        if len(set(target.replicas)) != len(target.replicas):
            yield self._problem(("target", "replicas"), "names a region twice")
        if target.region in target.replicas:
            yield self._problem(("target", "replicas"), f"{target.region} is the table's own region", "leave it out")

    def _tables(self) -> Iterator[Problem]:
        for name, table in self.file.tables.items():
            path = ("tables", name)
            if table.billing == "provisioned" and table.capacity is None:
                yield self._problem(
                    path, "is provisioned but has no capacity", "add capacity: {read_units: , write_units: }"
                )
            if table.billing == "on_demand" and table.capacity is not None:
                yield self._problem(
                    (*path, "capacity"), "an on-demand table has none", "remove it, or set billing: provisioned"
                )
            if len(set(table.indexes)) != len(table.indexes):
                yield self._problem((*path, "indexes"), "names an index twice")
            if len(table.indexes) > 20:
                yield self._problem((*path, "indexes"), "DynamoDB allows 20 a table")
            if self.file.target.replicas and not table.stream:
                yield self._problem((*path, "stream"), "replicas need a stream", "set stream: true")

    def _names(self) -> Iterator[Problem]:
        for name, table in self.file.tables.items():
            keys = {f"{index}{part}" for index in table.indexes for part in ("PK", "SK")}
            if table.ttl_attribute in (SYSTEM - {"_ttl"}) | keys | {"_id", ""} or table.ttl_attribute[0] == "~":
                path = ("tables", name, "ttl_attribute")
                yield self._problem(path, "is a name that docferry needs itself", "choose another, such as _ttl")
        ledger = self.file.ledger.table
        if ledger in self.file.tables:
            yield self._problem(("ledger", "table"), f"{ledger} already holds documents", "give the ledger its own")
        elif not re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", ledger):
            yield self._problem(("ledger", "table"), f"'{ledger}' is no table name")
        if not re.fullmatch(r"""[^/\\. "$*<>:|?@]{1,63}""", self.file.source.database):
            yield self._problem(("source", "database"), "is no database name")

    def _table_of(self, collection: _CollectionFile) -> str | None:
        if collection.table is None and len(self.file.tables) == 1:
            return next(iter(self.file.tables))
        return collection.table

    def _collection(self, name: str, collection: _CollectionFile) -> list[Problem]:
        path: Path_ = ("collections", name)
        table = self._table_of(collection)
        if table is None:
            return [self._problem(path, "does not say its table", "one of " + ", ".join(self.file.tables))]
        if table not in self.file.tables:
            close = difflib.get_close_matches(table, self.file.tables, n=1)
            hint = f"did you mean {close[0]}?" if close else "add it under tables"
            return [self._problem((*path, "table"), f"there is no table {table}", hint)]
        if collection.item is None:
            return list(self._generic(path, name, collection))
        found = [*self._item((*path, "item"), collection.item, table, child=False)]
        for field_name, child in collection.children.items():
            found += self._item((*path, "children", field_name), child, table, child=True)
        return [*found, *self._overlaps(path, collection)]

    def _generic(self, path: Path_, name: str, collection: _CollectionFile) -> Iterator[Problem]:
        if collection.children:
            yield self._problem((*path, "children"), "children need an item", "add item: with entity and key")
        if re.search(r"[#{}~]", name):
            yield self._problem(path, "its name cannot stand in a key", "add item: with a key of its own")

    def _item(self, path: Path_, item: _ItemFile, table: str, child: bool) -> Iterator[Problem]:
        wanted = {"SK"} if child else {"PK", "SK"}
        for key in sorted(set(item.key) - wanted):
            hint = (
                "a child lives in its parent's partition: remove it" if key == "PK" and child else "keys are PK and SK"
            )
            yield self._problem((*path, "key", key), "is not known here", hint)
        for key in sorted(wanted - set(item.key)):
            yield self._problem((*path, "key"), f"has no {key}", "a template such as USER#{username}")
        for key, source in item.key.items():
            yield from self._template((*path, "key", key), source)
        for index, keys in item.index.items():
            if index not in self.file.tables[table].indexes:
                known = ", ".join(self.file.tables[table].indexes) or "none"
                yield self._problem((*path, "index", index), f"table {table} has no such index", f"it has {known}")
            yield from self._template((*path, "index", index, "PK"), keys.PK)
            yield from self._template((*path, "index", index, "SK"), keys.SK)
        yield from self._attributes(path, item, table, child)
        yield from self._types(path, item)

    def _template(self, path: Path_, source: str) -> Iterator[Problem]:
        try:
            parse_template(source)
        except ValueError as error:
            yield self._problem(path, str(error))

    def _types(self, path: Path_, item: _ItemFile) -> Iterator[Problem]:
        for attribute, declared in item.types.items():
            try:
                parse_declared(declared)
            except ValueError as error:
                yield self._problem((*path, "types", attribute), str(error))

    def _attributes(self, path: Path_, item: _ItemFile, table: str, child: bool) -> Iterator[Problem]:
        indexes = self.file.tables[table].indexes
        reserved = SYSTEM | {"_id", self.file.tables[table].ttl_attribute}
        reserved |= {f"{index}{part}" for index in indexes for part in ("PK", "SK")}
        sources: dict[str, str] = {}
        for attribute, source in item.attributes.items():
            at = (*path, "attributes", attribute)
            if attribute in reserved or not attribute or attribute[0] == "~":
                yield self._problem(at, "is a name that docferry needs itself", "choose another")
            if not all(source.split(".")):
                yield self._problem(at, f"'{source}' is no dotted path")
            if source in sources and (child or source.split(".")[0] != "_id"):  # a root's _id may be copied at will
                yield self._problem(
                    at, f"{source} already goes to {sources[source]}: which one would be read back?", "remove one"
                )
            sources.setdefault(source, attribute)
        moved = sorted(source for source in sources if child or source.split(".")[0] != "_id")
        for one, other in combinations(moved, 2):
            if other.startswith(one + "."):
                at = (*path, "attributes", sources[other])
                yield self._problem(
                    at, f"{other} is inside {one}, which is mapped as a whole: cannot be reversed", "keep one of them"
                )

    def _overlaps(self, path: Path_, collection: _CollectionFile) -> Iterator[Problem]:
        assert collection.item is not None
        for field_name in collection.children:
            at = (*path, "children", field_name)
            if not all(field_name.split(".")):
                yield self._problem(at, f"'{field_name}' is no dotted path")
            if field_name.split(".")[0] == "_id":
                yield self._problem(at, "is in the _id, which stays whole", "remove it")
            for source in collection.item.attributes.values():
                if _overlap(source, field_name):
                    yield self._problem(at, f"{source} is also an attribute: cannot be reversed", "keep one of them")
        for one, other in combinations(collection.children, 2):
            if _overlap(one, other):
                at = (*path, "children", other)
                yield self._problem(at, f"overlaps the children {one}: cannot be reversed", "keep one of them")

    def _shared_keys(self) -> Iterator[Problem]:
        """Two kinds of item that could ever have the same key, and entity names that are there twice."""
        kinds: list[tuple[Path_, str, str, Template, Template]] = []
        for name, collection in self.file.collections.items():
            settings = _collection_settings(self.file, name)
            pk = parse_template(settings.item.key["PK"])
            at: Path_ = ("collections", name)
            own = (*at, "item") if collection and collection.item else at
            kinds.append((own, settings.table, settings.item.entity, pk, parse_template(settings.item.key["SK"])))
            for child_name, child in settings.children.items():
                where = (*at, "children", child_name)
                kinds.append((where, settings.table, child.entity, pk, parse_template(child.key["SK"])))
        for one, other in combinations(kinds, 2):
            if one[1] != other[1]:
                continue
            if one[2] == other[2]:
                yield self._problem(
                    (*other[0], "entity"), f"{other[2]} is also the entity of {_dotted(one[0])}", "choose another"
                )
            if not disjoint(one[3], other[3]) and not disjoint(one[4], other[4]):
                what = f"an item could have the same key as one of {_dotted(one[0])}"
                yield self._problem((*other[0], "key"), what, "begin the key with a word of its own")

    def _patterns(self) -> Iterator[Problem]:
        for name, pattern in self.file.access_patterns.items():
            path: Path_ = ("access_patterns", name)
            if pattern.collection not in self.file.collections:
                known = ", ".join(self.file.collections)
                yield self._problem(
                    (*path, "collection"), f"there is no collection {pattern.collection}", f"there are {known}"
                )
                continue
            table = self._table_of(self.file.collections[pattern.collection] or _CollectionFile())
            if pattern.index and table in self.file.tables and pattern.index not in self.file.tables[table].indexes:
                yield self._problem((*path, "index"), f"table {table} has no index {pattern.index}")
            broken = [
                problem
                for key in ("PK", "SK")
                if (source := getattr(pattern, key)) is not None
                for problem in self._template((*path, key), source)
            ]
            yield from broken
            if not broken and self.sound and not self._finds_something(pattern):
                what = f"no item of {pattern.collection} has such a key" + (
                    f" in {pattern.index}" if pattern.index else ""
                )
                yield self._problem((*path, "PK"), what, "compare it with the collection's templates")

    def _finds_something(self, pattern: _PatternFile) -> bool:
        settings = _collection_settings(self.file, pattern.collection)
        for item in (settings.item, *settings.children.values()):
            keys = item.index.get(pattern.index) if pattern.index else {"PK": settings.item.key["PK"], **item.key}
            if keys is not None and all(
                not disjoint(parse_template(wanted), parse_template(keys[key]))
                for key in ("PK", "SK")
                if (wanted := getattr(pattern, key)) is not None
            ):
                return True
        return False


def _overlap(one: str, other: str) -> bool:
    """Is one dotted path the other, or inside it?"""
    return one == other or one.startswith(other + ".") or other.startswith(one + ".")


# --- the frozen settings ---------------------------------------------------------------------------------------------


def _build(file: _MigrationFile, source: str, digest: str) -> Migration:
    collections = tuple(_collection_settings(file, name) for name in file.collections)
    return Migration(
        name=file.migration,
        path=source,
        digest=digest,
        source=file.source,
        target=file.target,
        tables=tuple(_table_settings(name, table) for name, table in file.tables.items()),
        collections=collections,
        access_patterns=tuple(_pattern(name, pattern) for name, pattern in file.access_patterns.items()),
        ledger=file.ledger,
        dax=file.dax,
        backfill=file.backfill,
        validate=file.validate_,
        cutover=file.cutover,
        rollback_points=file.rollback_points,
        mappings={settings.name: DocumentMapping(settings) for settings in collections},
    )


def _table_settings(name: str, table: _TableFile) -> s.TableSettings:
    return s.TableSettings(name=name, **{key: getattr(table, key) for key in _TableFile.model_fields})


def _collection_settings(file: _MigrationFile, name: str) -> s.CollectionSettings:
    collection = file.collections[name] or _CollectionFile()
    table = collection.table or next(iter(file.tables))
    if collection.item is None:
        entity = name.upper()
        item = s.ItemSettings(entity=entity, key={"PK": entity + "#{_id}", "SK": "DATA"})
    else:
        item = _item_settings(collection.item)
    return s.CollectionSettings(
        name=name,
        table=table,
        item=item,
        children={key: _item_settings(child) for key, child in collection.children.items()},
        unmapped=collection.unmapped,
        generic=collection.item is None,
        index_names=file.tables[table].indexes,
        ttl_attribute=file.tables[table].ttl_attribute,
    )


def _item_settings(item: _ItemFile) -> s.ItemSettings:
    return s.ItemSettings(
        entity=item.entity,
        key=item.key,
        index={name: {"PK": keys.PK, "SK": keys.SK} for name, keys in item.index.items()},
        when={name: keys.when for name, keys in item.index.items() if keys.when},
        attributes=item.attributes,
        types=item.types,
    )


def _pattern(name: str, pattern: _PatternFile) -> s.AccessPattern:
    key = {"PK": pattern.PK} | ({"SK": pattern.SK} if pattern.SK else {})
    return s.AccessPattern(name=name, collection=pattern.collection, key=key, index=pattern.index)


def migration_files(directories: Sequence[str | Path]) -> list[Path]:
    """The migration files in some directories, by name; other files are left alone."""
    found = {path.resolve() for directory in directories for path in Path(directory).glob("*.y*ml")}
    return sorted(found)
