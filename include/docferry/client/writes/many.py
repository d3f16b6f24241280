"""Calls that change several documents, or give back what they replace or remove.

While MongoDB leads they are MongoDB's alone, and left to replication. Once DynamoDB leads, the documents are found by a key or an
index, and changed one after the other, each by itself, as MongoDB does; a call that ends early says how far it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from docferry.client.context import MONGO, ClientContext, now, sort_of, timed
from docferry.client.writes.coming import ComingWrites
from docferry.client.writes.delegated import DelegatedCalls
from docferry.client.writes.leading import Change, LeadingWrites, updating
from docferry.client.writes.letters import ComingLetters
from docferry.client.writes.within import within
from docferry.core.cutover.modes import ModeState
from docferry.core.mapping.items import Document
from docferry.core.mql.expressions import variables_of
from docferry.core.mql.projection import project
from docferry.core.mql.updates import replaced, replacement_upserted
from docferry.ports.client import BulkRequest

_TAKEN = frozenset({
    "filter", "update", "replacement", "upsert", "projection", "sort", "return_document", "requests", "ordered",
})  # fmt: skip
"""Arguments of the calls themselves; what is left are options."""


class ManyCalls:
    """Of one collection."""

    def __init__(
        self,
        parts: ClientContext,
        name: str,
        delegated: DelegatedCalls,
        leading: LeadingWrites,
        coming: ComingWrites,
        stored: Callable[[Document], Document],
    ) -> None:
        """`stored`: what there is to insert of a document, with its `_id`."""
        self._parts, self._name, self._mongo, self._border = parts, name, parts.mongo, parts.border
        self._delegated, self._leading, self._coming, self._stored = delegated, leading, coming, stored
        self._letters = ComingLetters(parts, name)

    async def call(self, method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """A method of pymongo's collection, of `SERVED_CALLS`."""
        asked = self._mongo.arguments_of(method, arguments, options)
        session, call = asked.pop("session", None), getattr(self._mongo.raw(self._name), method)

        async def mongo(state: ModeState) -> Any:
            if self._parts.strict or state.write_to_dynamodb:
                self._note(state, method, asked, _left(asked))
            try:
                with timed(self._parts.metrics, MONGO, method):
                    result = await self._mongo.write(call, *arguments, **options)
            except Exception as error:
                self._letters.tell_of(method, asked, error)
                raise
            if method == "bulk_write" or asked.get("upsert"):
                self._letters.tell_of(method, asked, result)
            return result

        async def dynamodb(state: ModeState) -> Any:
            if session is None:
                return await self._lead(state, method, asked)
            parts, delegated = within(self._parts, session, state)
            writes = LeadingWrites(parts, self._name), ComingWrites(parts, self._name)
            return await ManyCalls(parts, self._name, delegated, *writes, self._stored).call(method, (), asked)

        return await self._delegated.transactions.write(session, method, mongo, dynamodb)

    # --- while MongoDB leads -----------------------------------------------------------------------------------------

    def _note(self, state: ModeState, method: str, asked: Mapping[str, Any], left: Mapping[str, Any]) -> None:
        """What pymongo will not take is not looked into."""
        if method == "bulk_write":
            for one in self._mongo.requests_of(asked["requests"]):
                if one.method == "insert_one":
                    self._coming.require_storable(partial(self._storable, one.change))
                elif isinstance(one.query, Mapping):
                    self._coming.note(
                        state, method, self._inside(one.query), self._inside(one.change), {**left, **one.options}
                    )
        elif isinstance(asked["filter"], Mapping):
            change = self._inside(asked.get("update"))
            self._coming.note(state, method, self._inside(asked["filter"]), change, left)

    # --- once DynamoDB leads -----------------------------------------------------------------------------------------

    async def _lead(self, state: ModeState, method: str, asked: Mapping[str, Any]) -> Any:
        left = _left(asked)
        if method == "bulk_write":
            return await self._bulk(state, self._mongo.requests_of(asked["requests"]), asked.get("ordered", True), left)
        self._mongo.require_filter(asked["filter"])
        self._coming.take(method, asked.get("update"), left)
        if method in ("update_many", "delete_many"):
            change, upsert = asked.get("update"), asked.get("upsert", False)
            return await self._all(state, method, asked["filter"], change, upsert, left)
        return await self._find_one(state, method, asked)

    async def _all(
        self, state: ModeState, method: str, query: Any, update: Any, upsert: bool, options: Mapping[str, Any]
    ) -> Any:
        query, options = self._inside(query), self._options(options)
        let = options.get("let")
        if method == "delete_many":
            removed, _ = await self._leading.change_all(state, query, None, variables_of(let, now=now()))
            return self._mongo.deleted(removed)
        self._mongo.require_update(update)
        asked = updating(query, self._inside(update), options, ordered=self._leading.keeps_order)
        known = variables_of(let, now=asked.now)
        matched, modified = await self._leading.change_all(state, query, asked.apply, known)
        if matched or not upsert:
            return self._mongo.updated(matched=matched, modified=modified)
        made = await self._leading.insert_made(state, asked.inserted)
        return self._mongo.updated(matched=0, modified=0, upserted_id=self._border.value_to_application(made["_id"]))

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those that a write needs, with BSON's types."""
        found = {name: options[name] for name in ("array_filters", "let", "sort") if options.get(name) is not None}
        for name in found.keys() - {"sort"}:
            self._mongo.require_option(name, found[name])
            found[name] = self._inside(found[name])
        return found

    async def _find_one(self, state: ModeState, method: str, asked: Mapping[str, Any]) -> Document | None:
        query, change, otherwise = self._inside(asked["filter"]), None, None
        if method == "find_one_and_replace":
            self._mongo.require_replacement(asked["replacement"])
            change, otherwise = _replacing(query, self._inside(asked["replacement"]), asked.get("upsert", False))
        known = variables_of(self._options(asked).get("let"), now=now())
        found = await self._leading.change_and_give(state, query, change, otherwise, sort_of(asked.get("sort")), known)
        document = found.after if asked.get("return_document") else found.before
        return self._border.to_application(project(document, asked.get("projection"))) if document is not None else None

    async def _bulk(
        self, state: ModeState, requests: Sequence[BulkRequest], ordered: bool, left: Mapping[str, Any]
    ) -> Any:
        """Nothing is written if one of them cannot be done at all."""
        self._coming.take("bulk_write", None, left)
        requests = [replace(one, options={**one.options, "let": left.get("let")}) for one in requests]
        for one in requests:
            self._require_possible(one)
        done = _Done()
        for index, one in enumerate(requests):
            try:
                await self._one(state, one, index, done)
            except Exception as error:
                if not self._mongo.is_write_error(error):
                    error.add_note(f"{index} of {len(requests)} requests had been carried out")
                    raise
                done.failed(index, one, error)
                if ordered:
                    break
        return self._mongo.bulk_result(done.told)

    def _require_possible(self, one: BulkRequest) -> None:
        if one.method == "insert_one":
            self._storable(one.change)
            return
        self._mongo.require_filter(one.query)
        self._coming.take(one.method, one.change if one.method.startswith("update") else None, one.options)
        self._leading.require_plan(self._inside(one.query))

    async def _one(self, state: ModeState, one: BulkRequest, index: int, done: _Done) -> None:
        if one.method == "insert_one":
            await self._leading.insert(state, self._stored(one.change))
            done.add(nInserted=1)
        elif one.method in ("update_many", "delete_many"):
            result = await self._all(state, one.method, one.query, one.change, one.upsert, one.options)
            if one.method == "delete_many":
                done.add(nRemoved=result.deleted_count)
            else:
                done.updated(index, result.matched_count, result.modified_count, result.upserted_id)
        else:
            await self._change_one(state, one, index, done)

    async def _change_one(self, state: ModeState, one: BulkRequest, index: int, done: _Done) -> None:
        query, changed, options = self._inside(one.query), self._inside(one.change), self._options(one.options)
        change: Change | None = None
        otherwise: Callable[[], Document] | None = None
        at = now()
        if one.method == "replace_one":
            change, otherwise = _replacing(query, changed, one.upsert)
        elif one.method == "update_one":
            asked = updating(query, changed, options, ordered=self._leading.keeps_order)
            change, otherwise, at = asked.apply, asked.inserted if one.upsert else None, asked.now
        sort, known = sort_of(options.get("sort")), variables_of(options.get("let"), now=at)
        found = await self._leading.change(state, query, change, otherwise, sort, known)
        if one.method == "delete_one":
            done.add(nRemoved=int(found.before is not None))
        elif found.before is not None:
            done.updated(index, 1, int(found.modified), None)
        elif found.after is not None:
            done.updated(index, 0, 0, self._border.value_to_application(found.after["_id"]))

    # --- values ------------------------------------------------------------------------------------------------------

    def _inside(self, value: Any) -> Any:
        return self._border.to_internal(value)

    def _storable(self, document: Document) -> None:
        self._leading.require_storable(self._stored(document))


