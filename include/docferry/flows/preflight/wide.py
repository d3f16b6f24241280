"""Documents of more items than a transaction takes: while DynamoDB leads they can be neither deleted nor made, because all items
of a document go together, or a crash would tear it."""

from __future__ import annotations

from collections.abc import Iterator

from docferry.config import Migration
from docferry.core.limits import TRANSACTION_ITEMS
from docferry.core.mapping.guards import compile_guards
from docferry.errors import Problem
from docferry.ports.flows import Source

MOST_CHILDREN = TRANSACTION_ITEMS - 1
"""Beside them goes the root, and a guard for each unique index (of an array's elements more, which its writes are told)."""
LOOK_S = 10.0
"""MongoDB reads all of a collection to count them: for a look no longer than that."""
COUNT_S = 600.0
"""Before the leader changes it must be known."""


def wide_documents(migration: Migration, source: Source, for_s: float) -> Iterator[tuple[str, int, int | None]]:
    """(collection, most children, how many of its documents have more), None if that could not be counted in time."""
    for settings in migration.collections:
        if settings.children:
            most = MOST_CHILDREN - len(compile_guards(settings))
            part = migration.mapping(settings.name).filter
            only = part.query if part is not None else None
            yield settings.name, most, source.longer_than(settings.name, tuple(settings.children), most, for_s, only)


def wide_notes(migration: Migration, source: Source) -> Iterator[str]:
    """What `check` says of them."""
    for name, most, count in wide_documents(migration, source, LOOK_S):
        if count is None:
            what = f"{name}: documents with more than {most} children could not be counted in {LOOK_S:.0f} s"
            yield f"{what}; the change of leader counts them, and refuses while there are any"
        elif count:
            what = f"{name}: {count:,} document(s) have more than {most} children: {_WHY}"
            yield f"{what}; the change of leader refuses while there are any. {_ADVICE}"


def too_wide(migration: Migration, source: Source) -> Iterator[Problem]:
    """What keeps DynamoDB from leading."""
    for name, most, count in wide_documents(migration, source, COUNT_S):
        if count is None:
            what = f"documents with more than {most} children could not be counted within {COUNT_S:.0f} s"
            yield Problem(where=f"collections.{name}", what=what, suggestion="try again when MongoDB has less to do")
        elif count:
            what = f"{count:,} document(s) have more than {most} children: {_WHY}"
            yield Problem(where=f"collections.{name}.children", what=what, suggestion=_ADVICE)


_WHY = "once DynamoDB leads they could not be deleted, because a transaction takes 100 items"
_ADVICE = "leave the array in its document (no children), or keep its elements as documents of their own"
