"""The driver calls of an application: all its files, read in rounds until what they import from one another is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from docferry.core.source.calls import SOME, DriverCall, PassedOver
from docferry.core.source.program.invoking import Caller
from docferry.core.source.program.models import renamed
from docferry.core.source.program.reading import TooMuch
from docferry.core.source.program.syntax import Program
from docferry.core.source.program.values import Fields, FoundCall, Value, plain_of
from docferry.core.source.program.world import World

ROUNDS = 3
"""A connection may be made in one file, kept in another, and used in a third."""
MOST_CALLS = 5_000


def find_calls(programs: Sequence[Program]) -> tuple[list[DriverCall], list[PassedOver]]:
    """(the calls, in the order of files and lines; what was passed over). Nothing is run."""
    world = World()
    world.open(programs)
    calls: list[DriverCall] = []
    passed: list[PassedOver] = []
    for number in range(ROUNDS):
        for program in programs:
            reader = Caller(world, program)
            why = _read(reader)
            if number < ROUNDS - 1:
                continue
            if why:
                passed.append(PassedOver(path=program.path, why=why))
            found = sorted(reader.found, key=lambda one: one.line)
            calls += [_finished(one, program) for one in found]
    if len(calls) > MOST_CALLS:
        passed.append(PassedOver(path=".", why=f"{len(calls) - MOST_CALLS} calls after the first {MOST_CALLS:,}"))
    return calls[:MOST_CALLS], passed


def _read(reader: Caller) -> str:
    """Why it was not read to its end; '' if it was."""
    try:
        reader.read()
    except TooMuch:
        return "more expressions than are looked at in one file: the calls in the rest of it are not listed"
    except RecursionError:
        return "nested too deeply: the calls in the rest of it are not listed"
    except Exception as error:  # noqa: BLE001 - a bug of ours in one file hides no call of the others; it is said, and ends with 1
        return (
            f"a bug in docferry ({type(error).__name__}), please report it: the calls in the rest of it are not listed"
        )
    return ""


def _finished(found: FoundCall, program: Program) -> DriverCall:
    unknown = list(found.unknown)
    query = plain_of(renamed(found.filter, found.names)) if isinstance(found.filter, Fields) else None
    if query is not None and _has_holes(query):
        query = None
    if query is None:
        unknown.append("its filter cannot be known from the source")
    return DriverCall(
        file=program.path,
        line=found.line,
        driver=found.driver,
        written=found.written,
        method=found.method,
        of=found.of,
        collection=found.collection,
        filter=query,
        update=_update(found),
        projection=_known(found.projection),
        pipeline=_stages(found.pipeline),
        sort=tuple((found.names.get(name, name), way) for name, way in found.sort),
        options={name: plain_of(value) for name, value in found.options.items()},
        cursor=tuple(one for one in found.cursor if not one.startswith("where ") and one != "populate"),
        documents=tuple(plain_of(one) for one in found.documents),
        unknown="; ".join(unknown),
    )


def _update(found: FoundCall) -> Any:
    """mongoose sets the fields that stand outside of operators."""
    made = _known(found.update)
    if found.driver != "mongoose" or not isinstance(made, dict) or "replace" in found.method:
        return made
    fields = {name: value for name, value in made.items() if not name.startswith("$")}
    rest = {name: value for name, value in made.items() if name.startswith("$")}
    sets = rest.get("$set")
    return rest | {"$set": {**fields, **(sets if isinstance(sets, dict) else {})}} if fields else made


def _known(value: Value | None) -> Any:
    made = plain_of(value) if value is not None else None
    return None if made is SOME else made


def _stages(value: Value | None) -> list[dict[str, Any]] | None:
    """None: a stage, or what it is to do, is not known."""
    made = _known(value)
    if not isinstance(made, list) or not all(isinstance(one, dict) and len(one) == 1 for one in made):
        return None
    for stage in made:
        ((name, asked),) = stage.items()
        if (asked is SOME and name not in ("$limit", "$skip")) or (name == "$match" and _is_unknown_part(asked)):
            return None
    return made


def _has_holes(query: Mapping[str, Any]) -> bool:
    """Whether a part of it that is a condition, and not a value, is not known."""
    return any(_is_hole(name, value) for name, value in query.items())


def _is_hole(name: str, value: Any) -> bool:
    if name in ("$and", "$or", "$nor"):
        return not isinstance(value, list) or any(_is_unknown_part(one) for one in value)
    if name == "$elemMatch":
        return _is_unknown_part(value)
    return isinstance(value, dict) and any(str(inner).startswith("$") for inner in value) and _has_holes(value)


def _is_unknown_part(value: Any) -> bool:
    return not isinstance(value, dict) or _has_holes(value)
