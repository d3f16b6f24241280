"""Spans where OpenTelemetry is set up, without what an error quotes; nothing where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from docferry.flows.kernel.threads import in_thread
from docferry.ports import tracing
from docferry.ports.tracing import span, use_tracer, use_tracing
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    use_tracer(provider.get_tracer("docferry"))
    yield exporter
    use_tracer(None)


def test_where_nothing_is_set_up_there_is_no_span() -> None:
    use_tracing()
    assert span("a") is span("b", "mongodb", "users") is tracing._NOTHING


def test_a_call_is_below_its_flow_in_another_thread_too(exported: InMemorySpanExporter) -> None:
    def call() -> None:
        with span("find", "mongodb", "users"):
            pass

    async def flow() -> None:
        with span("validate"):
            await in_thread(call)

    asyncio.run(flow())
    called, ran = exported.get_finished_spans()
    assert (called.name, ran.name) == ("mongodb find", "docferry validate")
    assert called.parent is not None
    assert called.parent.span_id == ran.context.span_id
    assert dict(called.attributes or {}) == {
        "db.system.name": "mongodb", "db.operation.name": "find", "docferry.subject": "users",
    }  # fmt: skip


def test_an_error_is_told_by_its_type_alone(exported: InMemorySpanExporter) -> None:
    def fail() -> None:
        with span("PutItem", "dynamodb"):
            raise ValueError("a secret")

    with pytest.raises(ValueError, match="secret"):
        fail()
    (failed,) = exported.get_finished_spans()
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "ValueError"
    assert not failed.events
    assert "secret" not in failed.to_json()
