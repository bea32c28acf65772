"""Commands on all runs that match a filter: cancel, resolve, retry."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from aiohttp import web

from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import REASON
from bridge.adapters.http.query import RUN_FILTERS, run_filter
from bridge.adapters.http.selection import Selection, read_selection, respond_with_counts
from bridge.core.errors import PostInProgress, RequestRefused
from bridge.core.runs import request as kickoff_request
from bridge.core.runs.commands import Abandon, Cancel, Retry, RunCommand
from bridge.core.runs.model import FINAL_STATES, Envelope, State
from bridge.ports.inbound import Accept, ApplyCommand
from bridge.ports.metrics import CountRequest
from bridge.ports.queries import Queries, RunFilter

MAX_RUNS = 1000  # of one request
_OPEN = [state for state in State if state not in FINAL_STATES]
_UNSUCCESSFUL = [state for state in State if state in FINAL_STATES and state is not State.SUCCEEDED]
_RESOLUTIONS: Mapping[str, RunCommand] = {"retry": Retry(), "abandon": Abandon()}

Act = Callable[[str], Awaitable[bool]]
"""Acts on the run with this id; returns whether it did. Raises `RequestRefused` or `PostInProgress` if it cannot."""


class BulkCommandsApi:
    """Commands by filter. A client may cancel and retry the runs it submitted; everything else requires `operate`.

    A run that cannot be changed, for instance because it has ended meanwhile, is skipped. During an outage of the store
    the runs before it are done; the same request can be repeated.
    """

    def __init__(
        self,
        apply_command: ApplyCommand,
        accept: Accept,
        store: Queries,
        clients: Clients,
        count: CountRequest = lambda _outcome: None,
    ) -> None:
        self._apply_command = apply_command
        self._accept = accept
        self._store = store
        self._clients = clients
        self._count = count

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each with its required role."""
        return [
            web.post("/v1/runs/cancel", self._clients.require_audited(Role.SUBMIT)(self._cancel)),
            web.post("/v1/runs/resolve", self._clients.require_audited(Role.OPERATE)(self._resolve)),
            web.post("/v1/runs/retry", self._clients.require_audited(Role.SUBMIT)(self._retry)),
        ]

    async def _cancel(self, request: web.Request, client: Client) -> web.Response:
        async def cancel(run_id: str) -> bool:
            await self._apply_command(run_id, Cancel(), client.source, request.get(REASON) or None)
            return True

        return await self._act_on_all(request, client, await read_selection(request, RUN_FILTERS), _OPEN, cancel)

    async def _resolve(self, request: web.Request, client: Client) -> web.Response:
        selection = await read_selection(request, RUN_FILTERS, "action")
        if (command := _RESOLUTIONS.get(str(selection.others.get("action")))) is None:
            raise RequestRefused("invalid_request", "must be retry or abandon", "action")

        async def resolve(run_id: str) -> bool:
            await self._apply_command(run_id, command, client.source, request.get(REASON) or None)
            return True

        return await self._act_on_all(request, client, selection, [State.IN_DOUBT], resolve)

    async def _retry(self, request: web.Request, client: Client) -> web.Response:
        """Retry each run at most once, whatever is repeated, because the new run has a key with the old run's id."""
        selection = await read_selection(request, RUN_FILTERS)
        sender = Envelope(client.source, sees_all=client.sees_all)

        async def retry(run_id: str) -> bool:
            run = await self._store.load_for_api(run_id)
            if run is None:  # deleted meanwhile
                return False
            accepted = await self._accept(*kickoff_request.retry(run, f"retry-{run_id}", sender))
            self._count(accepted.outcome)
            return not accepted.replayed

        ended = FINAL_STATES if "state" in selection.filter_ else _UNSUCCESSFUL
        return await self._act_on_all(request, client, selection, ended, retry)

    async def _act_on_all(
        self, request: web.Request, client: Client, selection: Selection, states: Iterable[State], act: Act
    ) -> web.Response:
        """Act on the selected runs in one of the states, newest first in each."""
        if not selection.filter_:
            raise RequestRefused("invalid_request", "must have at least one parameter of GET /v1/runs", "filter")
        filter_ = run_filter(selection.filter_, client)
        if not client.may(Role.OPERATE):
            filter_ = replace(filter_, source=client.source)
        matched = await self._find(filter_, states)
        done = 0
        for run_id in () if selection.dry_run else matched:
            with suppress(RequestRefused, PostInProgress):
                done += await act(run_id)
        return respond_with_counts(request, len(matched), done)

    async def _find(self, filter_: RunFilter, states: Iterable[State]) -> list[str]:
        """Return the ids of the matching runs, at most `MAX_RUNS`; the runs themselves may be large."""
        found: list[str] = []
        for state in (state for state in states if filter_.state in (None, state)):
            more, before = True, None
            while more and len(found) < MAX_RUNS:
                limit = MAX_RUNS - len(found)
                page = await self._store.find_runs(replace(filter_, state=state, before=before, limit=limit))
                found += [run.run_id for run in page.items]
                more, before = page.more, page.items[-1].run_id if page.items else None
        return found
