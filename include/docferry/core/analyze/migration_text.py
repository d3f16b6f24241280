"""A design as a migration file: YAML with the evidence of each choice beside it. Pure.

Every text of the database stands in double quotes, escaped as JSON escapes it, which YAML reads as the same text: nothing
that a collection is called can become something else in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docferry.core.analyze.design import Choice, CollectionDesign, Design
from docferry.core.analyze.proposals import UniqueDesign, scan_lines
from docferry.core.namespaces import Namespaces

WIDTH = 118


def migration_text(
    design: Design, source: str = "mongo_default", target: str = "aws_default", region: str = "us-east-1"
) -> str:
    """The file's text."""
    return "\n".join(_lines(design, source, target, region)) + "\n"


def _lines(design: Design, source: str, target: str, region: str) -> Iterator[str]:
    yield from _comment(
        f"Proposed by docferry analyze for the database {_databases(design)}. Read it, change it, then: docferry check.",
        "",
    )
    yield f"migration: {_q(design.migration)}"
    yield f"source: {{connection: {_q(source)}, database: {_q(design.database)}}}"
    yield f"target: {{connection: {_q(target)}, region: {_q(region)}}}"
    yield ""
    yield "tables:"
    yield from _choices(design.choices, "", "  ")
    yield f"  {_q(design.table)}:"
    yield f"    indexes: [{', '.join(_q(one) for one in design.indexes)}]"
    waived = [name for one in design.collections for name in one.waived_unique]
    if waived:
        yield ""
        yield "cutover:"
        yield from _comment(
            "Unique indexes that neither the table's key nor a guard can keep: nothing enforces them once DynamoDB leads. Why "
            "so stands at each collection.",
            "  ",
        )
        yield f"  waived_unique: [{', '.join(_q(one) for one in waived)}]"
    yield ""
    yield "collections:"
    for name, reason in design.left_out.items():
        yield from _comment(f"{name} is left out: it {reason}.", "  ")
    for one in design.collections:
        yield from _collection(one, design)
    yield ""
    yield "access_patterns:"
    for pattern in design.patterns:
        parts = (
            {"collection": pattern.collection}
            | ({"index": pattern.index} if pattern.index else {})
            | {"PK": pattern.pk}
        )
        yield f"  {_q(pattern.name)}: {_flow(parts)}"


def _databases(design: Design) -> str:
    return str(Namespaces(design.database, design.elsewhere))


def _collection(one: CollectionDesign, design: Design) -> Iterator[str]:
    yield f"  {_q(one.name)}:"
    yield from _choices(design.choices, one.name, "    ")
    if one.name in design.elsewhere:
        database, collection = design.elsewhere[one.name]
        yield f"    database: {_q(database)}"
        yield from [f"    collection: {_q(collection)}"] if collection != one.name else []
    yield f"    table: {_q(design.table)}"
    yield "    item:"
    yield f"      entity: {_q(one.entity)}"
    yield f"      key: {_flow({'PK': one.pk, 'SK': one.sk})}"
    if one.indexes:
        yield "      index:"
        for index in one.indexes:
            yield f"        {index.index}: {_flow({'PK': index.pk, 'SK': index.sk})}"
    if one.types:
        yield f"      types: {_flow(one.types)}"
    if one.children:
        yield "    children:"
        for child in one.children:
            yield f"      {_q(child.path)}: {{entity: {_q(child.entity)}, key: {_flow({'SK': child.sk})}}}"
    if one.guarded:
        yield "    unique:"
        yield from (f"      {_q(index.name)}: {_unique(index)}" for index in one.guarded)
    if one.scan is not None:
        for line in scan_lines(one.name, one.scan, one.documents, design.table):
            yield from _comment(line, "    ")


def _unique(index: UniqueDesign) -> str:
    """JSON, which is YAML."""
    assert index.settings is not None
    said: dict[str, Any] = {"key": dict(index.settings.key)}
    said |= {"sparse": True} if index.settings.sparse else {}
    said |= {"partial": index.settings.partial} if index.settings.partial is not None else {}
    return json.dumps(said, ensure_ascii=True)


def _choices(choices: Sequence[Choice], collection: str, indent: str) -> Iterator[str]:
    for one in choices:
        if one.collection == collection and one.topic != "scan":
            yield from _comment(f"{one.topic}: {one.chosen}. {one.why}", indent)
            for lost in one.lost:
                yield from _comment(f"  not {lost}", indent)


def _comment(text: str, indent: str) -> Iterator[str]:
    """A comment, broken into lines; control characters of a name cannot end it."""
    words = "".join(one if one.isprintable() else "?" for one in text).split(" ")
    line = f"{indent}#"
    for word in words:
        if len(line) + 1 + len(word) > WIDTH and line.strip() != "#":
            yield line
            line = f"{indent}#  "
        line += f" {word}"
    yield line


def _flow(values: Mapping[str, Any]) -> str:
    return (
        "{"
        + ", ".join(f"{_q(name) if not name.isalnum() else name}: {_q(value)}" for name, value in values.items())
        + "}"
    )


def _q(text: str) -> str:
    return json.dumps(str(text), ensure_ascii=True)
