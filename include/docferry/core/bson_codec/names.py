"""Attribute names for field names, and steps of JSON Pointers."""

from __future__ import annotations


def escape_name(name: str, reserved: frozenset[str] = frozenset()) -> str:
    """An attribute name for a field name: empty, reserved and `~...` names get a `~` in front. Reversible."""
    if not name or name[0] == "~" or name in reserved:
        return "~" + name
    return name


def unescape_name(name: str) -> str:
    """The inverse of `escape_name`."""
    return name[1:] if name[:1] == "~" else name


def pointer_step(name: str) -> str:
    """One step of a JSON Pointer (RFC 6901)."""
    return "/" + (name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name)
