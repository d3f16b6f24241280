"""docferry: carries a live application from MongoDB to DynamoDB, and back if need be. Never imports Airflow.

An application begins here: `db = docferry.connect("shop.yaml")`, or `await docferry.connect_async("shop.yaml")`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "connect", "connect_async"]


def __getattr__(name: str) -> Any:
    """Made when asked for: the core is imported by many who connect to nothing."""
    if name == "__version__":
        from importlib.metadata import version

        return version("docferry")
    if name in __all__:
        from docferry import wiring

        return getattr(wiring, name)
    raise AttributeError(name)
