"""What pymongo would have returned or raised: for what DynamoDB did, and for what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymongo import common, results
from pymongo import errors as pymongo_errors
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.client_session import ClientSession

from docferry.adapters.mongodb.client.requests import arguments_by_name, read_requests
from docferry.core.mapping.items import Document
from docferry.core.namespaces import Namespaces
from docferry.errors import KeyTaken
from docferry.ports.client import BulkRequest

NO_SUCH_TRANSACTION, WRITE_CONFLICT = 251, 112
"""Source: mongo/src/mongo/base/error_codes.yml (6.0)."""


class MongoOutcomes:
    """Of collections by the file's names."""

    where: Namespaces

    def inserted(self, ids: Sequence[Any], *, many: bool = False) -> Any:
        return results.InsertManyResult(list(ids), True) if many else results.InsertOneResult(ids[0], True)

    def updated(self, *, matched: int, modified: int, upserted_id: Any = None) -> Any:
        raw: dict[str, Any] = {"n": 1 if upserted_id is not None else matched, "nModified": modified, "ok": 1.0}
        if upserted_id is not None:
            raw["upserted"] = upserted_id
        raw["updatedExisting"] = upserted_id is None and matched > 0
        return results.UpdateResult(raw, True)

    def deleted(self, count: int) -> Any:
        return results.DeleteResult({"n": count, "ok": 1.0}, True)

    def listed(self, documents: Iterable[Document]) -> list[Document]:
        if not isinstance(documents, Iterable) or isinstance(documents, Mapping) or not documents:
            raise TypeError("documents must be a non-empty list")
        listed = list(documents)
        if not listed:
            raise pymongo_errors.InvalidOperation("No operations to execute")
        return listed

    def require_document(self, document: Any) -> None:
        common.validate_is_document_type("document", document)

    def require_filter(self, query: Any) -> None:
        common.validate_is_mapping("filter", query)

    def require_update(self, update: Any) -> None:
        common.validate_ok_for_update(update)

    def require_replacement(self, replacement: Any) -> None:
        common.validate_ok_for_replace(replacement)

    def require_option(self, name: str, value: Any) -> None:
        check = common.validate_list if name == "array_filters" else common.validate_is_mapping
        check(name, value)

    def duplicate_key(self, taken: KeyTaken) -> Exception:
        text = f"E11000 duplicate key error collection: {self.where.shown(taken.collection)} index: {taken.index}"
        details = {"index": 0, "code": 11000, "errmsg": text, "keyPattern": taken.pattern, "keyValue": taken.key}
        return pymongo_errors.DuplicateKeyError(text, 11000, details)

    def write_error(self, code: int, message: str) -> Exception:
        return pymongo_errors.WriteError(message, code, {"index": 0, "code": code, "errmsg": message})

    def bulk_write_error(
        self, failures: Sequence[tuple[int, Exception]], documents: Sequence[Document], inserted: int
    ) -> Exception:
        listed = [
            {**(getattr(error, "details", None) or {"errmsg": str(error)}), "index": index, "op": documents[index]}
            for index, error in failures
        ]
        return pymongo_errors.BulkWriteError({
            "writeErrors": listed, "writeConcernErrors": [], "nInserted": inserted,
            "nUpserted": 0, "nMatched": 0, "nModified": 0, "nRemoved": 0, "upserted": [],
        })  # fmt: skip

    def not_inserted(self, error: Exception, documents: int, ordered: bool) -> frozenset[int] | None:
        if isinstance(error, pymongo_errors.ClientBulkWriteException):
            return frozenset()
        if not isinstance(error, pymongo_errors.BulkWriteError):
            return None
        failed = [int(one["index"]) for one in error.details["writeErrors"]]
        return frozenset(range(min(failed), documents) if ordered and failed else failed)

    def is_write_error(self, error: Exception) -> bool:
        return isinstance(error, pymongo_errors.WriteError)

    def of_command(self, error: Exception) -> Exception:
        if not isinstance(error, pymongo_errors.WriteError) or isinstance(error, pymongo_errors.DuplicateKeyError):
            return error
        return pymongo_errors.OperationFailure(str(error), error.code, dict(error.details or {}))

    def is_driver_error(self, error: Exception) -> bool:
        return isinstance(error, pymongo_errors.PyMongoError)

    def bulk_result(self, told: Mapping[str, Any]) -> Any:
        if told["writeErrors"]:
            raise pymongo_errors.BulkWriteError(dict(told))
        return results.BulkWriteResult(dict(told), True)

    def arguments_of(self, method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
        return arguments_by_name(method, arguments, options)

    def requests_of(self, requests: Any) -> list[BulkRequest]:
        return read_requests(requests)

    def session_of(self, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        kinds = (ClientSession, AsyncClientSession)
        return next((one for one in (*arguments, *options.values()) if isinstance(one, kinds)), None)

    def transaction_refused(self, message: str) -> Exception:
        return _transient(message, NO_SUCH_TRANSACTION, "NoSuchTransaction")

    def write_conflict(self, message: str) -> Exception:
        return _transient(message, WRITE_CONFLICT, "WriteConflict")

    def commit_unknown(self, message: str) -> Exception:
        return pymongo_errors.ConnectionFailure(message, ["UnknownTransactionCommitResult"])

    def invalid_operation(self, message: str) -> Exception:
        return pymongo_errors.InvalidOperation(message)


def _transient(message: str, code: int, name: str) -> Exception:
    details = {"code": code, "codeName": name, "errmsg": message, "errorLabels": ["TransientTransactionError"]}
    return pymongo_errors.OperationFailure(message, code, details)
