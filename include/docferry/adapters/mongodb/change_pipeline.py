"""What the server makes of each event of the change stream: what is needed and no more, in MongoDB's own expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from docferry.core.mapping.mapping import KeyFields


def pipeline_of(key_fields: Mapping[str, KeyFields], images: bool = True, before: bool = True) -> list[dict[str, Any]]:
    """What the server makes of each event: `op`, `coll`, `to`, `time`, and for mapped collections `key`, `after`, `before`,
    `paths`."""
    mapped = {"$in": ["$ns.coll", sorted(key_fields)]}
    event: dict[str, Any] = {
        "_id": 1,
        "op": "$operationType",
        "coll": "$ns.coll",
        "to": "$to.coll",
        "time": "$clusterTime",
        "key": {"$cond": [mapped, "$documentKey", "$$REMOVE"]},
        "paths": {"$cond": [mapped, _paths(), "$$REMOVE"]},
    }
    if images:
        event["after"] = {"$cond": [mapped, "$fullDocument", "$$REMOVE"]}
    if before:
        branches = [
            {"case": {"$in": ["$ns.coll", names]}, "then": _key_fields(fields)} for fields, names in _alike(key_fields)
        ]
        there = {"$eq": [{"$type": "$fullDocumentBeforeChange"}, "object"]}
        reduced = {"$switch": {"branches": branches, "default": "$$REMOVE"}} if branches else "$$REMOVE"
        event["before"] = {"$cond": [there, reduced, "$$REMOVE"]}
    return [{"$project": event}]


def _alike(key_fields: Mapping[str, KeyFields]) -> list[tuple[KeyFields, list[str]]]:
    """Collections whose keys are made of the same fields, together: thousands of them may have the generic mapping."""
    groups: dict[str, tuple[KeyFields, list[str]]] = {}
    for name, fields in sorted(key_fields.items()):
        groups.setdefault(repr(fields), (fields, []))[1].append(name)
    return list(groups.values())


def _paths() -> dict[str, Any]:
    """The names of what an update changed: values may be as large as the document."""
    changed = "$updateDescription"
    names = {"$map": {"input": {"$objectToArray": f"{changed}.updatedFields"}, "in": "$$this.k"}}
    cut = {"$map": {"input": {"$ifNull": [f"{changed}.truncatedArrays", []]}, "in": "$$this.field"}}
    all_of_them = {"$concatArrays": [names, {"$ifNull": [f"{changed}.removedFields", []]}, cut]}
    return {"$cond": [{"$eq": ["$operationType", "update"]}, all_of_them, "$$REMOVE"]}


def _key_fields(fields: KeyFields) -> dict[str, Any]:
    """The fields of keys alone; an array that becomes items keeps its length, and what of its elements is in a key."""
    image = "$fullDocumentBeforeChange"
    tree: dict[str, Any] = {"_id": f"{image}._id"}
    for path in fields.root:
        if path.partition(".")[0] != "_id":
            _graft(tree, path.split("."), _value_at(image, path.split(".")))
    for path, inner in fields.children.items():
        element: dict[str, Any] = {}
        for name in inner:
            _graft(element, name.split("."), _value_at("$$this", name.split(".")))
        is_object = {"$eq": [{"$type": "$$this"}, "object"]}
        array = _value_at(image, path.split("."))
        elements = {"$map": {"input": array, "in": {"$cond": [is_object, _document(element), 0]}}}
        _graft(tree, path.split("."), {"$cond": [{"$isArray": [array]}, elements, "$$REMOVE"]})
    return _document(tree)


def _value_at(base: str, path: Sequence[str]) -> Any:
    """The value at a path, through subdocuments only, as `lookup` has it: a path in the server's own language would go into
    arrays, too, and into no field whose name begins with $."""
    first, *rest = path
    value: Any = f"{base}.{first}" if first[0] != "$" else _field_of(base, first)
    for name in rest:
        value = _field_of(value, name)
    return value


def _field_of(value: Any, name: str) -> dict[str, Any]:
    """$getField of null is null; behind null there is nothing."""
    return {"$getField": {"field": {"$literal": name}, "input": {"$ifNull": [value, "$$REMOVE"]}}}


def _graft(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for step in path[:-1]:
        tree = tree.setdefault(step, _Tree())
    tree[path[-1]] = value


class _Tree(dict[str, Any]):
    """A subdocument that is made, not an expression."""


def _document(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The expression that makes a document of these fields. One that has no value is left out."""
    made = {name: _document(inner) if isinstance(inner, _Tree) else inner for name, inner in tree.items()}
    document: dict[str, Any] = {name: inner for name, inner in made.items() if name[0] != "$"}
    for name in sorted(made.keys() - document.keys()):
        document = {"$setField": {"field": {"$literal": name}, "input": document, "value": made[name]}}
    return document
