"""A request that lacks an input is refused before it is stored."""

import asyncio

import pytest

from bridge.core.errors import RequestRefused
from tests.component.steps.conftest import Bench


async def test_a_missing_input_is_refused_by_name_and_nothing_is_stored(bench: Bench):
    bench.api.needed = ("topic", "audience", "tone")
    with pytest.raises(RequestRefused, match="audience, tone") as refused:
        await bench.accepted(inputs={"topic": "peat"})
    assert (refused.value.code, refused.value.field) == ("missing_inputs", "inputs.audience")
    assert await bench.round(bench.kickoff) == []


async def test_additional_inputs_are_accepted(bench: Bench):
    bench.api.needed = ("topic",)
    await bench.accepted(inputs={"topic": "peat", "colour": "brown"})


async def test_a_flow_has_no_required_inputs(bench: Bench):
    bench.be_a_flow()
    bench.api.needed = ("topic",)
    await bench.accepted(inputs={})
    assert bench.api.asked_for_inputs == 0


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


async def test_the_inputs_are_requested_again_before_a_refusal(bench: Bench):
    bench.api.needed = ("topic", "audience")
    await bench.accepted(inputs={"topic": "peat", "audience": "all"})
    bench.clock.forward(11)
    bench.api.needed = ("topic",)
    await bench.accepted(inputs={"topic": "peat"})
    assert bench.api.asked_for_inputs == 2
