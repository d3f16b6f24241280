"""Key templates, and how a BSON value is written inside a key.

A template is literal text with placeholders: `USER#{username}`, `ITEM#{index:03d}`, `ACTIVE#{lastLoginAt}`.
`#` separates segments; a value never contains a bare `#`, so two values never run into each other.

Rendering is injective. Plain are: ObjectId (its hex), dates between the years 1 and 9999 (ISO-8601 with milliseconds)
and ordinary strings (`~` and `#` escaped). Everything that could be mistaken for one of these has its type written
out: `~i1` is the integer 1, because `1` is the string. With a format (`{number:d}`, `{index:03d}`) the integer is plain
and the string is written out. With `:number`, `:-number` or `:-date` the text sorts as its values do (see `sortable`).

A template of a key that is a number or bytes (`kind`) is one placeholder and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, cast

import bson
from bson.binary import UUID_SUBTYPE, Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId

from docferry.core.bson_codec.plain import base64_text, iso_date
from docferry.core.bson_codec.references import fields_of
from docferry.core.bson_codec.sortable import Order, is_ambiguous, number_text, sortable_text
from docferry.core.limits import PARTITION_KEY_BYTES, SORT_KEY_BYTES
from docferry.core.settings import KeyType
from docferry.errors import KeyNotRepresentable, KeyTooLong

MISSING: Final = object()
"""What `lookup` gives for a field that is not there. Not None: null is a value."""

_PLACEHOLDER = re.compile(r"\{([^{}:]*)(?::(?:(0[1-9][0-9]?)?(d)|(-?number|-?date)|shard\(([1-9][0-9]{0,2})\)))?\}")
WIDTH_MAX: Final = 19
"""Digits of the longest integer. With 24, a padded integer could be read as an ObjectId."""

_LOOKALIKE = re.compile(r"[0-9a-f]{24}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_INTEGER = re.compile(r"-?\d+", re.ASCII)
_SPECIAL = re.compile(r"[~#]")


def lookup(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a dotted path, through subdocuments (and DBRefs) only; MISSING if there is none."""
    value: Any = document
    for name in path:
        fields = value if isinstance(value, dict) else fields_of(value)
        if fields is None:
            return MISSING
        value = fields.get(name, MISSING)
        if value is MISSING:
            return MISSING
    return value


def _escape(text: str) -> str:
    return text.replace("~", "~~").replace("#", "~h") if _SPECIAL.search(text) else text


def render_value(value: Any, integers_plain: bool = False) -> str:
    """Write one BSON value inside a key: injective over all BSON values (two that MongoDB holds apart stay apart).

    Shape:  ObjectId("507f...") -> 507f...;  "a#b" -> a~hb;  "1" -> 1;  1 -> ~i1;  "" -> ~s;  None -> ~n
    Holds:  pure; equal text means equal value and type, int32 and int64 excepted (MongoDB's own keys do not
            tell them apart either).
    """
    kind = type(value)
    if kind is str:
        if value and len(value) != 24 and not integers_plain and "#" not in value and "~" not in value:
            return str(value)  # the usual case: too long or too short to look like an ObjectId or a date
        if not value or _LOOKALIKE.fullmatch(value) or (integers_plain and _INTEGER.fullmatch(value)):
            return "~s" + _escape(value)
        return _escape(value)
    if kind is ObjectId:
        return str(value.binary.hex())
    if kind is datetime:
        return iso_date(value)
    if kind is int or kind is Int64:
        return str(int(value)) if integers_plain else f"~i{int(value)}"
    return _render_rare(value)


def _render_rare(value: Any) -> str:
    if value is None:
        return "~n"
    if isinstance(value, bool):
        return "~b1" if value else "~b0"
    if isinstance(value, float):
        return f"~d{value!r}"
    if isinstance(value, Decimal128):
        return f"~m{value}"
    if isinstance(value, DatetimeMS):
        return f"~t{int(value)}"
    if isinstance(value, Binary) and value.subtype == UUID_SUBTYPE and len(value) == 16:
        return f"~u{value.as_uuid()}"
    return _as_bson(value)


def _as_bson(value: Any) -> str:
    return "~x" + base64.urlsafe_b64encode(bson.encode({"": value})).decode().rstrip("=")


