"""Runs: submit a kickoff request, retry a run as a new one, show a run or its result, list runs."""

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from aiohttp import hdrs, web

from bridge.adapters.cloudevents import InboundEvent, read_event
from bridge.adapters.http import headers as request_headers
from bridge.adapters.http import memory, problems, query, views
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import DETAILS, read_command_body, read_json, respond
from bridge.adapters.http.long_poll import LongPoll, LongPollOptions
from bridge.adapters.http.read_limits import ReadLimit
from bridge.core import json as strict_json
from bridge.core.delivery import events
from bridge.core.errors import RequestRefused, StoreUnavailable
from bridge.core.json import check_members
from bridge.core.runs import request as kickoff_request
from bridge.core.runs.model import Envelope, KickoffRequest, RequestWarning, Run
from bridge.core.runs.request import parse_traceparent
from bridge.ports.inbound import Accept, Accepted, ExplainWaiting
from bridge.ports.metrics import CountRequest
from bridge.ports.queries import Queries

_PAID_AGAIN = RequestWarning("paid_again", "the new run starts another execution, which will be paid for")
_LIST_PARAMETERS = query.RUN_FILTERS | {"limit", "cursor"}


class RunsApi:
    """Runs over HTTP. A run that the client may not see is reported as unknown.

    `base_path` is the path of the API as callers see it.
    """

    def __init__(
        self,
        accept: Accept,
        explain_waiting: ExplainWaiting,
        store: Queries,
        clients: Clients,
        options: LongPollOptions | None = None,
        base_path: str = "",
        count: CountRequest = lambda _outcome: None,
    ) -> None:
        self._count = count
        self._accept = accept
        self._explain_waiting = explain_waiting
        self._store = store
        self._clients = clients
        self._long_poll = LongPoll(store, options or LongPollOptions())
        self._read_limit = ReadLimit()
        self._base_path = base_path

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each with its required role."""
        submitters = self._clients.require(Role.SUBMIT)
        readers = self._clients.require(Role.SUBMIT, Role.READ)
        bounded = self._read_limit.bounded
        return [
            web.post("/v1/runs", submitters(self._submit)),
            web.post("/v1/runs/{run_id}/retry", self._clients.require_audited(Role.SUBMIT)(self._retry)),
            web.get("/v1/runs", readers(bounded(self._list))),
            web.get("/v1/runs/{run_id}", readers(bounded(self._show))),
            web.get("/v1/runs/{run_id}/result", readers(bounded(self._result))),
        ]

    async def _submit(self, request: web.Request, client: Client) -> web.Response:
        accepted = await self._counted(self._accept_request(request, client))
        memory.release(request)  # a long poll must not hold the body's memory
        return await self._respond(request, client, accepted)

    async def _accept_request(self, request: web.Request, client: Client) -> Accepted:
        """Accept the request; drop the run's inputs, which may be large and are not needed for the response."""
        asked, event = _read_request(await read_json(request), request.headers)
        if not client.may_use(asked.crew):
            raise problems.from_status(403, "this client may not use this crew")
        trace_context = request_headers.traceparent(request.headers) or parse_traceparent(event and event.traceparent)
        envelope = Envelope(client.source, traceparent=trace_context, sees_all=client.sees_all)
        accepted = await self._accept(asked, envelope)
        return replace(accepted, run=replace(accepted.run, request=replace(accepted.run.request, inputs={})))

    async def _retry(self, request: web.Request, client: Client) -> web.Response:
        check_members(await read_command_body(request))
        run = await views.load_commanded_run(self._store, client, request)
        traceparent = request_headers.traceparent(request.headers)
        sender = Envelope(client.source, traceparent=traceparent, sees_all=client.sees_all)
        asked, envelope = kickoff_request.retry(run, request_headers.idempotency_key(request.headers), sender)
        accepted = await self._counted(self._accept(asked, envelope))
        request[DETAILS] |= {"retried_as": accepted.run.run_id}
        warnings = (*accepted.warnings, _PAID_AGAIN)
        return respond(views.accepted(accepted.run, warnings), 202, self._headers(accepted))

    async def _counted(self, accepting: Awaitable[Accepted]) -> Accepted:
        """Count the outcome of a request."""
        try:
            accepted = await accepting
        except RequestRefused as refusal:
            self._count(refusal.code)
            raise
        self._count(accepted.outcome)
        return accepted

    def _headers(self, accepted: Accepted) -> dict[str, str]:
        replayed = {"Idempotency-Replayed": "true"} if accepted.replayed else {}
        return {hdrs.LOCATION: views.location(self._base_path, accepted.run), **replayed}

    async def _respond(self, request: web.Request, client: Client, accepted: Accepted) -> web.Response:
        """Return `200` with the final run if the client wants to wait and the run ends in time, otherwise `202`."""
        run, seconds, headers = accepted.run, request_headers.preferred_wait(request.headers), self._headers(accepted)
        fairly = not self._clients.anonymous
        if seconds and (
            seen := await self._long_poll.wait_until_final(run, seconds, request, client.name, fairly=fairly)
        ):
            headers["Preference-Applied"] = "wait"
            run = seen
            if run.final and (shown := await self._detail(run)):
                return respond(shown, headers=headers)
        return respond(views.accepted(run, accepted.warnings), 202, headers)

    async def _detail(self, run: Run) -> dict[str, Any] | None:
        """Return the run in full; None if storage is unavailable, which must not turn the response into an error."""
        try:
            # The long poll reads runs without their results.
            complete = await self._store.load_for_api(run.run_id) or run
            return await views.load_run_detail(self._store, self._explain_waiting, complete)
        except StoreUnavailable:
            return None

    async def _show(self, request: web.Request, client: Client) -> web.Response:
        run = await views.load_visible_run(self._store, client, request.match_info["run_id"])
        shown = await views.load_run_detail(self._store, self._explain_waiting, run)
        return respond({**shown, "inputs": dict(run.request.inputs.items())})

    async def _result(self, request: web.Request, client: Client) -> web.Response:
        return respond(
            events.result_document(await views.load_visible_run(self._store, client, request.match_info["run_id"]))
        )

    async def _list(self, request: web.Request, client: Client) -> web.Response:
        asked = query.read_parameters(request, _LIST_PARAMETERS)
        filter_ = query.run_filter(asked, client)
        before, limit = _cursor(asked.get("cursor")), query.limit(asked.get("limit"))
        found = await self._store.find_runs(replace(filter_, before=before, limit=limit))
        next_cursor = found.items[-1].run_id if found.more else None
        waiting = await self._explain_waiting(found.items)
        shown = [views.run_summary(run, waiting.get(run.run_id)) for run in found.items]
        return respond({"runs": shown, "next_cursor": next_cursor})


def _read_request(body: bytes, headers: request_headers.Headers) -> tuple[KickoffRequest, InboundEvent | None]:
    """Return the request, and the CloudEvent that contains it; the event's key precedes that of the header."""
    event = read_event(headers.get(hdrs.CONTENT_TYPE), request_headers.cloudevents_attributes(headers), body)
    if event is not None:
        return kickoff_request.parse(event.body, idempotency_key=event.key), event
    key = request_headers.idempotency_key(headers)
    asked = kickoff_request.parse(strict_json.parse_object(body), idempotency_key=key)
    if key is not None and key != asked.idempotency_key:
        raise RequestRefused("invalid_request", "must equal the header Idempotency-Key", "idempotency_key")
    return asked, None


def _cursor(text: str | None) -> str | None:
    if text is not None and not views.RUN_ID.fullmatch(text):
        raise problems.invalid_parameter("cursor", "must be the next_cursor of a previous page")
    return text
