"""Documents that MongoDB has been given, and for which DynamoDB will have no key: told to the metrics while MongoDB leads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bson.objectid import ObjectId

from docferry.client.context import ClientContext
from docferry.client.writes.leading import updating
from docferry.core.mapping.items import Document
from docferry.core.mql.updates import replacement_upserted
from docferry.core.mql.values import as_bson
from docferry.errors import CallRefused, DocumentError, OutsideFilter, UpdateRefused

Inserted = Callable[[], Document]
"""What has been inserted, as far as a call's arguments tell."""
_MADE = ObjectId()
"""Stands for the _id that MongoDB makes where an upsert names none."""


class ComingLetters:
    """Of one collection: `dead_letter.coming.<collection>`; outside its filter: `outside_filter.<collection>`."""

    def __init__(self, parts: ClientContext, name: str) -> None:
        self._name, self._mongo, self._metrics = name, parts.mongo, parts.metrics
        self._inside = parts.border.to_internal
        self._mapping = parts.mapping(name)
        root = self._mapping.root if self._mapping is not None else None
        self._key_fields = {path.partition(".")[0] for path in root.pk.fields | root.sk.fields} if root else set[str]()
        if self._mapping is not None and self._mapping.filter is not None:
            self._key_fields |= self._mapping.filter.top_fields

    def __repr__(self) -> str:
        return f"ComingLetters({self._name!r})"

    def tell(self, inserted: Inserted) -> None:
        """Count a document that has no key. `inserted` may not know what it is."""
        if self._mapping is None:
            return
        try:
            document = inserted()
            known = as_bson({name: document[name] for name in self._key_fields if name in document})
            if "_id" in self._key_fields:
                known.setdefault("_id", _MADE)
            if self._mapping.filter is not None:
                self._mapping.filter.require(known)
            self._mapping.root_key(known)
        except OutsideFilter:
            self._metrics.count(f"outside_filter.{self._name}")
        except DocumentError:
            self._count()
        except (CallRefused, UpdateRefused):
            return

    def tell_upserted(self, query: Mapping[str, Any], change: Any, options: Mapping[str, Any]) -> None:
        self.tell(upserted(query, change, options))

    def tell_failed(self, error: Exception) -> None:
        """Count a document for which DynamoDB has no place, as its own write there has said."""
        if isinstance(error, DocumentError):
            self._count()

    def tell_of(self, method: str, asked: Mapping[str, Any], result: Any) -> None:
        """Of a call that MongoDB alone has done: `asked` are its arguments by name, `result` what pymongo gave or raised."""
        if self._mapping is not None:
            for inserted in self._inserted(method, asked, result):
                self.tell(inserted)

    def _inserted(self, method: str, asked: Mapping[str, Any], result: Any) -> Iterator[Inserted]:
        if method == "bulk_write":
            yield from self._of_bulk(asked, result)
        elif method == "insert_many":
            documents = asked["documents"] if isinstance(asked["documents"], list | tuple) else ()
            yield from (_known(self._inside(documents[at])) for at in self._done(result, len(documents), asked))
        elif isinstance(result, Exception):
            return
        elif method == "insert_one":
            yield _known(self._inside(asked["document"]))
        elif asked.get("upsert") and _has_inserted(method, asked, result):
            change = asked["replacement"] if "replacement" in asked else asked["update"]
            yield upserted(self._inside(asked["filter"]), self._inside(change), asked)

    def _of_bulk(self, asked: Mapping[str, Any], result: Any) -> Iterator[Inserted]:
        told = getattr(result, "details" if isinstance(result, Exception) else "bulk_api_result", None) or {}
        made = {one["index"] for one in told.get("upserted", ())}
        done = self._done(result, len(asked["requests"]), asked) if told.get("nInserted", 1) else ()
        for at, one in enumerate(self._mongo.requests_of(asked["requests"]) if done or made else ()):
            if one.method == "insert_one" and at in done:
                yield _known(self._inside(one.change))
            elif at in made:
                yield upserted(self._inside(one.query), self._inside(one.change), one.options)

    def _done(self, result: Any, count: int, asked: Mapping[str, Any]) -> Sequence[int]:
        """The positions of those that have been carried out, as far as pymongo tells."""
        if not isinstance(result, Exception):
            return range(count)
        left_out = self._mongo.not_inserted(result, count, asked.get("ordered", True))
        return [at for at in range(count) if left_out is not None and at not in left_out]

    def _count(self) -> None:
        self._metrics.count(f"dead_letter.coming.{self._name}")


def upserted(query: Mapping[str, Any], change: Any, options: Mapping[str, Any]) -> Inserted:
    """What an upsert has inserted, as far as its arguments tell."""
    if isinstance(change, Mapping) and not next(iter(change), "$").startswith("$"):
        return lambda: replacement_upserted(query, change)
    return lambda: updating(query, change, options).inserted()


def _known(document: Document) -> Inserted:
    return lambda: document


def _has_inserted(method: str, asked: Mapping[str, Any], result: Any) -> bool:
    """Whether an upsert has inserted. One that gives the document as it is afterwards does not tell: not counted."""
    if method.startswith("find_one_and"):
        return result is None and not asked.get("return_document")
    return bool(result.acknowledged) and result.upserted_id is not None