def shard_of(value: Any, shards: int) -> int:
    """Which of so many partitions a value belongs to."""
    digest = hashlib.blake2b(render_value(value).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards


def _marked(value: Any) -> str:
    """What is no number where numbers are: with `~` in front always, so behind all of them."""
    if type(value) is str:
        return "~s" + _escape(value)
    text = render_value(value)
    return text if text[0] == "~" else _as_bson(value)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`{path}`, `{path:03d}` or `{path:number}`. `index` is the position in the array of a child, counted from 0."""

    path: tuple[str, ...]
    source: str
    integer: bool = False
    width: int = 0
    order: Order = ""
    shards: int = 0

    @property
    def descends(self) -> bool:
        """Whether what is greater sorts first."""
        return self.order[:1] == "-"

    def of_numbers(self, kind: KeyType) -> bool:
        """Whether it sorts by numbers, in a key of that type."""
        return self.order.endswith("number") or (kind == "N" and not self.order)

    def render(self, value: Any) -> str:
        if self.order:
            return sortable_text(value, self.order) or _marked(value)
        if self.shards:
            return str(shard_of(value, self.shards))
        if self.integer and type(value) in (int, Int64):
            return f"{int(value):0{self.width}d}" if self.width else str(int(value))
        return render_value(value, integers_plain=self.integer)


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled key template. `parts` alternates text and placeholders. `kind` is the type of the key attribute."""

    source: str
    parts: tuple[str | Placeholder, ...]
    kind: KeyType = "S"
    apart: Literal["", "double", "decimal"] = ""
    """Of a number that must tell documents apart: which of the two it is. The other's, if written alike, is refused."""
    lead: str = field(init=False, compare=False, repr=False)
    only: str | None = field(init=False, compare=False, repr=False)
    """The usual template is a text, `lead`, and then one field of the document as it is, `only`."""

    def __post_init__(self) -> None:
        *lead, last = self.parts
        usual = isinstance(last, Placeholder) and not last.integer and len(last.path) == 1 and last.source != "index"
        usual = usual and self.kind == "S" and isinstance(last, Placeholder) and not (last.order or last.shards)
        usual = usual and all(isinstance(part, str) for part in lead)
        object.__setattr__(self, "lead", "".join(map(str, lead)) if usual else "")
        object.__setattr__(self, "only", last.source if usual and isinstance(last, Placeholder) else None)

    def _usual(self, document: Mapping[str, Any]) -> str | None:
        """The key text for the usual template with the usual value; None says nothing."""
        if self.only is None:
            return self.source if len(self.parts) == 1 and self.parts[0] == self.source else None
        value: Any = document.get(self.only)
        kind = type(value)
        if kind is ObjectId:
            return f"{self.lead}{value.binary.hex()}"
        if kind is str and value and len(value) != 24 and "#" not in value and "~" not in value:
            return f"{self.lead}{value}"
        return None

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        return tuple(part for part in self.parts if isinstance(part, Placeholder))

    @property
    def fields(self) -> frozenset[str]:
        """The dotted document paths that this key depends on."""
        return frozenset(part.source for part in self.placeholders)

    @property
    def shards(self) -> int:
        """Over how many partitions a sharded key is spread; 0 if it is not."""
        return max((part.shards for part in self.placeholders), default=0)

    @property
    def pinned(self) -> frozenset[str]:
        """The fields that tell the key, but for its shard."""
        return frozenset(part.source for part in self.placeholders if not part.shards)

    def partitions(self, document: Mapping[str, Any]) -> tuple[str, ...]:
        """All keys that a document with these fields may have: several, if only its shard is not known; none, if it has none."""
        found = self.render(document)
        if found is not None or not self.shards:
            return (found,) if found is not None else ()
        bare = Template(self.source, self.parts[:-1]).render(document)
        return tuple(f"{bare}{shard}" for shard in range(self.shards)) if bare is not None else ()

    def render(self, document: Mapping[str, Any], index: int | None = None) -> str | None:
        """The key text, or None if a field is missing, null or empty: such an item is not in that index."""
        if usual := self._usual(document):
            return usual
        out: list[str] = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
                continue
            value = self._value(part, document, index)
            if value is MISSING or (part.source != "_id" and (value is None or value == "")):
                return None
            if self.kind != "S":
                return typed_text(self.kind, value, part.order)
            out.append(part.render(value))
        return "".join(out)

    @staticmethod
    def _value(part: Placeholder, document: Mapping[str, Any], index: int | None) -> Any:
        if index is not None and part.source == "index":
            return index
        return document.get(part.source, MISSING) if len(part.path) == 1 else lookup(document, part.path)

    def render_key(self, document: Mapping[str, Any], index: int | None = None, prefix: str = "") -> str:
        """The same for a table key, where every field must be there.

        Raises: KeyNotRepresentable, with the field's path: missing, null, empty, an array or a subdocument.
        """
        if usual := self._usual(document):
            return usual
        out: list[str] = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part)
                continue
            value = self._value(part, document, index)
            if not value or value is MISSING or type(value) in (list, dict):
                self._refuse(part, value, prefix)
            if self.kind != "S":
                return self._typed(part, value, prefix)
            out.append(part.render(value))
        return "".join(out)

    def _typed(self, part: Placeholder, value: Any, prefix: str) -> str:
        text = typed_text(self.kind, value, part.order)
        if text is None:
            path, wanted = prefix + part.source, _WANTED[self.kind, part.order.endswith("date")]
            what = f"the key {self.source} needs {wanted} in {path}, which is of type {type(value).__name__} or out of range"
            raise KeyNotRepresentable(what, path=path)
        if self.apart and is_ambiguous(value, decimals=self.apart == "decimal"):
            what = f"the key {self.source} would be the same for {prefix}{part.source} as a double and as a Decimal128"
            raise KeyNotRepresentable(f"{what}; this one is no {self.apart}", path=prefix + part.source)
        return text

    def _refuse(self, part: Placeholder, value: Any, prefix: str) -> None:
        path = prefix + part.source
        if value is MISSING:
            raise KeyNotRepresentable(f"the key {self.source} needs {path}, which is missing", path=path)
        if part.source == "_id":
            return  # whatever MongoDB takes as an id has a key: null, '' and documents, too
        if value is None or value == "":
            what = "null" if value is None else "empty"
            raise KeyNotRepresentable(f"the key {self.source} needs {path}, which is {what}", path=path)
        if isinstance(value, list | dict):
            raise KeyNotRepresentable(f"the key {self.source} needs {path}, which is no single value", path=path)


