"""Objects that stay encoded: what they equal, how they are written, and how much memory is counted for them."""

import pytest

from bridge.core.crew.payloads import kickoff_body
from bridge.core.crew_policy import CrewPolicy
from bridge.core.json import EncodedObject, canonical, compact, encoded_bytes, parsed_bytes
from bridge.core.runs.kickoff_memory import INPUTS_FACTOR, META_FACTOR, estimate_bytes
from tests.fakes import a_run

TEXT = b'{"b":[1,{"c":"x"}],"a":18446744073709551616}'
VALUE = {"b": [1, {"c": "x"}], "a": 2**64}


def test_it_is_the_object_that_its_text_says():
    encoded = EncodedObject(TEXT)
    assert encoded == VALUE
    assert encoded == EncodedObject(b" " + TEXT)
    assert encoded != {"b": 1}
    assert (list(encoded), len(encoded), encoded["a"], dict(encoded.items())) == (["b", "a"], 2, 2**64, VALUE)


def test_it_is_written_like_the_parsed_object():
    assert compact({"inputs": EncodedObject(TEXT)}) == compact({"inputs": VALUE})
    assert canonical({"inputs": EncodedObject(TEXT)}) == canonical({"inputs": VALUE})


def test_nothing_else_is_written_that_is_not_json():
    with pytest.raises(TypeError, match="bytes is not JSON"):
        compact({"inputs": b"{}"})


@pytest.mark.parametrize("is_flow", [True, False])
def test_a_kickoff_sends_the_same_for_it(is_flow: bool):
    policy = CrewPolicy(is_flow=is_flow)
    bodies = [compact(kickoff_body(a_run(inputs=inputs), policy)) for inputs in (VALUE, EncodedObject(TEXT))]
    assert bodies[0] == bodies[1]


def test_the_memory_of_a_run_grows_with_the_text_of_its_inputs_and_faster_with_meta():
    run = a_run(inputs=EncodedObject(TEXT), meta={"order": 7})
    assert estimate_bytes(run) == INPUTS_FACTOR * len(TEXT) + META_FACTOR * len(b'{"order":7}')
    assert encoded_bytes(VALUE) == encoded_bytes(EncodedObject(TEXT))


def test_a_body_of_many_small_values_takes_many_times_its_size():
    many, text = b"[" + b'{"a":{"b":"x"}},' * 1000 + b"1]", b'"' + b"x" * 17_000 + b'"'
    assert parsed_bytes(many) > 20 * len(many)
    assert parsed_bytes(text) < 5 * len(text)
