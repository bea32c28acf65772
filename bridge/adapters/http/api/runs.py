"""The API for clients: submit a run, look at one, list them."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import hdrs, web

from bridge.adapters.http import headers as request_headers
from bridge.adapters.http import memory, problems, query, views
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import read_object, respond
from bridge.adapters.http.long_poll import Patience, Waiting
from bridge.adapters.http.read_limits import Reads
from bridge.core.delivery import cloudevents
from bridge.core.errors import RequestRefused, StoreUnavailable
from bridge.core.runs import request
from bridge.core.runs.model import Envelope, KickoffRequest, Run, State
from bridge.ports.inbound import Accept, Accepted, WaitOf
from bridge.ports.queries import RunFilter
from bridge.ports.store import Store

_LIST_PARAMETERS = frozenset({"state", "crew", "limit", "cursor"})


class RunsApi:
    """Runs over HTTP. A run that the client may not see does not exist for it.

    `seconds_until_budget` tells for how many seconds an accepted run has to wait for its budgets.
    """

    def __init__(
        self,
        accept: Accept,
        seconds_until_budget: WaitOf,
        store: Store,
        clients: Clients,
        patience: Patience | None = None,
    ) -> None:
        self._accept = accept
        self._seconds_until_budget = seconds_until_budget
        self._store = store
        self._clients = clients
        self._waiting = Waiting(store, patience or Patience())
        self._reads = Reads()

    def routes(self) -> list[web.RouteDef]:
        """Every route, each with who may use it."""
        submitters = self._clients.only(Role.SUBMIT)
        anyone = self._clients.only(Role.SUBMIT, Role.READ)
        bounded = self._reads.bounded
        return [
            web.post("/v1/runs", submitters(self._submit)),
            web.get("/v1/runs", anyone(bounded(self._list))),
            web.get("/v1/runs/{run_id}", anyone(bounded(self._show))),
            web.get("/v1/runs/{run_id}/result", anyone(bounded(self._result))),
        ]

    async def _submit(self, http: web.Request, client: Client) -> web.Response:
        accepted = await self._take(http, client)
        headers: dict[str, str] = {hdrs.LOCATION: f"/v1/runs/{accepted.run.run_id}"}
        if accepted.replayed:
            headers["Idempotency-Replayed"] = "true"
        memory.release(http)  # a client that waits for the end holds no memory meanwhile
        return await self._answer(http, client, accepted.run, headers)

    async def _take(self, http: web.Request, client: Client) -> Accepted:
        """Accept the request; the run comes without its inputs, which are large and not needed any more."""
        asked = _read_request(await read_object(http), http.headers)
        if not client.may_use(asked.crew):
            raise problems.plain(403, "this client may not use this crew")
        envelope = Envelope(client.source, traceparent=request_headers.traceparent(http.headers))
        accepted = await self._accept(asked, envelope)
        return replace(accepted, run=replace(accepted.run, request=replace(accepted.run.request, inputs={})))

    async def _answer(self, http: web.Request, client: Client, run: Run, headers: dict[str, str]) -> web.Response:
        """`200` with the final run if the client would wait and it ends in time, else `202`."""
        seconds = request_headers.preferred_wait(http.headers)
        fairly = not self._clients.anonymous
        if seconds and (seen := await self._waiting.until_final(run, seconds, http, client.name, fairly=fairly)):
            headers["Preference-Applied"] = "wait"
            run = seen
            if run.final and (shown := await self._in_full(run)):
                return respond(shown, headers=headers)
        if seconds_left := await self._budget_wait(run):
            headers[hdrs.RETRY_AFTER] = str(seconds_left)
        return respond(views.accepted(run), 202, headers)

    async def _budget_wait(self, run: Run) -> int:
        """Whole seconds before which a look at the run is in vain; 0: unknown, or nothing holds it."""
        try:
            return math.ceil(await self._seconds_until_budget(run)) if run.state is State.ACCEPTED else 0
        except StoreUnavailable:  # the run is stored all the same
            return 0

    async def _in_full(self, run: Run) -> dict[str, Any] | None:
        """None: the store went away; the run is stored all the same, so the answer must not be an error."""
        try:
            whole = await self._store.show(run.run_id) or run  # what was waited for was seen without its result
            return await views.run_in_full(self._store, whole)
        except StoreUnavailable:
            return None

    async def _show(self, http: web.Request, client: Client) -> web.Response:
        run = await views.visible_run(self._store, client, http.match_info["run_id"])
        return respond(await views.run_in_full(self._store, run))

    async def _result(self, http: web.Request, client: Client) -> web.Response:
        return respond(
            cloudevents.result_document(await views.visible_run(self._store, client, http.match_info["run_id"]))
        )

    async def _list(self, http: web.Request, client: Client) -> web.Response:
        asked = query.parameters(http, _LIST_PARAMETERS)
        found = await self._store.find_runs(
            RunFilter(
                state=query.choice("state", State, asked.get("state")),
                crew=query.crew(asked.get("crew")),
                crews=client.crews,
                source=None if client.sees_all else client.source,
                before=_cursor(asked.get("cursor")),
                limit=query.limit(asked.get("limit")),
            )
        )
        next_cursor = found.items[-1].run_id if found.more else None
        shown = [views.run_as_listed(run, served=await views.is_served(self._store, run)) for run in found.items]
        return respond({"runs": shown, "next_cursor": next_cursor})


def _read_request(body: Mapping[str, Any], headers: request_headers.Headers) -> KickoffRequest:
    key = request_headers.idempotency_key(headers)
    asked = request.parse(body, idempotency_key=key)
    if key is not None and key != asked.idempotency_key:
        raise RequestRefused("invalid_request", "differs from the header Idempotency-Key", "idempotency_key")
    return asked


def _cursor(text: str | None) -> str | None:
    if text is not None and not views.RUN_ID.fullmatch(text):
        raise problems.parameter("cursor", "must be the next_cursor of another list")
    return text
