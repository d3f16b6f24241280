"""A method of a driver with its arguments, as a call; and what a cursor's methods add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from docferry.core.source.program.drivers import DROPPED, OPTIONS, Method, snake_case
from docferry.core.source.program.values import CollectionHandle, Fields, FoundCall, Plain, Several, Unknown, Value


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a call is given. `open`: there may be more."""

    values: Sequence[Value] = ()
    named: Mapping[str, Value] = field(default_factory=dict)
    open: bool = False

    def first(self) -> Value | None:
        return self.values[0] if self.values else None


def recorded(line: int, collection: CollectionHandle, written: str, method: Method, given: Arguments) -> FoundCall:
    """The call of a method."""
    found = FoundCall(line, collection.driver, written, method.name, collection.name, names=collection.names)
    if collection.name is None:
        found.unknown.append("its collection cannot be known from the source")
    for role, value in zip(method.roles, given.values, strict=False):
        _ROLES.get(role, _ignore)(found, value)
    if given.open:
        found.unknown.append("its arguments are made elsewhere")
    _take_options(found, given.named)
    return found


# --- arguments -------------------------------------------------------------------------------------------------------


def _ignore(found: FoundCall, value: Value) -> None: ...


def _filter(found: FoundCall, value: Value) -> None:
    if value != Plain(None):
        found.filter = value


def _id(found: FoundCall, value: Value) -> None:
    found.filter = Fields({"_id": value})


def _update(found: FoundCall, value: Value) -> None:
    found.update = value


def _projection(found: FoundCall, value: Value) -> None:
    if isinstance(value, Plain) and isinstance(value.value, str):  # mongoose: "name -email"
        words = value.value.split()
        value = Fields({one.lstrip("-+"): Plain(0 if one.startswith("-") else 1) for one in words})
    if value != Plain(None):
        found.projection = value


def _pipeline(found: FoundCall, value: Value) -> None:
    found.pipeline = value


def _document(found: FoundCall, value: Value) -> None:
    found.documents = list(value.values) if isinstance(value, Several) else [value]


def _field(found: FoundCall, value: Value) -> None:
    if isinstance(value, Plain) and isinstance(value.value, str):
        found.cursor.append(f"where {value.value}")


def _value(found: FoundCall, value: Value) -> None:
    path = found.cursor.pop().removeprefix("where ") if found.cursor else ""
    add_condition(found, path, value)


def _sort(found: FoundCall, value: Value) -> None:
    found.sort = sort_of(value, None)


def _options(found: FoundCall, value: Value) -> None:
    if isinstance(value, Fields):
        _take_options(found, value.fields)


def _option(name: str) -> Callable[[FoundCall, Value], None]:
    return lambda found, value: _take_options(found, {name: value})


_ROLES: Mapping[str, Callable[[FoundCall, Value], None]] = {
    "filter": _filter,
    "id": _id,
    "update": _update,
    "projection": _projection,
    "pipeline": _pipeline,
    "document": _document,
    "documents": _document,
    "options": _options,
    "sort": _sort,
    "field": _field,
    "value": _value,
    "session": _option("session"),
    "upsert": _option("upsert"),
}


def _take_options(found: FoundCall, named: Mapping[str, Value]) -> None:
    for name, value in named.items():
        role = OPTIONS.get(name)
        if role is not None:
            _ROLES.get(role, _ignore)(found, value)
        elif name not in DROPPED and not _is_off(value) and name not in ("limit", "skip"):
            found.options[snake_case(name)] = value


def _is_off(value: Value) -> bool:
    return isinstance(value, Plain) and (value.value is None or value.value is False)


def add_condition(found: FoundCall, path: str, value: Value) -> None:
    """One more condition on a field."""
    if not isinstance(found.filter, Fields):
        return
    known = found.filter.fields.get(path)
    if isinstance(known, Fields) and isinstance(value, Fields):
        value = Fields({**known.fields, **value.fields})
    found.filter = Fields({**found.filter.fields, path: value})


def sort_of(key: Value | None, direction: Value | None) -> list[tuple[str, int]]:
    """A sort as any of the drivers takes it; nothing where it is not known."""
    if isinstance(key, Plain) and isinstance(key.value, str):
        if isinstance(direction, Plain):
            return [(key.value, _way(direction))]
        words = [one for one in key.value.replace("+", "").split() if one]
        return [(one.lstrip("-"), -1 if one.startswith("-") else 1) for one in words]
    if isinstance(key, Fields):
        return [(name, _way(value)) for name, value in key.fields.items()]
    if isinstance(key, Several):
        pairs = [one.values for one in key.values if isinstance(one, Several) and len(one.values) == 2]
        return [(str(name.value), _way(way)) for name, way in pairs if isinstance(name, Plain)] or [
            (str(one.value), 1) for one in key.values if isinstance(one, Plain)
        ]
    return []


