"""The form of a migration file: which keys may stand where, with values of which kind. Every problem of form has its line."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from docferry.config.yaml_lines import Lines, Path_, dotted, line_of
from docferry.core import settings as s
from docferry.errors import Problem

TABLE_NAME = r"^[A-Za-z0-9_.-]{3,255}$"
"""DynamoDB's rule for table and index names."""
Name = Annotated[str, StringConstraints(pattern=TABLE_NAME)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeyFile(_Model):
    PK: str
    SK: str


class IndexFile(KeyFile):
    when: dict[str, str | int | float | bool | None] = Field(default_factory=dict)


class ItemFile(_Model):
    entity: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,255}$")
    key: dict[str, str]
    index: dict[str, IndexFile] = Field(default_factory=dict)
    attributes: dict[str, str] = Field(default_factory=dict)
    types: dict[str, str] = Field(default_factory=dict)


class CollectionFile(_Model):
    table: str | None = None
    item: ItemFile | None = None
    children: dict[str, ItemFile] = Field(default_factory=dict)
    unmapped: s.Unmapped = "keep"


class PatternFile(_Model):
    collection: str
    index: str | None = None
    PK: str
    SK: str | None = None


class MigrationFile(_Model):
    migration: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    source: s.SourceSettings
    target: s.TargetSettings = Field(default_factory=s.TargetSettings)
    tables: dict[Name, s.TableDesign] = Field(min_length=1)
    collections: dict[str, CollectionFile | None] = Field(min_length=1)
    access_patterns: dict[str, PatternFile] = Field(default_factory=dict)
    ledger: s.LedgerSettings = Field(default_factory=s.LedgerSettings)
    dax: s.DaxSettings | None = None
    backfill: s.BackfillSettings = Field(default_factory=s.BackfillSettings)
    validate_: s.ValidateSettings = Field(default_factory=s.ValidateSettings, alias="validate")
    cutover: s.CutoverSettings = Field(default_factory=s.CutoverSettings)
    rollback_points: s.RollbackPointSettings | None = None


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


def _path_of(error: Any) -> Path_:
    return tuple(step for step in error["loc"] if step != "[key]" and not str(step).startswith("function-"))


def _schema_problem(error: Any, lines: Lines, tree: Any) -> Problem:
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
    return Problem(where=dotted(path), what=what, suggestion=suggestion, line=line_of(lines, path))


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
    "item": ItemFile,
}
_SHAPES_BELOW: dict[str, type] = {
    "tables": s.TableDesign,
    "collections": CollectionFile,
    "children": ItemFile,
    "index": IndexFile,
    "access_patterns": PatternFile,
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
