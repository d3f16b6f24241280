"""What the tests of this directory share. (tests/airflow is no package: it would hide Airflow itself.)"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from docferry.sandbox.airflow import repository

ROOT = repository()
SETTINGS = {
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
}


def write_migration(directory: Path, name: str, **changes: Any) -> Path:
    """The shop's file under another name, with a database, a table and a ledger of its own."""
    tree = yaml.safe_load((ROOT / "include" / "migrations" / "shop.yaml").read_text())
    table = f"{name.title()}Table"
    tree |= {"migration": name, "source": {"connection": "mongo_default", "database": name}}
    tree["tables"] = {table: tree["tables"]["Shop"]}
    for collection in tree["collections"].values():
        collection["table"] = table
    tree["ledger"] = {"table": f"{name.title()}Ledger"}
    for key, value in changes.items():
        tree[key] = {**tree.get(key, {}), **value} if isinstance(value, Mapping) else value
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
    return path
