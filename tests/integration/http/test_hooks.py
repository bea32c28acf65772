"""Inbound webhooks over HTTP: verification, minimal responses, and one run per webhook."""

import base64
import gzip
import hmac
import json
import time
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import structlog

from bridge.adapters.http import auth
from bridge.core.http.limits import Rate
from bridge.core.inbound import signatures
from bridge.core.inbound.hook import Hook
from bridge.core.inbound.mapping import Rule, compile_expression
from bridge.core.inbound.signatures import AllowAll, Basic, Bearer, Hmac
from tests.http_client import LISTEN, STORE_AWAY, Bridge, problem, serving
from tests.unit.inbound.test_signatures import GITHUB_SECRET

TITLE = Rule(
    when=compile_expression("action == 'opened'"),
    inputs={"title": compile_expression("body.issue.title")},
    idempotency_key=compile_expression('headers."x-github-delivery"'),
)
SIGNED = Hmac((b"swordfish",), "X-Signature", prefix="sha256=", timestamp_header="X-Timestamp")
HOOKS = {
    "github": Hook("github", "triage", "github", signatures.github((GITHUB_SECRET,)), TITLE),
    "slack": Hook(
        "slack", "triage", "slack", signatures.slack((b"s",)), Rule(inputs={"text": compile_expression("text")})
    ),
    "signed": Hook("signed", "triage", "hmac", SIGNED, Rule()),
    "basic": Hook("basic", "triage", "basic", Basic("u", "p"), Rule()),
    "bearer": Hook("bearer", "triage", "bearer", Bearer(("t",)), Rule()),
    "open": Hook("open", "triage", "none", AllowAll(), Rule(meta={"who": compile_expression("query.who")})),
}
ISSUE = {"action": "opened", "issue": {"title": "It breaks"}}


