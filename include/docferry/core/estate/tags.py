"""The tags of tables and clusters: the file's, and docferry's own beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from docferry.core.estate.resources import MARKER
from docferry.core.estate.values import REPLICA_MARKER, EstateChange

OWNER = "docferry:owner:"
"""A table's tag `docferry:owner:<migration>` names the ledger's table in which that migration's claim is."""

AWS_OWN = "aws:"
"""How the tags begin that AWS puts on itself, such as the name of a CloudFormation stack."""

SCRATCH = "docferry-scratch-"
"""How the names of the tables begin that a proof of a model makes and removes again."""


def owner_tag(migration: str, ledger: str) -> dict[str, str]:
    """The tag by which a table tells even those who see another ledger whose it is."""
    return {f"{OWNER}{migration}": ledger}


def tag_changes(want: Mapping[str, str], have: Mapping[str, str]) -> tuple[EstateChange, ...]:
    return tuple(
        EstateChange(field=f"tag {key}", have=have.get(key, "missing"), want=value)
        for key, value in sorted(want.items())
        if have.get(key) != value
    )


def extra_tags(resource: str, want: Mapping[str, str], have: Mapping[str, str]) -> Iterator[str]:
    for key in sorted(set(have) - set(want) - {MARKER, REPLICA_MARKER}):
        if not key.startswith((OWNER, AWS_OWN)):
            yield f"{resource}: tag {key} is not in the file; left alone"
