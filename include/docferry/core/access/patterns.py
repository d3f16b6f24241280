"""The migration file's access patterns, as questions that are asked by name. Pure.

    pattern = compile_pattern(mapping, settings)            Raises: CallRefused, if it lines up with no key of the collection
    asked = pattern.bind({"email": "ann@example.com"})      Raises: CallRefused, naming the parameters there are

A pattern's placeholders are its parameters, whatever they are called: each stands for the field that the mapping's own
template has in the same segment. So `CITY#{city}` over `CITY#{profile.location.city}` asks for that field, and a bound pattern
is a query of documents as well as a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any, Final

from bson.objectid import ObjectId

from docferry.core.access.parameters import is_number, typed
from docferry.core.access.read_plan import nested
from docferry.core.bson_codec.sortable import bounds_around
from docferry.core.mapping.item_plan import ItemPlan, in_words
from docferry.core.mapping.items import ItemKey
from docferry.core.mapping.key_templates import Placeholder, Template, parse_template, without_shard
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.settings import AccessPattern
from docferry.errors import CallRefused, DocumentError

_LEAST: Final[Mapping[type, Any]] = {
    datetime: datetime(1, 1, 1),  # noqa: DTZ001 - naive UTC, as pymongo reads dates
    ObjectId: ObjectId("0" * 24),
}
_MOST: Final[Mapping[type, Any]] = {
    datetime: datetime(9999, 12, 31, 23, 59, 59, 999000),  # noqa: DTZ001
    ObjectId: ObjectId("f" * 24),
}
"""The ends of what sorts as text as it does as a value."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that a pattern takes, or has fixed (`name` empty, `text` its value), for one field."""

    path: str
    name: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternQuery:
    """A pattern with its values.

    `query` is what it asks of documents, in MongoDB's words. `key` is the root's, if the pattern pins it. Else one partition of
    `index` (empty: of the table) holds all that match, between `low` and `high`, both included; no partition: nothing
    does. `others` are the further partitions of a sharded key, in the order of their shards.
    """

    query: Mapping[str, Any] = field(repr=False)
    key: ItemKey | None = None
    index: str = ""
    partition: str | None = None
    others: tuple[str, ...] = ()
    low: str | None = None
    high: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """An access pattern, lined up with the templates of its collection. `plan` is the kind of item that it leads to."""

    name: str
    mapping: DocumentMapping = field(repr=False)
    plan: ItemPlan = field(repr=False)
    index: str
    pk: Template
    sk: Template
    when: tuple[tuple[tuple[str, ...], Any], ...] = ()
    parameters: tuple[Parameter, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What must be given."""
        return tuple(dict.fromkeys(one.name for one in self.parameters if one.name))

    @property
    def names_one(self) -> bool:
        """Whether all fields of its key are given: it leads to one document, or to none."""
        given = {one.path for one in self.parameters}
        return self.plan is self.mapping.root and self.pk.fields | self.sk.fields <= given

    def root_key(self, key: ItemKey) -> ItemKey:
        """The key of the root item, from that of an item which this pattern led to."""
        return key if self.plan is self.mapping.root else (key[0], self.mapping.root.sk.source)

    def bind(self, given: Mapping[str, Any], since: Any = None, until: Any = None) -> PatternQuery:
        """Raises CallRefused for a missing or unknown parameter, and for a bound that cannot be."""
        values = self._values(given)
        bounds = self._bounds(since, until)
        flat = {**values, **{".".join(path): in_words(wanted) for path, wanted in self.when}}
        query = self._in_document({**flat, **bounds})
        if self.names_one and not self.index:
            return PatternQuery(query=query, key=self._key(values))
        low, high = self._range(values, bounds)
        partition, *others = self.pk.partitions(nested(values)) or (None,)
        if partition is None and self.pk.kind != "S":
            ((path, value),) = ((path, values[path]) for path in self.pk.fields)
            raise CallRefused(
                what=f"{self.name}: {type(value).__name__} {value!r} for {path} is in no key of type {self.pk.kind}",
                suggestion="give a value of the type that the documents have",
            )
        shards = tuple(one for one in others if one is not None)
        return PatternQuery(query=query, index=self.index, partition=partition, others=shards, low=low, high=high)

    def _values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        missing = [name for name in self.names if given.get(name) is None]
        unknown = sorted(set(given) - set(self.names))
        if missing or unknown:
            what = f"misses {', '.join(missing)}" if missing else f"has no parameter {', '.join(unknown)}"
            raise CallRefused(
                what=f"the access pattern {self.name} {what}",
                suggestion=f"it takes {', '.join(self.names) or 'none'}",
            )
        numbers = {path for template in (self.pk, self.sk) if template.kind == "N" for path in template.fields}
        return {
            one.path: typed(self.plan, one.path, given[one.name] if one.name else one.text, number=one.path in numbers)
            for one in self.parameters
        }

    def _in_document(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        return dict(flat) if not self.plan.path else {".".join(self.plan.path): {"$elemMatch": dict(flat)}}

    def _key(self, values: Mapping[str, Any]) -> ItemKey | None:
        try:
            return self.mapping.root_key(nested(values))
        except DocumentError:
            return None

    # --- bounds ------------------------------------------------------------------------------------------------------

    def _bounds(self, since: Any, until: Any) -> dict[str, Any]:
        """The last field of the sort key -> its bounds, in MongoDB's words."""
        if since is None and until is None:
            return {}
        last = self._place().source
        asked = {name: typed(self.plan, last, value) for name, value in (("$gte", since), ("$lte", until))}
        asked = {name: value for name, value in asked.items() if value is not None}
        kinds = {type(value) for value in asked.values()}
        sorts = all(map(is_number, asked.values())) if self._place().of_numbers(self.sk.kind) else kinds <= set(_LEAST)
        if not sorts or (len(kinds) != 1 and not all(map(is_number, asked.values()))):
            raise CallRefused(
                what=f"{self.name} cannot be bounded by {', '.join(sorted(kind.__name__ for kind in kinds))}",
                suggestion="since and until are dates or ObjectIds, whose text sorts as they do, or numbers where the sort key "
                "ends in one that sorts ({field:number}, or a key of type N)",
            )
        return {last: asked}

    def _place(self) -> Placeholder:
        """The last field of the sort key, that bounds are about. Raises CallRefused."""
        last = self.sk.parts[-1]
        given = {one.path for one in self.parameters}
        bounded = isinstance(last, Placeholder) and not last.integer and last.source not in given
        if not isinstance(last, Placeholder) or not bounded or not self.sk.fields - {last.source} <= given:
            raise CallRefused(
                what=f"{self.name} has no range to bound: its sort key is {self.sk.source}",
                suggestion="leave out since and until, or use a pattern whose sort key ends in a date",
            )
        return last

    def _range(self, values: Mapping[str, Any], bounds: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Both ends are of the bounds' own type, whose keys are all of one form: no other value sorts between them."""
        if not bounds:
            whole = self.sk.render(nested(values)) if self.sk.fields and self.sk.fields <= set(values) else None
            return whole, whole
        ((last, asked),) = bounds.items()
        place = self._place()
        if place.of_numbers(self.sk.kind):
            ends = bounds_around(asked.get("$gte", -inf))[0], bounds_around(asked.get("$lte", inf))[1]
        else:
            kind = type(next(iter(asked.values())))
            ends = asked.get("$gte", _LEAST[kind]), asked.get("$lte", _MOST[kind])
        low, high = (self.sk.render(nested({**values, last: end})) for end in ends)
        return (high, low) if place.descends else (low, high)


# --- lining up -------------------------------------------------------------------------------------------------------


def compile_pattern(mapping: DocumentMapping, settings: AccessPattern) -> Pattern:
    """Raises CallRefused if the pattern lines up with no key of the collection, or names a part of a document."""
    pk = parse_template(settings.key["PK"])
    sk = parse_template(settings.key["SK"]) if "SK" in settings.key else None
    for plan, index, own_pk, own_sk, when in _places(mapping, settings.index):
        first = _aligned(pk, without_shard(own_pk))
        second = _aligned(sk, own_sk) if sk is not None else ()
        if first is None or second is None:
            continue
        if plan is not mapping.root and mapping.root.sk.placeholders:
            continue  # the document's own key cannot be told from such an item's
        return Pattern(
            name=settings.name,
            mapping=mapping,
            plan=plan,
            index=index,
            pk=own_pk,
            sk=own_sk,
            when=when,
            parameters=(*first, *second),
        )
    raise CallRefused(
        what=f"the access pattern {settings.name} leads to no whole document of {mapping.collection}",
        suggestion="let its placeholders stand where the collection's templates have theirs",
    )


_Place = tuple[ItemPlan, str, Template, Template, tuple[tuple[tuple[str, ...], Any], ...]]


def _places(mapping: DocumentMapping, index: str | None) -> Iterator[_Place]:
    if index is None:
        yield mapping.root, "", mapping.root.pk, mapping.root.sk, ()
        return
    for plan in (mapping.root, *mapping.children.values()):
        for one in plan.indexes:
            if one.pk_name == f"{index}PK":
                yield plan, index, one.pk, one.sk, one.when


def _aligned(asked: Template, own: Template) -> tuple[Parameter, ...] | None:
    """The fields that a pattern's template gives, by the mapping's; None if the two do not line up."""
    mine, theirs = _segments(asked), _segments(own)
    if len(mine) != len(theirs):
        return None
    found: list[Parameter] = []
    for (lead, place, tail), (own_lead, own_place, own_tail) in zip(mine, theirs, strict=True):
        if own_place is None:
            if place is not None or lead != own_lead:
                return None
        elif place is not None:
            if (lead, tail) != (own_lead, own_tail):
                return None
            found.append(Parameter(own_place.source, place.source))
        elif lead.startswith(own_lead) and lead.endswith(own_tail):
            found.append(Parameter(own_place.source, "", lead[len(own_lead) : len(lead) - len(own_tail)]))
        else:
            return None
    return tuple(found)


def _segments(template: Template) -> Sequence[tuple[str, Placeholder | None, str]]:
    """(text before, placeholder, text behind) for each #-separated segment: there is a # between any two placeholders."""
    segments: list[tuple[str, Placeholder | None, str]] = [("", None, "")]
    for part in template.parts:
        if isinstance(part, Placeholder):
            segments[-1] = (segments[-1][0], part, "")
            continue
        first, *rest = part.split("#")
        lead, place, tail = segments[-1]
        segments[-1] = (lead, place, tail + first) if place else (lead + first, None, "")
        segments += [(text, None, "") for text in rest]
    return segments
