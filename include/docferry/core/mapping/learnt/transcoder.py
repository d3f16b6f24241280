"""From BSON to DynamoDB JSON without a Python object in between, for documents of a shape that has been learnt.

Nearly all documents of a collection look alike: the same names with values of the same types. For such a shape one regular
expression takes the values out of the BSON, and they are joined with the JSON that always stands around them. Neither is written
by hand, nor does this module know what a mapping does: it asks `DocumentMapping.encode`. A document of the shape gets marks,
is encoded, and where the marks come out is where the values go. What was learnt must then give the item that the mapping
gives for other marks and for the document itself; otherwise the shape is not taken.

So the mapping stays the only place that knows both shapes, and everything unusual is left to it: documents with children, rare
types, values that need a type hint where others do not, keys that need an escape, and whatever is not valid UTF-8.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Any, Final

import bson

from docferry.core.bson_codec.bson_bytes import ARRAY, DOCUMENT, value_end
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.limits import ITEM_BYTES, SORT_KEY_BYTES
from docferry.core.mapping.item_plan import Exists
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.core.mapping.learnt.derived_keys import (
    DerivedKey,
    KeyMaker,
    Value,
    constant_field,
    copied_fields,
    derived_keys,
)
from docferry.core.mapping.learnt.values import (
    BOOL,
    KEY_TEXT_BYTES,
    NULL,
    STRINGS,
    STRINGS_PATTERN,
    NotSimple,
    ValueKind,
    kind_of,
    python_of,
    strings,
)
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.versions import version_text
from docferry.errors import DocumentError

MOST_SHAPES: Final = 8
"""Tried one after the other, so there are few. Collections without a shape of their own are not for this."""
MOST_LESSONS: Final = 100
"""Documents make the shapes, so learning needs an end."""
MOST_SLOTS: Final = 200

_TO_ESCAPE: Final = bytes([*range(1, 32), *b'"\\'])
_VERSION_MARKS: Final = (int("abcdef" * 3 + "abcd", 16), int("fedcba" * 3 + "fedc", 16))

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Slot:
    """One value of a shape."""

    path: Path
    kind: ValueKind
    python: Callable[[Any], Any] | None = None
    """Of a fixed length: what pymongo makes of it."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """What else decides about a value: whether its path is in a key, or its very value decides about an index.

    `narrow` are the paths of numbers of which some need another type hint than others.
    """

    keys: frozenset[str]
    fixed: frozenset[str]
    narrow: frozenset[Path] = frozenset()


def _read_shape(data: bytes, rules: _Rules) -> Iterator[bytes | _Slot]:
    """A document as what is the same in all of its shape, and slots. Raises NotSimple."""
    yield b".{4}"
    yield from _read_fields(data, 4, (), rules, array=False)


def _read_fields(data: bytes, at: int, path: Path, rules: _Rules, array: bool) -> Iterator[bytes | _Slot]:
    seen: set[bytes] = set()
    while kind := data[at]:
        end = data.index(b"\x00", at + 1)
        name = data[at + 1 : end]
        if name in seen:
            raise NotSimple  # only the last of two fields of one name is read
        seen.add(name)
        yield re.escape(data[at : end + 1])
        stop = value_end(kind, data, end + 1)
        step: str | int = int(name) if array else name.decode()
        yield from _read_value(kind, data[end + 1 : stop], (*path, step), rules)
        at = stop
    yield b"\\x00"


def _read_value(kind: int, value: bytes, path: Path, rules: _Rules) -> Iterator[bytes | _Slot]:
    dotted = ".".join(map(str, path))
    if dotted in rules.fixed or kind in (BOOL, NULL):
        yield re.escape(value)
    elif kind == ARRAY and _all_strings(value):
        yield _Slot(path, STRINGS)
    elif kind in (DOCUMENT, ARRAY):
        yield b".{4}"
        yield from _read_fields(value, 4, path, rules, array=kind == ARRAY)
    else:
        found = kind_of(kind, value, dotted in rules.keys, path not in rules.narrow)
        yield _Slot(path, found, python_of(kind, value) if found.fixed else None)


def _all_strings(value: bytes) -> bool:
    return re.fullmatch(STRINGS_PATTERN, value, re.DOTALL) is not None


# --- shapes ----------------------------------------------------------------------------------------------------------


Form = tuple[int | str, ...]
"""A text in pieces: what always stands there, and the places of values."""


class _Shape:
    """A learnt shape. `pack` gives key and JSON of a document, None if it is of another shape.

    Values stand in this order: texts, the version, what has a fixed length, arrays of strings, keys that are computed.
    """

    def __init__(self, pieces: Sequence[bytes | _Slot], forms: Sequence[Form], keys: KeyMaker) -> None:
        self._keys = keys
        pattern = b"".join([piece.kind.pattern if isinstance(piece, _Slot) else piece for piece in pieces])
        self._match = re.compile(pattern, re.DOTALL).fullmatch
        places: dict[int, list[int]] = {_LENGTH: [], _IS_TEXT: [], _IS_FIXED: [], _IS_ARRAY: []}
        group = 0
        for slot in _slots(pieces):
            if _class(slot) == _IS_TEXT:
                places[_LENGTH].append(group)
                group += 1
            places[_class(slot)].append(group)
            group += 1
        self._lengths, self._texts, self._fixed, self._arrays = (_getter(places[one]) for one in sorted(places))
        fixed = [slot.kind for slot in _slots(pieces) if _class(slot) == _IS_FIXED]
        self._sizes = struct.Struct(f"<{len(places[_IS_TEXT])}i").unpack
        self._unpack = struct.Struct("<" + "".join([kind.fixed for kind in fixed])).unpack
        self._converts = [kind.convert for kind in fixed]
        self._has_arrays = bool(places[_IS_ARRAY])
        values = sum(map(len, places.values())) - len(places[_LENGTH]) + 1 + len(keys.keys)
        self._constants = [piece for form in forms for piece in form if isinstance(piece, str)]
        self._pk, self._sk, self._json = (_filler(form, values, self._constants) for form in forms)

    def pack(self, data: bytes, version: str) -> tuple[ItemKey, bytes] | None:
        match = self._match(data)
        if match is None:
            return None
        groups = match.groups()
        texts = self._texts(groups)
        if self._sizes(b"".join(self._lengths(groups))) != tuple(map(len, texts)):
            return None  # a text with a zero byte in it
        joined = b"".join(texts)
        try:
            values: list[Any] = joined.decode().split("\x00")
            fixed = self._unpack(b"".join(self._fixed(groups)))
            found = [convert(value) for convert, value in zip(self._converts, fixed, strict=True)]
            if self._has_arrays:
                found += map(strings, self._arrays(groups))
            if self._keys.keys and None not in found:
                found += self._keys.texts(values, fixed)
        except UnicodeDecodeError:
            return None
        if None in found:
            return None
        if len(joined.translate(None, _TO_ESCAPE)) != len(joined):
            values = [encode_basestring(value)[1:-1] for value in values]
        values[-1] = version  # behind the last text's zero byte
        values += found
        values += self._constants
        body = self._json(values).encode()
        return ((self._pk(values), self._sk(values)), body) if len(body) <= ITEM_BYTES else None


_LENGTH, _IS_TEXT, _IS_FIXED, _IS_ARRAY = range(4)


def _class(slot: _Slot) -> int:
    if slot.kind.fixed:
        return _IS_FIXED
    return _IS_ARRAY if slot.kind is STRINGS else _IS_TEXT


def _slots(pieces: Sequence[bytes | _Slot]) -> list[_Slot]:
    return [piece for piece in pieces if isinstance(piece, _Slot)]


def _few_slots(data: bytes, rules: _Rules) -> list[_Slot]:
    """Raises NotSimple where there are many: each takes two encodings of the document to learn."""
    slots: list[_Slot] = []
    for piece in _read_shape(data, rules):
        if isinstance(piece, _Slot):
            slots.append(piece)
        if len(slots) > MOST_SLOTS:
            raise NotSimple
    return slots


def _getter(places: Sequence[int]) -> Callable[[Sequence[bytes]], Sequence[bytes]]:
    """These of a match's groups, always as a sequence."""
    if len(places) > 1:
        return itemgetter(*places)
    return itemgetter(slice(places[0], places[0] + 1)) if places else lambda groups: ()


