"""Traces of the command line, by OpenTelemetry's own environment variables: nothing is set up without them."""

from __future__ import annotations

import os

from docferry.errors import ConfigError, Problem

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PARENTS = {"traceparent": "TRACEPARENT", "tracestate": "TRACESTATE", "X-Amzn-Trace-Id": "_X_AMZN_TRACE_ID"}
"""What a propagator looks for, and the variables in which a caller may have left it."""


def set_up_tracing() -> None:
    """Export spans by OTLP over HTTP, below the caller's span if it has left one. What is left is sent when the process ends.

    Raises: ConfigError, if the extra `otel` is not installed.
    """
    named = next((name for name in ENDPOINTS if os.environ.get(name)), "")
    if not named or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry import context, propagate, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        what = f"is set, and {error.name} is not installed"
        problem = Problem(where=named, what=what, suggestion='pip install "docferry[otel]", or unset it')
        raise ConfigError("environment", [problem]) from error
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return  # `opentelemetry-instrument docferry ...` has set it up
    resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "docferry")})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    carrier = {key: os.environ[name] for key, name in PARENTS.items() if os.environ.get(name)}
    if carrier:
        context.attach(propagate.extract(carrier))
