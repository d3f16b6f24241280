"""What the form of a file cannot say of a table's keys and indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from docferry.config.schema import TABLE_NAME, IndexDesignFile, TableFile
from docferry.config.yaml_lines import Lines, Path_, problem_at
from docferry.core.mapping.items import SYSTEM
from docferry.core.settings import KeyAttribute, KeyDesign
from docferry.errors import Problem

NAME_RULE = "3 to 255 letters, digits, _ . or -"
MOST_INDEXES = 20
MOST_INCLUDED = 100
"""Of a table's indexes together. AWS, "Quotas in Amazon DynamoDB", from memory."""
OURS = SYSTEM - {"PK", "SK"} | {"_id"}


def plain_names(table: TableFile) -> frozenset[str]:
    """What we call the key attributes of a table and its indexes, whatever it calls them."""
    return frozenset({"PK", "SK"} | {f"{index}{part}" for index in table.indexes for part in ("PK", "SK")})


def key_names(table: TableFile) -> frozenset[str]:
    """The names that no field may have for the sake of keys."""
    return plain_names(table) | {one.name for _, _, one in _attributes(table)}


def _attributes(table: TableFile) -> Iterator[tuple[Path_, str, KeyAttribute]]:
    """(where the file says it, what we call it, a key attribute) of the table and its indexes."""
    yield from _of_design(("key",), "", table.key_design)
    for index in dict.fromkeys(table.indexes):
        yield from _of_design(("indexes", index, "key"), index, table.design_of(index).key)


def _of_design(at: Path_, index: str, design: KeyDesign) -> Iterator[tuple[Path_, str, KeyAttribute]]:
    yield (*at, "PK"), f"{index}PK", design.PK
    if design.SK is not None:
        yield (*at, "SK"), f"{index}SK", design.SK


def check_keys(name: str, table: TableFile, lines: Lines) -> Iterator[Problem]:
    """Everything that is wrong with a table's keys and indexes."""
    path: Path_ = ("tables", name)
    named = list(table.indexes)
    for place, index in enumerate(named):
        if not re.fullmatch(TABLE_NAME, index):
            at = (*path, "indexes", index if isinstance(table.indexes, dict) else place)
            yield problem_at(lines, at, f"'{index}' is no index name", NAME_RULE)
    if len(set(named)) != len(named):
        yield problem_at(lines, (*path, "indexes"), "names an index twice")
    if len(named) > MOST_INDEXES:
        yield problem_at(lines, (*path, "indexes"), f"DynamoDB allows {MOST_INDEXES} a table")
    if table.shared and table.key_design.PK.type != "S":
        what = "is shared, and its partition key is no text, so that the migrations' keys could not be told apart"
        yield problem_at(
            lines, (*path, "shared"), what, "give each migration a table, or let the partition key be a text"
        )
    for at, what, suggestion in (*_wrong_names(table), *_wrong_indexes(table)):
        yield problem_at(lines, (*path, *at), what, suggestion)


_Wrong = tuple[Path_, str, str]


def _wrong_names(table: TableFile) -> Iterator[_Wrong]:
    plain = plain_names(table)
    known: dict[str, str] = {}
    for at, ours, attribute in _attributes(table):
        name = attribute.name
        if not 1 <= len(name.encode()) <= 255 or name[0] == "~":
            yield at, f"'{name}' is no name of a key attribute", "1 to 255 bytes, without ~ at its beginning"
        elif name in OURS or (name in plain and name != ours):
            yield at, f"{name} is a name that docferry needs itself", "choose another"
        elif name in known:
            what = f"{name} is also {known[name]}: each key of table and indexes has an attribute of its own"
            yield at, what, "give it another name; what it holds may be the same"
        elif name == table.ttl_attribute:
            yield at, f"{name} is the TTL attribute, too", "choose another"
        known.setdefault(name, ".".join(map(str, at)))


def _wrong_indexes(table: TableFile) -> Iterator[_Wrong]:
    if not isinstance(table.indexes, dict):
        return
    included: set[tuple[str, str]] = set()
    keys = {one.name for _, _, one in _of_design((), "", table.key_design)}
    for name, said in table.indexes.items():
        at: Path_ = ("indexes", name)
        index = said or IndexDesignFile()
        if index.local:
            what = "is a local secondary index: with one no partition may grow over 10 GB, and it can only be made with its table"
            yield (*at, "local"), what, "remove local: docferry makes global indexes"
        if index.projection == "INCLUDE" and not index.include:
            yield at, "projects INCLUDE, and names no attribute", "add include: [...], or say KEYS_ONLY"
        if index.include and index.projection != "INCLUDE":
            yield (
                (*at, "include"),
                f"is for projection INCLUDE, and this is {index.projection}",
                "say projection: INCLUDE",
            )
        own = keys | {one.name for _, _, one in _of_design((), name, index.design(name).key)}
        for attribute, following in pairwise([*sorted(index.include), None]):
            if attribute in own:
                yield (*at, "include"), f"{attribute} is a key, and in the index anyway", "remove it"
            elif attribute == following:
                yield (*at, "include"), f"names {attribute} twice", "remove one"
        included |= {(name, attribute) for attribute in index.include}
    if len(included) > MOST_INCLUDED:
        yield ("indexes",), f"include {len(included)} attributes together", f"DynamoDB allows {MOST_INCLUDED}"
