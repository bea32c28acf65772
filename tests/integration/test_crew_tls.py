"""Crews behind a private authority that require a client certificate; all crews share the sessions."""

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.adapters.crew_api import CrewSessions, HttpCrewApi, crew_sessions
from bridge.adapters.http_client import UNTRUSTED
from bridge.config.tls import Tls
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.responses import NoResponse, NotStarted, Resumed, Started
from tests.certificates import Files
from tests.integration.test_crew_api import BODY, OK, TOKEN, RawServer, http
from tests.tcp_server import tcp_server

HOST = "localhost"


@pytest.fixture
def pem(tmp_path: Path) -> Files:
    return Files(tmp_path, HOST, "bridge")


@pytest.fixture
async def sessions() -> AsyncIterator[CrewSessions]:
    async with crew_sessions() as opened:
        yield opened


@asynccontextmanager
async def deployment(pem: Files, *, client_certificates: bool = True) -> AsyncIterator[RawServer]:
    """A server with a certificate of the private authority; by default, it requires one of its clients."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem.path(f"{HOST}.pem"), pem.path(f"{HOST}.key"))
    if client_certificates:
        tls.load_verify_locations(pem.ca)
        tls.verify_mode = ssl.CERT_REQUIRED
    raw = RawServer([http("200 OK", OK)])
    async with tcp_server(raw.serve, tls) as port:
        raw.url = f"https://{HOST}:{port}"
        yield raw


def crew(url: str, sessions: CrewSessions, tls: Tls | None) -> HttpCrewApi:
    context = None if tls is None else tls.context()
    return HttpCrewApi(url, TOKEN, RateLimiter(), sessions, time.time, tls=context)


def own(pem: Files) -> Tls:
    return Tls(ca_file=pem.ca, cert_file=pem.path("bridge.pem"), key_file=pem.path("bridge.key"))


async def test_a_crew_is_called_with_the_client_certificate(pem: Files, sessions: CrewSessions):
    async with deployment(pem) as server:
        api = crew(server.url, sessions, own(pem))
        assert await api.kickoff(BODY) == Started("k-1")
        assert (await api.probe()).ok
        assert await api.answer_flow(f"{server.url}/respond", "approved") == Resumed()
        assert len(server.requests) == 3


async def test_another_crew_trusts_only_the_authorities_of_the_system(pem: Files, sessions: CrewSessions):
    """Not even over a connection that is open to the same server."""
    async with deployment(pem) as server:
        assert (await crew(server.url, sessions, own(pem)).probe()).ok
        other = crew(server.url, sessions, None)
        assert (await other.probe()).detail.endswith(f"{UNTRUSTED}; name the authority that signed it in tls.ca_file")
        assert await other.status("k-1") == NoResponse(UNTRUSTED)
        assert await other.kickoff(BODY) == NotStarted(UNTRUSTED)
        assert len(server.requests) == 1


async def test_a_crew_without_its_client_certificate_is_refused(pem: Files, sessions: CrewSessions):
    async with deployment(pem) as server:
        assert not (await crew(server.url, sessions, Tls(ca_file=pem.ca)).probe()).ok
        assert server.requests == []


async def test_the_certificates_of_a_crew_are_for_its_own_host(pem: Files, sessions: CrewSessions):
    """Human input that a flow wants elsewhere is sent as to any other server."""
    unguarded = sessions._replace(external=sessions.kickoffs)
    async with deployment(pem, client_certificates=False) as server:
        api = crew("https://crew.example", unguarded, own(pem))
        assert await api.answer_flow(f"{server.url}/respond", "approved") == NotStarted(UNTRUSTED)
        assert server.requests == []
