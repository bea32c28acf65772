"""Open the export of traces if the `OTEL_*` variables ask for it and the extra `otel` is installed."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from urllib.parse import unquote

import structlog

from bridge.observability import logging as logs
from bridge.ports.tracing import NOT_TRACED, Tracing

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")

log = structlog.get_logger()


def open_tracing(variables: Mapping[str, str], results: str | None, stack: AsyncExitStack) -> Tracing:
    """Return what steps report traces to; `stack` exports the rest. `results`: the name of the results exchange."""
    if not _is_wanted(variables):
        return NOT_TRACED
    logs.learn(_secrets(variables))
    if (unsupported := _unsupported(variables)) is not None:
        log.warning("tracing_unavailable", reason=unsupported)
        return NOT_TRACED
    try:
        from bridge.observability.tracing import SpanExport, otlp_processor  # noqa: PLC0415 - an optional dependency

        export = SpanExport(otlp_processor(), results)
    except ImportError:
        log.warning("tracing_unavailable", reason="OpenTelemetry is not installed; install kickoff-bridge[otel]")
        return NOT_TRACED
    except ValueError as error:
        log.warning("tracing_unavailable", reason=f"an OTEL_ variable is invalid: {error}")
        return NOT_TRACED
    stack.push_async_callback(asyncio.to_thread, export.close)
    log.info("tracing_started")
    return export.tracing


def _is_wanted(variables: Mapping[str, str]) -> bool:
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = variables.get("OTEL_TRACES_EXPORTER", "").strip()
    return exporter != "none" if exporter else any(variables.get(name) for name in _ENDPOINTS)


def _unsupported(variables: Mapping[str, str]) -> str | None:
    """Return why these variables ask for an export that the bridge does not support; None if they do not."""
    if variables.get("OTEL_TRACES_EXPORTER", "").strip() not in {"", "otlp"}:
        return "OTEL_TRACES_EXPORTER must be otlp or none"
    protocol = next((variables[name] for name in _PROTOCOLS if variables.get(name)), "http/protobuf")
    return None if protocol == "http/protobuf" else f"{' or '.join(_PROTOCOLS)} must be http/protobuf"


def _secrets(variables: Mapping[str, str]) -> Iterator[str]:
    """Return the values of the headers for the receiver, as written and as sent."""
    for header in ",".join(variables.get(name, "") for name in _HEADERS).split(","):
        value = header.partition("=")[2].strip()
        yield from (value, unquote(value))
