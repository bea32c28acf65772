"""The crew API client over real HTTP: requests that were not sent, requests in doubt, and the secrecy of the token."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from bridge.adapters.byte_budget import MIB
from bridge.adapters.crew_api import LARGE_BYTES, LIMITS, UNUSABLE_ID, HttpCrewApi, crew_sessions
from bridge.core.crew.rate_limiter import MAX_BACKOFF, RateLimiter
from bridge.core.crew.reply import TOO_LARGE
from bridge.core.crew.responses import (
    CrewUnavailable,
    InDoubt,
    NoResponse,
    NotFound,
    NotStarted,
    Pending,
    Refused,
    Resumed,
    Running,
    Started,
    StatusResponse,
    Succeeded,
    TooLarge,
)
from bridge.core.crew_policy import CrewPolicy
from bridge.core.errors import RequestRefused
from bridge.core.polling import PollPlanner
from bridge.core.redaction import Redactor
from bridge.observability.metrics import Counters
from bridge.sandbox import SandboxSettings, running
from bridge.steps._crew import Crew
from bridge.steps.runs.input_check import CrewInputs
from tests.fakes import a_request
from tests.tcp_server import tcp_server

TOKEN = "a-secret-token"
BODY = {"inputs": {"topic": "peat"}, "meta": {"bridge_run_id": "r-1"}}
OK = b'{"kickoff_id": "k-1"}'


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0)
    return head + await reader.readexactly(length)


@dataclass
class RawServer:
    """A server that sends prepared bytes; an empty response closes the connection, None sends nothing and waits."""

    responses: list[bytes | None]
    read_first: bool = True
    url: str = ""
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                if self.read_first:
                    self.requests.append(await read_request(reader))
                response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
                if response is None:
                    await asyncio.Event().wait()
                if not response:
                    return
                writer.write(response)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(*responses: bytes | None, read_first: bool = True) -> AsyncIterator[RawServer]:
    raw = RawServer(list(responses), read_first)
    async with tcp_server(raw.serve) as port:
        raw.url = f"http://127.0.0.1:{port}"
        yield raw


Api = Callable[..., Awaitable[HttpCrewApi]]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """Builds clients with sessions of their own."""
    async with AsyncExitStack() as stack:

        async def make(url: str, token: str = TOKEN, rate: float = 1e6, **limits: float) -> HttpCrewApi:
            within = replace(LIMITS, **limits)  # type: ignore[arg-type]
            sessions = await stack.enter_async_context(crew_sessions(within))
            return HttpCrewApi(url, token, RateLimiter(rate), sessions, time.time, within, Redactor([token]))

        yield make


@pytest.fixture
async def sandbox() -> AsyncIterator[str]:
    async with running(SandboxSettings(token=TOKEN)) as url:
        yield url


async def call(url: str, method: str, path: str, **more: Any) -> Any:
    async with aiohttp.ClientSession() as session, session.request(method, url + path, **more) as response:
        return await response.json()


async def closed_port() -> int:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


# Against the sandbox ----------------------------------------------------------------------------------------------


async def test_a_kickoff_and_a_poll(api: Api, sandbox: str):
    crew = await api(sandbox + "/")
    started = await crew.kickoff({"inputs": {"topic": "peat", "sandbox_seconds": "0"}, "meta": {"a": 1}})
    assert isinstance(started, Started)
    status = await crew.status(started.kickoff_id)
    assert isinstance(status, Succeeded)
    ledger = await call(sandbox, "GET", "/_ledger")
    assert (ledger["count"], ledger["kickoffs"][0]["meta"]) == (1, {"a": 1})


@pytest.mark.parametrize("kind", ["crew", "flow"])
async def test_a_deploy_that_renames_an_input_refuses_no_valid_request(api: Api, kind: Literal["crew", "flow"]):
    async with running(SandboxSettings(token=TOKEN, kind=kind, required_inputs=("topic",))) as url:
        policy = CrewPolicy(is_flow=kind == "flow")
        crew = Crew("research", await api(url), policy, 4, PollPlanner(policy))
        inputs = CrewInputs({"research": crew}, time.time)
        await inputs.check(a_request(inputs={"topic": "peat"}))
        await call(url, "POST", "/_deploy", json={"inputs": ["subject"], "required_inputs": ["subject"]})
        await inputs.check(a_request(inputs={"subject": "peat"}))
        with pytest.raises(RequestRefused, match="subject"):
            await inputs.check(a_request(inputs={"topic": "peat"}))


async def test_every_call_is_counted_with_its_duration(sandbox: str):
    counters = Counters(CollectorRegistry())
    count = partial(counters.count_response, "research")
    observe = partial(counters.observe_crew_request, "research")
    async with crew_sessions() as sessions:
        crew = HttpCrewApi(sandbox, TOKEN, RateLimiter(), sessions, time.time, count=count, observe=observe)
        await crew.kickoff({"inputs": {}})
        await crew.status("never-seen")
        await crew.status("never-seen")
        await crew.resume({})
        await crew.answer_flow(f"{sandbox}/nowhere", "yes")
        await crew.stop("never-seen")
        await crew.inputs()
        await crew.probe()
    shown = generate_latest(counters.registry).decode()
    assert [line for line in shown.splitlines() if 'crew="research",outcome=' in line and "_created" not in line] == [
        'kickoff_bridge_kickoffs_total{crew="research",outcome="refused"} 1.0',
        'kickoff_bridge_polls_total{crew="research",outcome="not_found"} 2.0',
        'kickoff_bridge_human_inputs_total{crew="research",outcome="refused"} 2.0',
    ]
    calls = partial(counters.registry.get_sample_value, "kickoff_bridge_crew_request_seconds_count")
    assert {
        operation: calls({"crew": "research", "operation": operation})
        for operation in ("kickoff", "poll", "human_input", "stop", "inputs")
    } == {"kickoff": 1, "poll": 2, "human_input": 2, "stop": 1, "inputs": 2}


async def test_a_running_and_an_unknown_execution(api: Api, sandbox: str):
    crew = await api(sandbox)
    started = await crew.kickoff({"inputs": {"topic": "peat", "sandbox_seconds": "3600"}})
    assert isinstance(started, Started)
    assert isinstance(await crew.status(started.kickoff_id), Running | Pending)
    assert await crew.status("never-seen") == NotFound()


async def test_missing_inputs_are_refused_and_a_wrong_token_makes_the_crew_unavailable(api: Api, sandbox: str):
    assert isinstance(await (await api(sandbox)).kickoff({"inputs": {}}), Refused)
    assert isinstance(await (await api(sandbox, "wrong")).kickoff(BODY), CrewUnavailable)
    assert isinstance(await (await api(sandbox, "wrong")).status("k-1"), CrewUnavailable)


async def test_a_probe_costs_nothing_and_reveals_no_host(api: Api, sandbox: str):
    unreachable = f"http://127.0.0.1:{await closed_port()}"
    found = [
        await (await api(url, token)).probe()
        for url, token in ((sandbox, TOKEN), (sandbox, "wrong"), (unreachable, TOKEN))
    ]
    assert [health.ok for health in found] == [True, False, False]
    assert not [health for health in found if "127.0.0.1" in health.detail or TOKEN in health.detail]
    assert (await call(sandbox, "GET", "/_ledger"))["count"] == 0


@pytest.mark.parametrize(
    ("fault", "kind", "started"),
    [
        ({"do": "hang_up_after"}, InDoubt, 1),
        ({"do": "hang_up_before"}, InDoubt, 0),
        ({"do": "garbage"}, InDoubt, 0),
        ({"do": "http", "code": 500, "body": "Internal Server Error"}, InDoubt, 0),
        ({"do": "http", "code": 502, "body": "<html>"}, InDoubt, 0),
        ({"do": "http", "code": 504}, InDoubt, 0),
        ({"do": "http", "code": 200, "body": "{}"}, InDoubt, 0),
        ({"do": "http", "code": 503}, NotStarted, 0),
        ({"do": "http", "code": 429, "headers": {"Retry-After": "7"}}, NotStarted, 0),
        ({"do": "http", "code": 422, "body": {"detail": "no"}}, Refused, 0),
        ({"do": "http", "code": 307, "headers": {"Location": "/kickoff"}}, Refused, 0),
    ],
)
async def test_every_fault_is_classified(api: Api, sandbox: str, fault: dict[str, Any], kind: type, started: int):
    await call(sandbox, "POST", "/_faults", json={"on": "kickoff", **fault})
    response = await (await api(sandbox)).kickoff(BODY)
    assert type(response) is kind
    ledger = await call(sandbox, "GET", "/_ledger")
    assert ledger["started"] == started
    assert ledger["count"] <= 1  # never sent a second time


# Transmission -----------------------------------------------------------------------------------------------------


async def test_a_refused_connection_sent_nothing(api: Api):
    crew = await api(f"http://127.0.0.1:{await closed_port()}")
    assert isinstance(await crew.kickoff(BODY), NotStarted)
    assert isinstance(await crew.status("k-1"), NoResponse)


async def test_an_unresolvable_name_sent_nothing(api: Api):
    assert isinstance(await (await api("http://no-such-host.invalid")).kickoff(BODY), NotStarted)


async def test_a_failed_tls_handshake_sent_nothing(api: Api):
    async with raw_server(b"this is not TLS\r\n\r\n", read_first=False) as server:
        crew = await api(server.url.replace("http:", "https:"))
        assert isinstance(await crew.kickoff(BODY), NotStarted)


@pytest.mark.parametrize("read_first", [True, False])
async def test_a_closed_connection_leaves_the_run_in_doubt(api: Api, read_first: bool):
    async with raw_server(b"", read_first=read_first) as server:
        response = await (await api(server.url)).kickoff(BODY)
        assert isinstance(response, InDoubt)
        assert server.connections == 1  # and it is not tried a second time


async def test_a_silent_server_leaves_the_run_in_doubt_and_a_poll_without_response(api: Api):
    async with raw_server(None) as server:
        crew = await api(server.url, kickoff=0.5, status=0.5)
        assert await crew.kickoff(BODY) == InDoubt("timed out")
        assert isinstance(await crew.status("k-1"), NoResponse)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + OK[:-2],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        b"not HTTP at all\r\n\r\n",
    ],
    ids=["cut off", "bad chunks", "bad gzip", "garbage"],
)
async def test_an_unreadable_response_leaves_the_run_in_doubt(api: Api, response: bytes):
    async with raw_server(response, b"") as server:
        assert isinstance(await (await api(server.url, kickoff=0.3)).kickoff(BODY), InDoubt)


async def test_a_body_over_the_limit_is_not_kept(api: Api):
    huge = json.dumps({"kickoff_id": "k-1", "state": "SUCCESS", "result": "x" * 200_000}).encode()
    async with raw_server(http("200 OK", huge)) as server:
        crew = await api(server.url, response=1000)
        assert await crew.kickoff(BODY) == Started("k-1")
        assert await crew.status("k-1") == TooLarge(succeeded=True)


async def test_a_kickoff_response_over_the_limit_without_an_id_at_its_beginning_is_in_doubt(api: Api):
    """Nothing else names the execution; it is not started twice."""
    huge = json.dumps({"padding": "x" * 200_000, "kickoff_id": "k-1"}).encode()
    async with raw_server(http("200 OK", huge)) as server:
        assert await (await api(server.url, response=1000)).kickoff(BODY) == InDoubt(f"accepted; {TOO_LARGE}")
        assert server.connections == 1


async def test_large_responses_wait_until_those_before_them_are_stored(api: Api):
    """A result of many megabytes takes several times as much memory until it is stored."""
    large = json.dumps({"state": "SUCCESS", "result": "x" * 8 * MIB}).encode()
    at_once = LARGE_BYTES // 2 // len(large)  # half of the memory is for other crews
    async with raw_server(http("200 OK", large)) as server, raw_server(http("200 OK", OK)) as other:
        crew, another_crew = await api(server.url), await api(other.url)
        stored, responses = asyncio.Event(), list[StatusResponse]()

        async def poll() -> None:
            responses.append(await crew.status("k-1"))
            await stored.wait()

        polls = [asyncio.create_task(poll()) for _ in range(2 * at_once)]
        while len(responses) < at_once:
            await another_crew.status("k-1")
        for _ in range(50):
            await another_crew.status("k-1")
        assert len(responses) == at_once
        stored.set()
        await asyncio.gather(*polls)
        assert [type(response) for response in responses] == [Succeeded] * 2 * at_once


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_never_followed_with_the_token(api: Api, status: str):
    async with raw_server(http("200 OK", OK)) as elsewhere:
        async with raw_server(http(status, b"", f"Location: {elsewhere.url}/kickoff")) as server:
            crew = await api(server.url)
            assert isinstance(await crew.kickoff(BODY), Refused)
            assert isinstance(await crew.status("k-1"), NoResponse)
        assert elsewhere.connections == 0


# Requests ---------------------------------------------------------------------------------------------------------


async def test_kickoffs_and_polls_have_separate_connections(api: Api):
    async with raw_server(http("200 OK", OK)) as server:
        crew = await api(server.url)
        for _ in range(3):
            assert await crew.kickoff(BODY) == Started("k-1")
            await crew.status("k-1")
        assert server.connections == 2


async def test_the_request_is_json_with_the_token_and_unchanged_values(api: Api):
    body = {"inputs": {"größe": "🦉", "big": 2**70}}
    async with raw_server(http("200 OK", OK)) as server:
        await (await api(server.url)).kickoff(body)
    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /kickoff HTTP/1.1")
    assert f"Authorization: Bearer {TOKEN}".encode() in head
    assert b"Content-Type: application/json" in head
    assert json.loads(sent) == body


async def test_the_token_is_in_no_response(api: Api):
    texts = []
    for response in (b"", None, b"garbage\r\n\r\n", http("500 Oops", b"boom"), http("401 No", b'{"detail": "no"}')):
        async with raw_server(response) as server:
            crew = await api(server.url, kickoff=0.1)
            texts += [repr(await crew.kickoff(BODY)), repr(crew)]
    texts.append(repr(await (await api(f"http://127.0.0.1:{await closed_port()}")).kickoff(BODY)))
    assert not [text for text in texts if TOKEN in text or "127.0.0.1" in text]


async def test_an_id_that_contains_the_token_is_not_used(api: Api):
    async with raw_server(http("200 OK", b'{"kickoff_id": "run-%s"}' % TOKEN.encode())) as crew:
        bridge = await api(crew.url)
        assert await bridge.kickoff(BODY) == InDoubt(UNUSABLE_ID)
        assert await bridge.resume(BODY) == Resumed()


async def test_calls_of_all_kinds_are_spaced_evenly(api: Api):
    crew = await api("http://127.0.0.1:1", rate=50.0)
    loop = asyncio.get_running_loop()
    before, moments = loop.time(), []

    async def take() -> None:
        await crew.acquire()
        moments.append(loop.time() - before)

    await asyncio.gather(*(take() for _ in range(6)))
    assert moments == sorted(moments)
    assert moments[0] < 0.02
    assert all(moment >= 0.02 * position - 0.005 for position, moment in enumerate(moments))


@pytest.mark.parametrize("response", [http("200 OK", b"{}"), http("404 Not Found"), b""])
async def test_a_stop_as_the_test_call_after_a_pause_permits_the_next_calls(response: bytes):
    """Whatever its outcome, the others need not wait until its response times out."""
    rate_limiter, now = RateLimiter(10.0), [1_000.0]
    rate_limiter.on_throttled(now[0], now[0], after=1.0)
    now[0] += 10.0
    async with raw_server(response) as server, crew_sessions() as sessions:
        crew = HttpCrewApi(server.url, TOKEN, rate_limiter, sessions, clock=lambda: now[0])
        await crew.acquire()
        assert rate_limiter.acquire(now[0]) > 0.0
        assert await crew.stop("k-1") == ("stopped" if response.startswith(b"HTTP/1.1 200") else "not_stopped")
    assert rate_limiter.acquire(now[0] + MAX_BACKOFF) == 0.0


async def test_an_answer_that_is_not_sent_permits_the_next_calls():
    rate_limiter, now = RateLimiter(10.0), [1_000.0]
    rate_limiter.on_throttled(now[0], now[0], after=1.0)
    now[0] += 10.0
    async with crew_sessions() as sessions:
        crew = HttpCrewApi("http://crew.example", TOKEN, rate_limiter, sessions, clock=lambda: now[0])
        await crew.acquire()
        assert await crew.answer_flow("http://127.0.0.1:9/", "yes") == Refused("address not permitted")
    assert rate_limiter.acquire(now[0] + MAX_BACKOFF) == 0.0


async def test_an_id_that_could_change_the_path_is_never_sent(api: Api):
    async with raw_server(http("200 OK", b"{}")) as server:
        with pytest.raises(AssertionError):
            await (await api(server.url)).status("../stop/k-1")
        assert server.connections == 0
