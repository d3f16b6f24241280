"""The golden vectors of docs/protocol.md: what a client in another language must give for the same input.

    python -m docferry.testing.vectors docs/vectors

writes them, the same each time. BSON is MongoDB Extended JSON (canonical), items are DynamoDB JSON. Where a clock or chance has
a say there is a word: NOW (milliseconds since 1970), NOW_US (microseconds), NOW_S (seconds), also with `+number`; NONCE; TOKEN.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from docferry.testing.vectors_documents import documents, keys, types
from docferry.testing.vectors_guards import guards
from docferry.testing.vectors_journal import journal
from docferry.testing.vectors_ledger import ledger, modes, versions
from docferry.testing.vectors_order import order
from docferry.testing.vectors_writes import writes

FILES: Final[Mapping[str, Callable[[], Any]]] = {
    "versions": versions,
    "types": types,
    "keys": keys,
    "documents": documents,
    "modes": modes,
    "ledger": ledger,
    "writes": writes,
    "journal": journal,
    "guards": guards,
    "order": order,
}


def text_of(name: str) -> str:
    """One file's content."""
    return json.dumps(FILES[name](), indent=1, ensure_ascii=True) + "\n"


def write_all(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (directory / f"{name}.json").write_text(text_of(name))


if __name__ == "__main__":
    write_all(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/vectors"))
