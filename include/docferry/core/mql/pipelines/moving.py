"""A $match goes ahead of stages that touch nothing of what it asks for, part by part, as MongoDB moves it: no document that it
leaves out is computed with, so none of them makes the aggregation fail; and a key that it names leads to the documents.

Not moved, where MongoDB moves it, is what asks for a field by another name that a stage gave it, and for the _id of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from docferry.core.bson_codec.references import fields_of
from docferry.core.mql.arithmetic import is_number
from docferry.core.mql.pipelines.shaping import leaves
from docferry.core.mql.values import is_true

Named = tuple[str, Any]
"""A stage: its name, and what it is given."""
Clause = dict[str, Any]
"""One condition of a $match."""


def matches_first(stages: Sequence[Named]) -> list[Named]:
    """The stages in the order in which they are run; of $matches in a row one."""
    found: list[Named] = []
    for name, asked in stages:
        if name == "$match" and isinstance(asked, dict):
            _insert(found, list(_clauses(asked)))
        else:
            found.append((name, asked))
    return found


def _insert(stages: list[Named], clauses: list[Clause]) -> None:
    place = len(stages)
    while clauses:
        if place and stages[place - 1][0] == "$match":
            place -= 1
            continue
        passes = _passing(stages[place - 1]) if place else lambda clause: False
        staying = [one for one in clauses if not passes(one)]
        clauses = [one for one in clauses if passes(one)]
        if staying and place < len(stages) and stages[place][0] == "$match":
            stages[place] = "$match", _together([*_clauses(stages[place][1]), *staying])
        elif staying:
            stages.insert(place, ("$match", _together(staying)))
        place -= 1


def _clauses(query: Mapping[str, Any]) -> Iterator[Clause]:
    """The conditions of which all must hold."""
    for name, value in query.items():
        inner = value if isinstance(value, list) and value and all(isinstance(one, dict) for one in value) else []
        if inner and (name == "$and" or (name == "$or" and len(inner) == 1)):
            for one in inner:
                yield from _clauses(one)
        elif inner and name == "$nor":
            yield from ({name: [one]} for one in inner)
        else:
            yield {name: value}


def _together(clauses: Iterable[Clause]) -> Clause:
    """One query: by its fields where no two ask for the same."""
    found: Clause = {}
    again: list[Clause] = []
    for clause in clauses:
        if clause.keys() & found.keys():
            again.append(clause)
        else:
            found |= clause
    return found | {"$and": again} if again else found


# --- what passes what ------------------------------------------------------------------------------------------------


def _passing(stage: Named) -> Callable[[Clause], bool]:
    """Whether a condition may be asked before this stage as well as behind it."""
    untouched = _untouched(*stage)

    def passes(clause: Clause) -> bool:
        wanted = set(_paths_of(clause))
        return "" not in wanted and all(map(untouched, wanted))

    return passes


def _untouched(name: str, asked: Any) -> Callable[[str], bool]:
    """Whether a stage leaves what is at a path as it is."""
    if name == "$sort":
        return lambda path: True
    if name in ("$addFields", "$set") and isinstance(asked, dict):
        return _apart_from([path for path, _ in leaves("", asked)])
    if name == "$unset":
        return _apart_from([asked] if isinstance(asked, str) else asked)
    if name == "$unwind":
        given = asked if isinstance(asked, dict) else {"path": asked}
        named = (given.get("path"), given.get("includeArrayIndex"))
        return _apart_from([one.removeprefix("$") for one in named if isinstance(one, str)])
    if name == "$project" and isinstance(asked, dict):
        return _of_projection(asked)
    return lambda path: False


def _of_projection(asked: Mapping[str, Any]) -> Callable[[str], bool]:
    flags = {path: _flag(how) for path, how in leaves("", asked)}
    left_out = [path for path, shown in flags.items() if shown is False]
    if left_out and (left_out != ["_id"] or len(flags) == 1):
        return _apart_from(left_out)
    kept = [path for path, shown in {"_id": True, **flags}.items() if shown]
    return lambda path: any(_is_within(path, one) for one in kept)


def _flag(how: Any) -> bool | None:
    """Whether a projection includes a field; None: it computes it."""
    return is_true(how) if isinstance(how, bool) or is_number(how) else None


def _apart_from(touched: Sequence[str]) -> Callable[[str], bool]:
    return lambda path: not any(_is_within(path, one) or _is_within(one, path) for one in touched)


def _is_within(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.")


# --- what a condition asks for -----------------------------------------------------------------------------------------


def _paths_of(query: Mapping[str, Any]) -> Iterator[str]:
    """The paths that a filter asks for; '' for what MongoDB does not move."""
    for name, value in query.items():
        if name == "$expr":
            yield from _paths_in(value)
        elif name in ("$and", "$or", "$nor") and isinstance(value, list):
            for clause in value:
                yield from _paths_of(clause) if isinstance(clause, dict) else ("",)
        else:
            yield "" if name[:1] == "$" or _asks_of_arrays(value) else name


def _asks_of_arrays(condition: Any) -> bool:
    """By $elemMatch or $size, with which MongoDB moves no $match."""
    if isinstance(condition, list):
        return any(map(_asks_of_arrays, condition))
    if not isinstance(condition, dict):
        return False
    return any(name in ("$elemMatch", "$size") or _asks_of_arrays(one) for name, one in condition.items())


def _paths_in(expression: Any) -> Iterator[str]:
    if isinstance(expression, str) and expression[:1] == "$":
        yield from _path_in(expression)
    elif isinstance(expression, list):
        for one in expression:
            yield from _paths_in(one)
    elif (fields := fields_of(expression)) is not None and "$literal" not in fields:
        if "$getField" in fields and "input" not in (fields_of(fields["$getField"]) or {}):
            yield ""  # of the whole document
        yield from _paths_in(list(fields.values()))


def _path_in(text: str) -> Iterator[str]:
    variable, _, path = text[2:].partition(".") if text[:2] == "$$" else ("CURRENT", "", text[1:])
    if variable in ("ROOT", "CURRENT"):
        yield path
