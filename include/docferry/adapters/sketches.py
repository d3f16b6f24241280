"""Apache DataSketches behind `ports.analyze.Sketches` (the extra `analyze`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docferry.errors import ConfigError, Problem
from docferry.ports.analyze import Sketches

_LG_K = 12
"""HyperLogLog with 4,096 registers: 1.6 % standard error in 2 KB."""
_K = 200
"""KLL: 1.3 % rank error."""
_LG_FREQUENT = 8


def sketches() -> Sketches:
    """Raises: ConfigError if the extra is not installed."""
    try:
        import datasketches  # noqa: F401
    except ImportError as error:
        missing = Problem(where="datasketches", what="is not installed", suggestion='pip install "docferry[analyze]"')
        raise ConfigError("docferry analyze", [missing]) from error
    return Sketches(distinct=_Distinct, heavy=_Heavy, quantiles=_Quantiles)


class _Distinct:
    __slots__ = ("_sketch",)

    def __init__(self) -> None:
        import datasketches

        self._sketch: Any = datasketches.hll_sketch(_LG_K)

    def add(self, value: bytes) -> None:
        self._sketch.update(value.decode("latin-1"))

    def estimate(self) -> float:
        return float(self._sketch.get_estimate())


class _Heavy:
    __slots__ = ("_sketch",)

    def __init__(self) -> None:
        import datasketches

        self._sketch: Any = datasketches.frequent_strings_sketch(_LG_FREQUENT)

    def add(self, value: str) -> None:
        self._sketch.update(value)

    def top(self, most: int) -> Sequence[tuple[str, int]]:
        import datasketches

        found = self._sketch.get_frequent_items(datasketches.frequent_items_error_type.NO_FALSE_POSITIVES)
        return [(str(name), int(lower)) for name, _, lower, _ in found[:most]]


class _Quantiles:
    __slots__ = ("_sketch",)

    def __init__(self) -> None:
        import datasketches

        self._sketch: Any = datasketches.kll_doubles_sketch(_K)

    def add(self, value: float) -> None:
        self._sketch.update(float(value))

    def at(self, share: float) -> float:
        return float(self._sketch.get_quantile(share))

    @property
    def count(self) -> int:
        return int(self._sketch.n)

    @property
    def max(self) -> float:
        return float(self._sketch.get_max_value())