def _filler(form: Form, values: int, constants: Sequence[str]) -> Callable[[Sequence[str]], str]:
    """Makes a text of the values, behind which stand the constants."""
    places = [piece if isinstance(piece, int) else values + constants.index(piece) for piece in form]
    if not places:  # the sort key of a table without one
        return lambda found: ""
    if len(places) == 1:
        return itemgetter(places[0])
    pick = itemgetter(*places)
    return lambda found: "".join(pick(found))


class Transcoder:
    """Packs documents of one mapping. What it returns is what `encode_raw` and packing would give, or None."""

    def __init__(self, mapping: DocumentMapping) -> None:
        self._mapping = mapping
        plan = self._plan = mapping.root
        self._rules = _Rules(
            keys=frozenset(),
            fixed=frozenset(
                # Whether a field is there belongs to the shape; its value then decides nothing.
                ".".join(path)
                for index in plan.indexes
                for path, wanted in index.when
                if not isinstance(wanted, Exists)
            ),
        )
        self._usable = mapping.transform is None and plan.unmapped == "keep"
        self._key_names = ["PK", "SK", *(name for index in plan.indexes for name in (index.pk_name, index.sk_name))]
        self._shapes: list[_Shape] = []
        self._lessons = 0

    def pack(self, data: bytes, version: int) -> tuple[ItemKey, bytes] | None:
        """Key and DynamoDB JSON of the one item of a document; None if the mapping itself must be asked."""
        text = _version(version)
        for place, shape in enumerate(self._shapes):
            packed = shape.pack(data, text)
            if packed is not None:
                if place:  # what comes often moves to the front
                    self._shapes[place - 1 : place + 1] = [shape, self._shapes[place - 1]]
                return packed
        return None

    def learn(self, data: bytes) -> None:
        """Take the shape of a document that the mapping has encoded, if it is simple enough."""
        if not self._usable or self._lessons >= MOST_LESSONS or len(self._shapes) >= MOST_SHAPES:
            return
        self._lessons += 1
        try:
            document: dict[str, Any] = bson.decode(data, BSON_OPTIONS)
            derived = derived_keys(self._plan, document)
            rules = replace(self._rules, keys=copied_fields(self._plan, derived))
            rules = replace(rules, narrow=self._need_hints(data, rules))
            self._shapes.append(self._shape_of(data, rules, derived))
        except (NotSimple, DocumentError):
            return  # the mapping itself encodes such documents

    def _need_hints(self, data: bytes, rules: _Rules) -> frozenset[Path]:
        """The numbers that need different hints for different values."""
        slots = [slot for slot in _few_slots(data, rules) if slot.kind.wide]
        hints = [self._only_item(_marked(data, [slot], n)[0], 0).get("_t") for slot in slots for n in (0, 1)]
        pairs = zip(slots, hints[::2], hints[1::2], strict=True)
        return frozenset(slot.path for slot, even, odd in pairs if even != odd)

    def _shape_of(self, data: bytes, rules: _Rules, derived: Sequence[DerivedKey]) -> _Shape:
        pieces = list(_read_shape(data, rules))
        slots = sorted(_slots(pieces), key=_class)
        marked, marks = _marked(data, slots, 0)
        item = self._only_item(marked, _VERSION_MARKS[0])
        derived = self._made(item, derived, slots)
        item |= {one.attribute: {"S": one.mark} for one in derived}
        texts = [slot.kind.text(mark) for slot, mark in zip(slots, marks, strict=True)]
        texts.insert(sum(_class(slot) == _IS_TEXT for slot in slots), version_text(_VERSION_MARKS[0]))
        texts += [one.mark for one in derived]
        places = {text: place for place, text in enumerate(texts)}
        self._refuse_long_keys(item, places)
        whole = json.dumps(self._mapping.layout.stored(item), ensure_ascii=False, separators=(",", ":"))
        keys = KeyMaker(derived, _fields_of(derived, slots, marked))
        shape = _Shape(pieces, [_form(text, places) for text in (*key_of(item), whole)], keys)
        for base in (len(slots), len(slots) + 1):  # an even and an odd number for each
            other, _ = _marked(data, slots, base)
            self._prove(shape, bson.encode(other))
        self._prove(shape, data)
        return shape

    def _made(self, item: Item, derived: Sequence[DerivedKey], slots: Sequence[_Slot]) -> list[DerivedKey]:
        """The computed keys that an item of this shape has. Raises NotSimple if another value could give it one more."""
        open_paths = {slot.path for slot in slots}
        for index in self._plan.indexes:
            if index.pk_name not in item:
                names = (index.pk_name, index.sk_name)
                missing = [one.template for one in derived if one.attribute in names]
                if any(part.path in open_paths for template in missing for part in template.placeholders):
                    raise NotSimple
        return [one for one in derived if one.attribute in item]

    def _only_item(self, document: dict[str, Any], version: int) -> Item:
        items = self._mapping.encode(document, version)
        if len(items) != 1:
            raise NotSimple
        return items[0]

    def _prove(self, shape: _Shape, data: bytes) -> None:
        """Raises NotSimple unless the shape gives what the mapping gives."""
        version = _VERSION_MARKS[1]
        item = self._only_item(bson.decode(data, BSON_OPTIONS), version)
        packed = shape.pack(data, version_text(version))
        if packed is None or packed[0] != key_of(item) or json.loads(packed[1]) != self._mapping.layout.stored(item):
            raise NotSimple

    def _refuse_long_keys(self, item: Item, places: dict[str, int]) -> None:
        for name in self._key_names:
            if name in item:
                pieces = _form(item[name]["S"], places)
                most = [len(one.encode()) if isinstance(one, str) else KEY_TEXT_BYTES for one in pieces]
                if sum(most) > SORT_KEY_BYTES:
                    raise NotSimple


