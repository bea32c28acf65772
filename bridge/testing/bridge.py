"""A whole bridge in a thread of its own, and the events that it has sent, for tests of a service that uses it."""

import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, get_args

from aiohttp import web

from bridge.config.placeholders import CALLBACK_SECRET
from bridge.events import Event, FinalEvent, parse
from bridge.local import local_bridge
from bridge.testing._http import call
from bridge.testing._thread import in_thread
from bridge.testing.crew_api import CrewApi

_BROKER_TIMEOUT = 60.0  # seconds; only an absent broker takes this long
_INTERVAL = 0.02
_GRACE = 1.0  # seconds that work in progress may take at the end
_POLL = {"min_interval": "100ms", "max_interval": "1s"}
_OWN_PARTS = {"store", "crews", "clock"}
_FINAL = tuple(get_args(model.model_fields["type"].annotation)[0] for model in get_args(FinalEvent))


class RunningBridge:
    """A running bridge: its `url`, the `callback_secret` with which it signs, and the crew API in front of which it is.

    `token` is that of its first client, None without clients. Its methods block; in an asynchronous test, call those
    that wait with `asyncio.to_thread`.
    """

    def __init__(self, url: str, crew_api: CrewApi, crews: Sequence[str], token: str | None) -> None:
        self.url = url
        self.crew_api = crew_api
        self.callback_secret = CALLBACK_SECRET
        self.crews = crews
        self.token = token
        self._events: list[Event] = []
        self._arrived = threading.Condition()

    @property
    def events(self) -> Sequence[Event]:
        """The events of runs that it has sent so far, each once."""
        with self._arrived:
            return tuple(self._events)

    def submit(self, inputs: Mapping[str, Any], crew: str | None = None, **members: Any) -> str:
        """Submit a kickoff request with these members, such as `meta` or `callback_url`; return the id of its run.

        `crew`: by default the first one. Raise `ValueError` with the problem if the request is refused.
        """
        body = {"crew": crew or self.crews[0], "inputs": inputs, **members}
        run_id: str = self._ask("POST", "/v1/runs", body)["run_id"]
        return run_id

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a run with its state, `waiting`, `history`, and deliveries."""
        run: dict[str, Any] = self._ask("GET", f"/v1/runs/{run_id}")
        return run

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Call its API; return the status and the JSON of the response."""
        return call(method, self.url + path, body, self.token)

    def wait_for_event(
        self, *types: str, run_id: str | None = None, idempotency_key: str | None = None, within: float = 30.0
    ) -> Event:
        """Return the first event of one of these types, by default the final ones, of this run or this key.

        It may have been sent before. Raise `AssertionError` as soon as the run has ended otherwise, and `TimeoutError`
        after `within` seconds; both name the events that were sent.
        """
        wanted = types or _FINAL

        def found(types: Sequence[str]) -> Event | None:
            return next((one for one in self._events if _matches(one, types, run_id, idempotency_key)), None)

        def ended_otherwise() -> bool:
            named = run_id is not None or idempotency_key is not None
            return named and set(wanted) <= set(_FINAL) and found(_FINAL) is not None

        with self._arrived:
            self._arrived.wait_for(lambda: found(wanted) or ended_otherwise(), within)
            event, ended = found(wanted), ended_otherwise()
            sent = ", ".join(map(_shown, self._events)) or "nothing"
        if event is None and ended:
            raise AssertionError(f"no {' or '.join(wanted)}; sent: {sent}")
        if event is None:
            raise TimeoutError(f"no {' or '.join(wanted)} within {within:g} s; sent: {sent}")
        return event

    def wait_for_deliveries(self, run_id: str, within: float = 30.0) -> list[dict[str, Any]]:
        """Return the deliveries of a run's events so far, once each is confirmed or dead.

        Raise `TimeoutError` after `within` seconds.
        """
        deadline = time.monotonic() + within
        while pending := [one for one in self.run(run_id)["deliveries"] if one["state"] == "pending"]:
            if time.monotonic() > deadline:
                where, why = pending[0]["destination"], pending[0]["last_error"] or "no attempt yet"
                raise TimeoutError(f"not delivered to {where} within {within:g} s: {why}")
            time.sleep(_INTERVAL)
        deliveries: list[dict[str, Any]] = self.run(run_id)["deliveries"]
        return deliveries

    def on_event(self, event: Event) -> None:
        """Keep an event, unless it is a duplicate."""
        with self._arrived:
            if all(event.id != known.id for known in self._events):
                self._events.append(event)
                self._arrived.notify_all()

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        status, answer = self.request(method, path, body)
        if status >= 400:  # noqa: PLR2004 - the codes of errors
            raise ValueError(f"{method} {path}: {status} {answer['code']}: {answer.get('detail', answer['title'])}")
        return answer


@contextmanager
def running_bridge(crew_api: CrewApi, settings: Mapping[str, Any] | None = None) -> Iterator[RunningBridge]:
    """Run a bridge in front of this crew API, with these settings in addition to those that a test needs.

    Each of their `crews`, by default `research`, is at the crew API unless it has a `url` of its own.
    """
    with in_thread(_serving(crew_api, settings or {})) as running:
        _wait_for_broker(running)
        yield running


@asynccontextmanager
async def _serving(crew_api: CrewApi, given: Mapping[str, Any]) -> AsyncIterator[RunningBridge]:
    async def keep(request: web.Request) -> web.Response:
        running.on_event(parse(await request.read()))
        return web.Response(status=204)

    receiver = web.Application()
    receiver.add_routes([web.post("/", keep)])
    runner = web.AppRunner(receiver, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        own = {"testing": {"url": f"http://127.0.0.1:{runner.addresses[0][1]}/"}}
        at_crew_api = {"url": crew_api.url, "token": crew_api.token, "poll": _POLL}
        crews = {name: {**at_crew_api, **crew} for name, crew in given.get("crews", {"research": {}}).items()}
        settings = {**given, "crews": crews, "destinations": own | given.get("destinations", {})}
        async with local_bridge([], CALLBACK_SECRET, settings, _GRACE) as local:
            clients = given.get("http", {}).get("clients")
            running = RunningBridge(local.url, crew_api, tuple(crews), clients[0]["token"] if clients else None)
            yield running
    finally:
        await runner.cleanup()


def _wait_for_broker(bridge: RunningBridge) -> None:
    """Wait until exchanges and queues exist, if the settings name a broker."""
    deadline = time.monotonic() + _BROKER_TIMEOUT
    while waiting := [part for name, part in _parts(bridge).items() if name not in _OWN_PARTS and not part["ok"]]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no connection to the broker within {_BROKER_TIMEOUT:g} s: {waiting[0]['detail']}")
        time.sleep(_INTERVAL)


def _parts(bridge: RunningBridge) -> dict[str, Any]:
    parts: dict[str, Any] = bridge.request("GET", "/readyz")[1].get("parts", {})  # none with an `ops_port`
    return parts


def _matches(event: Event, types: Sequence[str], run_id: str | None, idempotency_key: str | None) -> bool:
    run_ids, keys = {None, event.subject}, {None, getattr(event.data, "idempotency_key", None)}
    return event.type in types and run_id in run_ids and idempotency_key in keys


def _shown(event: Event) -> str:
    error = getattr(event.data, "error", None)
    return f"{event.type} of {event.subject}" + (f" ({error.code}: {error.message})" if error else "")
