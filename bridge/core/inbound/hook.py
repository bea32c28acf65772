"""A hook: what the webhook of another system becomes. A request, the answer to a greeting, or nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from bridge.core import json as strict_json
from bridge.core.errors import RequestRefused
from bridge.core.inbound import mapping
from bridge.core.inbound.mapping import Rule
from bridge.core.inbound.signatures import Headers, Verifier
from bridge.core.runs.model import KickoffRequest

FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 1000  # of a form

_NOT_SHOWN = frozenset({"authorization", "proxy-authorization", "cookie"})
"""Headers that no expression sees: what is mapped is stored, and a stored request holds no secret."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A webhook as it came: every value of each header (by lower-case name) and query parameter, the raw body."""

    headers: Headers
    query: Mapping[str, Sequence[str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook of the settings; `scheme` is how its senders prove themselves, and whose customs they have."""

    name: str
    crew: str
    scheme: str
    verifier: Verifier
    rule: Rule

    @property
    def source(self) -> str:
        """The sender that this hook's runs carry; idempotency keys are scoped by it."""
        return f"hook/{self.name}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run is wanted. `signature_digest` is the same for the same signed request; None where nothing was signed."""

    request: KickoffRequest
    signature_digest: str | None


@dataclass(frozen=True, slots=True)
class Greeting:
    """The other system only asks whether we are here; `answer` is what it wants to hear, None: nothing."""

    answer: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Unwanted:
    """`when` does not hold."""


HookOutcome = Wanted | Greeting | Unwanted


def take(hook: Hook, arrival: Arrival, now: float) -> HookOutcome:
    """What becomes of a webhook; raises `NotVerified` before anything is read, then `RequestRefused`."""
    signature_digest = hook.verifier(arrival.headers, arrival.body, now)
    return read(hook, arrival, signature_digest)


def read(hook: Hook, arrival: Arrival, signature_digest: str | None) -> HookOutcome:
    """What becomes of a webhook whose sender is known; raises `RequestRefused`."""
    body = _content(arrival)
    if (greeting := _greeting(hook.scheme, arrival.headers, body)) is not None:
        return greeting
    headers = {name: _clean(", ".join(values)) for name, values in arrival.headers.items() if name not in _NOT_SHOWN}
    query = {_clean(name): _query(values) for name, values in arrival.query.items()}
    request = hook.rule.request(mapping.scope(body, headers, query), hook.crew)
    return Unwanted() if request is None else Wanted(request, signature_digest)


def _greeting(scheme: str, headers: Headers, body: Any) -> Greeting | None:
    if scheme == "github" and list(headers.get("x-github-event", ())) == ["ping"]:
        return Greeting()
    asked = body if scheme == "slack" and isinstance(body, dict) else {}
    challenge = asked.get("challenge")
    if asked.get("type") == "url_verification" and isinstance(challenge, str):
        return Greeting({"challenge": challenge})
    return None


def _content(arrival: Arrival) -> Any:
    """The body's JSON; of a form its fields, or the JSON in its only field `payload`.

    Some clients call everything a form unless told; but no form begins with a brace, which forms must encode.
    """
    named = next(iter(arrival.headers.get("content-type", ())), "")
    if named.partition(";")[0].strip().lower() != FORM or arrival.body.startswith((b"{", b"[")):
        return strict_json.parse(arrival.body)
    fields = _form(arrival.body)
    return strict_json.parse(fields["payload"].encode()) if fields.keys() == {"payload"} else fields


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise RequestRefused("invalid_request", "the body is not a form in UTF-8") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise RequestRefused("invalid_request", "the form has a field twice")
    return fields


def _query(values: Sequence[str]) -> str | list[str]:
    """One text, or a list where the parameter is given more than once."""
    cleaned = [_clean(value) for value in values]
    return cleaned[0] if len(cleaned) == 1 else cleaned


def _clean(text: str) -> str:
    """The text in Unicode; bytes that are no UTF-8 arrive as surrogates."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
