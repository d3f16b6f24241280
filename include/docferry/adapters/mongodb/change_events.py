"""What the server makes of each event of the change stream, what is needed and no more, and that as a ChangeEvent.

An event that brings out an error which no code foresees must not stop the stream: it would stop every run at the same place. As
long as it says of which document it is, it goes on as one whose images were lost, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bson.timestamp import Timestamp

from docferry import errors
from docferry.core.mapping.mapping import KeyFields
from docferry.core.mapping.raw import id_of
from docferry.core.namespaces import Namespaces
from docferry.ports.flows import ChangeEvent, StreamPosition

THEN = (
    "`docferry provision` (a collection that was made anew has no change stream images), `docferry backfill --again`, "
    "then `docferry replicate`, and while that runs `docferry repair` for what was deleted "
    "meanwhile and `docferry dead-letters --replay` for what was mended"
)
AGAIN = f"It needs a new load, which may run under live traffic: {THEN}"


# --- on the server ---------------------------------------------------------------------------------------------------


def pipeline_of(
    key_fields: Mapping[str, KeyFields], images: bool = True, before: bool = True, where: Namespaces | None = None
) -> list[dict[str, Any]]:
    """What the server makes of each event: `op`, `coll`, `to`, `time`, and for mapped collections `key`, `after`, `before`,
    `paths`. With `where`, of several databases: `db` and `to_db`, too, and nothing of other databases."""
    namespace: Any = "$ns.coll" if where is None else {"$concat": ["$ns.db", ".", "$ns.coll"]}
    shown = (lambda name: name) if where is None else where.shown
    mapped = {"$in": [namespace, sorted(map(shown, key_fields))]}
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
            {"case": {"$in": [namespace, list(map(shown, names))]}, "then": _key_fields(fields)}
            for fields, names in _alike(key_fields)
        ]
        there = {"$eq": [{"$type": "$fullDocumentBeforeChange"}, "object"]}
        reduced = {"$switch": {"branches": branches, "default": "$$REMOVE"}} if branches else "$$REMOVE"
        event["before"] = {"$cond": [there, reduced, "$$REMOVE"]}
    if where is None:
        return [{"$project": event}]
    return [only_in(where), {"$project": event | {"db": "$ns.db", "to_db": "$to.db"}}]


def only_in(where: Namespaces) -> dict[str, Any]:
    """The events of these databases: those of others are not counted, and do not come."""
    return {"$match": {"ns.db": {"$in": list(where.databases)}}}


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
    """The fields of keys alone; an array that becomes items keeps its length, and what of its elements is in a key. Fields that a
    unique index needs are whole: an index goes into arrays, too."""
    image = "$fullDocumentBeforeChange"
    tree: dict[str, Any] = {"_id": f"{image}._id"}
    for path in fields.root:
        if path.partition(".")[0] != "_id":
            _graft(tree, path.split("."), value_at(image, path.split(".")))
    for path, inner in fields.children.items():
        element: dict[str, Any] = {}
        for name in inner:
            _graft(element, name.split("."), value_at("$$this", name.split(".")))
        is_object = {"$eq": [{"$type": "$$this"}, "object"]}
        array = value_at(image, path.split("."))
        elements = {"$map": {"input": array, "in": {"$cond": [is_object, _document(element), 0]}}}
        _graft(tree, path.split("."), {"$cond": [{"$isArray": [array]}, elements, "$$REMOVE"]})
    tree.update({name: value_at(image, [name]) for name in fields.whole})
    return _document(tree)


def value_at(base: str, path: Sequence[str]) -> Any:
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


# --- here ------------------------------------------------------------------------------------------------------------


def change_of(
    event: Mapping[str, Any], operation: str, collection: str, time: Timestamp, n: int, behind: StreamPosition
) -> ChangeEvent:
    """The change with its images. Raises: StreamEnded if the server has none; InvariantBroken if it names no document."""
    try:
        return _with_images(event, operation, collection, time, n, behind)
    except errors.MigrationError:
        raise
    except Exception as error:  # noqa: BLE001 - told in the dead letter
        unforeseen = errors.Unforeseen.of(error, 1)
        return bare_change_of(event, operation, collection, time, n, behind, unforeseen)


def bare_change_of(
    event: Mapping[str, Any],
    operation: str,
    collection: str,
    time: Timestamp,
    n: int,
    behind: StreamPosition,
    error: errors.DocumentError | None = None,
) -> ChangeEvent:
    """The change without its images; `error` says why, if not because of their size. Raises InvariantBroken as above."""
    return ChangeEvent(
        collection=collection,
        operation=operation,
        id=_id_in(event, collection, time),
        time=time,
        n=n,
        images_lost=True,
        error=error,
        position=behind,
    )


def _id_in(event: Mapping[str, Any], collection: str, time: Timestamp) -> bytes:
    try:
        return id_of(bytes(event["key"].raw))  # from about 4 KB on pymongo gives a memoryview
    except Exception as error:
        kind = type(error).__name__
        raise errors.InvariantBroken(
            f"an event of {collection} at {time.time}, {time.inc} does not say of which document it is ({kind}): what it "
            "changed cannot be accounted for; please report it"
        ) from error


def _with_images(
    event: Mapping[str, Any], operation: str, collection: str, time: Timestamp, n: int, behind: StreamPosition
) -> ChangeEvent:
    after, before = event.get("after"), event.get("before")
    lost = (after is None and operation != "delete") or (before is None and operation != "insert")
    if lost:
        raise errors.StreamEnded(
            f"{collection}: the stream came to a change whose image is missing: images were switched off, or have expired. "
            f"Reads stay with MongoDB. Run provision, which switches them on. {AGAIN}",
            reason="images_missing",
            collections=(collection,),
            position=behind,
        )
    return ChangeEvent(
        collection=collection,
        operation=operation,
        id=_id_in(event, collection, time),
        time=time,
        n=n,
        before=bytes(before.raw) if before is not None else None,
        after=bytes(after.raw) if after is not None and operation != "delete" else None,
        touched=tuple(event["paths"]) if operation == "update" else None,
        position=behind,
    )