_WANTED: Final = {
    ("N", False): "a number that DynamoDB holds",
    ("N", True): "a date",
    ("B", False): "binary data of subtype 0",
}
NO_SORT_KEY: Final = Template("", ("",))
"""Of a table or an index without one: its text is always empty."""


def typed_text(kind: KeyType, value: Any, order: Order) -> str | None:
    """A value as a key that is a number (as DynamoDB writes it) or bytes (in base64); None if it cannot be one."""
    if kind == "N":
        return number_text(value, order)
    return base64_text(value) if type(value) is bytes and value else None


def table_key_fields(key: Mapping[str, str]) -> frozenset[str]:
    """The fields, as dotted paths, that the templates of a table key are made of."""
    return frozenset().union(*(parse_template(one).fields for one in key.values()))


def parse_key(source: str | None, kind: KeyType = "S") -> Template:
    """The template of a key attribute of that type; None is the sort key that a table has not. Raises ValueError."""
    if source is None:
        return NO_SORT_KEY
    template = parse_template(source)
    orders = [one.order for one in template.placeholders]
    if kind == "S":
        if "date" in orders:
            raise ValueError(
                f"'{source}': a date in a text sorts as it is: leave out :date, or write :-date for the reverse"
            )
        return template
    if len(template.parts) != 1 or not orders or template.placeholders[0].integer or template.shards:
        what = "a number" if kind == "N" else "bytes"
        forms = "{field}, {field:-number}, {field:date} or {field:-date}" if kind == "N" else "{field}"
        raise ValueError(f"'{source}': this key is {what}, so its template is one field and nothing else: {forms}")
    if kind == "B" and orders[0]:
        raise ValueError(f"'{source}': this key is bytes, which have no {orders[0]}")
    return replace(template, kind=kind)


def parse_template(source: str) -> Template:
    """Compile a template of a text. Raises ValueError that says what is wrong with it."""
    parts: list[str | Placeholder] = []
    position = 0
    for match in _PLACEHOLDER.finditer(source):
        _add_text(parts, source[position : match.start()], source)
        name, width, integer, order, shards = match.groups()
        if not name or any(not step for step in name.split(".")):
            raise ValueError(f"'{match.group()}' names no field")
        if parts and isinstance(parts[-1], Placeholder):
            raise ValueError(f"two placeholders touch in '{source}': put a # between them")
        if parts and len(parts) > 1 and "#" not in str(parts[-1]):
            raise ValueError(f"only a # keeps two values apart in '{source}': put one between them")
        if width and int(width) > WIDTH_MAX:
            raise ValueError(f"'{match.group()}' pads to more than the {WIDTH_MAX} digits that an integer has")
        parts.append(
            Placeholder(
                tuple(name.split(".")),
                name,
                integer is not None,
                int(width or 0),
                cast(Order, order or ""),
                int(shards or 0),
            )
        )
        position = match.end()
    _add_text(parts, source[position:], source)
    if not parts:
        raise ValueError("a key template may not be empty")
    if any(one.shards for one in parts[:-1] if isinstance(one, Placeholder)):
        raise ValueError(f"'{source}': the shard ends a key, as in STATUS#{{status}}#{{_id:shard(10)}}")
    return Template(source, tuple(parts))


def _add_text(parts: list[str | Placeholder], text: str, source: str) -> None:
    if "{" in text or "}" in text:
        raise ValueError(
            f"'{source}' has an unmatched brace, or a format other than :d, :03d, :number, :-number, :-date and :shard(10)"
        )
    if "~" in text:
        raise ValueError(f"'{source}' may not contain ~, which marks written-out types")
    if text and parts and isinstance(before := parts[-1], Placeholder) and before.order and text[0] != "#":
        raise ValueError(f"'{source}': only a # may follow {{{before.source}:{before.order}}}, or it would not sort")
    if text:
        parts.append(text)


def without_shard(template: Template) -> Template:
    """A sharded key as access patterns name it: without its last segment."""
    if not template.shards:
        return template
    return parse_template(template.source[: template.source.rindex("{")].removesuffix("#"))


def check_length(text: str, sort_key: bool, path: str, kind: KeyType = "S") -> str:
    """The text itself. Raises KeyTooLong with `path` past what DynamoDB takes."""
    limit = SORT_KEY_BYTES if sort_key else PARTITION_KEY_BYTES
    limit = limit if kind != "B" else (limit + 2) // 3 * 4  # base64
    if len(text) * 4 > limit and len(text.encode()) > limit:
        raise KeyTooLong(f"{path} would have {len(text.encode())} bytes, more than the {limit} allowed", path=path)
    return text
