"""docs/protocol.md as another author would write it, as far as it is simple: by the standard library, and bson for odd keys.

Without docferry, so that the page and the vectors are enough to go by.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import bson
from bson import json_util

Item = Mapping[str, Mapping[str, Any]]
LOOKALIKE = re.compile(r"[0-9a-f]{24}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def bucket(share_key: str) -> int:
    return int.from_bytes(hashlib.blake2b(share_key.encode(), digest_size=8).digest(), "big") % 100


def version(seconds: int, increment: int, n: int | None) -> str:
    return f"{seconds:08x}{increment:08x}{0xFFFFFF if n is None else n:06x}"


def next_version(stored: str | None, floor: str) -> str:
    return f"{max(int(stored or '0', 16), int(floor, 16)) + 1:022x}"


# --- keys ------------------------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    return text.replace("~", "~~").replace("#", "~h")


def in_key(value: Any, integer: bool = False) -> str:
    """A value in canonical Extended JSON, as it is written in a key."""
    if isinstance(value, str):
        written_out = not value or LOOKALIKE.fullmatch(value) or (integer and re.fullmatch(r"-?[0-9]+", value))
        return ("~s" if written_out else "") + escaped(value)
    if value is None:
        return "~n"
    if isinstance(value, bool):
        return f"~b{int(value)}"
    if isinstance(value, dict) and len(value) == 1:
        ((kind, content),) = value.items()
        if kind in ("$numberInt", "$numberLong"):
            return content if integer else f"~i{content}"
        if kind == "$oid":
            return str(content)
        if kind == "$numberDouble":
            return f"~d{float(content)!r}"
        if kind == "$numberDecimal":
            return f"~m{content}"
    return _in_bson(value)


def _in_bson(value: Any) -> str:
    """Dates and UUIDs have forms of their own; all else is BSON."""
    if isinstance(value, dict) and "$date" in value:
        moment = int(value["$date"]["$numberLong"])
        if not -62_135_596_800_000 <= moment < 253_402_300_800_000:
            return f"~t{moment}"
        at = datetime(1970, 1, 1) + timedelta(milliseconds=moment)  # noqa: DTZ001 - the Z is written by hand
        return f"{at.isoformat('T', 'milliseconds')}Z"
    if isinstance(value, dict) and value.get("$binary", {}).get("subType") == "04":
        return f"~u{_real(value).as_uuid()}"
    return _as_bson(value)


def _real(value: Any) -> Any:
    return json_util.loads(json.dumps({"": value}), json_options=json_util.CANONICAL_JSON_OPTIONS)[""]


def _as_bson(value: Any) -> str:
    return "~x" + base64.urlsafe_b64encode(bson.encode({"": _real(value)})).decode().rstrip("=")


def number_of(value: Any) -> tuple[Decimal, bool] | None:
    """(the decimal that a number is written as, whether that is rounded), None for what is no number."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, content),) = value.items()
        if kind in ("$numberInt", "$numberLong", "$numberDecimal"):
            return Decimal(content), False
        if kind == "$numberDouble":
            double = float(content)
            return Decimal(repr(double)), math.isfinite(double) and Decimal(double) != Decimal(repr(double))
        if kind == "$date":
            return Decimal(content["$numberLong"]), False
    return None


def in_order(value: Any, form: str) -> str:
    """A number (or with `-date` a date) as text that sorts; anything else behind all numbers."""
    is_date = isinstance(value, dict) and "$date" in value
    found = number_of(value)
    if found is None or is_date != form.endswith("date"):
        if isinstance(value, str):
            return f"~s{escaped(value)}"
        text = in_key(value)
        return text if text.startswith("~") else _as_bson(value)
    number, rounded = found
    if number.is_nan():
        return "2" if form.startswith("-") else "!"
    if form.startswith("-"):
        number = number.copy_negate()
    if number == 0:
        return "0"
    body = "99999"
    if number.is_finite():
        digits = "".join(map(str, number.as_tuple().digits)).lstrip("0").rstrip("0")
        body = f"{number.adjusted() + 6176:05d}{digits}"
    if number > 0:
        return f"1{body}{'.' * rounded}"
    return "-" + "".join(str(9 - int(digit)) for digit in body) + (";" if rounded else ":")


def typed_key(kind: str, template: str, document: Mapping[str, Any]) -> str:
    """A key that is a number or bytes: one field, nothing else."""
    path, _, form = template.strip("{}").partition(":")
    value = document[path]
    if kind == "B":
        return str(value["$binary"]["base64"])
    found = number_of(value)
    assert found is not None
    text = format(found[0].copy_negate() if form.startswith("-") else found[0], "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if found[0] == 0 else text


def ours(item: Item, table: Mapping[str, Any]) -> Item:
    """An item of a table that names its keys itself, in the form that everything else here has."""
    designs = {"": table.get("key")} | {name: (one or {}).get("key") for name, one in table.get("indexes", {}).items()}
    found = dict(item)
    for index, design in designs.items():
        if design is None:
            continue
        names = {part: design[part]["name"] if isinstance(design[part], dict) else design[part] for part in design}
        if names["PK"] not in item:
            continue
        for part in ("PK", "SK"):
            stored = found.pop(names[part]) if part in names else {"S": ""}
            found[index + part] = {"S": next(iter(stored.values()))}
    return found


def key(template: str, document: Mapping[str, Any]) -> str:
    """A key whose fields are all there. A number is padded after its sign."""

    def one(match: re.Match[str]) -> str:
        path, _, form = match[1].partition(":")
        value: Any = document
        for step in path.split("."):
            value = value[step]
        if form.startswith("shard("):
            digest = hashlib.blake2b(in_key(value).encode(), digest_size=8).digest()
            return str(int.from_bytes(digest, "big") % int(form[6:-1]))
        if form.endswith(("number", "date")):
            return in_order(value, form)
        text = in_key(value, bool(form))
        width = int(form[:-1] or 0) if form else 0
        return text.zfill(width) if re.fullmatch(r"-?[0-9]+", text) else text

    return re.sub(r"\{([^}]*)\}", one, template)


# --- digests ---------------------------------------------------------------------------------------------------------


def digest(children: Iterable[Item]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for item in sorted(children, key=lambda one: (one["PK"]["S"], one["SK"]["S"])):
        content = {name: _plain(value) for name, value in item.items() if name not in ("_v", "_ttl", "_digest")}
        state.update(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
    return state.hexdigest()


def _plain(value: Mapping[str, Any]) -> Mapping[str, Any]:
    ((tag, content),) = value.items()
    if tag == "N":
        text = format(Decimal(content), "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return {"N": "0" if not Decimal(content) else text}
    if tag == "M":
        return {"M": {name: _plain(inner) for name, inner in content.items()}}
    if tag == "L":
        return {"L": [_plain(inner) for inner in content]}
    return value


def is_whole(items: Iterable[Item]) -> bool:
    """Whether the items of one partition, root first, are one document."""
    root, *others = items
    children = [one for one in others if "_deleted" not in one]
    return root.get("_digest", {}).get("S") == (digest(children) if children else None)
