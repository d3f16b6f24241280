"""$group: documents by a key, and what is accumulated of each group. Pure.

Keys are equal as values are: 1 and 1.0 are one, and documents whatever the order of their fields, unless the scope
says otherwise. Groups come in the order of
their first documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from docferry.core.bson_codec.order import ABSENT, KeyOf, order_key
from docferry.core.mql.arithmetic import is_number
from docferry.core.mql.expressions import Evaluate, Scope, compile_expression, equality_of
from docferry.core.mql.expressions.accumulating import mean, total
from docferry.core.mql.pipelines.memory import Memory
from docferry.core.mql.values import Document
from docferry.errors import CallRefused


class Accumulator:
    """What one field of a group is made of."""

    def __init__(self, memory: Memory, key_of: KeyOf) -> None:
        self._memory, self._key_of = memory, key_of

    def add(self, value: Any) -> None:
        raise NotImplementedError

    def result(self) -> Any:
        raise NotImplementedError


class _Numbers(Accumulator):
    """$sum and $avg keep the numbers: they are added at the end, without losing digits on the way."""

    of: Callable[[list[Any]], Any]

    def __init__(self, memory: Memory, key_of: KeyOf) -> None:
        super().__init__(memory, key_of)
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        if is_number(value):
            self._memory.hold(value)
            self._values.append(value)

    def result(self) -> Any:
        return type(self).of(self._values)


class _Sum(_Numbers):
    of = staticmethod(total)


class _Average(_Numbers):
    of = staticmethod(mean)


class _Count(Accumulator):
    def __init__(self, memory: Memory, key_of: KeyOf) -> None:
        super().__init__(memory, key_of)
        self._count = 0

    def add(self, value: Any) -> None:
        self._count += 1

    def result(self) -> Any:
        return self._count


class _Chosen(Accumulator):
    """One of the values."""

    def __init__(self, memory: Memory, key_of: KeyOf) -> None:
        super().__init__(memory, key_of)
        self._value: Any = ABSENT

    def result(self) -> Any:
        return None if self._value is ABSENT else self._value


class _First(_Chosen):
    def __init__(self, memory: Memory, key_of: KeyOf) -> None:
        super().__init__(memory, key_of)
        self._seen = False

    def add(self, value: Any) -> None:
        if not self._seen:
            self._seen, self._value = True, value


class _Last(_Chosen):
    def add(self, value: Any) -> None:
        self._value = value


class _Least(_Chosen):
    def add(self, value: Any) -> None:
        if (
            value is not None
            and value is not ABSENT
            and (self._value is ABSENT or order_key(value) < order_key(self._value))
        ):
            self._value = value


class _Greatest(_Chosen):
    def add(self, value: Any) -> None:
        if (
            value is not None
            and value is not ABSENT
            and (self._value is ABSENT or order_key(value) > order_key(self._value))
        ):
            self._value = value


class _Push(Accumulator):
    def __init__(self, memory: Memory, key_of: KeyOf) -> None:
        super().__init__(memory, key_of)
        self._values: list[Any] = []

    def add(self, value: Any) -> None:
        if value is not ABSENT:
            self._memory.hold(value)
            self._values.append(value)

    def result(self) -> Any:
        return self._values


class _AddToSet(Accumulator):
    def __init__(self, memory: Memory, key_of: KeyOf) -> None:
        super().__init__(memory, key_of)
        self._values: dict[Any, Any] = {}

    def add(self, value: Any) -> None:
        if value is not ABSENT and (key := self._key_of(value)) not in self._values:
            self._memory.hold(value)
            self._values[key] = value

    def result(self) -> Any:
        return list(self._values.values())


ACCUMULATORS: Final[Mapping[str, type[Accumulator]]] = {
    "$sum": _Sum, "$avg": _Average, "$min": _Least, "$max": _Greatest, "$first": _First, "$last": _Last, "$push": _Push,
    "$addToSet": _AddToSet, "$count": _Count,
}  # fmt: skip

Stage = Callable[[Iterable[Document], Callable[[Document], Scope], Memory], Iterator[Document]]


def group(asked: Any) -> Stage:
    """Raises: CallRefused for an accumulator that is not known here."""
    if not isinstance(asked, dict) or "_id" not in asked:
        raise _refuse("$group without an _id")
    value_of = compile_expression(asked["_id"])
    fields = {name: _accumulated(name, one) for name, one in asked.items() if name != "_id"}

    def run(documents: Iterable[Document], scope_of: Callable[[Document], Scope], memory: Memory) -> Iterator[Document]:
        groups: dict[Any, tuple[Any, dict[str, Accumulator]]] = {}
        for document in documents:
            scope = scope_of(document)
            value = value_of(scope)
            value = None if value is ABSENT else value
            key_of = equality_of(scope)
            key = key_of(value)
            if key not in groups:
                memory.hold(value)
                groups[key] = value, {name: kind(memory, key_of) for name, (kind, _) in fields.items()}
            for name, (_, evaluate) in fields.items():
                groups[key][1][name].add(evaluate(scope))
        for value, accumulated in groups.values():
            yield {"_id": value, **{name: one.result() for name, one in accumulated.items()}}

    return run


def _accumulated(name: str, asked: Any) -> tuple[type[Accumulator], Evaluate]:
    if not name or "." in name or name[:1] == "$":
        raise _refuse(f"the field '{name}' in $group")
    if not isinstance(asked, dict) or len(asked) != 1:
        raise _refuse(f"the field '{name}' in $group without an accumulator")
    ((word, operand),) = asked.items()
    if word not in ACCUMULATORS:
        raise _refuse(f"the accumulator {word}")
    if word == "$count" and operand != {}:
        raise _refuse("$count with an operand")
    return ACCUMULATORS[word], compile_expression(operand)


def _refuse(what: str) -> CallRefused:
    return CallRefused(what, f"use {' '.join(ACCUMULATORS)}, or compute it in the application")
