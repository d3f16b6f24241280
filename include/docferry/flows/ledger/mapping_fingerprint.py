"""By which mapping a collection was loaded. Whatever writes its items later, or judges them, must have the same: with another one
an item of the old key would stay, beside the new one, and nobody would know of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from docferry.config import Migration
from docferry.core.settings import CollectionSettings
from docferry.errors import PreflightFailed, Problem
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.ports.flows import Ledger


def mapping_digest(settings: CollectionSettings) -> str:
    """Of how a collection is mapped: what is loaded must fit what follows."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


def changed_mappings(migration: Migration, ledger: Ledger, only: Sequence[str] = ()) -> Iterator[Problem]:
    """The collections (all, or `only` these) that were loaded by another mapping than the file has now."""
    for settings in migration.collections:
        header = LoadHeaders(ledger).read(settings.name) if not only or settings.name in only else None
        if header is not None and header.mapping != mapping_digest(settings):
            yield mapping_changed(settings.name)


def mapping_changed(collection: str) -> Problem:
    return Problem(
        where=f"collections.{collection}",
        what="its mapping has changed since it was loaded; what is loaded would not fit what follows",
        suggestion="put the mapping back; or load it again (backfill --again), then validate and repair, which bury what "
        "is under keys of before; or start over with new tables and a new migration name",
    )


def require_mapping(migration: Migration, ledger: Ledger, only: Sequence[str] = ()) -> None:
    """Raises PreflightFailed with all of them."""
    if problems := list(changed_mappings(migration, ledger, only)):
        raise PreflightFailed(migration.name, problems)
