"""Events of every type, as the steps emit them, fit the published JSON Schema and the types for consumers."""

import copy
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import BaseModel

from bridge import events
from bridge.core.crew.reply import Reply
from bridge.core.crew.responses import InDoubt, Running, Succeeded, read_resume
from bridge.core.crew.tasks import ReportedTasks
from bridge.core.delivery.outcome import Retryable
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import QuestionContent
from bridge.core.runs.commands import Cancel
from bridge.core.runs.model import Task
from bridge.documents import event_schema
from bridge.ports.inbound import RefusedMessage
from tests.component.steps.conftest import Bench, with_policy
from tests.fakes import NOW

SCHEMA = event_schema()
DAY = 86_400


async def succeeded(bench: Bench) -> None:
    await bench.started()
    bench.clock.forward(6)
    tasks = ReportedTasks((Task("collect", "A", {"n": [1]}, None), Task(None, None, None, NOW)))
    bench.api.status_responses = [Succeeded("text", {"a": 1.5}, {"total_tokens": 9}, {"completed": 3}, tasks)]
    await bench.round(bench.poll)


async def failed(bench: Bench) -> None:
    await bench.ended()


async def timed_out(bench: Bench) -> None:
    await with_policy(bench, deadline=10.0).started()
    for _ in range(4):
        bench.clock.forward(6)
        await bench.round(bench.poll)


async def cancelled(bench: Bench) -> None:
    await bench.apply_command((await bench.accepted()).run_id, Cancel(), "client")


async def late_result(bench: Bench) -> None:
    await bench.apply_command((await bench.started()).run_id, Cancel(), "client")
    bench.api.default_status = Succeeded("late")
    await bench.round(bench.late_results)


async def in_doubt(bench: Bench) -> None:
    bench.api.kickoff_responses = [InDoubt("reset")]
    await bench.started()
    bench.clock.forward(1_000)
    await bench.round(bench.in_doubt)


async def waiting_for_human(bench: Bench) -> None:
    await bench.ask(await bench.started(), QuestionContent("t-1", "a draft"))


async def resume_unconfirmed(bench: Bench) -> None:
    run = await bench.started()
    await bench.ask(run, QuestionContent("t-1"))
    bench.api.resume_responses = [read_resume(Reply(404, b"{}"))]
    bench.clock.forward(1)
    await bench.apply_command(run.run_id, Resume(approve=True), "client")
    await bench.round(bench.human_input)


async def started(bench: Bench) -> None:
    await with_policy(bench, optional_events=frozenset({"started"})).started()


async def progress(bench: Bench) -> None:
    await with_policy(bench, optional_events=frozenset({"progress"})).started()
    for completed in (0, 1):
        bench.clock.forward(6)
        bench.api.status_responses = [Running({"completed": completed, "total": 3})]
        await bench.round(bench.poll)


async def rejected(bench: Bench) -> None:
    await bench.refuse(
        RefusedMessage(b"{", None, {}, "invalid_json", "not JSON", "research", "reply.shop", "c-1", "k-1")
    )


async def paused(bench: Bench) -> None:
    await bench.ended()
    for _ in range(2):
        bench.sender.responses = [Retryable("HTTP 500"), Retryable("HTTP 500")]
        await bench.deliver()
        bench.clock.forward(5 * DAY)


CAUSES: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "run.succeeded": succeeded,
    "run.failed": failed,
    "run.timed_out": timed_out,
    "run.cancelled": cancelled,
    "run.late_result": late_result,
    "run.in_doubt": in_doubt,
    "run.waiting_for_human": waiting_for_human,
    "run.resume_unconfirmed": resume_unconfirmed,
    "run.started": started,
    "run.progress": progress,
    "request.rejected": rejected,
    "delivery.paused": paused,
}
"""The types, and what has to happen so that one is emitted."""


async def emitted(bench: Bench, type_: str) -> bytes:
    await CAUSES[type_](bench)
    await bench.deliver()
    body: bytes = next(sent.event.body for sent in bench.sender.sent if sent.event.type == type_)
    return body


def problems(event: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(event)]


def test_every_type_has_a_cause_a_schema_and_a_class() -> None:
    names = [reference["$ref"].removeprefix("#/$defs/") for reference in SCHEMA["oneOf"]]
    published = {SCHEMA["$defs"][name]["properties"]["type"]["const"]: name for name in names}
    classes = {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(events.KnownEvent)}

    assert published.keys() == classes.keys() == CAUSES.keys()
    assert {type_: model.__name__ for type_, model in classes.items()} == published


@pytest.mark.parametrize("type_", CAUSES)
async def test_an_event_fits_its_schema_which_names_all_its_members(bench: Bench, type_: str) -> None:
    event = json.loads(await emitted(bench, type_))
    assert problems(event) == []
    schema = SCHEMA["$defs"][type(events.parse(event)).__name__]
    assert set(event) <= set(_properties(schema))
    assert set(event["data"]) <= set(_properties(schema["properties"]["data"]))


def _properties(schema: Any) -> Iterator[str]:
    if "$ref" in schema:
        yield from _properties(SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    yield from schema.get("properties", {})
    for part in schema.get("allOf", []):
        yield from _properties(part)


@pytest.mark.parametrize("type_", CAUSES)
async def test_an_event_without_one_of_its_members_does_not_fit(bench: Bench, type_: str) -> None:
    """Neither the schema nor the type accepts it: both know every member that is always there."""
    event = json.loads(await emitted(bench, type_))
    optional = {"restore_from"} | ({"question"} if "waiting" not in type_ and "resume" not in type_ else set())
    for path in [(name,) for name in event] + [("data", name) for name in event["data"].keys() - optional]:
        broken = copy.deepcopy(event)
        inner = broken if len(path) == 1 else broken["data"]
        del inner[path[-1]]
        assert problems(broken) != [], path
        if path[-1] not in {"datacontenttype", "type"}:  # absent in binary mode; of another type
            with pytest.raises(ValueError, match=path[-1]):
                events.parse(broken)


@pytest.mark.parametrize("type_", CAUSES)
async def test_a_typed_event_has_the_content_of_the_event(bench: Bench, type_: str) -> None:
    body = await emitted(bench, type_)
    event = events.parse(body)
    assert event.type == type_
    assert not isinstance(event, events.UnknownEvent)
    assert _times_in_short(event.model_dump(mode="json", exclude_unset=True)) == _times_in_short(json.loads(body))


def _times_in_short(event: Any) -> Any:
    """The same event, with times that have no trailing zeros."""
    return json.loads(re.sub(r'(:\d\d)\.?(\d*?)0*Z"', r'\1.\2Z"', json.dumps(event)))


def test_the_types_have_the_members_of_the_schemas() -> None:
    for name in ("RunError", "Task", "Question"):
        model: type[BaseModel] = getattr(events, name)
        required = [field for field, info in model.model_fields.items() if info.is_required()]
        assert list(model.model_fields) == list(SCHEMA["$defs"][name]["properties"]), name
        assert sorted(required) == sorted(SCHEMA["$defs"][name]["required"]), name
    run = SCHEMA["$defs"]["Run"]
    assert set(events.RunData.model_fields) == set(run["properties"])
    assert {name for name, info in events.RunData.model_fields.items() if info.is_required()} == {
        *run["required"],
        "tasks",
    }
