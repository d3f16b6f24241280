"""One application over two databases, each with a collection `orders`."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from docferry.config import parse_migration
from docferry.flows.provision.run import Patience, provision
from docferry.wiring import desired

from support.backfill.rig import Quiet, Rig


def tree(mark: str, fence: str) -> dict[str, Any]:
    main, other = f"live{mark}", f"past{mark}"
    table = f"Two{mark}"
    return {
        "migration": "two",
        "source": {"database": main},
        "tables": {table: {"indexes": ["GSI1"]}},
        "collections": {
            "orders": {
                "item": {
                    "entity": "ORDER",
                    "key": {"PK": "ORDER#{_id}", "SK": "DATA"},
                    "index": {"GSI1": {"PK": "BUYER#{buyer}", "SK": "{at}"}},
                }
            },
            "past_orders": {
                "database": other,
                "collection": "orders",
                "item": {"entity": "PAST", "key": {"PK": "PAST#{_id}", "SK": "DATA"}},
                "children": {"lines": {"entity": "LINE", "key": {"SK": "LINE#{index:04d}"}}},
            },
            "audit.log": {"database": other},
        },
        "access_patterns": {"orders_of_buyer": {"collection": "orders", "index": "GSI1", "PK": "BUYER#{buyer}"}},
        "validate": {"settle_s": 0.5},
        "cutover": {"fence": fence, "app_users": ["app"]},
        "backfill": {"dead_letter_share": 0.6, "budget_wcu": 0},
        "ledger": {"table": f"Ledger{mark}"},
    }


def order(number: int, **more: Any) -> dict[str, Any]:
    return {"_id": number, "buyer": f"b{number % 3}", "at": f"2026-01-{number + 1:02d}", "total": number} | more


def past(number: int, **more: Any) -> dict[str, Any]:
    """Of the same `_id` as an order: only its database tells them apart."""
    return {"_id": number, "lines": [{"sku": f"s{line}"} for line in range(number % 3)], "year": 2020} | more


def entry(number: int, **more: Any) -> dict[str, Any]:
    return {"_id": f"e{number}", "text": f"entry {number}"} | more


def databases(rig: Rig) -> tuple[Any, Any]:
    """The file's own, and the other one."""
    main, other = (rig.mongo[name] for name in rig.migration.namespaces.databases)
    return main, other


def two_rig(env: Mapping[str, str], directory: Path, fence: str = "auto", documents: int = 12) -> Rig:
    """Provisioned, with documents in both databases, and nothing loaded."""
    mark = uuid.uuid4().hex[:8]
    file = directory / f"two{mark}.yaml"
    file.write_text(yaml.safe_dump(tree(mark, fence), sort_keys=False))
    rig = Rig(dict(env), file, parse_migration(file.read_bytes(), str(file)))
    patience = Patience(poll_s=0.05, settle_s=20, agree_s=1, trouble_s=1)
    provision(desired(rig.migration), rig.estate(), progress=Quiet(), stop=threading.Event(), patience=patience)
    main, other = databases(rig)
    main["orders"].insert_many(order(number) for number in range(documents))
    other["orders"].insert_many(past(number) for number in range(documents))
    other["audit.log"].insert_many(entry(number) for number in range(documents))
    for name in rig.migration.mappings:
        rig.job().source.enable_images(name)
    return rig


def drop(rig: Rig) -> None:
    for one in databases(rig):
        rig.mongo.drop_database(one.name)
    rig.close()
