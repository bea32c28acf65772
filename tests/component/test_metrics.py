"""Metrics: every counter exists from the start, and attempts at deliveries are counted with their duration."""

import re
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from bridge.core.delivery.outcome import Confirmed, Retryable, SendResult
from bridge.core.redaction import Redactor
from bridge.observability.metrics import ENDS, CountedSender, Counters
from bridge.ports.crew_api import CrewFigures
from tests.fakes import NOW, FakeSender, HandClock, a_delivery

CORE = Path(__file__).parents[2] / "bridge" / "core"


@pytest.fixture
def counters() -> Counters:
    counters = Counters(CollectorRegistry())
    counters.show_crew("research", lambda: CrewFigures(paused=False, request_rate=1.0, tracked_runs=0, overdue=0))
    counters.show_link("consume", lambda: True)
    return counters


@pytest.mark.parametrize(
    "sample",
    [
        'requests_total{outcome="accepted",via="amqp"}',
        'requests_total{outcome="replayed",via="http"}',
        'requests_total{outcome="missing_inputs",via="hook"}',
        'requests_total{outcome="invalid_json",via="source"}',
        'runs_ended_total{crew="research",error="none",state="succeeded"}',
        'runs_ended_total{crew="research",error="lost",state="failed"}',
        'runs_ended_total{crew="research",error="deadline_exceeded",state="timed_out"}',
        'runs_ended_total{crew="research",error="cancelled",state="cancelled"}',
        'run_wait_seconds_count{crew="research"}',
        'run_duration_seconds_count{crew="research"}',
        'kickoffs_total{crew="research",outcome="crew_unavailable"}',
        'polls_total{crew="research",outcome="waiting_for_human"}',
        'human_inputs_total{crew="research",outcome="resumed"}',
        'crew_request_seconds_count{crew="research",operation="poll"}',
        'delivery_attempts_total{channel="exchange",outcome="unroutable"}',
        'delivery_attempts_total{channel="dead_letter",outcome="confirmed"}',
        'delivery_seconds_count{channel="callback"}',
        "store_commit_seconds_count",
        "stale_writes_total",
        'quarantined_total{kind="run"}',
        'tokens_used_total{crew="research",kind="completion"}',
    ],
)
def test_every_counter_is_0_at_the_start(counters: Counters, sample: str) -> None:
    """A counter that begins at 1 has no increase for Prometheus, so its first event would raise no alert."""
    assert f"kickoff_bridge_{sample} 0.0" in _samples(counters)


def test_every_metric_has_a_sample_at_the_start(counters: Counters) -> None:
    types = set(re.findall(r"^# TYPE (kickoff_bridge_\w+) ", generate_latest(counters.registry).decode(), re.MULTILINE))
    shown = "\n".join(_samples(counters))
    assert len(types) > 15
    assert [name for name in types if not re.search(rf"^{name}[_a-z]*[{{ ]", shown, re.MULTILINE)] == []


def test_the_process_is_measured(counters: Counters) -> None:
    assert any(sample.startswith("process_resident_memory_bytes ") for sample in _samples(counters))


def test_every_error_of_a_run_is_known() -> None:
    found = {code for path in CORE.rglob("*.py") for code in re.findall(r'RunError\("(\w+)"', path.read_text())}
    assert len(found) > 5
    assert found - {error for errors in ENDS.values() for error in errors} == set()


async def test_an_attempt_is_counted_and_its_confirmation_timed(counters: Counters) -> None:
    """Redeliveries are not timed: an operator requests them at any time."""
    responses: list[SendResult] = [Retryable("HTTP 500"), Confirmed()]
    clock = HandClock(NOW + 9)
    sender = CountedSender(FakeSender(responses), counters, Redactor(), clock)
    value = partial(counters.registry.get_sample_value)
    for outcome, seconds in (("retryable", 0), ("confirmed", 9)):
        await sender.send(a_delivery())
        attempts = value("kickoff_bridge_delivery_attempts_total", {"channel": "callback", "outcome": outcome})
        assert (attempts, value("kickoff_bridge_delivery_seconds_sum", {"channel": "callback"})) == (1, seconds)


def _samples(counters: Counters) -> list[str]:
    return generate_latest(counters.registry).decode().splitlines()
