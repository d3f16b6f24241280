"""docferry: carries a live application from MongoDB to DynamoDB, and back if need be. Never imports Airflow.

An application begins here: `db = docferry.connect("shop.yaml")`, or `await docferry.connect_async("shop.yaml")`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing is most of what `import docferry` would cost
    from docferry.core.transform import Transform
    from docferry.wiring import connect, connect_async
    from docferry.wiring_metrics import embedded_metrics

    __version__: str

__all__ = ["Transform", "__version__", "connect", "connect_async", "embedded_metrics"]


def __getattr__(name: str) -> object:
    """Made when asked for: the core is imported by many who connect to nothing."""
    if name == "__version__":
        from importlib.metadata import version

        return version("docferry")
    if name == "Transform":
        from docferry.core.transform import Transform

        return Transform
    if name == "embedded_metrics":
        from docferry.wiring_metrics import embedded_metrics

        return embedded_metrics
    if name in __all__:
        from docferry import wiring

        return getattr(wiring, name)
    raise AttributeError(name)
