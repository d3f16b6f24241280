"""Scratch tables behind the ScratchTables port: made, listed and removed; nothing but scratch tables is ever removed."""

from __future__ import annotations

from typing import Any

from botocore.session import Session

from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call, call_or_none
from docferry.adapters.aws.estate import CONTROL_PLANE, encode_create
from docferry.core.analyze.proof import TAG, is_scratch
from docferry.core.estate.tags import SCRATCH
from docferry.core.estate.values import TableSpec
from docferry.errors import InvariantBroken

_MISSING = "ResourceNotFoundException"


class DynamoScratch:
    """`ports.proof.ScratchTables` for one account and region. Refuses every name that is not a scratch table's."""

    def __init__(self, session: Session, region: str) -> None:
        self._client: Any = aws_client(session.create_client, "dynamodb", region_name=region, config=CONTROL_PLANE)

    def create(self, spec: TableSpec) -> None:
        _require_scratch(spec.name)
        if TAG not in spec.tags:
            raise InvariantBroken(f"the scratch table {spec.name} has no tag {TAG}")
        call(self._client.create_table, **encode_create(spec))

    def status(self, name: str) -> str:
        found = call_or_none(self._client.describe_table, _MISSING, TableName=name)
        return str(found["Table"]["TableStatus"]) if found is not None else ""

    def until(self, name: str) -> float | None:
        found = call_or_none(self._client.describe_table, _MISSING, TableName=name)
        if found is None:
            return None
        tags = call_or_none(self._client.list_tags_of_resource, _MISSING, ResourceArn=found["Table"]["TableArn"]) or {}
        value = next((one["Value"] for one in tags.get("Tags", ()) if one["Key"] == TAG), None)
        return float(value) if value is not None and value.replace(".", "", 1).isdigit() else None

    def delete(self, name: str) -> None:
        _require_scratch(name)
        if self.status(name) and self.until(name) is None:
            raise InvariantBroken(
                f"the table {name} is called like a scratch table, but has no tag {TAG}: it is left alone"
            )
        call_or_none(self._client.delete_table, _MISSING, TableName=name)

    def names(self) -> list[str]:
        found: list[str] = []
        page: dict[str, Any] = {}
        while True:
            reply = call(self._client.list_tables, **page)
            found += [name for name in reply["TableNames"] if name.startswith(SCRATCH) and is_scratch(name)]
            if "LastEvaluatedTableName" not in reply:
                return found
            page = {"ExclusiveStartTableName": reply["LastEvaluatedTableName"]}


def _require_scratch(name: str) -> None:
    if not is_scratch(name):
        raise InvariantBroken(f"{name} is no name of a scratch table")
