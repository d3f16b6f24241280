"""The methods of the drivers, as pymongo calls them: what each argument is. Which of them are served is not said here. Pure.

Sources, read 2026-11-29: the API pages of pymongo 4, motor 3, the SyntaxNode.js driver 6, mongoose 8, mongoengine 0.29.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a collection. `name` is pymongo's; `roles` are what its arguments are, in order."""

    name: str
    roles: tuple[str, ...]
    query: bool = False
    """Whether it gives a cursor, whose methods go on to shape the call."""


def _methods(text: str) -> dict[str, Method]:
    """One a line: name written [= pymongo's name]: roles; a * before it says that it gives a cursor."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        names, _, roles = line.partition(":")
        written, _, name = (part.strip() for part in names.lstrip("*").partition("="))
        found[written] = Method(name or written, tuple(roles.split()), line.startswith("*"))
    return found


PYTHON: Final = _methods("""
    *find: filter projection skip limit
    find_one: filter projection skip
    *find_raw_batches: filter
    insert_one: document
    insert_many: documents
    update_one: filter update upsert
    update_many: filter update upsert
    replace_one: filter update upsert
    delete_one: filter
    delete_many: filter
    find_one_and_update: filter update projection sort upsert
    find_one_and_replace: filter update projection sort upsert
    find_one_and_delete: filter projection sort
    count_documents: filter
    estimated_document_count:
    *aggregate: pipeline session
    *aggregate_raw_batches: pipeline session
    distinct: key filter
    bulk_write: requests
    create_index: keys
    create_indexes: keys
    drop_index: keys
    drop_indexes:
    list_indexes:
    index_information:
    watch: pipeline
    drop:
    rename: new
    options:
    with_options:
    create_search_index: keys
    list_search_indexes:
    insert: documents
    update: filter update upsert
    remove: filter
    save: document
    count: filter
    ensure_index: keys
    find_and_modify: filter update
    map_reduce: map reduce
    group: key
""")

JAVASCRIPT: Final = _methods("""
    *find: filter options
    findOne = find_one: filter options
    insertOne = insert_one: document options
    insertMany = insert_many: documents options
    insert = insert_many: documents options
    updateOne = update_one: filter update options
    updateMany = update_many: filter update options
    update = update: filter update options
    replaceOne = replace_one: filter update options
    deleteOne = delete_one: filter options
    deleteMany = delete_many: filter options
    remove = delete_many: filter options
    findOneAndUpdate = find_one_and_update: filter update options
    findOneAndReplace = find_one_and_replace: filter update options
    findOneAndDelete = find_one_and_delete: filter options
    countDocuments = count_documents: filter options
    count = count_documents: filter options
    estimatedDocumentCount = estimated_document_count: options
    *aggregate: pipeline options
    distinct: key filter options
    bulkWrite = bulk_write: requests options
    createIndex = create_index: keys options
    createIndexes = create_indexes: keys options
    dropIndex = drop_index: keys options
    dropIndexes = drop_indexes: options
    listIndexes = list_indexes: options
    indexes = index_information: options
    indexInformation = index_information: options
    indexExists = list_indexes: keys
    initializeOrderedBulkOp = bulk_write: options
    initializeUnorderedBulkOp = bulk_write: options
    watch: pipeline options
    drop: options
    rename: new options
    options:
    isCapped = options: options
""")

MONGOOSE: Final = JAVASCRIPT | _methods("""
    *find: filter projection options
    *findOne = find_one: filter projection options
    *findById = find_one: id projection options
    *findByIdAndUpdate = find_one_and_update: id update options
    *findByIdAndDelete = find_one_and_delete: id options
    *findByIdAndRemove = find_one_and_delete: id options
    *findOneAndUpdate = find_one_and_update: filter update options
    *findOneAndReplace = find_one_and_replace: filter update options
    *findOneAndDelete = find_one_and_delete: filter options
    *findOneAndRemove = find_one_and_delete: filter options
    *updateOne = update_one: filter update options
    *updateMany = update_many: filter update options
    *replaceOne = replace_one: filter update options
    *deleteOne = delete_one: filter options
    *deleteMany = delete_many: filter options
    *countDocuments = count_documents: filter options
    *estimatedDocumentCount = estimated_document_count: options
    *distinct: key filter options
    *exists = find_one: filter
    *where = find: field value
    create = insert_one: document options
    insertMany = insert_many: documents options
    bulkSave = bulk_write: requests options
    syncIndexes = create_indexes: options
    ensureIndexes = create_indexes: options
    startSession = start_session: options
""")

TABLES: Final[Mapping[str, Mapping[str, Method]]] = {"pymongo": PYTHON, "mongodb": JAVASCRIPT, "mongoose": MONGOOSE}
PASSES_ON: Final = frozenset({"to_thread", "partial", "run_in_executor", "submit", "run_in_threadpool", "run_sync"})
"""What calls the function that it is given, with the arguments behind it."""
SHARED_NAMES: Final = frozenset({
    "create_index", "drop_index", "drop_indexes", "list_indexes", "with_options", "createIndex", "dropIndex", "createIndexes",
    "dropIndexes", "indexExists", "bulkSave", "isCapped", "startSession",
})  # fmt: skip
"""Names that other libraries have, too: a driver's in files that use one."""
DISTINCT_NAMES: Final = frozenset(
    name for name in [*PYTHON, *MONGOOSE] if re.search(r"[a-z](_|[A-Z])", name)
) - SHARED_NAMES  # fmt: skip
"""Names by which a call is known to be a driver's, on whatever it is called. Others are common: `find`, `update`, `count`."""

