"""How much a pipeline may hold at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import bson

from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.errors import ExpressionRefused

MOST_BYTES: Final = 100 * 1024 * 1024
"""As MongoDB allows a stage without its disk."""
_EXCEEDED: Final = 292
"""MongoDB's QueryExceededMemoryLimitNoDiskUseAllowed."""


class Memory:
    """The bytes of BSON that one aggregation holds. Raises: ExpressionRefused, past `most`."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most, self._held = most, 0

    def hold(self, value: Any) -> None:
        self._held += len(bson.encode({"": value}, codec_options=BSON_OPTIONS))
        if self._held > self._most:
            raise ExpressionRefused(
                _EXCEEDED, f"the aggregation holds more than {self._most:,} bytes of documents and values"
            )

    def held(self, values: Iterable[Any]) -> Iterator[Any]:
        """The same values, each counted before it is given."""
        for one in values:
            self.hold(one)
            yield one
