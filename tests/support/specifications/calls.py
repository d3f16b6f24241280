"""The operations of the unified format as calls of pymongo's names, and what they answer as the format has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pymongo
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne, WriteConcern, results
from pymongo.client_session import TransactionOptions  # type: ignore[attr-defined]
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import make_read_preference, read_pref_mode_from_name

_SORTED = frozenset({"find", "find_one", "find_one_and_update", "find_one_and_replace", "find_one_and_delete"})
"""Whose sort is a list; that of an update is a document."""
_AS_IT_IS = frozenset({"aggregate", "distinct", "count_documents", "estimated_document_count", "find_one_and_update",
                       "find_one_and_replace", "find_one_and_delete", "create_index"})  # fmt: skip
"""Which take MongoDB's own options by MongoDB's names, beside pymongo's."""
_NAMES = frozenset({"array_filters", "return_document"})
_REQUESTS: Mapping[str, type] = {
    "insertOne": InsertOne, "updateOne": UpdateOne, "updateMany": UpdateMany, "replaceOne": ReplaceOne, "deleteOne": DeleteOne,
    "deleteMany": DeleteMany,
}  # fmt: skip
_OF_OPTIONS = frozenset({"readConcern", "writeConcern", "readPreference", "maxCommitTimeMS"})
_RENAMED = {"fieldName": "key", "indexName": "name"}


def snake(name: str) -> str:
    return re.sub(r"([a-z])([A-Z])", lambda found: f"{found[1]}_{found[2].lower()}", name).replace("MS", "_ms").lower()


def options_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """collectionOptions and databaseOptions, and those of a transaction."""
    found: dict[str, Any] = {}
    for name, value in asked.items():
        if name == "readConcern":
            found["read_concern"] = ReadConcern(**value)
        elif name == "writeConcern":
            known = {"journal": "j", "wtimeoutMS": "wtimeout"}
            found["write_concern"] = WriteConcern(**{known.get(key, key): one for key, one in value.items()})
        elif name == "readPreference":
            found["read_preference"] = make_read_preference(
                read_pref_mode_from_name(value["mode"]), value.get("tagSets")
            )
        elif name == "maxCommitTimeMS":
            found["max_commit_time_ms"] = value
        else:
            raise NotImplementedError(name)
    return found


def session_options(asked: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {snake(name): value for name, value in asked.items() if name != "defaultTransactionOptions"}
    if "defaultTransactionOptions" in asked:
        found["default_transaction_options"] = TransactionOptions(**options_of(asked["defaultTransactionOptions"]))
    return found


def arguments_of(method: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """By pymongo's names; sessions are put in by who knows them."""
    found: dict[str, Any] = {}
    for name, value in asked.items():
        if name in _OF_OPTIONS:
            found |= options_of({name: value})
            continue
        key = _RENAMED.get(name, snake(name))
        if name == "requests":
            value = [_request(one) for one in value]
        elif name == "returnDocument":
            value = value == "After"
        elif name == "sort" and method in _SORTED:
            value = list(value.items())
        if method in _AS_IT_IS and key not in _NAMES and key not in ("key", "filter", "read_preference"):
            key = name
        found[key] = value
    if method == "run_command":
        found.pop("command_name", None)
    if method == "create_index":
        found["keys"] = list(found.pop("keys").items())
    return found


def _request(one: Mapping[str, Any]) -> Any:
    ((name, asked),) = one.items()
    return _REQUESTS[name](**{snake(key): value for key, value in asked.items()})


def answer_of(found: Any) -> Any:
    """As the format has it."""
    if isinstance(found, results.InsertOneResult):
        return {"insertedId": found.inserted_id}
    if isinstance(found, results.InsertManyResult):
        return {"insertedIds": {str(at): one for at, one in enumerate(found.inserted_ids)}}
    if isinstance(found, results.UpdateResult | results.DeleteResult):
        return _counts(found) if found.acknowledged else {"acknowledged": False}
    if isinstance(found, results.BulkWriteResult):
        return bulk_counts(found.bulk_api_result) if found.acknowledged else {"acknowledged": False}
    return found


def _counts(found: Any) -> dict[str, Any]:
    if isinstance(found, results.DeleteResult):
        return {"deletedCount": found.deleted_count}
    upserted = {"upsertedId": found.upserted_id} if found.upserted_id is not None else {}
    counted = {"matchedCount": found.matched_count, "modifiedCount": found.modified_count}
    return {**counted, "upsertedCount": int(bool(upserted)), **upserted}


def bulk_counts(told: Mapping[str, Any]) -> dict[str, Any]:
    names = {"deletedCount": "nRemoved", "insertedCount": "nInserted", "matchedCount": "nMatched", "modifiedCount": "nModified",
             "upsertedCount": "nUpserted"}  # fmt: skip
    counted = {ours: told[theirs] for ours, theirs in names.items()}
    return counted | {"upsertedIds": {str(one["index"]): one["_id"] for one in told["upserted"]}}


def is_client_error(error: Exception) -> bool:
    """One that no server has sent."""
    return not isinstance(error, pymongo.errors.OperationFailure | pymongo.errors.BulkWriteError)


def server_error(error: Any) -> Mapping[str, Any]:
    """What a server has said, as far as pymongo keeps it."""
    details = getattr(error, "details", None) or {}
    inner: Sequence[Mapping[str, Any]] = details.get("writeErrors") or ()
    return inner[0] if inner and "code" not in details else details
