"""The door for the questions of flows: one webhook per deployment, signed, sent once and never again."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
import structlog
from aiohttp import web

from bridge.adapters import http_problem
from bridge.adapters.http_auth import FAILED_LOGINS, MOST_ADDRESSES, network_of
from bridge.adapters.http_json import read_body
from bridge.core import flow_questions
from bridge.core.errors import Stale
from bridge.core.rate import Buckets
from bridge.ports import Clock, TakeFlowQuestion

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FlowSource:
    """A crew whose deployment sends questions: the secrets that may sign them, and where its answers may go."""

    url: str
    insecure: bool
    secrets: Sequence[str] = field(repr=False)


class FlowQuestionsApi:
    """Answers as soon as the question is stored; whoever cannot sign learns nothing but 401."""

    def __init__(self, sources: Mapping[str, FlowSource], take: TakeFlowQuestion, clock: Clock) -> None:
        self._sources = sources
        self._take_question = take
        self._clock = clock
        self._failures = Buckets(FAILED_LOGINS, MOST_ADDRESSES)

    def renew(self, sources: Mapping[str, FlowSource]) -> None:
        """The same crews with other secrets."""
        self._sources = sources

    def routes(self) -> list[web.RouteDef]:
        """The one route; the signature is the permission."""
        return [web.post("/amp/crews/{crew}/human", self._take)]

    async def _take(self, http: web.Request) -> web.Response:
        crew = http.match_info["crew"]
        source = self._sources.get(crew)
        if source is None:
            raise http_problem.plain(404)
        body = await read_body(http)
        if not flow_questions.verified(http.headers, body, source.secrets, self._clock()):
            raise self._stranger(http, crew)
        question = flow_questions.read(_parse(body), crew_url=source.url, insecure=source.insecure)
        if question is None:
            log.warning("flow_question_unreadable", crew=crew)
            return web.Response(status=204)
        try:
            await self._take_question(crew, question)
        except Stale:
            raise http_problem.plain(503) from None
        return web.Response(status=204)

    def _stranger(self, http: web.Request, crew: str) -> http_problem.Problem:
        address = network_of(http.remote)
        if wait := self._failures.take(address, asyncio.get_running_loop().time()):
            return http_problem.too_often("too many requests without a valid proof", wait)
        log.warning("flow_question_not_verified", crew=crew, address=address)
        return http_problem.plain(401)


def _parse(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