def _way(value: Value) -> int:
    return -1 if isinstance(value, Plain) and value.value in (-1, "desc", "descending", "-1") else 1


# --- cursors ---------------------------------------------------------------------------------------------------------

_SHAPING = frozenset(
    {"hint", "collation", "min", "max", "comment", "max_time_ms", "batch_size", "allow_disk_use", "session"}
)
_OF_CURSOR = frozenset({"distinct", "explain", "where", "add_option", "remove_option", "count"})
_QUIET = frozenset({
    "limit", "skip", "to_list", "next", "close", "rewind", "clone", "each", "to_array", "for_each", "map", "has_next", "try_next",
    "stream", "filter", "lean", "exec", "catch", "or_fail", "populate", "cursor", "read", "add_cursor_flag", "set_options",
    "transform", "slice", "finally", "no_cache", "select_related", "max", "using", "timeout",
})  # fmt: skip
_CONDITIONS = {
    "gt": "$gt", "gte": "$gte", "lt": "$lt", "lte": "$lte", "ne": "$ne", "in": "$in", "nin": "$nin", "exists": "$exists",
    "size": "$size", "all": "$all", "regex": "$regex", "elem_match": "$elemMatch", "mod": "$mod", "near": "$near",
    "within": "$geoWithin",
}  # fmt: skip
_BECOMES = {
    "count_documents": "count_documents", "count": "count_documents", "find_one": "find_one", "update_one": "update_one",
    "update_many": "update_many", "delete_one": "delete_one", "delete_many": "delete_many", "distinct": "distinct",
    "find_one_and_update": "find_one_and_update", "find_one_and_delete": "find_one_and_delete", "estimated_document_count":
    "estimated_document_count", "replace_one": "replace_one",
}  # fmt: skip


def chained(found: FoundCall, written: str, given: Arguments) -> bool:
    """What a method of a cursor or query adds to the call. False: it is no such method."""
    name = snake_case(written)
    if name == "sort":
        found.sort = sort_of(given.first(), given.values[1] if len(given.values) > 1 else None)
    elif name in ("project", "select"):
        found.projection = given.first() if isinstance(given.first(), Fields) else found.projection
    elif found.driver == "mongoose" and _shaped(found, name, given):
        return True
    elif name in _SHAPING:
        _take_options(found, {name: given.first() or Unknown()})
    elif name in _OF_CURSOR:
        found.cursor.append("count" if name == "count" else name)
    else:
        return name in _QUIET
    return True


def _shaped(found: FoundCall, name: str, given: Arguments) -> bool:
    """What mongoose's queries have, and cursors have not: conditions one by one, and another method in the end."""
    if name in _BECOMES:
        found.method = _BECOMES[name]
        values = list(given.values)
        if name.startswith(("update", "replace", "find_one_and_update")) and values:
            found.update = values[-1]
            values.pop()
        if values and isinstance(values[0], Fields) and isinstance(found.filter, Fields):
            found.filter = Fields({**found.filter.fields, **values[0].fields})
        return True
    if name in ("where", "find") and isinstance(given.first(), Fields):
        for path, value in getattr(given.first(), "fields", {}).items():
            add_condition(found, path, value)
        return True
    if name == "where":
        _field(found, given.first() or Unknown())
        if len(given.values) > 1:
            _value(found, given.values[1])
        return True
    if name in ("and", "or", "nor"):
        add_condition(found, f"${name}", given.first() or Unknown())
        return True
    return _condition(found, name, given)


def _condition(found: FoundCall, name: str, given: Arguments) -> bool:
    if name not in _CONDITIONS and name not in ("equals", "eq"):
        return False
    value: Value = given.values[-1] if given.values else Plain(True)
    if name in _CONDITIONS:
        value = Fields({_CONDITIONS[name]: value})
    if len(given.values) > 1 and isinstance(given.values[0], Plain):
        add_condition(found, str(given.values[0].value), value)
        return True
    where = next((one for one in reversed(found.cursor) if one.startswith("where ")), None)
    if where is None:
        return False
    add_condition(found, where.removeprefix("where "), value)
    return True
