"""The headers of docferry's own pages in Airflow, on whatever they answer: a refusal is a page, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI


def add_headers(app: FastAPI, headers: Mapping[str, str]) -> None:
    """To every answer of this application."""

    @app.middleware("http")
    async def with_headers(request: Any, answer: Callable[[Any], Awaitable[Any]]) -> Any:
        response = await answer(request)
        response.headers.update(headers)
        return response
