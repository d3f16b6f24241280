"""The condition that keeps a late or repeated write from undoing a newer one, as it goes over the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.core.versions import version_text
from support.aws.answering import NoLimit, answered_by, item


@pytest.mark.parametrize(("or_same", "comparison"), [(False, "<"), (True, "<=")])
def test_a_put_of_a_change_is_refused_unless_it_is_newer(
    monkeypatch: pytest.MonkeyPatch, or_same: bool, comparison: str
) -> None:
    sent: list[dict[str, Any]] = []

    def answer(operation: str, request: dict[str, Any], length: int) -> tuple[int, Any]:
        sent.append(request)
        return 200, {}

    version = {"S": version_text(7)}

    async def use(target: DynamoTarget) -> Any:
        return await target.put_newer("T", [item("a", _v=version)], NoLimit(), lambda: None, or_same=or_same)

    answered_by(monkeypatch, answer, use)
    (request,) = sent
    assert request["ConditionExpression"] == f"attribute_not_exists(#v) OR #v {comparison} :v"
    assert request["ExpressionAttributeNames"] == {"#v": "_v"}
    assert request["ExpressionAttributeValues"] == {":v": version}
    assert json.dumps(request["Item"]["_v"]) == json.dumps(version)
