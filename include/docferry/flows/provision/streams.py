"""Whether a table's stream is free for functions of the file."""

from __future__ import annotations

from docferry.config import Migration
from docferry.core.cutover.modes import Mode
from docferry.flows.ledger.modes import read_mode
from docferry.ports.flows import Ledger


def streams_are_free(migration: Migration, ledger: Ledger) -> bool:
    """A stream of a global table bears one reader a shard, and until FINAL that is docferry. Another table's bears two.

    Raises: StoreError.
    """
    if not migration.estate.functions or not migration.target.replicas:
        return True
    return read_mode(ledger).mode is Mode.FINAL
