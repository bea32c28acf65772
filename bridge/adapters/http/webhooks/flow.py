"""The door for the questions of flows: one webhook per deployment, signed, sent once and never again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.body import read_plain_body
from bridge.adapters.http.connection import authenticated
from bridge.adapters.http.failed_logins import FailedLogins
from bridge.core.crew import flow_questions
from bridge.core.crew.api_json import read_webhook
from bridge.core.errors import Stale
from bridge.core.redaction import Redactor
from bridge.ports.inbound import TakeFlowQuestion
from bridge.ports.lifecycle import Clock

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FlowSource:
    """A crew whose deployment sends questions: the secrets that may sign them, and where its answers may go."""

    url: str
    insecure: bool
    secrets: Sequence[str] = field(repr=False)


class FlowQuestionsApi:
    """Answers as soon as the question is stored; whoever cannot sign learns nothing but 401."""

    def __init__(
        self, sources: Mapping[str, FlowSource], take: TakeFlowQuestion, clock: Clock, redactor: Redactor | None = None
    ) -> None:
        self._redactor = redactor or Redactor()
        self._sources = sources
        self._take_question = take
        self._clock = clock
        self._failed_logins = FailedLogins("proof")

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
            raise problems.plain(404)
        body = await read_plain_body(http)
        if not flow_questions.verified(http.headers, body, source.secrets, self._clock()):
            raise self._unauthenticated(http, crew)
        authenticated(http)
        content = self._redactor.value(read_webhook(body)[0])
        question = flow_questions.read(content, crew_url=source.url, insecure=source.insecure)
        if question is None:
            log.warning("flow_question_unreadable", crew=crew)
            return web.Response(status=204)
        try:
            await self._take_question(crew, question)
        except Stale:
            raise problems.plain(503) from None
        return web.Response(status=204)

    def _unauthenticated(self, http: web.Request, crew: str) -> problems.Problem:
        address = self._failed_logins.count(http)
        log.warning("flow_question_not_verified", crew=crew, address=address)
        return problems.plain(401)
