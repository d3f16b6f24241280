"""A migration file for calls that no file is given for: each collection under its `_id`, without an index. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable


def bare_file(collections: Iterable[str]) -> str:
    """The file's text."""
    names = sorted(set(collections)) or ["nothing"]
    lines = ["migration: source", "source: {database: source}", "target: {}", "tables: {Source: {}}", "collections:"]
    for number, name in enumerate(names):
        key = json.dumps(f"C{number}#{{_id}}")
        lines.append(
            f"  {json.dumps(name)}: {{table: Source, item: {{entity: C{number}, key: {{PK: {key}, SK: ROOT}}}}}}"
        )
    return "\n".join([*lines, "access_patterns: {}", ""])
