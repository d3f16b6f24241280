"""What a file may not say of items over 400 KB."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docferry.config.build import collection_settings
from docferry.config.checking.tables import key_names
from docferry.config.schema import CollectionFile, MigrationFile
from docferry.config.yaml_lines import Lines, Path_, problem_at
from docferry.core.compare.key_sets import disjoint
from docferry.core.mapping.key_templates import parse_template
from docferry.core.mapping.large.overflow import PACKED, names_of
from docferry.core.mapping.large.parts import OF, PART
from docferry.errors import Problem

BUCKET_URL = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/].*)?"
_PART_KEY = parse_template(f"{PART}#{{digest}}")


def overflow_problems(
    file: MigrationFile, name: str, collection: CollectionFile, table: str, lines: Lines
) -> Iterator[Problem]:
    """Of one collection: its attributes need their names for themselves, and parts their keys."""
    if collection.overflow is None:
        return
    path: Path_ = ("collections", name, "overflow")
    made, own = file.tables[table], names_of(collection.overflow)
    items = {"item": collection.item} | {f"children.{one}": child for one, child in collection.children.items()}
    for reserved in sorted(own):
        named = [where for where, one in items.items() if one is not None and reserved in one.attributes]
        if named or reserved in {*key_names(made), made.ttl_attribute}:
            what = f"keeps what it compresses in {PACKED}" if reserved == PACKED else f"names parts in {reserved}"
            what += f", and {named[0] if named else f'table {table}'} has that name, too"
            yield problem_at(lines, path, what, "give the other attribute another name")
    if collection.overflow != "compress":
        yield from _split(file, path, table, lines)
    if collection.overflow == "s3":
        yield from _in_s3(file, path, table, lines)


def _split(file: MigrationFile, path: Path_, table: str, lines: Lines) -> Iterator[Problem]:
    """Parts have keys of their own, which are texts, and which no other item has."""
    made = file.tables[table]
    if made.shared:
        what = f"table {table} is shared, and parts do not say whose they are"
        yield problem_at(lines, path, what, "write compress, or give the collection a table of its own")
    if any(one.type != "S" for one in made.key_design.attributes):
        what = f"the keys of table {table} are not all texts, as those of parts are"
        yield problem_at(lines, path, what, "write compress")
    if OF in {*key_names(made), made.ttl_attribute}:
        what = f"parts name their items in {OF}, and table {table} has that name, too"
        yield problem_at(lines, path, what, "give the other attribute another name")
    for other in file.collections:
        settings = collection_settings(file, other)
        if settings.table == table and not _differs(settings.item.key["PK"]):
            what = f"keeps parts under keys that begin with {PART}#, as those of {other} may"
            yield problem_at(lines, path, what, f"begin the other keys with another word than {PART}")


def _in_s3(file: MigrationFile, path: Path_, table: str, lines: Lines) -> Iterator[Problem]:
    if not re.fullmatch(BUCKET_URL, file.target.objects):
        what = f"puts objects to target.objects, which is {file.target.objects or 'not said'!r}"
        yield problem_at(lines, path, what, "write target.objects: s3://bucket/prefix")
    for name, other in file.collections.items():
        if other is not None and other.overflow == "split" and collection_settings(file, name).table == table:
            what = f"has its parts in S3, and those of {name} are in table {table}, which both are in"
            yield problem_at(lines, path, what, "write the same for both, or give one a table of its own")


def _differs(source: str) -> bool:
    try:
        return disjoint(parse_template(source), _PART_KEY)
    except ValueError:  # a problem of its own
        return True
