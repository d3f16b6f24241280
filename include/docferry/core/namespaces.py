"""Where the collections of a migration are in MongoDB: the file's name for each, and the namespace behind it. Pure.

Everything of docferry's own (ledger, items, reports, messages) goes by the file's name; only what speaks to MongoDB asks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MARK = "$"
"""Of a collection of another database that the file does not name: `<database>$<collection>`. MongoDB takes no $ in either."""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """`default` is the file's own database; `elsewhere` file's name -> (database, collection) of those in another one."""

    default: str
    elsewhere: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @staticmethod
    def at(place: Namespaces | str) -> Namespaces:
        """Of one database, by its name alone."""
        return Namespaces(place) if isinstance(place, str) else place

    @staticmethod
    def named(default: str, others: Mapping[str, Iterable[str]], taken: Iterable[str]) -> Namespaces:
        """Names for the collections of other databases: their own, or with the database before it where that is `taken`."""
        known, elsewhere = set(taken), dict[str, tuple[str, str]]()
        for database, collections in others.items():
            for collection in collections:
                name = collection
                while name in known:
                    name = f"{database}_{name}"
                known.add(name)
                elsewhere[name] = (database, collection)
        return Namespaces(default, elsewhere)

    def __str__(self) -> str:
        return ", ".join(self.databases)

    @property
    def databases(self) -> tuple[str, ...]:
        """The default first, each once."""
        return tuple(dict.fromkeys((self.default, *(database for database, _ in self.elsewhere.values()))))

    @property
    def several(self) -> bool:
        return len(self.databases) > 1

    def place_of(self, name: str) -> tuple[str, str]:
        """(database, collection) of a name."""
        if found := self.elsewhere.get(name):
            return found
        database, mark, collection = name.partition(MARK)
        return (database, collection) if mark else (self.default, name)

    def name_of(self, database: str, collection: str) -> str:
        """The file's name of a collection, or one that no file has. `place_of` is its inverse."""
        if database == self.default and collection not in self.elsewhere:
            return collection
        names = (name for name, place in self.elsewhere.items() if place == (database, collection))
        return next(names, f"{database}{MARK}{collection}")

    def by_database(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Database -> collection -> name, for these names."""
        found: dict[str, dict[str, str]] = {database: {} for database in self.databases}
        for name in names:
            database, collection = self.place_of(name)
            found.setdefault(database, {})[collection] = name
        return found

    def shown(self, name: str) -> str:
        """`<database>.<collection>`."""
        return ".".join(self.place_of(name))
