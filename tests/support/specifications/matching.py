"""Whether an answer is what a case expects: the unified format's special operators.

Source: mongodb/specifications, source/unified-test-format/unified-test-format.md, "Special Operators for Matching Assertions".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import Decimal128, ObjectId

_TYPES: Mapping[str, tuple[type, ...]] = {
    "objectId": (ObjectId,), "int": (int,), "long": (int,), "double": (float,), "string": (str,), "bool": (bool,),
    "object": (dict,), "array": (list,), "null": (type(None),), "decimal": (Decimal128,), "number": (int, float),
}  # fmt: skip


class Missing:
    """What is not there."""


MISSING = Missing()


def differs(expected: Any, found: Any, *, root: bool = True, path: str = "") -> str:
    """Where and how they differ, in words; empty if they match. Only at the root there may be more than is expected."""
    if isinstance(expected, Mapping):
        special = next(iter(expected), "")
        if len(expected) == 1 and special.startswith("$$"):
            return _special(special, expected[special], found, root, path)
        if not isinstance(found, Mapping):
            return f"{path or 'the answer'} is {found!r}, not a document"
        for name, wanted in expected.items():
            if said := differs(wanted, found.get(name, MISSING), root=False, path=f"{path}/{name}"):
                return said
        more = found.keys() - expected.keys()
        return f"{path or 'the answer'} has {sorted(more)}, too" if more and not root else ""
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return f"{path or 'the answer'} is {found!r}, not {expected!r}"
        pairs = enumerate(zip(expected, found, strict=True))
        each = (differs(one, other, root=root, path=f"{path}/{at}") for at, (one, other) in pairs)
        return next(filter(None, each), "")
    same = found == expected and isinstance(found, bool) == isinstance(expected, bool)
    return "" if same else f"{path or 'the answer'} is {found!r}, not {expected!r}"


def _special(operator: str, wanted: Any, found: Any, root: bool, path: str) -> str:
    if operator == "$$exists":
        return "" if (found is not MISSING) == wanted else f"{path} {'is not there' if wanted else 'is there'}"
    if operator == "$$unsetOrMatches":
        return "" if found is MISSING or found is None else differs(wanted, found, root=root, path=path)
    if operator == "$$type":
        kinds = [kind for name in ([wanted] if isinstance(wanted, str) else wanted) for kind in _TYPES[name]]
        return "" if isinstance(found, tuple(kinds)) else f"{path} is {found!r}, not of {wanted}"
    raise NotImplementedError(operator)
