"""The calls of pymongo's that MongoDB alone does: what each is, by which shape it is counted, and what to write instead.

    COLLECTION_CALLS, DATABASE_CALLS, CURSOR_CALLS      name -> Call
    shape_of_call(collection, method, arguments, options) -> text without any value

Nothing here is done by DynamoDB: while MongoDB leads these calls are pymongo's own, afterwards they are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.core.access.read_plan import shape_of
from docferry.errors import CallRefused


@dataclass(frozen=True, slots=True)
class Call:
    """`instead` is what to write once DynamoDB leads; `writes` whether it may change anything."""

    instead: str
    writes: bool = False


_READ = "query by an access pattern, and compute in the application"
_AGGREGATE = (
    "let its first $match lead to a key, an index or a scan that the file allows, use the stages and expressions that "
    "docs/client-calls.md names, and compute the rest in the application"
)
_INDEXES = (
    "leave the call out where DynamoDB leads: its indexes are the migration file's, and docferry provision makes them"
)
_ADMIN = "leave it to the migration: tables and collections are its file's"
_MANY = "find the documents by a key or an access pattern, and write them one by one"

COLLECTION_CALLS: Mapping[str, Call] = {
    "aggregate_raw_batches": Call(_READ),
    "find_raw_batches": Call("find"),
    "watch": Call("DynamoDB Streams"),
    "create_index": Call(_INDEXES, writes=True),
    "create_indexes": Call(_INDEXES, writes=True),
    "drop_index": Call(_INDEXES, writes=True),
    "drop_indexes": Call(_INDEXES, writes=True),
    "create_search_index": Call(_INDEXES, writes=True),
    "create_search_indexes": Call(_INDEXES, writes=True),
    "drop_search_index": Call(_INDEXES, writes=True),
    "update_search_index": Call(_INDEXES, writes=True),
    "list_search_indexes": Call(_INDEXES),
    "options": Call(_ADMIN),
    "drop": Call(f"delete_many({{}}), where it is to be empty, and a scan is allowed; else {_ADMIN}", writes=True),
    "rename": Call(_ADMIN, writes=True),
}
SERVED_CALLS: Mapping[str, Call] = {
    "estimated_document_count": Call("keep a counter of your own, or ask DynamoDB's DescribeTable"),
    "aggregate": Call(_AGGREGATE),  # writes with $out and $merge
    "distinct": Call(_READ),
    "index_information": Call(_INDEXES),
    "list_indexes": Call(_INDEXES),
    "bulk_write": Call("write the documents one by one, or with insert_many", writes=True),
    "update_many": Call(_MANY, writes=True),
    "delete_many": Call(_MANY, writes=True),
    "find_one_and_replace": Call("find_one, then replace_one", writes=True),
    "find_one_and_delete": Call("find_one, then delete_one", writes=True),
}
"""MongoDB's alone while it leads, and DynamoDB's afterwards, where a key or an index leads to the documents. `instead` is for
those with a session."""
DATABASE_CALLS: Mapping[str, Call] = {
    "aggregate": Call(_READ),  # as a collection's
    "command": Call("call what the command does by the collection's own methods", writes=True),
    "cursor_command": Call("call what the command does by the collection's own methods", writes=True),
    "create_collection": Call(_ADMIN, writes=True),
    "drop_collection": Call(_ADMIN, writes=True),
    "list_collections": Call("name the collections of the migration file"),
    "validate_collection": Call(_ADMIN),
    "watch": Call("DynamoDB Streams"),
}
CLIENT_CALLS: Mapping[str, Call] = {
    "bulk_write": Call("write the documents one by one, or with insert_many", writes=True),
    "drop_database": Call(_ADMIN, writes=True),
}
CURSOR_CALLS: Mapping[str, Call] = {
    "explain": Call("docferry's analysis says which key or index a query goes by"),
}
_COMPARED = "store the text as it is to be compared (in lower case, say) in a field of its own, and ask for that"
BEYOND_FILTER = "beyond the filter"
"""In the shape of a call that may find documents, too, which the collection's filter leaves to MongoDB alone."""
_OPTIONS: Mapping[str, str] = {
    BEYOND_FILTER: "ask for the filter's fields, too: once DynamoDB leads this would find only what is migrated",
    "collation": _COMPARED,
    "session": "nothing: sessions and transactions are DynamoDB's once it leads",
    "a pipeline": "read the document, change it and replace it, with the values that were read in the query",
    "min": "ask for the range in the query",
    "max": "ask for the range in the query",
    "cursor_type": "ask for what is behind the last one by a sort key, or read DynamoDB Streams",
    "read_preference": "leave it out: each read sees what was written last",
    "return_key": "leave it out, and project the fields",
    "show_record_id": "leave it out: documents have no record id there",
}


