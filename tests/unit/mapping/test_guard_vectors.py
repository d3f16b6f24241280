"""The golden vectors of guards by a reader that knows docs/protocol.md, section 8, and no code of docferry."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.place import ROOT

Extended = Any
CASES = json.loads((ROOT / "docs" / "vectors" / "guards.json").read_text())
NUMBERS = ("$numberInt", "$numberLong", "$numberDouble", "$numberDecimal")


def digest(text: str) -> str:
    return "~k" + hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


def number(kind: str, text: str) -> str:
    exact = Decimal(float(text)) if kind == "$numberDouble" and math.isfinite(float(text)) else Decimal(text)
    if exact.is_nan():
        return "~dNaN"
    if exact.is_infinite():
        return "~dInfinity" if exact > 0 else "~d-Infinity"
    sign, digits, exponent = exact.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    power = int(exponent) + len(text) - len(text.rstrip("0"))
    text = text.rstrip("0")
    if not text:
        return "~i0"
    whole = power >= 0 and len(text) + power <= 19
    minus = "-" * sign
    return f"~i{minus}{text}{'0' * power}" if whole else f"~d{minus}{text}E{power}"


def written(value: Extended) -> str:
    if value is None:
        return "~n"
    if isinstance(value, bool):
        return "~b1" if value else "~b0"
    if isinstance(value, str):
        text = value.replace("~", "~~").replace("#", "~h")
        return "~s" + text if not value or is_hex(value) else text
    if isinstance(value, list):
        return digest(json.dumps(["array", *map(written, value)]))
    kind = next(iter(value), "")
    if kind == "$oid":
        return str(value[kind])
    if kind in NUMBERS:
        return number(kind, value[kind])
    return digest(json.dumps(["document", *([name, written(value[name])] for name in sorted(value))]))


def is_hex(text: str) -> bool:
    return len(text) == 24 and set(text) <= set("0123456789abcdef")


MISSING = object()


def at(document: Extended, path: list[str]) -> Any:
    for name in path:
        if not isinstance(document, dict) or name not in document or name.startswith("$"):
            return MISSING
        document = document[name]
    return document


def entries(index: dict[str, Any], document: dict[str, Any]) -> Iterator[list[str]]:
    """For the shapes of the vectors: one array, of values or of the documents that all its fields lie in."""
    paths = [name.split(".") for name in index["key"]]
    arrays = {path[0] for path in paths if isinstance(document.get(path[0]), list)}
    if not arrays:
        found = [at(document, path) for path in paths]
        if not (index.get("sparse") and all(value is MISSING for value in found)):
            yield [written(None if value is MISSING else value) for value in found]
        return
    (name,) = arrays
    for element in document[name] or [MISSING]:
        values = []
        for path in paths:
            if path[0] != name:
                values.append(at(document, path))
            elif path[1:]:
                values.append(at(element, path[1:]))
            else:
                values.append("~e" if element is MISSING else element)
        yield [
            "~e" if value == "~e" else written(None if value is MISSING else value) for value in values
        ]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["index"]["name"])
def test_keys_are_those_of_the_page(case: dict[str, Any]) -> None:
    index, document = case["index"], case["document"]
    if "partial" in index and document["b"] == {"$numberInt": "5"}:
        assert case["keys"] == []  # not greater than 5
        return
    start, keys = f"UNIQUE#things.{index['name']}", []
    for texts in entries(index, document):
        pk = "#".join((start, *texts))
        keys.append(pk if len(pk.encode()) <= 2_048 else "#".join((start, *map(digest, texts))))
    assert [key[0] for key in case["keys"]] == list(dict.fromkeys(keys))
    assert {key[1] for key in case["keys"]} <= {"UNIQUE"}
