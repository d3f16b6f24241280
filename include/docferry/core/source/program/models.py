"""Models of collections: mongoengine's documents and query sets, mongoose's schemas and their collections' names.

Sources, read 2026-11-29: mongoengine 0.29, "Defining documents" and "Querying the database"; mongoose 8, "Models", and
mongoose-legacy-pluralize.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from bson.regex import Regex

from docferry.core.source.program.recording import Arguments, add_condition
from docferry.core.source.program.values import (
    UNKNOWN,
    CollectionHandle,
    Fields,
    FoundCall,
    Kind,
    Plain,
    QConditions,
    Several,
    Symbol,
    Value,
)

# --- mongoengine -----------------------------------------------------------------------------------------------------

DOCUMENTS: Final = (
    "mongoengine.Document", "mongoengine.DynamicDocument", "mongoengine.document.Document",
    "flask_mongoengine.Document", "flask_mongoengine.MongoEngine.Document",
)  # fmt: skip
_OPERATORS: Final[Mapping[str, str]] = {
    "ne": "$ne", "lt": "$lt", "lte": "$lte", "gt": "$gt", "gte": "$gte", "in": "$in", "nin": "$nin", "mod": "$mod",
    "all": "$all", "size": "$size", "exists": "$exists", "type": "$type", "near": "$near", "geo_within": "$geoWithin",
    "elemMatch": "$elemMatch", "match": "$elemMatch",
}  # fmt: skip
_REGULAR: Final = frozenset({
    "exact", "iexact", "contains", "icontains", "startswith", "istartswith", "endswith", "iendswith", "wholeword", "iwholeword",
    "regex", "iregex",
})  # fmt: skip
_UPDATES: Final[Mapping[str, str]] = {
    "set": "$set", "unset": "$unset", "inc": "$inc", "dec": "$inc", "mul": "$mul", "push": "$push", "push_all": "$push",
    "pull": "$pull", "pull_all": "$pullAll", "add_to_set": "$addToSet", "pop": "$pop", "min": "$min", "max": "$max",
    "rename": "$rename", "set_on_insert": "$setOnInsert",
}  # fmt: skip


def model_of(kind: Kind) -> CollectionHandle | None:
    """The collection of a class, if it is a document of mongoengine's. An abstract one has none."""
    if not any(kind.is_a(path) for path in DOCUMENTS):
        return None
    meta = kind.attributes.get("meta")
    named = meta.fields if isinstance(meta, Fields) else {}
    collection = named.get("collection")
    parent = next((model_of(base) for base in kind.bases if isinstance(base, Kind)), None)
    if isinstance(collection, Plain) and isinstance(collection.value, str):
        name: str | None = collection.value
    elif collection is not None:
        name = None
    else:
        name = parent.name if parent is not None else _snake(kind.node.name)
    return CollectionHandle(name, "mongoengine", {**(parent.names if parent else {}), **_field_names(kind)})


def _snake(name: str) -> str:
    return "".join(f"_{one}" if one.isupper() else one for one in name).strip("_").lower()


def _field_names(kind: Kind) -> dict[str, str]:
    """What a field is called in MongoDB, where that is another name: `db_field`, `primary_key`."""
    found = {"id": "_id", "pk": "_id"}
    for name, value in kind.attributes.items():
        if isinstance(value, Fields) and "$field" in value.fields:
            stored, key = value.fields.get("db_field"), value.fields.get("primary_key")
            if isinstance(stored, Plain) and isinstance(stored.value, str):
                found[name] = stored.value
            if key == Plain(True):
                found[name] = "_id"
    return found


def field_of(path: str, given: Arguments) -> Value | None:
    """A field of a mongoengine class: its arguments; None if it is none."""
    if path.startswith(("mongoengine.", "flask_mongoengine.")) and path.endswith("Field"):
        return Fields({**given.named, "$field": Plain(path)})
    return None


def conditions_of(given: Arguments, names: Mapping[str, str]) -> QConditions:
    """The keywords and Q objects of a query set as a filter."""
    fields: dict[str, Value] = {}
    several: list[Value] = []
    known = not given.open and "" not in given.named
    for one in given.values:
        if isinstance(one, QConditions) and one.filter is not None:
            several.append(one.filter)
        else:
            known = False
    for name, value in given.named.items():
        if name == "__raw__" and isinstance(value, Fields):
            fields.update(value.fields)
            continue
        path, condition = _keyword(name, value, names)
        before = fields.get(path)
        if isinstance(before, Fields) and isinstance(condition, Fields):
            condition = Fields({**before.fields, **condition.fields})
        fields[path] = condition
    if not known:
        return QConditions(None)
    if len(several) == 1 and not fields and isinstance(several[0], Fields):
        return QConditions(several[0])
    return QConditions(Fields({**fields, **({"$and": Several(several)} if several else {})}))


