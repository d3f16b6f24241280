"""The ranges of ids in which a collection is loaded, for the control room: how far each is, and who is at it."""

from __future__ import annotations

from typing import Any

from docferry.config import Migration
from docferry.errors import PreflightFailed, Problem
from docferry.flows.ledger.load_headers import LoadHeaders, list_chunks
from docferry.ports.flows import Ledger

MOST_RANGES = 2_000
"""That are shown, in the order of their ids; the counts are of all."""


def ranges_of(migration: Migration, ledger: Ledger, collection: str) -> dict[str, Any]:
    """Plain values for JSON, by two reads. `run` is what claimed the load: in Airflow, the DAG and the run's id. Labels hold ids
    of documents, as the names of a load's tasks do.

    Raises: PreflightFailed for a collection that the file does not name; StoreError.
    """
    if collection not in migration.mappings:
        problem = Problem(where="collection", what=f"{collection[:100]} is none of the file's")
        raise PreflightFailed("looking at chunk ranges", [problem])
    header, chunks = LoadHeaders(ledger).read(collection), list_chunks(ledger, collection)
    return {
        "collection": collection,
        "run": header.run if header else "",
        "chunks": len(chunks),
        "done": sum(one.done for one in chunks),
        "ranges": [
            {
                "label": one.label or one.key,
                "state": one.state,
                "read": one.counts.read,
                "expected": one.expected,
                "letters": one.counts.dead,
                "by": one.holder.owner,
            }
            for one in chunks[:MOST_RANGES]
        ],
    }
