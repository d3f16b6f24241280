"""MongoDB's aggregation expressions over values in hand: a stated set, meant exactly; others are refused by name. Pure."""

from docferry.core.mql.expressions import (  # noqa: F401 - each registers its operators
    accumulating,
    arrays,
    conversions,
    dates,
    logic,
    numbers,
    objects,
    texts,
)
from docferry.core.mql.expressions.compiling import (
    Evaluate,
    Scope,
    comparing,
    compile_expression,
    equality_of,
    is_constant,
    known,
    scope_of,
    value_at,
    variables_of,
)

__all__ = [
    "Evaluate",
    "Scope",
    "comparing",
    "compile_expression",
    "equality_of",
    "is_constant",
    "known",
    "scope_of",
    "value_at",
    "variables_of",
]
