"""Times as the ledger's records hold them: milliseconds since 1970 on the writer's clock, and cluster times as text, in order."""

from __future__ import annotations

import time

from docferry.core.cluster_time import decode_time as decode_time
from docferry.core.cluster_time import encode_time as encode_time


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