def instead_of_options(options: Sequence[str]) -> str:
    """What to do without options, or kinds of updates, that DynamoDB does not know."""
    return "; ".join(dict.fromkeys(_OPTIONS.get(one, f"do without {one}") for one in options))


def unmapped(collection: str) -> CallRefused:
    return CallRefused(
        what=f"the migration file has no collection {collection}", suggestion="add it to the file's collections"
    )


def unknown_options(options: Sequence[str]) -> CallRefused:
    """Of a read."""
    return CallRefused(what=f"DynamoDB knows no {', '.join(options)}", suggestion=instead_of_options(options))


READING_COMMANDS = frozenset({
    "find", "getmore", "count", "distinct", "explain", "dbstats", "collstats", "datasize", "validate", "top", "features",
    "listcollections", "listindexes", "listcommands", "ping", "hello", "ismaster", "buildinfo", "hostinfo", "serverstatus",
    "connectionstatus", "whatsmyuri", "currentop", "getparameter", "getlog", "usersinfo", "rolesinfo", "replsetgetstatus",
})  # fmt: skip
"""Of which a database's `command` writes nothing, in lower case. `aggregate` is looked into."""


def writes(method: str, call: Call, arguments: Sequence[Any]) -> bool:
    """Whether this call may change anything."""
    first = arguments[0] if arguments else None
    if method in ("aggregate", "aggregate_raw_batches"):
        return has_writing_stage(first)
    if method in ("command", "cursor_command"):
        name = command_name(first)
        if name == "aggregate" and isinstance(first, Mapping):
            return has_writing_stage(first.get("pipeline"))
        return name not in READING_COMMANDS
    return call.writes


def command_name(command: Any) -> str:
    """Of a command as pymongo takes it, in lower case: MongoDB takes some in any."""
    if isinstance(command, str):
        return command.lower()
    return str(next(iter(command), "")).lower() if isinstance(command, Mapping) else ""


def has_writing_stage(pipeline: Any) -> bool:
    for one in pipeline if type(pipeline) is list else _listed(pipeline):
        if (type(one) is dict or isinstance(one, Mapping)) and ("$out" in one or "$merge" in one):
            return True
    return False


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def shape_of_call(collection: str, method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> str:
    """What such a call is counted by: stages, kinds of requests, and the names of fields and options, never a value.

    `collection` is empty for one of the database.
    """
    where = collection or "database"
    named = [name for name, value in options.items() if value is not None and name in _TELLING]
    first = arguments[0] if arguments else None
    if method in ("aggregate", "aggregate_raw_batches"):
        return f"{where}.{method}({_stages(first)})"[:200]
    if method == "bulk_write":
        kinds = dict.fromkeys(type(one).__name__ for one in _listed(first))
        return f"{where}.{method}({', '.join(sorted(kinds)) or 'nothing'})"[:200]
    if method in ("command", "cursor_command"):
        return f"{where}.{method}({command_name(first)[:40]})"
    if method == "distinct":
        query = arguments[1] if len(arguments) > 1 else options.get("filter")
        return shape_of(where, f"distinct {first}"[:60], query if isinstance(query, Mapping) else {}, named)
    return shape_of(where, method, first if isinstance(first, Mapping) and method in _BY_FILTER else {}, named)


_BY_FILTER = frozenset({
    "update_one", "replace_one", "delete_one", "find_one_and_update", "update_many", "delete_many", "find_one_and_replace",
    "find_one_and_delete", "find", "find_one", "count_documents", "find_raw_batches", "explain",
})  # fmt: skip
_TELLING = frozenset({"upsert", "collation", "array_filters", "hint", "let", "sort"})


def _stages(pipeline: Any) -> str:
    found = []
    for at, stage in enumerate(_listed(pipeline)):
        name = next(iter(stage), "") if isinstance(stage, Mapping) else ""
        query = stage[name] if name == "$match" and at == 0 else None
        fields = f"({', '.join(sorted(map(str, query)))})" if isinstance(query, Mapping) else ""
        found.append(f"{name}{fields}")
    return ", ".join(found) or "nothing"
