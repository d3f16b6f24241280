"""What the form of a file cannot say of the unique indexes that it names: those of which no guard could be made."""

from __future__ import annotations

from collections.abc import Iterator

from docferry.config.yaml_lines import Lines, Path_, problem_at
from docferry.core.mapping.guards import guard_name_problem
from docferry.core.mql.index_entries import compile_index
from docferry.core.settings import CollectionSettings
from docferry.errors import CallRefused, Problem

_RENAME = (
    "give the index in MongoDB a short name without # { } and ~, and name that; or waive it: cutover.waived_unique"
)
_WAIVE = "leave it out here, and waive it: cutover.waived_unique"


def unique_problems(path: Path_, settings: CollectionSettings, lines: Lines) -> Iterator[Problem]:
    """`path` is the collection's."""
    at: Path_ = (*path, "unique")
    if not settings.unique:
        return
    if any(one.type != "S" for one in settings.key.attributes):
        what = f"a guard has a text for its key, and the keys of table {settings.table} are not all texts"
        yield problem_at(lines, at, what, "put the collection into a table whose keys are texts, or waive the indexes")
    if settings.unmapped == "drop":
        what = (
            "the fields that are not mapped are dropped, so what an index holds could not be told once DynamoDB leads"
        )
        yield problem_at(lines, at, what, "set unmapped: keep, or waive the indexes")
    for one in settings.unique:
        place: Path_ = (*at, one.name)
        if wrong := guard_name_problem(settings.name, one.name):
            yield problem_at(lines, place, wrong, _RENAME)
        try:
            compile_index(one)
        except (ValueError, CallRefused) as error:
            what = error.what if isinstance(error, CallRefused) else str(error)
            yield problem_at(lines, place, f"cannot be kept: {what}", _WAIVE)
