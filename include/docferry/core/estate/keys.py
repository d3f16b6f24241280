"""Keys and projections of tables and indexes, in the words of DynamoDB's control plane. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from docferry.core.settings import IndexSettings, KeyDesign

Keys = tuple[tuple[str, str, str], ...]
"""(name, role, type) of each key attribute. Shape:  (("PK", "HASH", "S"), ("SK", "RANGE", "S"))"""


def keys_of(design: KeyDesign) -> Keys:
    """Of a table or an index, as a file says them."""
    found = zip(design.attributes, ("HASH", "RANGE"), strict=False)
    return tuple((one.name, role, one.type) for one, role in found)


def decode_keys(schema: Iterable[Mapping[str, str]], types: Mapping[str, str]) -> Keys:
    """Of a table or an index, as AWS describes them."""
    return tuple((key["AttributeName"], key["KeyType"], types[key["AttributeName"]]) for key in schema)


def key_schema(keys: Keys) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": role} for name, role, _kind in keys]


def attribute_definitions(groups: Iterable[Keys]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": kind} for group in groups for name, _role, kind in group]


def projection_of(index: IndexSettings) -> dict[str, Any]:
    included = {"NonKeyAttributes": list(index.include)} if index.include else {}
    return {"ProjectionType": index.projection, **included}


def show_keys(keys: Keys) -> str:
    return " + ".join(f"{name} ({kind})" for name, _role, kind in keys)


def show_projection(kind: str, included: Sequence[str]) -> str:
    """The order in which attributes are included means nothing."""
    return f"{kind} {', '.join(sorted(included))}" if kind == "INCLUDE" else kind
