"""Reading events: what is unknown is kept or ignored, and what is no event is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery import events
from bridge.core.runs.model import Outcome, RunError, State
from bridge.events import RequestRejected, UnknownEvent, parse
from tests.fakes import NOW, a_run

PAGE = Path(__file__).parents[2] / "docs" / "typed-events.md"
REJECTED: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/crews/research",
    "type": "request.rejected",
    "subject": "e-1",
    "time": "2026-11-23T18:00:00.000Z",
    "datacontenttype": "application/json",
    "data": {"code": "invalid_json", "message": "no", "crew": None, "idempotency_key": "k-1"},
}


@pytest.mark.parametrize("event", [REJECTED, json.dumps(REJECTED), json.dumps(REJECTED).encode()])
def test_an_event_is_read_from_bytes_text_or_an_object(event: Any) -> None:
    parsed = parse(event)
    assert isinstance(parsed, RequestRejected)
    assert (parsed.data.code, parsed.data.crew, parsed.time.year) == ("invalid_json", None, 2026)


def test_an_unknown_type_is_kept_with_its_data() -> None:
    parsed = parse({**REJECTED, "type": "run.paused", "data": {"since": [1]}})
    assert isinstance(parsed, UnknownEvent)
    assert (parsed.type, parsed.data) == ("run.paused", {"since": [1]})


def test_unknown_members_and_codes_are_accepted() -> None:
    data = {**REJECTED["data"], "code": "of_tomorrow", "new": 1}
    assert parse({**REJECTED, "new": 1, "data": data}).data.code == "of_tomorrow"  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [2**70, 0.1, -1])
def test_numbers_keep_their_value(number: float) -> None:
    parsed = parse(json.dumps({**REJECTED, "type": "new", "data": number}))
    assert parsed.data == number


def test_the_example_of_the_page_reads_the_outcome() -> None:
    [example] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["outcome"](the_event("run.succeeded")) == "Tidal power is …"
    assert names["outcome"](the_event("run.cancelled")) == "cancelled: no longer needed"
    assert names["outcome"](json.dumps({**REJECTED, "type": "run.paused"})) is None


def the_event(type_: str) -> bytes:
    outcome = (
        Outcome("Tidal power is …")
        if type_ == "run.succeeded"
        else Outcome(error=RunError("cancelled", "no longer needed"))
    )
    run = replace(a_run(), state=State(type_.removeprefix("run.")), outcome=outcome)
    return events.with_event(run, type_, CrewPolicy(results_exchange=True), NOW).deliveries[0].event.body


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("[]", "an event is a JSON object"),
        ("{", "EOF"),
        ({}, "specversion"),
        ({**REJECTED, "type": ["run.failed"]}, "type"),
        ({**REJECTED, "data": None}, "data"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(event: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(event)