async def from_github(bridge: Bridge, body: Any = ISSUE, secret: bytes = GITHUB_SECRET, **more: str) -> Any:
    raw = json.dumps(body).encode()
    headers = {
        "X-Hub-Signature-256": f"sha256={_hex(secret, raw)}",
        "X-GitHub-Event": "issues",
        "X-GitHub-Delivery": "d-1",
        "Content-Type": "application/json",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return await bridge.http.post(bridge.url("/hooks/github"), data=raw, headers=headers)


async def test_each_request_is_counted_by_its_outcome():
    """A webhook that is not verified or ignored is no request."""
    async with serving(hooks=HOOKS) as bridge:
        for body in (ISSUE, ISSUE, {"action": "closed"}, {"action": "opened", "issue": {}}):
            await from_github(bridge, body)
        await from_github(bridge, secret=b"wrong")
        assert [via for via, _ in bridge.counted] == ["hook"] * 3
        assert [outcome for _, outcome in bridge.counted] == ["accepted", "replayed", "invalid_request"]


async def from_slack(bridge: Bridge, body: bytes, media: str) -> aiohttp.ClientResponse:
    at = str(int(time.time()))
    signature = f"v0={_hex(b's', f'v0:{at}:'.encode() + body)}"
    headers = {"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": at, "Content-Type": media}
    return await bridge.http.post(bridge.url("/hooks/slack"), data=body, headers=headers)


def _hex(secret: bytes, content: bytes) -> str:
    return hmac.digest(secret, content, "sha256").hex()


async def test_a_signed_webhook_starts_a_run_named_in_the_response():
    async with serving(hooks=HOOKS) as bridge:
        response = await from_github(bridge, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
        document = await response.json()
        ((kickoff, envelope),) = bridge.accept.seen

        assert (response.status, document["state"], document["idempotency_key"]) == (202, "accepted", "d-1")
        assert response.headers["Location"] == f"/v1/runs/{document['run_id']}"
        assert (kickoff.crew, kickoff.inputs) == ("triage", {"title": "It breaks"})
        assert (envelope.source, len(envelope.signature_digest or "")) == ("hook/github", 64)
        assert envelope.traceparent is not None

        again = await from_github(bridge)
        assert (again.status, again.headers["Idempotency-Replayed"], await again.json()) == (202, "true", document)


@pytest.mark.parametrize("headers", [{}, {"X-Hub-Signature-256": "sha256=" + "0" * 64}, {"X-Hub-Signature": "sha1=0"}])
async def test_every_failed_verification_has_the_same_response(headers: dict[str, str]):
    async with serving(hooks=HOOKS) as bridge:
        for body in (json.dumps(ISSUE), "no json"):
            response = await bridge.http.post(bridge.url("/hooks/github"), data=body, headers=headers)
            document = await problem(response, 401, "unauthorized")
            assert "detail" not in document
            assert response.headers["WWW-Authenticate"] == "Signature"
        assert bridge.accept.seen == []


async def test_the_log_names_the_reason_of_a_failed_verification():
    async with serving(hooks=HOOKS) as bridge:
        with structlog.testing.capture_logs() as lines:
            await from_github(bridge, secret=b"other")
        (line,) = [line for line in lines if line["event"] == "hook_verification_failed"]
        assert line == {
            "event": "hook_verification_failed",
            "hook": "github",
            "address": "127.0.0.1",
            "reason": "no signature matches",
            "log_level": "warning",
        }


async def test_a_repeated_signature_header_is_refused():
    async with serving(hooks=HOOKS) as bridge:
        raw = json.dumps(ISSUE).encode()
        header = f"X-Hub-Signature-256: sha256={_hex(GITHUB_SECRET, raw)}\r\n".encode()
        head = b"POST /hooks/github HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n" % len(raw)
        assert b" 401 " in await bridge.raw(head + header * 2 + b"\r\n" + raw)
        assert b" 422 " in await bridge.raw(head + header + b"\r\n" + raw)  # it has no delivery id, but it is verified


async def test_an_old_signature_is_refused():
    async with serving(hooks=HOOKS) as bridge:
        for age, status in ((0, 202), (301, 401), (-302, 401)):
            at = str(int(time.time()) - age)
            headers = {"X-Timestamp": at, "X-Signature": f"sha256={_hex(b'swordfish', f'{at}.{{}}'.encode())}"}
            response = await bridge.http.post(bridge.url("/hooks/signed"), data=b"{}", headers=headers)
            assert response.status == status


async def test_passwords_and_tokens():
    async with serving(hooks=HOOKS) as bridge:
        right = {"basic": f"Basic {base64.b64encode(b'u:p').decode()}", "bearer": "Bearer t"}
        for name, value in right.items():
            url = bridge.url(f"/hooks/{name}")
            assert (await bridge.http.post(url, data=b"{}", headers={"Authorization": value})).status == 202
            wrong = await bridge.http.post(url, data=b"{}", headers={"Authorization": f"{value}x"})
            await problem(wrong, 401, "unauthorized")
            assert wrong.headers["WWW-Authenticate"].lower().startswith(name)
        assert [envelope.signature_digest for _, envelope in bridge.accept.seen] == [None, None]


async def test_an_unverified_hook_accepts_anything_and_reads_the_query():
    async with serving(hooks=HOOKS) as bridge:
        response = await bridge.http.post(bridge.url("/hooks/open?who=me&who=you"), data=b"{}")
        assert response.status == 202
        assert bridge.accept.seen[0][0].meta == {"who": ["me", "you"]}


async def test_an_ignored_webhook_is_answered_without_content_and_starts_nothing():
    async with serving(hooks=HOOKS) as bridge:
        response = await from_github(bridge, {**ISSUE, "action": "closed"})
        assert (response.status, await response.read(), bridge.accept.seen) == (204, b"", [])


async def test_an_input_without_a_value_is_named():
    async with serving(hooks=HOOKS) as bridge:
        document = await problem(await from_github(bridge, {"action": "opened"}), 422, "invalid_request")
        assert (document["field"], bridge.accept.seen) == ("inputs.title", [])
        assert "inputs.title" in document["detail"]


async def test_a_signed_webhook_that_is_not_json_is_a_bad_request():
    async with serving(hooks=HOOKS) as bridge:
        raw = b'{"action": "opened", "action": "closed"}'
        headers = {"X-Hub-Signature-256": f"sha256={_hex(GITHUB_SECRET, raw)}"}
        await problem(
            await bridge.http.post(bridge.url("/hooks/github"), data=raw, headers=headers), 400, "invalid_json"
        )


async def test_a_github_ping_is_accepted_only_with_its_signature():
    async with serving(hooks=HOOKS) as bridge:
        with structlog.testing.capture_logs() as logs:
            assert (await from_github(bridge, {"zen": "…"}, X_GitHub_Event="ping")).status == 204
        assert [(log["hook"], log["reason"]) for log in logs if log["event"] == "hook_request_ignored"] == [
            ("github", "the sender only tests the endpoint")
        ]
        assert (await from_github(bridge, {"zen": "…"}, b"other", X_GitHub_Event="ping")).status == 401
        assert bridge.accept.seen == []


async def test_a_slack_challenge_is_returned_and_slack_forms_are_read():
    async with serving(hooks=HOOKS) as bridge:
        kickoff = b'{"type": "url_verification", "challenge": "3eZbrw1a"}'
        echoed = await from_slack(bridge, kickoff, "application/json")
        assert (echoed.status, await echoed.json()) == (200, {"challenge": "3eZbrw1a"})
        command = await from_slack(bridge, b"command=%2Ffind&text=otters", "application/x-www-form-urlencoded")
        assert (command.status, bridge.accept.seen[0][0].inputs) == (202, {"text": "otters"})


async def test_a_compressed_body_is_refused_because_it_differs_from_the_signed_one():
    async with serving(hooks=HOOKS) as bridge:
        packed = gzip.compress(b"{}")
        headers = {"Content-Encoding": "gzip"}
        await problem(
            await bridge.http.post(bridge.url("/hooks/open"), data=packed, headers=headers),
            415,
            "unsupported_media_type",
        )


async def test_a_body_with_broken_compression_is_not_an_internal_error(caplog: pytest.LogCaptureFixture):
    """Found by fuzzing: the library decompressed a body that had been refused, and logged a traceback."""
    async with serving(hooks=HOOKS) as bridge:
        head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!"
        assert b" 415 " in await bridge.raw(head % b"/hooks/open")
        assert b" 404 " in await bridge.raw(head % b"/hooks/nope")
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


async def test_limits_apply_to_hooks():
    async with serving(replace(LISTEN, max_body=100), hooks=HOOKS) as bridge:
        url = bridge.url("/hooks/open")
        await problem(await bridge.http.post(url, data=b" " * 101), 413, "too_large")
        await problem(await bridge.http.get(url), 405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/hooks/nope", "/hooks/GITHUB", "/hooks/", "/hooks/open/more"])
async def test_any_other_path_is_not_found(path: str):
    async with serving(hooks=HOOKS) as bridge:
        await problem(await bridge.http.post(bridge.url(path), data=b"{}"), 404, "not_found")


async def test_while_the_store_is_unavailable_the_sender_is_asked_to_retry():
    async with serving(hooks=HOOKS) as bridge:
        bridge.accept.fail = STORE_AWAY
        response = await bridge.http.post(bridge.url("/hooks/open"), data=b"{}")
        await problem(response, 503, "service_unavailable")
        assert response.headers["Retry-After"]


async def test_unauthenticated_callers_are_rate_limited_and_the_verified_sender_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(auth, "FAILED_LOGIN_RATE", Rate(per_second=0.001, burst=9.0))
    async with serving(hooks=HOOKS) as bridge:
        url = bridge.url("/hooks/github")
        statuses = [(await bridge.http.post(url, data=b"{}")).status for _ in range(10)]
        assert statuses == [401] * 9 + [429]
        assert (await from_github(bridge)).status == 202
