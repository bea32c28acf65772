"""Whether traces are exported, according to the `OTEL_*` variables and what is installed."""

import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
import structlog
from structlog.testing import capture_logs

from bridge.composition.tracing import open_tracing
from bridge.observability import logging as logs
from bridge.ports.tracing import NOT_TRACED

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


async def opened(variables: dict[str, str]) -> tuple[bool, list[str]]:
    """Whether runs are traced, and the reasons in the log."""
    with capture_logs() as lines:
        async with AsyncExitStack() as stack:
            tracing = open_tracing(variables, "kickoff.results", stack)
    return tracing is not NOT_TRACED, [line["reason"] for line in lines if line["event"] == "tracing_unavailable"]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_SERVICE_NAME": "bridge"},
        ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
async def test_traces_are_exported_only_if_the_variables_ask_for_it(variables: dict[str, str]):
    assert await opened(variables) == (False, [])


@pytest.mark.parametrize(
    "variables",
    [ENDPOINT, {"OTEL_TRACES_EXPORTER": "otlp"}, ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}],
)
async def test_the_usual_variables_switch_traces_on(variables: dict[str, str]):
    assert await opened(variables) == (True, [])


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
    ],
)
async def test_an_export_that_is_not_supported_is_logged(variables: dict[str, str], named: str):
    traced, [reason] = await opened(variables)

    assert not traced
    assert named in reason


async def test_an_invalid_variable_is_logged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")  # read by the SDK itself

    traced, [reason] = await opened(ENDPOINT)

    assert not traced
    assert "max_queue_size" in reason


async def test_without_the_extra_the_log_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "bridge.observability.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    traced, [reason] = await opened(ENDPOINT)

    assert not traced
    assert "kickoff-bridge[otel]" in reason


async def test_the_headers_for_the_receiver_are_masked_in_the_log(capsys: pytest.CaptureFixture[str]):
    logs.configure("info", "json")
    async with AsyncExitStack() as stack:
        headers = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=abcdef%2F123456789"}
        open_tracing({"OTEL_TRACES_EXPORTER": "zipkin"} | headers, None, stack)
        structlog.get_logger().info("something_happened", text="abcdef/123456789 abcdef%2F123456789")

    assert "123456789" not in capsys.readouterr().err
