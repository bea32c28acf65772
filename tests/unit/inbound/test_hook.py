"""Inbound webhooks: authentication first, then the content, in any format."""

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import NotVerified, RequestRefused
from bridge.core.inbound.hook import MAX_FIELDS, Challenge, Hook, Ignored, InboundWebhook, Kickoff, read, receive
from bridge.core.inbound.mapping import Rule, compile_expression
from bridge.core.inbound.signatures import AllowAll, Bearer, github
from bridge.core.runs.model import KickoffRequest

FORM = {"content-type": ["application/x-www-form-urlencoded; charset=utf-8"]}
SEEN = Rule(
    inputs={
        "body": compile_expression("[body]"),
        "headers": compile_expression("headers"),
        "query": compile_expression("query"),
    }
)


def a_hook(scheme: str = "none", **more: Any) -> Hook:
    return replace(Hook("shop", "triage", scheme, AllowAll(), SEEN), **more)


def seen(webhook: InboundWebhook, scheme: str = "none") -> Any:
    outcome = read(a_hook(scheme), webhook, None)
    assert isinstance(outcome, Kickoff)
    return outcome.request.inputs


def webhook(body: Any = b"{}", headers: Any = None, query: Any = None) -> InboundWebhook:
    return InboundWebhook(headers or {}, query or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


class TestTake:
    def test_an_unauthenticated_caller_is_refused_before_the_body_is_read(self):
        with pytest.raises(NotVerified):
            receive(a_hook(verifier=Bearer(("t",))), webhook(b"not json"), 0.0)

    def test_a_signed_request_keeps_its_signature_digest(self):
        secret, body = b"It's a Secret to Everybody", b"Hello, World!"
        headers = {"x-hub-signature-256": ["sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"]}
        with pytest.raises(RequestRefused) as caught:  # the signed example of the documentation is not JSON
            receive(a_hook(verifier=github((secret,))), webhook(body, headers), 0.0)
        assert caught.value.code == "invalid_json"

        outcome = read(a_hook(rule=Rule()), webhook(), "the-digest")
        assert outcome == Kickoff(KickoffRequest("triage", {}), "the-digest")

    def test_a_webhook_that_no_rule_matches_is_ignored(self):
        assert receive(a_hook(rule=Rule(when=compile_expression("`false`"))), webhook(), 0.0) == Ignored()

    def test_the_runs_of_a_hook_have_their_own_keys(self):
        assert a_hook().source == "hook/shop"

    @given(st.binary(max_size=60), st.sampled_from([{}, FORM]))
    def test_any_body_is_accepted_or_refused(self, body: bytes, headers: Any):
        with suppress(RequestRefused):
            assert isinstance(read(a_hook(), webhook(body, headers), None), Kickoff)


class TestContent:
    @pytest.mark.parametrize("media", [None, "application/json", "text/plain", "application/vnd.api+json"])
    def test_json_is_read_with_any_content_type(self, media: str | None):
        headers = {} if media is None else {"content-type": [media]}
        assert seen(webhook({"a": 1}, headers))["body"] == [{"a": 1}]

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": 1, "a": 2}', b"NaN", b"[" * 100])
    def test_json_is_read_strictly(self, body: bytes):
        with pytest.raises(RequestRefused) as caught:
            read(a_hook(), webhook(body), None)
        assert caught.value.code == "invalid_json"

    def test_a_form_is_an_object_of_its_fields(self):
        body = b"command=%2Ffind&text=two+words&empty="
        assert seen(webhook(body, FORM))["body"] == [{"command": "/find", "text": "two words", "empty": ""}]

    def test_a_form_with_only_a_payload_field_is_the_json_in_it(self):
        body = b"payload=%7B%22action%22%3A%22opened%22%7D"
        assert seen(webhook(body, FORM))["body"] == [{"action": "opened"}]
        with pytest.raises(RequestRefused, match="not JSON"):
            read(a_hook(), webhook(b"payload=x", FORM), None)

    def test_json_with_a_form_content_type_is_json(self):
        assert seen(webhook(b'{"a": 1}', FORM))["body"] == [{"a": 1}]

    @pytest.mark.parametrize(
        ("body", "headers", "read"),
        [
            (b'{"a": 1}', {}, {"a": 1}),
            (b'{"a": 1}', FORM, {"a": 1}),
            (b"a=1", FORM, {"a": "1"}),
            (b"payload=%7B%22a%22%3A1%7D", FORM, {"a": 1}),
        ],
    )
    def test_a_byte_order_mark_is_ignored(self, body: bytes, headers: Any, read: object):
        """JSON sent as a form was read as a form whose only field begins with the mark."""
        assert seen(webhook(b"\xef\xbb\xbf" + body, headers))["body"] == [read]

    @pytest.mark.parametrize(
        ("body", "detail"),
        [
            (b"a=1&a=2", "twice"),
            (b"a=%ff", "UTF-8"),
            (b"\xff=1", "UTF-8"),
            ("&".join(f"a{n}=1" for n in range(MAX_FIELDS + 1)).encode(), "not a form"),
        ],
    )
    def test_a_form_is_read_strictly(self, body: bytes, detail: str):
        with pytest.raises(RequestRefused, match=detail):
            read(a_hook(), webhook(body, FORM), None)

    def test_headers_and_query_are_text_and_repeated_values_are_kept(self):
        headers = {"x-one": ["a"], "x-two": ["a", "b"], "x-odd": ["\udcff"]}
        found = seen(webhook({}, headers, {"one": ["a"], "two": ["a", "b"], "odd\udcff": ["\udcff"]}))
        assert found["headers"] == {"x-one": "a", "x-two": "a, b", "x-odd": "\N{REPLACEMENT CHARACTER}"}
        assert found["query"] == {
            "one": "a",
            "two": ["a", "b"],
            "odd\N{REPLACEMENT CHARACTER}": "\N{REPLACEMENT CHARACTER}",
        }

    @pytest.mark.parametrize("name", ["authorization", "proxy-authorization", "cookie"])
    def test_headers_with_secrets_are_hidden_from_expressions(self, name: str):
        assert seen(webhook({}, {name: ["secret"], "x": ["y"]}))["headers"] == {"x": "y"}


class TestChallenges:
    def test_a_github_ping_needs_no_response_body(self):
        ping = webhook({"zen": "Keep it logically awesome."}, {"x-github-event": ["ping"]})
        assert read(a_hook("github"), ping, None) == Challenge()
        assert isinstance(read(a_hook("none"), ping, None), Kickoff)

    def test_a_slack_challenge_is_answered(self):
        challenge = webhook({"type": "url_verification", "challenge": "3eZbrw1a", "token": "t"})
        assert read(a_hook("slack"), challenge, None) == Challenge({"challenge": "3eZbrw1a"})
        assert isinstance(read(a_hook("none"), challenge, None), Kickoff)

    @pytest.mark.parametrize("body", [{"type": "url_verification"}, {"type": "event_callback", "challenge": "x"}, [1]])
    def test_other_content_is_not_a_challenge(self, body: Any):
        assert isinstance(read(a_hook("slack"), webhook(body), None), Kickoff)
        events = replace(webhook(body), headers={"x-github-event": ["issues"]})
        assert isinstance(read(a_hook("github"), events, None), Kickoff)
