"""The form of a migration file: which keys may stand where, with values of which kind. Every problem of form has its line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
)

from docferry.config.yaml_lines import Lines, Path_, dotted, line_of
from docferry.core import settings as s
from docferry.core import settings_estate as e
from docferry.errors import Problem

TABLE_NAME = r"^[A-Za-z0-9_.-]{3,255}$"
"""DynamoDB's rule for table and index names."""
Name = Annotated[str, StringConstraints(pattern=TABLE_NAME)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _attribute(value: Any) -> Any:
    """A key attribute by its name alone is a text."""
    return {"name": value} if isinstance(value, str) else value


KeyAttribute = Annotated[s.KeyAttribute, BeforeValidator(_attribute)]


class KeyDesignFile(_Model):
    """The key attributes of a table or an index: without SK it has no sort key."""

    PK: KeyAttribute
    SK: KeyAttribute | None = None

    def design(self) -> s.KeyDesign:
        return s.KeyDesign(PK=self.PK, SK=self.SK)


class IndexDesignFile(_Model):
    key: KeyDesignFile | None = None
    projection: s.Projection = "ALL"
    include: tuple[str, ...] = ()
    local: bool = False

    def design(self, name: str) -> s.IndexSettings:
        key = self.key.design() if self.key is not None else s.plain_index_key(name)
        return s.IndexSettings(key=key, projection=self.projection, include=self.include)


_LIST, _MAPPING = "as-list", "as-mapping"
_Indexes = Annotated[
    Annotated[tuple[str, ...], Tag(_LIST)] | Annotated[dict[str, IndexDesignFile | None], Tag(_MAPPING)],
    Discriminator(lambda value: _MAPPING if isinstance(value, dict) else _LIST),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile(s.TableDesign):
    """A table, whose indexes are a list of names, or a mapping of names to what they are."""

    key: KeyDesignFile | None = None
    indexes: _Indexes = ()

    def design_of(self, index: str) -> s.IndexSettings:
        """An index of the table, as the file says or does not say."""
        said = self.indexes[index] if isinstance(self.indexes, dict) else None
        return (said or IndexDesignFile()).design(index)

    @property
    def key_design(self) -> s.KeyDesign:
        return self.key.design() if self.key is not None else s.PLAIN_KEY


class ExistsFile(_Model):
    exists: bool


Scalar = str | int | float | bool | None
_Condition = Annotated[
    Annotated[Scalar, Tag("as-value")]
    | Annotated[tuple[Scalar, ...], Tag(_LIST)]
    | Annotated[ExistsFile, Tag(_MAPPING)],
    Discriminator(
        lambda value: _MAPPING if isinstance(value, dict) else _LIST if isinstance(value, list) else "as-value"
    ),
]


class IndexFile(_Model):
    """`when`: an item is in the index only if its fields have these values, one of these, or are there (not there)."""

    PK: str
    SK: str | None = None
    when: dict[str, _Condition] = Field(default_factory=dict)


class ItemFile(_Model):
    entity: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,255}$")
    key: dict[str, str]
    index: dict[str, IndexFile] = Field(default_factory=dict)
    attributes: dict[str, str] = Field(default_factory=dict)
    types: dict[str, str] = Field(default_factory=dict)


def _transform(value: Any) -> Any:
    """A transform by its name alone is of version 1."""
    return {"use": value} if isinstance(value, str) else value


Transform = Annotated[s.TransformSettings | None, BeforeValidator(_transform)]


def _unique(value: Any) -> Any:
    """An index by its fields alone is a full one; fields without directions ascend."""
    value = {"key": value} if isinstance(value, list) else value
    if (
        isinstance(value, dict)
        and isinstance(key := value.get("key"), list)
        and all(isinstance(one, str) for one in key)
    ):
        return {**value, "key": dict.fromkeys(key, 1)}
    return value


class UniqueFile(_Model):
    """A unique index of MongoDB, as MongoDB shows it."""

    key: dict[str, Literal[1, -1]] = Field(min_length=1)
    sparse: bool = False
    partial: dict[str, Any] | None = None


class CollectionFile(_Model):
    """`database` and `collection`: where it is, if not in the database of `source`, or not by this name."""

    database: str | None = None
    collection: str | None = None
    table: str | None = None
    item: ItemFile | None = None
    children: dict[str, ItemFile] = Field(default_factory=dict)
    unmapped: s.Unmapped = "keep"
    order: s.FieldOrder = "ignore"
    scan: s.ScanSettings | None = None
    overflow: s.Overflow | None = None
    create: bool = False
    transform: Transform = None
    unique: dict[str, Annotated[UniqueFile, BeforeValidator(_unique)]] = Field(default_factory=dict)
    filter: dict[str, Any] = Field(default_factory=dict)


class PatternFile(_Model):
    collection: str
    index: str | None = None
    PK: str
    SK: str | None = None


class MigrationFile(_Model):
    migration: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    source: s.SourceSettings
    target: s.TargetSettings = Field(default_factory=s.TargetSettings)
    tables: dict[Name, TableFile] = Field(min_length=1)
    collections: dict[str, CollectionFile | None] = Field(min_length=1)
    access_patterns: dict[str, PatternFile] = Field(default_factory=dict)
    ledger: s.LedgerSettings = Field(default_factory=s.LedgerSettings)
    dax: s.DaxSettings | None = None
    backfill: s.BackfillSettings = Field(default_factory=s.BackfillSettings)
    validate_: s.ValidateSettings = Field(default_factory=s.ValidateSettings, alias="validate")
    cutover: s.CutoverSettings = Field(default_factory=s.CutoverSettings)
    rollback_points: s.RollbackPointSettings | None = None
    monitoring: s.MonitoringSettings | None = None
    notify: tuple[s.NotifySettings, ...] = ()
    estate: e.EstateSettings = Field(default_factory=e.EstateSettings)


def read_schema(tree: Any, lines: Lines) -> tuple[MigrationFile | None, list[Problem], list[Path_]]:
    """(the file, problems of form, the places they were cut out at).

    What has a wrong form is cut out and the rest is read again, so that one wrong key does not hide what else is wrong.
    """
    problems: list[Problem] = []
    cut: list[Path_] = []
    for _ in range(50):
        try:
            return MigrationFile.model_validate(tree), problems, cut
        except ValidationError as error:
            told_of = [one for one in error.errors() if not _of_the_other_form(one, tree)]
            found = {_path_of(one, tree): one for one in reversed(told_of)}  # of several at a place the first
            mended = [path for path, one in found.items() if _take_as_text(one, path, lines, tree)]
            misspelt = {path: name for path, one in found.items() if (name := _meant(one, path, found))}
            told = {path: one for path, one in found.items() if not _is_left_over(one, path, cut)}
            for path, name in misspelt.items():
                told.pop((*path[:-1], name), None)
            problems += [_schema_problem(one, path, lines) for path, one in told.items()]
            for path, name in misspelt.items():
                lines.also(path, (*path[:-1], name))
                node = _at(tree, path[:-1])
                node[name] = node.pop(path[-1])
            done = {*mended, *misspelt, *((*path[:-1], name) for path, name in misspelt.items())}
            places = [_cut_out(tree, path) for path in found if path not in done]
            if None in places:
                return None, problems, cut
            cut += [place for place in places if place is not None]
    return None, problems, cut


def _meant(error: Any, path: Path_, found: Mapping[Path_, Any]) -> str:
    """The name that a misspelt one stands for, if that is what is missing beside it."""
    close = _close_name(path) if error["type"] in _UNKNOWN else ""
    return close if close and found.get((*path[:-1], close), {"type": ""})["type"] in _MISSING else ""


def _is_left_over(error: Any, path: Path_, cut: Sequence[Path_]) -> bool:
    """Whether something is only missing because it, or all that it held, has been cut out."""
    return error["type"] in (*_MISSING, "too_short") and any(place[: len(path)] == path for place in cut)


def _take_as_text(error: Any, path: Path_, lines: Lines, tree: Any) -> bool:
    """Go on with what is written where YAML reads `no` or `2024`, so that nothing else seems to be missing."""
    text = lines.texts.get(path, "")
    if error["type"] != "string_type" or not text or isinstance(error["input"], list | dict):
        return False
    _at(tree, path[:-1])[path[-1]] = text
    return True


def _at(tree: Any, path: Path_) -> Any:
    for step in path:
        tree = tree[step]
    return tree


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


def follows(problem: Problem, cut: Sequence[Path_]) -> bool:
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


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_argument")
_WANTED = {
    "string_type": "must be a text",
    "tuple_type": "must be a list, as in [a, b]",
    "dict_type": "must be a mapping, as in {name: value}",
    "model_type": "must be a mapping, as in {name: value}",
    "dataclass_type": "must be a mapping, as in {name: value}",
}


_MAPPING_FORM, _WORD_FORM = "ExternalFence", "literal["
"""What may be a word or a mapping: pydantic tries both, and tells of both."""


def _of_the_other_form(error: Any, tree: Any) -> bool:
    """Whether it says what is wrong of a word where a mapping is written, or the other way round."""
    for place, step in enumerate(error["loc"]):
        if step == _MAPPING_FORM or str(step).startswith(_WORD_FORM):
            return (step == _MAPPING_FORM) is not isinstance(_at(tree, error["loc"][:place]), dict)
    return False


_TRIED = ("function-", _LIST, _MAPPING, "as-value", _WORD_FORM)


def _path_of(error: Any, tree: Any) -> Path_:
    """Where in the file. Pydantic also names the type that it tried."""
    path = tuple(
        step for step in error["loc"] if step not in ("[key]", _MAPPING_FORM) and not str(step).startswith(_TRIED)
    )
    for depth in range(len(path)):
        if not isinstance(tree, dict | list) or (isinstance(tree, list) and not isinstance(path[depth], int)):
            return path[:depth]
        if isinstance(tree, dict) and path[depth] not in tree:
            return path
        tree = tree[path[depth]]
    return path


def _schema_problem(error: Any, path: Path_, lines: Lines) -> Problem:
    what = _WANTED.get(error["type"], error["msg"][0].lower() + error["msg"][1:])
    suggestion = ""
    if error["type"] in _UNKNOWN:
        what = "is not known here"
        close = _close_name(path)
        suggestion = f"did you mean {close}?" if close else "known: " + ", ".join(_known_names(path[:-1]))
    elif error["type"] in _MISSING:
        what, suggestion = "is missing", "add it"
    elif error["type"] == "string_pattern_mismatch":
        what, suggestion = (
            f"{error['input']!r} has a form that is not allowed here",
            f"allowed: {error['ctx']['pattern']}",
        )
    elif error["type"] == "string_type":
        what, suggestion = _no_text(error["input"], lines.texts.get(path))
    return Problem(where=dotted(path), what=what, suggestion=suggestion, line=line_of(lines, path))


def _no_text(value: Any, written: str | None) -> tuple[str, str]:
    """(what, suggestion) for something that is no text where one must be."""
    if isinstance(value, dict):
        return "is a mapping, and must be a text", "put it in quotes: in YAML a { begins a mapping"
    if isinstance(value, list):
        return "is a list, and must be one text", "write the one that is meant"
    if value is None and not written:
        return "has no value", "give it one"
    return f"YAML does not read {written or value} as text", f"put it in quotes: '{written or value}'"


def _close_name(path: Path_) -> str:
    """A name that may stand there and looks like the one that does."""
    return next(iter(difflib.get_close_matches(str(path[-1]), _known_names(path[:-1]), n=1)), "")


_SHAPES: dict[str, type] = {
    "source": s.SourceSettings,
    "target": s.TargetSettings,
    "ledger": s.LedgerSettings,
    "dax": s.DaxSettings,
    "backfill": s.BackfillSettings,
    "validate": s.ValidateSettings,
    "cutover": s.CutoverSettings,
    "fence": s.ExternalFence,
    "rollback_points": s.RollbackPointSettings,
    "monitoring": s.MonitoringSettings,
    "capacity": s.Capacity,
    "warm_throughput": s.WarmThroughputSettings,
    "estate": e.EstateSettings,
    "backup": e.BackupSettings,
    "lock": e.LockSettings,
    "alarms": e.AlarmSettings,
    "item": ItemFile,
    "scan": s.ScanSettings,
    "key": KeyDesignFile,
    "PK": s.KeyAttribute,
    "SK": s.KeyAttribute,
}
_SHAPES_BELOW: dict[str, type] = {
    "tables": TableFile,
    "indexes": IndexDesignFile,
    "collections": CollectionFile,
    "children": ItemFile,
    "index": IndexFile,
    "access_patterns": PatternFile,
    "when": ExistsFile,
    "unique": UniqueFile,
    "keys": e.KeySettings,
    "rules": e.BackupRuleSettings,
    "functions": e.FunctionSettings,
}


def _known_names(path: Path_) -> list[str]:
    """The keys that may stand at a place of the file, for suggestions."""
    if not path:
        return [info.alias or name for name, info in MigrationFile.model_fields.items()]
    shape = _SHAPES.get(str(path[-1])) or (_SHAPES_BELOW.get(str(path[-2])) if len(path) > 1 else None)
    if shape is None:
        return []
    fields = getattr(shape, "model_fields", None) or getattr(shape, "__dataclass_fields__", {})
    return list(fields)
