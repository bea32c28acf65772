"""Flow questions: receive the signed webhook that a flow deployment sends exactly once per question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.auth import FailedLogins
from bridge.adapters.http.body import read_uncompressed_body
from bridge.adapters.http.connection import mark_authenticated
from bridge.core.crew import flow_questions
from bridge.core.crew.api_json import read_webhook
from bridge.core.redaction import Redactor
from bridge.ports.inbound import ReceiveFlowQuestion
from bridge.ports.lifecycle import Clock

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FlowSource:
    """A crew whose deployment sends questions. `secrets` verify them.

    Answers are sent to the host of `url`, and to those that match `allow`.
    """

    url: str
    insecure: bool
    secrets: Sequence[str] = field(repr=False)
    allow: Sequence[str] = flow_questions.PLATFORM


class FlowQuestionsApi:
    """The endpoint for flow questions. It responds once the question is stored; without a valid signature, with 401."""

    def __init__(
        self,
        sources: Mapping[str, FlowSource],
        receive_question: ReceiveFlowQuestion,
        clock: Clock,
        redactor: Redactor | None = None,
    ) -> None:
        self._redactor = redactor or Redactor()
        self._sources = sources
        self._receive_question = receive_question
        self._clock = clock
        self._failed_logins = FailedLogins("signature")

    def renew(self, sources: Mapping[str, FlowSource]) -> None:
        """Replace the crews' secrets."""
        self._sources = sources

    def routes(self) -> list[web.RouteDef]:
        """Return the route; requests are authenticated by their signature."""
        return [web.post("/amp/crews/{crew}/human", self._receive)]

    async def _receive(self, request: web.Request) -> web.Response:
        crew = request.match_info["crew"]
        source = self._sources.get(crew)
        if source is None:
            raise problems.from_status(404)
        body = await read_uncompressed_body(request)
        if not flow_questions.verified(request.headers, body, source.secrets, self._clock()):
            raise self._unauthenticated(request, crew)
        mark_authenticated(request)
        content = self._redactor.value(read_webhook(body)[0])
        question = flow_questions.read(content, crew_url=source.url, insecure=source.insecure, allow=source.allow)
        if question is None:
            log.warning("flow_question_rejected", crew=crew)
            return web.Response(status=204)
        if question.content.callback_url is None:
            log.warning("flow_callback_url_rejected", crew=crew)
        await self._receive_question(crew, question)
        return web.Response(status=204)

    def _unauthenticated(self, request: web.Request, crew: str) -> problems.Problem:
        address = self._failed_logins.record(request)
        log.warning("flow_question_verification_failed", crew=crew, address=address)
        return problems.from_status(401)