def _fields_of(
    derived: Sequence[DerivedKey], slots: Sequence[_Slot], document: dict[str, Any]
) -> dict[tuple[str, ...], Value]:
    """Where the values are of the fields of computed keys. Raises NotSimple for an array. `slots` in their order."""
    texts = [slot for slot in slots if _class(slot) == _IS_TEXT]
    fixed = [slot for slot in slots if _class(slot) == _IS_FIXED]
    places = {slot.path: _text_at(place) for place, slot in enumerate(texts)}
    places |= {slot.path: _fixed_at(place, slot) for place, slot in enumerate(fixed)}
    found: dict[tuple[str, ...], Value] = {}
    for path in dict.fromkeys(part.path for one in derived for part in one.template.placeholders):
        value = places.get(path) or constant_field(document, path)
        if any(slot.path == path and slot.kind is STRINGS for slot in slots):
            raise NotSimple
        if value is not None:
            found[path] = value
    return found


def _text_at(place: int) -> Value:
    return lambda texts, fixed: texts[place]


def _fixed_at(place: int, slot: _Slot) -> Value:
    python = slot.python
    assert python is not None
    return lambda texts, fixed: python(fixed[place])


@lru_cache(maxsize=64)
def _version(version: int) -> str:
    return version_text(version)


def _marked(data: bytes, slots: Sequence[_Slot], base: int) -> tuple[dict[str, Any], list[Any]]:
    """The document with a mark in each slot, and the marks. Raises NotSimple."""
    document: dict[str, Any] = bson.decode(data, BSON_OPTIONS)
    marks = [slot.kind.mark(base + number) for number, slot in enumerate(slots)]
    for slot, mark in zip(slots, marks, strict=True):
        inner: Any = document
        for step in slot.path[:-1]:
            inner = _part_of(inner, step)
        _part_of(inner, slot.path[-1])
        inner[slot.path[-1]] = mark
    return document, marks


def _part_of(whole: Any, step: str | int) -> Any:
    if type(whole) not in (dict, list):  # a DBRef looks like a document in BSON
        raise NotSimple
    return whole[step]


def _form(text: str, places: dict[str, int]) -> Form:
    """A text cut into the marks in it and what stands around them."""
    marks = re.compile("(" + "|".join(map(re.escape, sorted(places, key=len, reverse=True))) + ")")
    return tuple([places.get(piece, piece) for piece in marks.split(text) if piece])