DATABASE_METHODS: Final[Mapping[str, str]] = {
    **{name: name for name in (
        "command", "create_collection", "drop_collection", "list_collection_names", "list_collections", "aggregate", "watch",
        "validate_collection", "dereference", "cursor_command",
    )},
    "createCollection": "create_collection",
    "dropCollection": "drop_collection",
    "listCollections": "list_collections",
    "collections": "list_collections",
    "dropDatabase": "client",
    "runCommand": "command",
    "stats": "command",
    "admin": "client",
}  # fmt: skip
"""Methods of a database, by pymongo's names; what is a client's affair there is `client`."""

CLIENT_METHODS: Final = frozenset({
    "start_session", "startSession", "drop_database", "dropDatabase", "list_database_names", "list_databases", "withSession",
    "with_session", "bulk_write", "bulkWrite", "server_info", "watch",
})  # fmt: skip

TO_DATABASE: Final = frozenset({"get_database", "get_default_database", "db", "useDb", "getClient"})
TO_COLLECTION: Final = frozenset({"get_collection", "getCollection", "collection"})

OPTIONS: Final[Mapping[str, str]] = {
    "filter": "filter", "query": "filter", "update": "update", "replacement": "update", "projection": "projection",
    "fields": "projection", "select": "projection", "sort": "sort", "document": "document", "documents": "documents",
    "pipeline": "pipeline", "key": "key", "keys": "keys", "requests": "requests",
}  # fmt: skip
"""Keyword arguments, and fields of options, that are not options."""

RENAMED: Final[Mapping[str, str]] = {"returnDocument": "return_document", "new": "return_document",
    "returnNewDocument": "return_document", "maxTimeMS": "max_time_ms", "returnOriginal": "return_document"}  # fmt: skip
DROPPED: Final = frozenset({
    "lean", "runValidators", "strict", "timestamps", "setDefaultsOnInsert", "rawResult", "includeResultMetadata", "context",
    "overwriteDiscriminatorKey", "omitUndefined", "useFindAndModify", "validateBeforeSave", "validate", "safe", "w",
    "ignoreUndefined",
    "promoteValues", "checkKeys", "raw", "populate", "writeConcern", "new", "return_document", "returnDocument",
    "returnNewDocument", "returnOriginal", "forceServerObjectId",
    "bypass_document_validation", "bypassDocumentValidation", "ordered",
})  # fmt: skip
"""Options that say how the driver works, or how its answer looks; none of them reaches MongoDB's query."""

LIBRARIES: Final = ("pymongo", "motor", "mongoengine", "flask_pymongo", "flask_mongoengine", "docferry", "gridfs", "beanie",
                    "mongodb", "mongoose", "@nestjs/mongoose", "umongo", "odmantic")  # fmt: skip

CLIENTS: Final = frozenset({
    "pymongo.MongoClient", "pymongo.AsyncMongoClient", "pymongo.mongo_client.MongoClient", "pymongo.MongoReplicaSetClient",
    "pymongo.asynchronous.mongo_client.AsyncMongoClient", "motor.motor_asyncio.AsyncIOMotorClient",
    "motor.motor_tornado.MotorClient", "motor.MotorClient", "mongodb.MongoClient", "mongodb.MongoClient.connect",
    "flask_pymongo.PyMongo", "mongoengine.connect", "mongoengine.get_connection",
    "mongoengine.connection.get_connection",
})  # fmt: skip
DATABASES: Final = frozenset({
    "docferry.connect", "docferry.connect_async", "mongoengine.get_db", "mongoengine.connection.get_db",
    "mongoose.createConnection",
})  # fmt: skip
"""What gives a database when it is called."""
DATABASE_ATTRIBUTES: Final = frozenset({"mongoose.connection", "mongoose.connection.db"})
DATABASE_KINDS: Final = frozenset({
    "Database", "AsyncDatabase", "AsyncIOMotorDatabase", "MotorDatabase", "Db", "DualWriteManager", "AsyncDualWriteManager",
})  # fmt: skip
CLIENT_KINDS: Final = frozenset({"MongoClient", "AsyncMongoClient", "AsyncIOMotorClient", "MotorClient"})

DATABASE_NAME: Final = re.compile(r"(?:^|_)(?:[mM]ongo_?)?(?:[dD][bB]|[dD]atabase)$|[a-z](?:D[bB]|DatabaseHandle)$")
"""What is called so, and is nothing else that is known, is taken for a database."""


def is_library(module: str) -> bool:
    return any(module == name or module.startswith((f"{name}.", f"{name}/")) for name in LIBRARIES)


def snake_case(name: str) -> str:
    """pymongo's way to write the name of an option."""
    return RENAMED.get(name) or re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found.group(1).lower(), name)
