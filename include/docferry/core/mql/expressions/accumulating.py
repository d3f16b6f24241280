"""$sum, $avg, $min, $max as expressions of what is in hand. In $group they are accumulators (`core.mql.pipelines.grouping`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from bson.decimal128 import Decimal128

from docferry.core.bson_codec.order import order_key
from docferry.core.mql.arithmetic import is_number
from docferry.core.mql.expressions.compiling import OPERATORS, Evaluate, Scope, compile_expression, is_nullish, operands
from docferry.core.mql.expressions.numbers import CONTEXT, as_double, total_of


def total(values: Sequence[Any]) -> Any:
    """Of the numbers among them; 0 without any."""
    return total_of([one for one in values if is_number(one)])


def mean(values: Sequence[Any]) -> Any:
    numbers = [one for one in values if is_number(one)]
    if not numbers:
        return None
    found = total_of(numbers)
    if isinstance(found, Decimal128):
        return Decimal128(CONTEXT.divide(found.to_decimal(), Decimal(len(numbers))))
    return as_double(found) / len(numbers)


def least(values: Sequence[Any]) -> Any:
    return min((one for one in values if not is_nullish(one)), key=order_key, default=None)


def greatest(values: Sequence[Any]) -> Any:
    return max((one for one in values if not is_nullish(one)), key=order_key, default=None)


OF_MANY: dict[str, Callable[[Sequence[Any]], Any]] = {"$sum": total, "$avg": mean, "$min": least, "$max": greatest}


def _of_many(name: str, operand: Any) -> Evaluate:
    """Of one operand that is an array its elements are meant; of several operands themselves."""
    of, parts = OF_MANY[name], [compile_expression(one) for one in operands(name, operand, 0, None)]

    def evaluate(scope: Scope) -> Any:
        values = [part(scope) for part in parts]
        return of(values[0] if len(values) == 1 and isinstance(values[0], list) else values)

    return evaluate


OPERATORS.update(dict.fromkeys(OF_MANY, _of_many))
