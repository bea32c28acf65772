"""A request that lacks an input is refused before it is stored."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bridge.core.crew.inputs import ListedInputs
from bridge.core.crew.responses import Refused
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import KickoffRequest
from bridge.steps.runs.input_check import BoundedInputCheck
from tests.component.steps.conftest import Bench
from tests.fakes import a_request

Check = Callable[[KickoffRequest], Awaitable[None]]


async def test_a_missing_input_is_refused_by_name_and_nothing_is_stored(bench: Bench):
    bench.api.needed = ("topic", "audience", "tone")
    with pytest.raises(RequestRefused, match="audience, tone") as refused:
        await bench.accepted(inputs={"topic": "peat"})
    assert (refused.value.code, refused.value.field) == ("missing_inputs", "inputs.audience")
    assert await bench.round(bench.kickoff) == []


async def test_additional_inputs_are_accepted(bench: Bench):
    bench.api.needed = ("topic",)
    await bench.accepted(inputs={"topic": "peat", "colour": "brown"})


async def test_only_inputs_listed_as_required_are_required(bench: Bench):
    """The bridge refused requests without optional inputs, which the crew API would have accepted."""
    bench.api.needed, bench.api.required = ("topic", "tone"), ("topic",)
    run = await bench.accepted(inputs={"topic": "peat"})
    assert await bench.accepted(inputs={"topic": "peat", "unlisted": 1}) != run
    with pytest.raises(RequestRefused, match=r"requires topic$"):
        await bench.accepted(inputs={"tone": "dry"})


async def test_a_flow_refuses_only_requests_without_inputs_listed_as_required(bench: Bench):
    bench.be_a_flow()
    bench.api.needed = ("topic",)
    await bench.accepted(inputs={})
    bench.clock.forward(601)
    bench.api.required = ("topic",)
    with pytest.raises(RequestRefused, match="topic"):
        await bench.accepted(inputs={})


async def test_inputs_that_the_crew_does_not_list_are_sent(bench: Bench):
    """A flow may omit state fields from its list that work all the same."""
    bench.be_a_flow()
    bench.api.needed, bench.api.required = ("topic",), ()
    await bench.started(inputs={"topic": "peat", "undescribed": [1]})
    assert bench.api.bodies[0]["inputs"] == {"topic": "peat", "undescribed": [1]}


async def test_without_a_list_of_inputs_every_request_is_accepted(bench: Bench):
    bench.api.needed = None
    await bench.accepted(inputs={})


async def test_after_a_failure_the_inputs_are_requested_again_soon(bench: Bench):
    bench.api.needed = None
    await bench.accepted(inputs={"topic": "1"})
    await bench.accepted(inputs={"topic": "2"})
    assert bench.api.asked_for_inputs == 1
    bench.clock.forward(11)
    bench.api.needed = ("topic",)
    with pytest.raises(RequestRefused, match="topic"):
        await bench.accepted(inputs={})


async def test_a_listed_input_that_cannot_be_a_name_is_not_required(bench: Bench):
    bench.api.needed = ('"approved: boolean, feedback: string"', "topic")
    await bench.accepted(inputs={"topic": "peat"})


async def test_the_inputs_are_cached(bench: Bench):
    bench.api.needed = ("topic",)
    await asyncio.gather(*(bench.accepted(inputs={"topic": str(number)}) for number in range(20)))
    assert bench.api.asked_for_inputs == 1
    bench.clock.forward(601)
    await bench.accepted(inputs={"topic": "peat"})
    assert bench.api.asked_for_inputs == 2


@pytest.mark.parametrize("slots", [None, 2, 0])
async def test_a_cached_answer_refuses_no_request_however_fresh(bench: Bench, slots: int | None):
    """For ten seconds after a deploy that renamed an input, valid requests were refused or dead-lettered."""
    check: Check = bench.inputs.check if slots is None else BoundedInputCheck(bench.inputs, slots)
    bench.api.needed = ("topic",)
    await bench.inputs("research")
    bench.api.needed = ("subject",)
    renamed = [a_request(inputs={"subject": str(number)}) for number in range(20)]
    await asyncio.gather(*map(check, renamed))
    assert bench.api.asked_for_inputs == 2, "one question for all who wait"
    with pytest.raises(RequestRefused, match="subject"):
        await check(a_request(inputs={"topic": "peat"}))


async def test_a_question_asked_before_the_request_refuses_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """An old instance can still answer while a deploy replaces it."""
    asked, answer, inputs = asyncio.Event(), asyncio.Event(), ["topic"]

    async def answer_late() -> ListedInputs:
        names = tuple(inputs)
        asked.set()
        await answer.wait()
        return ListedInputs(names)

    monkeypatch.setattr(bench.api, "inputs", answer_late)
    earlier = asyncio.create_task(bench.inputs("research"))
    await asked.wait()
    inputs[:] = ["subject"]
    later = asyncio.create_task(bench.inputs.check(a_request(inputs={"subject": "peat"})))
    await asyncio.sleep(0)
    answer.set()
    await later
    assert await earlier == ListedInputs(("topic",), ("topic",))


async def test_a_request_is_accepted_if_the_crew_does_not_answer_again(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.api.needed = ("topic",)
    await bench.inputs("research")
    released = asyncio.Event()

    async def hang() -> None:
        await released.wait()

    monkeypatch.setattr(bench.api, "inputs", hang)
    await bench.inputs.check(a_request(inputs={}), max_wait=0.01)
    released.set()
    await bench.inputs.check(a_request(inputs={}))


async def test_a_refused_kickoff_clears_the_cached_inputs(bench: Bench):
    """A deploy added a required input: until the cache expired, the crew refused every run."""
    bench.api.needed = ("topic",)
    bench.api.kickoff_responses = [Refused("HTTP 422: Missing inputs: tone")]
    await bench.started(inputs={"topic": "peat"})
    bench.api.needed = ("topic", "tone")
    with pytest.raises(RequestRefused, match="tone"):
        await bench.accepted(inputs={"topic": "peat"})
