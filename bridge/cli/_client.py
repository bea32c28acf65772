"""Client of the bridge's HTTP API for the command line; of the standard library, which is imported in a few ms."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from email.utils import mktime_tz, parsedate_tz
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from pathlib import Path
from socket import gaierror
from ssl import SSLError
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from bridge.cli._errors import CommandFailed, Exit
from bridge.core.http.target import check_base_url, check_token

Json = dict[str, Any]
T = TypeVar("T")

_RUN = ("run_id", "crew", "state")
"""String fields that every representation of a run contains."""
_DELIVERY = ("id", "type", "destination", "state")
"""String fields that every representation of a delivery contains."""
_ADDRESS_FROM = "the address is that of --url, of BRIDGE_URL, or of http.host and http.port in the settings"

_FAILURES = (
    (TimeoutError, "timed out"),
    (SSLError, "TLS handshake failed"),
    (gaierror, "host name not found"),
    (IncompleteRead, "incomplete response"),
    (ConnectionRefusedError, "connection failed"),
    (ConnectionError, "connection closed"),
    (OSError, "connection failed"),
)
"""Why a call has no usable response; the first class that matches counts."""

TIMEOUT = 90.0  # seconds without any data; the event stream sends a comment every 15 s


class NotListening(CommandFailed):
    """No process listens at the bridge's address; nothing was sent."""


class BridgeClient:
    """Calls a running bridge. A refusal ends the command with the `detail` of the bridge's problem."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def submit(self, request: Json) -> Json:
        """Send a kickoff request; return the accepted run."""
        return self._run(self._call("POST", "/v1/runs", body=request))

    def run(self, run_id: str) -> Json:
        """Return one run with its deliveries."""
        return self._run(self._call("GET", "/v1/runs", run_id))

    def command_run(self, run_id: str, verb: str, body: Json) -> Json:
        """Send a command (`cancel`, `resume`, `resolve`) to a run; return the run."""
        return self._run(self._call("POST", "/v1/runs", run_id, verb, body=body))

    def retry(self, run_id: str, key: str, body: Json) -> tuple[Json, bool]:
        """Retry a run; return the new one, and whether an earlier call with this key has created it."""
        quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
        path = _path(("/v1/runs", run_id, "retry"))
        with self._response("POST", path, body=body, headers={"Idempotency-Key": quoted}) as response:
            return self._run(self._read(response)), "Idempotency-Replayed" in response.headers

    def release(self, body: Json) -> Json:
        """Release held runs; return their number as `released`."""
        response = self._call("POST", "/v1/runs/release", body=body)
        if not isinstance(response.get("released"), int):
            raise self._not_a_bridge()
        return response

    def command_many(self, path: str, body: Json) -> Json:
        """Send a command to all runs or deliveries that match the body's `filter`; return `matched` and `done`."""
        response = self._call("POST", path, body=body)
        if not isinstance(response.get("matched"), int) or not isinstance(response.get("done"), int):
            raise self._not_a_bridge()
        return response

    def runs(self, query: Mapping[str, str]) -> Json:
        """Return a page of runs, newest first."""
        page = self._call("GET", "/v1/runs", query=query)
        if not isinstance(page.get("runs"), list) or not all(map(_is_run, page["runs"])):
            raise self._not_a_bridge()
        return page

    def deliveries(self, query: Mapping[str, str]) -> Json:
        """Return a page of deliveries, newest first."""
        page = self._call("GET", "/v1/deliveries", query=query)
        if not isinstance(page.get("deliveries"), list) or not all(map(_is_delivery, page["deliveries"])):
            raise self._not_a_bridge()
        return page

    def delivery(self, delivery_id: str) -> Json:
        """Return one delivery with its last attempts."""
        return self._delivery(self._call("GET", "/v1/deliveries", delivery_id))

    def redeliver(self, delivery_id: str, body: Json) -> Json:
        """Redeliver one event; return the delivery."""
        return self._delivery(self._call("POST", "/v1/deliveries", delivery_id, "redeliver", body=body))

    def discard(self, delivery_id: str, body: Json) -> Json:
        """Give up on a pending delivery; return it."""
        return self._delivery(self._call("POST", "/v1/deliveries", delivery_id, "discard", body=body))

    def crews(self) -> Json:
        """Return the crews that the client may use."""
        response = self._call("GET", "/v1/crews")
        if not isinstance(response.get("crews"), list):
            raise self._not_a_bridge()
        return response

    def receivers(self) -> Json:
        """Return the failing and paused receivers."""
        response = self._call("GET", "/v1/receivers")
        if not isinstance(response.get("receivers"), list):
            raise self._not_a_bridge()
        return response

    def resume_receivers(self, body: Json) -> Json:
        """Resume paused receivers; return their number as `resumed`."""
        response = self._call("POST", "/v1/receivers/resume", body=body)
        if not isinstance(response.get("resumed"), int):
            raise self._not_a_bridge()
        return response

    def event_lines(self, query: Mapping[str, str], last_id: str | None) -> Iterator[bytes]:
        """Yield the lines of the event stream after the event with the id `last_id`, until the stream ends.

        A new stream begins with an id that stands for the time of the response, until the bridge has sent an event.
        """
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        with self._response("GET", "/v1/events", query, headers=headers) as response:
            if response.status >= 400:  # noqa: PLR2004 - the boundary of HTTP errors
                self._read(response)
            if response.headers.get_content_type() != "text/event-stream":
                raise self._not_a_bridge()
            if last_id is None and (began := parsedate_tz(response.headers.get("Date", ""))) is not None:
                yield from (b"id: at-%d\n" % mktime_tz(began), b"\n")
            yield from response

    def _delivery(self, response: Json) -> Json:
        if not _is_delivery(response) or not isinstance(response.get("history"), list):
            raise self._not_a_bridge()
        return response

    def _run(self, response: Json) -> Json:
        if not _is_run(response):
            raise self._not_a_bridge()
        return response

    def _call(self, method: str, *steps: str, query: Mapping[str, str] | None = None, body: Json | None = None) -> Json:
        with self._response(method, _path(steps), query, body) as response:
            return self._read(response)

    def _read(self, response: HTTPResponse) -> Json:
        """Return the JSON object of a response; raise `CommandFailed` if it is a problem."""
        document = _decoded(response.read())
        if not isinstance(document, dict):
            raise self._not_a_bridge()
        if response.status >= 400:  # noqa: PLR2004 - the boundary of HTTP errors
            raise _refusal(response.status, document)
        return document

    @contextmanager
    def _response(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[HTTPResponse]:
        """Send a request, and read the response within the block; failures of both end the command."""
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        target = f"{parts.path}{path}{'?' if query else ''}{urlencode(query or {})}"
        try:
            with closing(kind(parts.hostname or "", parts.port, timeout=TIMEOUT)) as connection:
                connection.request(method, target, _encoded(body), {**self._headers, **(headers or {})})
                yield connection.getresponse()
        except UnicodeEncodeError:  # the command line contained bytes that are not text
            raise CommandFailed(Exit.USAGE, "an argument is not UTF-8 text") from None
        except (HTTPException, OSError) as error:
            reason = f"no response from the bridge at {self.url}: {_describe(error)}"
            failed = NotListening if isinstance(error, ConnectionRefusedError) else CommandFailed
            raise failed(Exit.UNAVAILABLE, reason, f"is it running? {_ADDRESS_FROM}") from None

    def _not_a_bridge(self) -> CommandFailed:
        return CommandFailed(Exit.UNAVAILABLE, f"the server at {self.url} is not a bridge", _ADDRESS_FROM)


def call_bridge(url: str | None, token: str | None, config: Path | None, call: Callable[[BridgeClient], T]) -> T:
    """Connect to the bridge that the options name, make one call, and return its result."""
    bridge = BridgeClient(daemon_address(url, config), client_token(token))
    try:
        return call(bridge)
    except KeyboardInterrupt:
        raise CommandFailed(Exit.INTERRUPTED, "interrupted") from None


def daemon_address(url: str | None, config: Path | None) -> str:
    """Return the bridge's address from `--url`, BRIDGE_URL, or the settings file."""
    named = url or os.environ.get("BRIDGE_URL")
    if not named:
        from bridge.cli._settings import load_settings  # noqa: PLC0415 - only needed without a URL, and slow to import

        http = load_settings(config).http
        host = f"[{http.host}]" if ":" in http.host else http.host
        return f"http://{host}:{http.port}"
    try:
        return check_base_url(named)
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, f"{'--url' if url else 'BRIDGE_URL'}: {error}") from None


