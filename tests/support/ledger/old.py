"""A ledger that the version before wrote.

Its shop was provisioned, loaded, replicated, validated and put into DUAL_WRITE, by its command line on a real MongoDB and the
AWS emulator. The items are as they were scanned; without one letter of half a megabyte, and with another name of the host.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from docferry.config import Migration
from docferry.ports.flows import Ledger

from support.shop_indexes import shop_without_guards

ITEMS = Path(__file__).with_name("shop_of_the_version_before.json")


def old_items() -> list[dict[str, Any]]:
    """As DynamoDB's low-level API gives and takes them."""
    found: list[dict[str, Any]] = _with_bytes(json.loads(ITEMS.read_text()))
    return found


def old_migration(*, changed: bool = False) -> Migration:
    """The file by which the shop was loaded; or one in which a collection's key has changed since."""
    return shop_without_guards(*([('"USER#{username}"', '"U#{username}"')] if changed else []))


def fill(ledger: Ledger) -> Ledger:
    """Write the records into any ledger; their revisions are that ledger's own."""
    for item in old_items():
        section = item["PK"]["S"].partition("#")[2]
        ledger.write(section, item["SK"]["S"], _plain(item["body"]), expect=None)
    return ledger


def _with_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return (
            base64.b64decode(value["b64"]) if set(value) == {"b64"} else {k: _with_bytes(v) for k, v in value.items()}
        )
    return [_with_bytes(one) for one in value] if isinstance(value, list) else value


def _plain(value: dict[str, Any]) -> Any:
    ((tag, content),) = value.items()
    if tag == "M":
        return {name: _plain(inner) for name, inner in content.items()}
    if tag == "L":
        return [_plain(inner) for inner in content]
    if tag == "NULL":
        return None
    return int(content) if tag == "N" else content