def _keyword(name: str, value: Value, names: Mapping[str, str]) -> tuple[str, Value]:
    """`age__gte` with its value: the field and the condition."""
    parts = name.split("__")
    last = parts[-1]
    if len(parts) > 1 and last in _REGULAR:
        value, parts = (value if last == "exact" else Plain(Regex("."))), parts[:-1]
    elif len(parts) > 1 and last in _OPERATORS:
        value, parts = Fields({_OPERATORS[last]: value}), parts[:-1]
    if len(parts) > 1 and parts[-1] == "not":
        value, parts = Fields({"$not": value}), parts[:-1]
    return ".".join([names.get(parts[0], parts[0]), *parts[1:]]), value


def either(one: QConditions, other: Value, word: str) -> QConditions:
    """Two Q objects, joined by `|` or `&`."""
    if not isinstance(other, QConditions) or one.filter is None or other.filter is None:
        return QConditions(None)
    return QConditions(Fields({word: Several((one.filter, other.filter))}))


def update_of(given: Arguments, names: Mapping[str, str]) -> Value:
    """`set__name="x"` as an update."""
    operators: dict[str, dict[str, Value]] = {}
    for name, value in given.named.items():
        if name in ("upsert", "multi", "write_concern", "full_result", "new", "remove"):
            continue
        if name == "__raw__":
            return value
        first, _, rest = name.partition("__")
        word, path = (_UPDATES[first], rest) if first in _UPDATES and rest else ("$set", name)
        steps = path.split("__")
        steps = ["$" if one == "S" else one for one in steps]
        operators.setdefault(word, {})[".".join([names.get(steps[0], steps[0]), *steps[1:]])] = value
    return Fields({word: Fields(fields) for word, fields in operators.items()})


def query_set(found: FoundCall, name: str, given: Arguments) -> bool | str:
    """What a method of a query set adds. True: it is a query set still; a text: it makes the call, under this pymongo name."""
    if name in ("filter", "__call__", "search_text"):
        added = conditions_of(given, found.names)
        if added.filter is None or name == "search_text":
            found.filter = UNKNOWN if added.filter is None else Fields({"$text": Fields({})})
        else:
            for path, value in added.filter.fields.items():
                add_condition(found, path, value)
        return True
    if name == "order_by":
        texts = [one.value for one in given.values if isinstance(one, Plain) and isinstance(one.value, str)]
        found.sort = [
            (found.names.get(one.lstrip("+-"), one.lstrip("+-")).replace("__", "."), -1 if one.startswith("-") else 1)
            for one in texts
        ]
        return True
    if name in ("hint", "collation", "comment"):
        found.options[name] = given.first() or UNKNOWN
        return True
    if name in _SETS:
        return True
    return _ends(found, name, given)


_SETS: Final = frozenset({
    "only", "exclude", "limit", "skip", "all", "no_cache", "no_dereference", "fields", "select_related", "batch_size", "clone",
    "timeout", "read_preference", "read_concern", "as_pymongo", "using", "no_sub_classes", "max_time_ms", "cache", "scalar",
    "values_list", "rewind", "none", "allow_disk_use",
})  # fmt: skip
_ENDS: Final[Mapping[str, str]] = {
    "first": "find_one", "get": "find_one", "count": "count_documents", "delete": "delete_many", "update": "update_many",
    "update_one": "update_one", "modify": "find_one_and_update", "upsert_one": "update_one", "distinct": "distinct",
    "aggregate": "aggregate", "insert": "insert_many", "create": "insert_one", "explain": "find", "with_id": "find_one",
    "in_bulk": "find", "sum": "aggregate", "average": "aggregate", "item_frequencies": "aggregate", "map_reduce": "aggregate",
    "exec_js": "aggregate", "to_json": "find", "next": "find_one", "get_or_create": "find_one",
}  # fmt: skip


