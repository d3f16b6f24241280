"""What templates share: names within a template, and references in place of ARNs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from docferry.core.estate.kinds.throughput import ContributorInsights, WarmThroughput
from docferry.core.estate.resources import AwsPlace, Resource
from docferry.core.estate.values import DesiredEstate, TableSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EstateTemplate:
    """`document` is plain values for JSON; `left_out` says what it does not hold, each with what makes it instead."""

    document: Mapping[str, Any]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableParts:
    """A table, and what templates have as its properties."""

    spec: TableSpec
    arn: str
    warm: WarmThroughput | None
    insights: frozenset[str]
    """Of the table ('') and its indexes."""


def table_parts(desired: DesiredEstate, place: AwsPlace) -> Iterator[TableParts]:
    """All tables, the ledger first."""
    for spec in desired.tables:
        beside = [one for one in desired.around.after if one.name == spec.name]
        yield TableParts(
            spec=spec,
            arn=place.arn("dynamodb", f"table/{spec.name}"),
            warm=next((one for one in beside if isinstance(one, WarmThroughput)), None),
            insights=frozenset(one.index for one in beside if isinstance(one, ContributorInsights)),
        )


def own_resources(desired: DesiredEstate) -> Iterator[Resource]:
    """What is a resource of its own in a template, in the target's region."""
    for one in (*desired.around.keys, *desired.around.after):
        if not one.region and not isinstance(one, WarmThroughput | ContributorInsights):
            yield one


def left_out(desired: DesiredEstate) -> tuple[str, ...]:
    """What no template of one region holds."""
    elsewhere = [one.resource for one in (*desired.around.keys, *desired.around.after) if one.region]
    later = [*(one.resource for one in desired.replicas), *(one.resource for one in desired.around.with_replicas)]
    return (
        *(f"{one}: it is in another region; docferry provision makes it" for one in elsewhere),
        *(f"{one}: docferry replicas makes it, after the load" for one in later),
        *(f"{one}; docferry provision makes it then" for one in desired.around.waiting),
    )


def words(*names: str) -> list[str]:
    return [part for name in names for part in re.split(r"[^A-Za-z0-9]+", name) if part]


def camel(*names: str) -> str:
    """A name of letters and digits."""
    return "".join(part[0].upper() + part[1:] for part in words(*names))


def snake(*names: str) -> str:
    """A name of letters, digits and _, as Terraform has them."""
    text = "_".join(words(*names))
    return text if text[:1].isalpha() else f"r_{text}"


class Verbatim(str):
    """A text of a template that stays as it is: an expression, or a name that is no reference."""

    __slots__ = ()


def referring(value: Any, references: Mapping[str, Any], plain: Callable[[str], str] = str) -> Any:
    """The value with a reference wherever it names, as a whole text, what the template itself makes; other texts by `plain`."""
    if isinstance(value, Mapping):
        return {key: referring(one, references, plain) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [referring(one, references, plain) for one in value]
    if isinstance(value, Verbatim) or not isinstance(value, str):
        return value
    return references[value] if value in references else plain(value)
