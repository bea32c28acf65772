"""Routing keys: a template over the crew, the event, and members of `meta`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.delivery.routing import MAX_BYTES, check_template, routing_key


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{crew}.{event}", "research.succeeded"),
        ("shop.{event}.{meta.tier}", "shop.succeeded.gold"),
        ("{meta.region}.{crew}", "eu_west.research"),
        ("{meta.order}.{meta.paid}", "42.true"),
        ("{meta.missing}.{meta.list}.{meta.empty}", "_._._"),
        ("constant", "constant"),
    ],
)
def test_a_template_is_filled_in(template: str, key: str):
    meta = {"tier": "gold", "region": "eu.west", "order": 42, "paid": True, "list": [1], "empty": " "}
    assert routing_key(check_template(template), "research", "succeeded", meta) == key


def test_values_that_are_too_long_leave_the_other_words_of_the_key():
    """The end of the key was cut, so that no binding for the crew or the event matched."""
    key = routing_key("{meta.a}.{meta.b}.{crew}.{event}", "research", "succeeded", {"a": "é" * 300, "b": "x" * 300})
    first, second, *rest = key.split(".")
    assert (first, second, rest) == ("é" * len(first), "x" * len(second), ["research", "succeeded"])
    assert MAX_BYTES - 5 < len(key.encode()) <= MAX_BYTES


@pytest.mark.parametrize(
    "template", ["", "{run_id}", "{crew", "crew}", "{meta.}", "{meta.a.b}", "a\nb", "{}", "*.{crew}", "#", "é" * 128]
)
def test_an_invalid_template_is_refused(template: str):
    with pytest.raises(ValueError, match="must"):
        check_template(template)


@given(st.dictionaries(st.just("m"), st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text()))))
def test_any_meta_gives_a_key_that_fits_on_the_wire(meta: dict[str, Any]):
    key = routing_key("{crew}.{meta.m}", "research", "succeeded", meta)
    assert key.startswith("research.")
    assert len(key.encode()) <= MAX_BYTES
