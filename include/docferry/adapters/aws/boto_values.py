"""Items between boto3, which wants binary as bytes, and our wire form, which has it as base64, as JSON does."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any


def to_boto(value: Mapping[str, Any]) -> dict[str, Any]:
    """One attribute value as boto3 takes it."""
    ((tag, content),) = value.items()
    if tag == "B":
        return {"B": base64.b64decode(content)}
    if tag == "BS":
        return {"BS": [base64.b64decode(one) for one in content]}
    if tag == "M":
        return {"M": {name: to_boto(inner) for name, inner in content.items()}}
    if tag == "L":
        return {"L": [to_boto(inner) for inner in content]}
    return dict(value)


def from_boto(value: Mapping[str, Any]) -> dict[str, Any]:
    """One attribute value as boto3 gives it, in wire form."""
    ((tag, content),) = value.items()
    if tag == "B":
        return {"B": base64.b64encode(content).decode()}
    if tag == "BS":
        return {"BS": [base64.b64encode(one).decode() for one in content]}
    if tag == "M":
        return {"M": {name: from_boto(inner) for name, inner in content.items()}}
    if tag == "L":
        return {"L": [from_boto(inner) for inner in content]}
    return dict(value)
