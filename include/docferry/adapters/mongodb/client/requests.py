"""What the application asks for, read as pymongo reads it: a method's arguments by name, and the requests of a bulk write."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from bson.objectid import ObjectId
from pymongo import common
from pymongo.collection import Collection
from pymongo.errors import InvalidOperation

from docferry.errors import InvariantBroken
from docferry.ports.client import BulkRequest


@cache
def _signature(method: str) -> inspect.Signature:
    return inspect.signature(getattr(Collection, method))


@dataclass(frozen=True, slots=True)
class _Parameters:
    """Of a method, without `self`: what `Signature.bind` finds out anew for each call, which is a third of what a call costs."""

    positional: tuple[str, ...]
    required: frozenset[str]
    known: frozenset[str] | None
    """None if it takes any."""

    @classmethod
    @cache
    def of(cls, method: str) -> _Parameters:
        found = list(_signature(method).parameters.values())[1:]
        named = [one for one in found if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        takes_any = any(one.kind is one.VAR_KEYWORD for one in found)
        return cls(
            positional=tuple(one.name for one in named if one.kind is not one.KEYWORD_ONLY),
            required=frozenset(one.name for one in named if one.default is one.empty),
            known=None if takes_any else frozenset(one.name for one in named),
        )


def arguments_by_name(method: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Raises TypeError as a call of pymongo's would."""
    parameters = _Parameters.of(method)
    found = dict(zip(parameters.positional, arguments, strict=False))
    named = {**options, **found}
    if (
        len(arguments) > len(parameters.positional)
        or len(named) < len(options) + len(found)
        or not parameters.required <= named.keys()
        or not (parameters.known is None or options.keys() <= parameters.known)
    ):
        _signature(method).bind(None, *arguments, **options)
        raise InvariantBroken(f"{method}: Python binds what is not found here")
    return named


class _Requests:
    """Takes what pymongo's InsertOne and the like add to a bulk, with the checks that are pymongo's own."""

    def __init__(self) -> None:
        self.all: list[BulkRequest] = []

    def add_insert(self, document: Any) -> None:
        common.validate_is_document_type("document", document)
        if "_id" not in document:
            document["_id"] = ObjectId()
        self.all.append(BulkRequest(method="insert_one", change=document, told=document))

    def add_update(self, selector: Any, update: Any, multi: bool, upsert: Any, **options: Any) -> None:
        common.validate_ok_for_update(update)
        told = {"q": selector, "u": update, "multi": multi, "upsert": bool(upsert)}
        method = "update_many" if multi else "update_one"
        self.all.append(BulkRequest(method, selector, update, bool(upsert), _given(options), told))

    def add_replace(self, selector: Any, replacement: Any, upsert: Any, **options: Any) -> None:
        common.validate_ok_for_replace(replacement)
        told = {"q": selector, "u": replacement, "multi": False, "upsert": bool(upsert)}
        self.all.append(BulkRequest("replace_one", selector, replacement, bool(upsert), _given(options), told))

    def add_delete(self, selector: Any, limit: int, **options: Any) -> None:
        method = "delete_one" if limit else "delete_many"
        self.all.append(BulkRequest(method, selector, options=_given(options), told={"q": selector, "limit": limit}))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def read_requests(requests: Any) -> list[BulkRequest]:
    """Raises TypeError, ValueError and InvalidOperation as pymongo does."""
    common.validate_list("requests", requests)
    found = _Requests()
    for one in requests:
        try:
            one._add_to_bulk(found)
        except AttributeError:
            raise TypeError(f"{one!r} is not a valid request") from None
    if not found.all:
        raise InvalidOperation("No operations to execute")
    return found.all
