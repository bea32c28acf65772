"""The caller behind reverse proxies: only what trusted proxies have added counts."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.http.forwarded import forwarded_caller

TRUSTED = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "fd00::/8", "127.0.0.1/32")]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "caller"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7", "10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("fd00::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("10.0.0.1", ['"203.0.113.7"'], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_caller_is_the_last_address_that_no_trusted_proxy_has(peer: str, forwarded_for: list[str], caller: str):
    assert forwarded_caller(peer, forwarded_for, TRUSTED) == caller


@given(st.lists(st.text()))
def test_without_trusted_proxies_the_header_does_not_count(forwarded_for: list[str]):
    assert forwarded_caller("203.0.113.9", forwarded_for, []) == "203.0.113.9"


@given(st.lists(st.text()))
def test_an_invented_beginning_changes_nothing(invented: list[str]):
    assert forwarded_caller("10.0.0.1", [*invented, "203.0.113.7"], TRUSTED) == "203.0.113.7"
