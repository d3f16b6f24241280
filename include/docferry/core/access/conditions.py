"""Which part of a table or an index a Query reads, in DynamoDB's words. Pure."""

from __future__ import annotations

from typing import Any, Protocol

from docferry.core.mapping.table_layout import TableLayout


class Bounded(Protocol):
    """One partition of an index (an empty name: of the table), between two sort keys, both included."""

    @property
    def index(self) -> str: ...
    @property
    def low(self) -> str | None: ...
    @property
    def high(self) -> str | None: ...


def partition_condition(layout: TableLayout, partition: str, index: str = "") -> dict[str, Any]:
    """The arguments of a Query of a whole partition."""
    return {
        "KeyConditionExpression": "#pk = :pk",
        "ExpressionAttributeNames": {"#pk": layout.name_of(f"{index}PK")},
        "ExpressionAttributeValues": {":pk": layout.value(f"{index}PK", partition)},
    }


def key_condition(layout: TableLayout, partition: str, bounds: Bounded) -> dict[str, Any]:
    """The arguments of a Query of what lies between the bounds. Without a sort key there are none."""
    found = partition_condition(layout, partition, bounds.index)
    attribute = f"{bounds.index}SK"
    name = layout.name_of(attribute)
    if name is None or (bounds.low is None and bounds.high is None):
        return found
    if bounds.low is not None and bounds.high is not None:
        within = "#sk BETWEEN :low AND :high"
    else:
        within = "#sk >= :low" if bounds.high is None else "#sk <= :high"
    texts = {":low": bounds.low, ":high": bounds.high}
    found["KeyConditionExpression"] += f" AND {within}"
    found["ExpressionAttributeNames"]["#sk"] = name
    found["ExpressionAttributeValues"] |= {
        word: layout.value(attribute, text) for word, text in texts.items() if text is not None
    }
    return found
