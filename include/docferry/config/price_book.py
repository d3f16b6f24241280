"""Price books and MongoDB's bill, read from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from docferry.core.cost.prices import PriceBook, price_book_of
from docferry.core.cost.roi import MongoBill
from docferry.errors import ConfigError, Problem

SHIPPED = Path(__file__).with_name("price_books") / "us-east-1.yaml"


def load_price_book(path: Path | None = None) -> PriceBook:
    """A price book; without a path the one that docferry ships. Raises ConfigError."""
    path = path or SHIPPED
    return price_book_of(_tree(path), str(path))


def load_bill(path: Path | None) -> MongoBill | None:
    """MongoDB's bill of a month: `part: USD`, parts within parts are added up under their names. Raises ConfigError."""
    if path is None:
        return None
    parts: dict[str, float] = {}
    problems: list[Problem] = []
    _add("", _tree(path), parts, problems)
    if problems or not parts:
        raise ConfigError(str(path), problems or [Problem(where="file", what="holds no amount")])
    return MongoBill(parts=parts)


def _add(name: str, value: Any, parts: dict[str, float], problems: list[Problem]) -> None:
    if isinstance(value, dict):
        for inner, one in value.items():
            _add(f"{name}: {inner}" if name else str(inner), one, parts, problems)
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        parts[name] = float(value)
    else:
        problems.append(Problem(where=name, what="must be an amount in USD, from 0 up"))


def _tree(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(str(path), [Problem(where="file", what=f"cannot be read: {type(error).__name__}")]) from error
    if not isinstance(tree, dict):
        raise ConfigError(str(path), [Problem(where="file", what="is empty or no mapping")])
    return tree
