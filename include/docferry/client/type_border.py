"""Documents at the border to the application: outside in its own types, inside as `codec.BSON_OPTIONS` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import bson
from bson.codec_options import DEFAULT_CODEC_OPTIONS, CodecOptions

from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.mapping.items import Document
from docferry.core.mql.values import as_bson

D = TypeVar("D", Document, Document | None)


class TypeBorder:
    """`options` are pymongo's codec options, as the application would give them to pymongo.

    Without any, documents pass as they are. Then a date that Python's datetime has no room for comes as a DatetimeMS, where
    pymongo raises InvalidBSON.
    """

    def __init__(self, options: CodecOptions[Any] = DEFAULT_CODEC_OPTIONS) -> None:
        self.options = options
        """The application's."""
        self.open = options in (DEFAULT_CODEC_OPTIONS, BSON_OPTIONS)
        """Whether documents pass as they are."""
        self.options_inside = BSON_OPTIONS if self.open else options
        """By which pymongo reads what goes to the application as it is."""

    def __repr__(self) -> str:
        return f"TypeBorder({self.options!r})"

    def stored(self, document: Mapping[str, Any]) -> Document:
        """What MongoDB would store of a document. Raises what pymongo does for what is no BSON."""
        return as_bson(document, self.options)

    def to_internal(self, value: Any) -> Any:
        """A filter, an update, a pipeline or a document from the application. Raises as `stored`."""
        if self.open:
            return value
        if isinstance(value, list):
            return [self.to_internal(one) for one in value]
        # As a value: a document of its own would have its _id moved to the front, and MongoDB counts that as no change.
        return self.stored({"": value})[""] if isinstance(value, Mapping) else value

    def to_application(self, document: D) -> D:
        """A document, or None, to the application."""
        if self.open or document is None:
            return document
        return cast(D, bson.decode(bson.encode(document), self.options))

    def value_to_application(self, value: Any) -> Any:
        """One value, as an id."""
        return self.to_application({"": value})[""]
