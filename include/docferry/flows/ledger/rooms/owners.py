"""Which migrations keep items in a table of DynamoDB, and under which keys: asked and noted here alone.

`check`, `docferry.connect`, `provision`, the load and replication ask the same questions; the last three note their claim, too,
on condition that no other has meanwhile. The record is in a partition of the table, not of a migration, so that two files
see one another; a tag on the table itself tells those whose ledger is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.config import Migration
from docferry.core.compare.ownership import Claim, Neighbours, claim_on, conflicts, tag_conflicts
from docferry.core.cutover.modes import MODE
from docferry.core.estate.values import TableState
from docferry.errors import ConditionFailed, PreflightFailed, Problem, TableMissing
from docferry.ports.flows import Ledger, Record

OWNERS = ("owners", "all")
"""Section and key, in the partition of a table."""
TABLES = Callable[[str], TableState | None]
"""`Estate.fetch_table`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """All claims on one table. `record` is what was read; None if there is none yet."""

    claims: tuple[Claim, ...] = ()
    record: Record | None = None

    def of(self, migration: str) -> Claim | None:
        return next((one for one in self.claims if one.migration == migration), None)


def read_owners(ledger: Ledger, table: str) -> Owners:
    """No claims, where there is no ledger yet. Raises StoreError."""
    table_ledger = ledger.of_table(table)
    try:
        record = table_ledger.read(*OWNERS)
    except TableMissing:
        return Owners()
    return _owners_in(record) if record is not None else Owners()


def _write_owners(ledger: Ledger, table: str, owners: Owners, claims: Sequence[Claim]) -> None:
    """Raises ConditionFailed if they have changed since they were read."""
    body = {"claims": [_encode(one) for one in sorted(claims, key=lambda one: one.migration)]}
    table_ledger = ledger.of_table(table)
    table_ledger.write(*OWNERS, body, expect=owners.record)


def _encode(claim: Claim) -> dict[str, Any]:
    return {
        "migration": claim.migration,
        "database": claim.database,
        "shared": claim.shared,
        "keys": sorted(claim.keys),
        "indexes": {name: sorted(keys) for name, keys in claim.indexes.items()},
        "entities": sorted(claim.entities),
    }


def _owners_in(record: Record) -> Owners:
    claims = [
        Claim(
            migration=one["migration"],
            database=one["database"],
            shared=one["shared"],
            keys=frozenset(one["keys"]),
            indexes={name: frozenset(keys) for name, keys in one["indexes"].items()},
            entities=frozenset(one["entities"]),
        )
        for one in record.body["claims"]
    ]
    return Owners(claims=tuple(claims), record=record)


def forget_records(ledger: Ledger, places: Iterable[tuple[str, str]]) -> None:
    """Delete a migration's records, by section and key; that of the mode last: without it the rest would speak of a loss.

    Raises: ConditionFailed if one is being changed; StoreError.
    """
    for section, key in sorted(places, key=lambda one: one[0] == MODE[0]):
        if (record := ledger.read(section, key)) is not None:
            ledger.delete(record)


# --- may this migration have its tables? ------------------------------------------------------------------------------


def not_owned(migration: Migration, ledger: Ledger, tables: TABLES | None = None) -> list[Problem]:
    """Why the file's tables are not its own, nor knowingly shared; nothing if they are. With `tables` their tags are asked, too.

    Raises: StoreError.
    """
    return [
        problem
        for table, claim in _claims_of(migration).items()
        for problem in _wrong_with(migration, table, claim, read_owners(ledger, table), tables)
    ]


def require_owned(migration: Migration, ledger: Ledger, tables: TABLES | None = None) -> None:
    """Raises PreflightFailed with all of that; StoreError."""
    if problems := not_owned(migration, ledger, tables):
        raise PreflightFailed(migration.name, problems)


def claim_tables(migration: Migration, ledger: Ledger, tables: TABLES | None = None) -> None:
    """Note that this migration keeps items in its tables. Idempotent; the tags are asked only before something is noted.

    Raises: PreflightFailed if a table is another's, also one that has become so just now; StoreError.
    """
    for table, claim in _claims_of(migration).items():
        while not _claimed(migration, ledger, table, claim, tables):
            pass  # another migration was first, or left: look again


def _claimed(migration: Migration, ledger: Ledger, table: str, claim: Claim, tables: TABLES | None) -> bool:
    owners = read_owners(ledger, table)
    wanted = claim.over(owners.of(migration.name))
    noted = owners.of(migration.name) == wanted
    if problems := _wrong_with(migration, table, claim, owners, None if noted else tables):
        raise PreflightFailed(migration.name, problems)
    if noted:
        return True
    others = [one for one in owners.claims if one.migration != migration.name]
    try:
        _write_owners(ledger, table, owners, [*others, wanted])
    except ConditionFailed:
        return False
    return True


def drop_claim(ledger: Ledger, table: str, migration: str) -> bool:
    """Forget this migration's claim on a table. Whether there was one. Raises StoreError."""
    while (owners := read_owners(ledger, table)).of(migration) is not None:
        try:
            _write_owners(ledger, table, owners, [one for one in owners.claims if one.migration != migration])
        except ConditionFailed:
            continue  # another migration noted its own meanwhile
        return True
    return False


def _wrong_with(migration: Migration, table: str, claim: Claim, owners: Owners, tables: TABLES | None) -> list[Problem]:
    wanted = claim.over(owners.of(migration.name))
    found = list(conflicts(table, wanted, owners.claims))
    state = tables(table) if tables is not None and not found else None
    if state is not None:
        known = [one.migration for one in owners.claims]
        found += tag_conflicts(table, wanted, migration.ledger.table, state.tags, known)
    return found


def _claims_of(migration: Migration) -> Mapping[str, Claim]:
    database, collections = migration.source.database, migration.collections
    return {one.name: claim_on(one.name, migration.name, database, one.shared, collections) for one in migration.tables}


# --- whose is an item? ------------------------------------------------------------------------------------------------


def read_neighbours(migration: Migration, ledger: Ledger) -> Neighbours:
    """Who else keeps items in the file's tables, as of now. Raises StoreError."""
    claims = {one.name: read_owners(ledger, one.name).claims for one in migration.tables}
    return Neighbours(
        {table: [one for one in found if one.migration != migration.name] for table, found in claims.items()}
    )
