"""A trace as a collector receives it: spans of a flow, its chunks and its calls, each below the one that made it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.cli.shop import Shop, fill, finish, fresh
from support.validate.planting import SECRET

__all__ = ["fresh"]

pytestmark = pytest.mark.xdist_group("monitoring")
CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Takes OTLP over HTTP: (its address, the spans so far)."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = ExportTraceServiceRequest.FromString(body)
            spans.extend(one for group in request.resource_spans for scope in group.scope_spans for one in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", spans
    finally:
        server.shutdown()
        server.server_close()


def lineage(spans: list[Any], name: str) -> set[tuple[str, ...]]:
    """The names from each span of this name up to its root."""
    by_id = {one.span_id: one for one in spans}

    def up(one: Any) -> tuple[str, ...]:
        parent = by_id.get(one.parent_span_id)
        return (one.name, *(up(parent) if parent is not None else ()))

    return {up(one) for one in spans if one.name == name}


def test_a_load_and_a_validation_are_traces_from_the_flow_to_the_call(fresh: Shop) -> None:
    fill(fresh)
    assert fresh.run("provision").code == 0
    with collector() as (endpoint, spans):
        tracing = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
            "TRACEPARENT": f"00-{CALLER}-00f067aa0ba902b7-01",
        }
        for command in ("backfill", "validate"):
            words = (command, str(fresh.file))
            ran = finish(fresh.start(*words, **tracing))
            assert ran.code == 0, ran.err
    assert ("dynamodb BatchWriteItem", "docferry chunk", "docferry backfill") in lineage(
        spans, "dynamodb BatchWriteItem"
    )
    reads = {one for span in spans if span.name.startswith("mongodb read") for one in lineage(spans, span.name)}
    assert any(one[1:] == ("docferry chunk", "docferry backfill") for one in reads)
    assert any(one[-1] == "docferry validate" for one in reads)
    assert any(one[-1] == "docferry validate" for one in lineage(spans, "dynamodb Scan"))
    assert {one.trace_id.hex() for one in spans if one.name == "docferry backfill"} == {CALLER}
    assert SECRET not in str(spans)
