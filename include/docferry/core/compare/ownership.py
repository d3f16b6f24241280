"""Whose a DynamoDB table is: which migrations keep items in it, and under which keys. Pure.

A claim is what one migration says of one table. Several migrations may have claims on a table only if each of their files says
`shared: true` and no key of one can ever be a key of another: then no load overwrites the other's items, no validation calls
them extra, and a query of an index finds those of one migration alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from docferry.core.compare.key_sets import could_make, disjoint, first_word, word_of
from docferry.core.estate.tags import OWNER
from docferry.core.mapping.guards import compile_guards
from docferry.core.mapping.items import Item
from docferry.core.mapping.key_templates import Template, parse_template
from docferry.core.settings import CollectionSettings
from docferry.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One migration's claim on one table.

    `keys` are the templates of its items' partition keys, `indexes` those of each index's partition keys, both as the file has
    them; `entities` the values of `entityType`. A claim only grows: what a file names no more may still lie in the table.
    """

    migration: str
    database: str
    shared: bool = False
    keys: frozenset[str] = frozenset()
    indexes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    entities: frozenset[str] = frozenset()

    def over(self, former: Claim | None) -> Claim:
        """This claim, and what it was before."""
        if former is None:
            return self
        names = {*self.indexes, *former.indexes}
        none: frozenset[str] = frozenset()
        return replace(
            self,
            keys=self.keys | former.keys,
            indexes={name: self.indexes.get(name, none) | former.indexes.get(name, none) for name in names},
            entities=self.entities | former.entities,
        )


def claim_on(
    table: str, migration: str, database: str, shared: bool, collections: Iterable[CollectionSettings]
) -> Claim:
    """What a migration of these collections claims of a table."""
    keys: set[str] = set()
    entities: set[str] = set()
    indexes: dict[str, set[str]] = {}
    for one in collections:
        if one.table != table:
            continue
        keys.add(one.item.key["PK"])  # children are in their parent's partition
        for guard in compile_guards(one):
            keys.add(guard.template)
            entities.add(guard.entity)
        for item in (one.item, *one.children.values()):
            entities.add(item.entity)
            for name, key in item.index.items():
                indexes.setdefault(name, set()).add(key["PK"])
    return Claim(
        migration=migration,
        database=database,
        shared=shared,
        keys=frozenset(keys),
        indexes={name: frozenset(found) for name, found in indexes.items()},
        entities=frozenset(entities),
    )


# --- who may own it ---------------------------------------------------------------------------------------------------


def conflicts(table: str, mine: Claim, claims: Iterable[Claim]) -> Iterator[Problem]:
    """Why this claim cannot stand beside those that are there; nothing if it can."""
    where = f"table {table}"
    for other in claims:
        if other.migration == mine.migration:
            if other.database != mine.database:
                what = (
                    f"holds what migration {mine.migration} loaded from database {other.database}, not {mine.database}"
                )
                advice = "a file for another database needs another migration name, and a table of its own"
                yield Problem(where=where, what=what, suggestion=advice)
        elif not (mine.shared and other.shared):
            yield _owned(where, mine, other)
        else:
            yield from _overlaps(where, mine, other)


def _owned(where: str, mine: Claim, other: Claim) -> Problem:
    what = (
        f"belongs to migration {other.migration} (database {other.database}), whose items this file's could overwrite"
    )
    alone = f"give this file a table of its own; to share it, say tables.<name>.shared: true in {{}}; {_over(other.migration)}"
    if mine.shared:
        files = f"the file of {other.migration}, too, and provision that first"
        what += ", and whose file does not share it"
    else:
        files = "both files, whose keys must begin with different words"
    return Problem(where=where, what=what, suggestion=alone.format(files))


def _over(migration: str) -> str:
    return f"if {migration} is over: docferry release FILE --migration {migration}"


def _overlaps(where: str, mine: Claim, other: Claim) -> Iterator[Problem]:
    """Keys and names that both could make."""
    advice = "begin it with a word of its own"
    for name in sorted(mine.entities & other.entities):
        what = f"is shared with migration {other.migration}, which has items of entity {name}, too"
        yield Problem(where=where, what=what, suggestion="choose another entity")
    for one, two in _meeting(mine.keys, other.keys):
        what = f"is shared with migration {other.migration}, whose key {two} could be the same as {one}"
        yield Problem(where=where, what=what, suggestion=advice)
    for index in sorted(set(mine.indexes) & set(other.indexes)):
        for one, two in _meeting(mine.indexes[index], other.indexes[index]):
            what = f"is shared with migration {other.migration}, whose key {two} of {index} could be the same as {one}"
            yield Problem(where=where, what=what, suggestion=advice)


def _meeting(mine: Iterable[str], theirs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of templates that could make the same text. Of thousands, those with other first words are not compared."""
    words = _by_word(theirs)
    everyone = [one for found in words.values() for one in found]
    for source in sorted(mine):
        template = parse_template(source)
        word = first_word(template)
        for other in [*words.get(word, ()), *words.get("", ())] if word else everyone:
            if not disjoint(template, other):
                yield source, other.source


def _by_word(sources: Iterable[str]) -> dict[str, list[Template]]:
    words: dict[str, list[Template]] = {}
    for source in sorted(sources):
        template = parse_template(source)
        words.setdefault(first_word(template), []).append(template)
    return words


def tag_conflicts(
    table: str, mine: Claim, ledger: str, tags: Mapping[str, str], known: Iterable[str]
) -> Iterator[Problem]:
    """What the table's own tags say against this claim: owners of whom this `ledger` does not know. `known`: of whom it does."""
    where, told = f"table {table}", {mine.migration, *known}
    for tag in sorted(name for name in tags if name.startswith(OWNER)):
        migration, place = tag.removeprefix(OWNER), tags[tag]
        if place == ledger and migration in told:
            continue
        what = f"belongs to migration {migration} by its tag {tag}, whose ledger is table {place}, not {ledger}"
        advice = "give this file a table of its own; files that share a table have one ledger (ledger.table)"
        if place == ledger:
            what = (
                f"belongs to migration {migration} by its tag {tag}, and ledger {ledger} does not say under which keys"
            )
            advice = f"provision the file of {migration}; {_over(migration)}"
        yield Problem(where=where, what=what, suggestion=advice)


# --- whose an item is -------------------------------------------------------------------------------------------------


class Neighbours:
    """The key spaces of the other migrations that share a migration's tables."""

    def __init__(self, claims: Mapping[str, Iterable[Claim]] | None = None) -> None:
        """`claims` of the others, by table."""
        keys = {table: [key for one in found for key in one.keys] for table, found in (claims or {}).items()}
        self._words = {table: _by_word(found) for table, found in keys.items() if found}

    def have(self, table: str, pk: str) -> bool:
        """Whether an item of this partition key is one of theirs."""
        words = self._words.get(table)
        if words is None:
            return False
        return any(could_make(one, pk) for one in (*words.get(word_of(pk), ()), *words.get("", ())))

    def without(self, table: str, items: list[Item]) -> list[Item]:
        """Items that are none of theirs."""
        if table not in self._words:
            return items
        return [item for item in items if not self.have(table, item["PK"]["S"])]