def client_token(token: str | None) -> str | None:
    """Return the client's token from `--token` or BRIDGE_TOKEN; None: send no token."""
    named = token or os.environ.get("BRIDGE_TOKEN")
    if not named:
        return None
    try:
        return check_token(named)
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, f"{'--token' if token else 'BRIDGE_TOKEN'}: {error}") from None


def _path(steps: tuple[str, ...]) -> str:
    """Join the path; the first step is fixed, the others may be arbitrary user input and are quoted."""
    return "/".join([steps[0], *(quote(step, safe="") for step in steps[1:])])


def _encoded(body: Json | None) -> bytes | None:
    """Encode with the standard library, which writes numbers of any size, as the bridge accepts them."""
    return None if body is None else json.dumps(body, allow_nan=False, ensure_ascii=False).encode()


def _decoded(text: bytes) -> Any:
    """Return the response's JSON value; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _describe(error: Exception) -> str:
    return next((reason for kind, reason in _FAILURES if isinstance(error, kind)), "malformed response")


def _is_run(response: Any) -> bool:
    return isinstance(response, dict) and all(isinstance(response.get(name), str) for name in _RUN)


def _is_delivery(response: Any) -> bool:
    return isinstance(response, dict) and all(isinstance(response.get(name), str) for name in _DELIVERY)


def _refusal(status: int, problem: Json) -> CommandFailed:
    message = problem.get("detail") or problem.get("title") or f"HTTP {status}"
    field = f"{problem['field']}: " if problem.get("field") else ""
    code = Exit.UNAVAILABLE if status in {429, 502, 503, 504} else Exit.USAGE
    remedy = ["set BRIDGE_TOKEN (or --token) to the token of a client in http.clients"] if status == 401 else []  # noqa: PLR2004
    return CommandFailed(code, f"{problem.get('code', status)}: {field}{message}", *remedy)
