"""Spans for OpenTelemetry, where this process has set it up; elsewhere nothing, at the price of a comparison.

Attributes are names that the migration file or docferry chose: no value of a document, no error's message, no address.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

SCOPE = "docferry"


class Span(Protocol):
    """The block of one span."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class _Nothing:
    """Holds nothing, so that one serves all."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class _Traced:
    __slots__ = ("_manager", "_span")

    def __init__(self, tracer: Any, name: str, system: str, subject: str) -> None:
        from opentelemetry.trace import SpanKind

        attributes = {"db.system.name": system, "db.operation.name": name} if system else {}
        if subject:
            attributes["docferry.subject"] = subject
        self._manager = tracer.start_as_current_span(
            f"{system or SCOPE} {name}",
            kind=SpanKind.CLIENT if system else SpanKind.INTERNAL,
            attributes=attributes,
            record_exception=False,  # its message may quote a document
            set_status_on_exception=False,
        )

    def __enter__(self) -> None:
        self._span = self._manager.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", kind.__name__)
            self._span.set_status(StatusCode.ERROR)
        self._manager.__exit__(kind, error, at)


_NOTHING = _Nothing()
tracer: Any = None
"""Where spans go; None: nowhere. What may not even spend a call on that looks at it first."""


def span(name: str, system: str = "", subject: str = "") -> Span:
    """The span of a flow, or of a part of one; with `system` (`mongodb`, `dynamodb`) that of a call. `subject`: of what."""
    return _NOTHING if tracer is None else _Traced(tracer, name, system, subject)


def use_tracer(found: Any) -> None:
    """Spans go to this tracer from now on; None: nowhere."""
    global tracer
    tracer = found


def use_tracing() -> None:
    """Spans go to the provider that this process has set up by now, if any: the application, Airflow, or the command line."""
    try:
        from opentelemetry import trace
    except ImportError:
        return
    provider = trace.get_tracer_provider()
    off = isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider)
    use_tracer(None if off else trace.get_tracer(SCOPE))