def _ends(found: FoundCall, name: str, given: Arguments) -> bool | str:
    ends = _ENDS.get(name)
    if ends is None:
        return False
    if name == "get" and (given.named or given.values):
        query_set(found, "filter", given)
    elif name in ("with_id", "in_bulk"):
        add_condition(found, "_id", (given.first() or UNKNOWN) if name == "with_id" else Fields({"$in": UNKNOWN}))
    elif ends in ("update_many", "update_one", "find_one_and_update"):
        found.update = update_of(given, found.names)
        if name == "upsert_one" or given.named.get("upsert") == Plain(True):
            found.options["upsert"] = Plain(True)
        if given.named.get("remove") == Plain(True):
            ends = "find_one_and_delete"
    elif ends == "insert_one":
        found.documents = [Fields(given.named)]
    elif ends == "insert_many":
        found.documents = list(given.values)
    elif name == "explain":
        found.cursor.append("explain")
    return ends


# --- mongoose --------------------------------------------------------------------------------------------------------


def schema_of(given: Arguments) -> Value:
    """`new Schema(fields, {collection})`."""
    options = given.values[1] if len(given.values) > 1 else None
    return Fields({"$schema": options if isinstance(options, Fields) else Fields({})})


def mongoose_model(given: Arguments) -> CollectionHandle:
    """`model(name, schema, collection)`."""
    values = [*given.values, None, None, None]
    name, schema, third = values[:3]
    options = schema.fields.get("$schema") if isinstance(schema, Fields) else None
    in_schema = options.fields.get("collection") if isinstance(options, Fields) else None
    for one in (third, in_schema):
        if isinstance(one, Plain) and isinstance(one.value, str):
            return CollectionHandle(one.value, "mongoose")
        if one is not None and not isinstance(one, Plain):
            return CollectionHandle(None, "mongoose")
    if isinstance(name, Plain) and isinstance(name.value, str):
        return CollectionHandle(plural(name.value), "mongoose")
    return CollectionHandle(None, "mongoose")


_UNCOUNTABLE: Final = frozenset({
    "advice", "energy", "excretion", "digestion", "cooperation", "health", "justice", "labour", "machinery", "equipment",
    "information", "pollution", "sewage", "paper", "money", "species", "series", "rain", "rice", "fish", "sheep", "moose", "deer",
    "news", "expertise", "status", "media",
})  # fmt: skip
_RULES: Final[tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]] = (
    (r"human$", "humans"), (r"(m)an$", r"\1en"), (r"(pe)rson$", r"\1ople"), (r"(child)$", r"\1ren"), (r"^(ox)$", r"\1en"),
    (r"(ax|test)is$", r"\1es"), (r"(octop|cact|foc|fung|nucle)us$", r"\1i"), (r"(alias|status|virus)$", r"\1es"),
    (r"(bu)s$", r"\1ses"), (r"(buffal|tomat|potat)o$", r"\1oes"), (r"([ti])um$", r"\1a"), (r"sis$", "ses"),
    (r"(?:([^f])fe|([lr])f)$", lambda found: f"{found.group(1) or ''}{found.group(2) or ''}ves"), (r"(hive)$", r"\1s"),
    (r"([^aeiouy]|qu)y$", r"\1ies"), (r"(x|ch|ss|sh)$", r"\1es"), (r"(matr|vert|ind)ix|ex$", r"\1ices"),
    (r"([m|l])ouse$", r"\1ice"), (r"(kn|w|l)ife$", r"\1ives"), (r"(quiz)$", r"\1zes"), (r"^goose$", "geese"), (r"s$", "s"),
    (r"([^a-z])$", r"\1"), (r"$", "s"),
)  # fmt: skip


def plural(name: str) -> str:
    """A model's name as mongoose calls its collection."""
    word = name.lower()
    if word in _UNCOUNTABLE:
        return word
    return next(re.sub(rule, made, word, count=1) for rule, made in _RULES if re.search(rule, word))


def renamed(value: Value, names: Mapping[str, str]) -> Value:
    """A filter with the fields' names in MongoDB."""
    if not isinstance(value, Fields) or not names:
        return value
    fields: dict[str, Value] = {}
    for name, inner in value.fields.items():
        first, dot, rest = name.partition(".")
        fields[names.get(first, first) + dot + rest] = inner
    return replace(value, fields=fields)


def is_query_symbol(value: Value) -> bool:
    """mongoengine's Q."""
    return isinstance(value, Symbol) and value.path in (
        "mongoengine.Q",
        "mongoengine.queryset.Q",
        "mongoengine.queryset.visitor.Q",
    )
