"""Names in a migration file that MongoDB does not have: a misspelt one must not become an empty collection."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator

from docferry.config import Migration
from docferry.core.namespaces import Namespaces
from docferry.errors import PreflightFailed, Problem
from docferry.ports.flows import Source

MOST_NAMES = 20


def check_names(migration: Migration, source: Source) -> list[Problem]:
    """The database, or every collection, that does not exist and is not said to come (`create: true`). Reads only."""
    catalog = source.catalog()
    where = migration.namespaces
    if twice := [name for name in where.elsewhere if where.name_of(where.default, name) in catalog.collections]:
        return [_ambiguous(name, where) for name in twice]
    wanted = [name for name in migration.mappings if name not in migration.to_create]
    missing = [name for name in wanted if name not in catalog.collections]
    database = migration.source.database
    if missing and not catalog.collections:
        others = [name for name in catalog.databases if name not in ("admin", "config", "local")]
        what = "does not exist" if others and database not in others else "has no collection that we see"
        return [
            Problem(
                where="source.database",
                what=f"the database {database} {what}",
                suggestion=_meant(database, others, "databases"),
            )
        ]
    return list(_missing(missing, catalog.collections, where))


def require_names(migration: Migration, source: Source) -> None:
    """Raises PreflightFailed with all of them."""
    if problems := check_names(migration, source):
        raise PreflightFailed(f"{migration.name}: MongoDB", problems)


def _ambiguous(name: str, where: Namespaces) -> Problem:
    what = f"is {where.shown(name)}, and {where.default} has a collection {name}, too: the name would say both"
    suggestion = f"give it another name here, and say collection: {where.place_of(name)[1]} beside its database"
    return Problem(where=f"collections.{name}", what=what, suggestion=suggestion)


def _missing(names: Collection[str], there: Collection[str], where: Namespaces) -> Iterator[Problem]:
    for name in names:
        database, collection = where.place_of(name)
        beside = [one for place, one in map(where.place_of, there) if place == database]
        yield Problem(
            where=f"collections.{name}",
            what=f"there is no collection {collection} in the database {database}",
            suggestion=_meant(collection, beside, "collections"),
        )


def _meant(name: str, there: Collection[str], kind: str) -> str:
    close = closest(name, there)
    known = sorted(there)
    listed = ", ".join(known[:MOST_NAMES]) + (f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else "")
    hint = (
        f"did you mean {close}?"
        if close
        else f"there are the {kind} {listed}."
        if known
        else f"we see no {kind} at all."
    )
    return f"{hint} If a collection really is to come, say create: true beside it"


def closest(name: str, there: Collection[str]) -> str:
    """The name that looks most like another, whatever its capitals; '' if none does."""
    folded = {one.casefold(): one for one in there}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else ""