def _left(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Options: what is not the call's own."""
    return {name: value for name, value in asked.items() if name not in _TAKEN}


class _Done:
    """What a bulk write has done so far, as pymongo tells it."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {
            "writeErrors": [], "writeConcernErrors": [], "nInserted": 0, "nUpserted": 0, "nMatched": 0, "nModified": 0,
            "nRemoved": 0, "upserted": [],
        }  # fmt: skip

    def add(self, **counts: int) -> None:
        for name, count in counts.items():
            self.told[name] += count

    def updated(self, index: int, matched: int, modified: int, upserted_id: Any) -> None:
        self.add(nMatched=matched, nModified=modified)
        if upserted_id is not None:
            self.add(nUpserted=1)
            self.told["upserted"].append({"index": index, "_id": upserted_id})

    def failed(self, index: int, one: BulkRequest, error: Exception) -> None:
        details = getattr(error, "details", None) or {"errmsg": str(error)}
        self.told["writeErrors"].append({**details, "index": index, "op": one.told})


def _replacing(
    query: Mapping[str, Any], replacement: Mapping[str, Any], upsert: bool
) -> tuple[Change, Callable[[], Document] | None]:
    otherwise = (lambda: replacement_upserted(query, replacement)) if upsert else None
    return lambda document: replaced(document, replacement), otherwise
