"""`events`: prints the stream, and continues it after the connection was lost."""

import json
from collections.abc import Iterator, Mapping

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app, events
from bridge.cli._client import Json
from bridge.cli._errors import CommandFailed, Exit

WHOLE_ID = "019ad4f7-7c8d-7e9f-8a0b-1c2d3e4f5a6b"
LOST = CommandFailed(Exit.UNAVAILABLE, "connection failed")
END = CommandFailed(Exit.USAGE, "no longer permitted")

HELLO = b"retry: 2000\n\n"
GAP = b"event: stream.gap\ndata: {}\n\n"


def event(number: int) -> bytes:
    document = {"time": "2026-11-30T14:00:00.000Z", "type": "run.succeeded", "data": {"run_id": f"run-{number}"}}
    return f"id: e-{number}\nevent: run.succeeded\ndata: {json.dumps(document)}\n\n:\n\n".encode()


class FakeBridge:
    """Serves each of some streams once; an exception is what the command gets instead, or at the end of a stream."""

    def __init__(self, *streams: bytes | CommandFailed) -> None:
        self.streams = list(streams)
        self.requests: list[tuple[Mapping[str, str], str | None]] = []

    def run(self, run_id: str) -> Json:
        assert WHOLE_ID.startswith(run_id)
        return {"run_id": WHOLE_ID}

    def event_lines(self, query: Mapping[str, str], last_id: str | None) -> Iterator[bytes]:
        self.requests.append((query, last_id))
        stream = self.streams.pop(0)
        if isinstance(stream, CommandFailed):
            raise stream
        yield from stream.splitlines(keepends=True)


def called(monkeypatch: pytest.MonkeyPatch, bridge: FakeBridge, *options: str) -> Result:
    monkeypatch.setattr(events, "RECONNECT_AFTER", 0.0)
    monkeypatch.setattr(events, "call_bridge", lambda *arguments: arguments[-1](bridge))
    return CliRunner().invoke(app, ["events", *options])


def runs_in(shown: Result) -> list[str]:
    return [json.loads(line)["data"]["run_id"] for line in shown.stdout.splitlines()]


def test_each_event_is_printed_once_although_the_bridge_repeats_the_last_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = FakeBridge(HELLO + event(1) + event(2), HELLO + event(2) + event(1) + event(3), END)
    shown = called(monkeypatch, bridge, "--json")
    assert runs_in(shown) == ["run-1", "run-2", "run-3"]
    assert bridge.requests == [({}, None), ({}, "e-2"), ({}, "e-3")]


def test_an_outage_is_reported_once_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = FakeBridge(HELLO + event(1), LOST, LOST, HELLO + event(2), END)
    shown = called(monkeypatch, bridge, "--json")
    assert runs_in(shown) == ["run-1", "run-2"]
    assert shown.stderr.splitlines() == ["connection failed; trying again until Ctrl-C", "connected again"]


@pytest.mark.parametrize("streams", [(HELLO, LOST, HELLO), (HELLO + GAP,)])
def test_events_that_may_be_missing_are_reported(monkeypatch: pytest.MonkeyPatch, streams: tuple[bytes]) -> None:
    assert "events may be missing" in called(monkeypatch, FakeBridge(*streams, END)).stderr.splitlines()[-1]


@pytest.mark.parametrize("failure", [LOST, END])
def test_a_bridge_that_never_answered_ends_the_command(monkeypatch: pytest.MonkeyPatch, failure: CommandFailed) -> None:
    assert called(monkeypatch, FakeBridge(failure)).exception is failure


def test_a_crew_and_the_beginning_of_a_run_id_limit_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = FakeBridge(END)
    called(monkeypatch, bridge, "--crew", "research", "--run", WHOLE_ID[:13])
    assert bridge.requests == [({"crew": "research", "run_id": WHOLE_ID}, None)]
