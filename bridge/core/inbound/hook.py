"""Turn an inbound webhook into a kickoff request, the response to a challenge, or nothing."""

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


@dataclass(frozen=True, slots=True)
class InboundWebhook:
    """A webhook as received: every value of each header (by lower-case name) and query parameter, and the raw body."""

    headers: Headers
    query: Mapping[str, Sequence[str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Hook:
    """One configured hook; `scheme` determines the verification, and which challenges are recognized."""

    name: str
    crew: str
    scheme: str
    verifier: Verifier
    rule: Rule

    @property
    def source(self) -> str:
        """The source of the runs that this hook starts, which scopes their idempotency keys."""
        return f"hook/{self.name}"


@dataclass(frozen=True, slots=True)
class Kickoff:
    """Start a run. `signature_digest` identifies the signed request; None if nothing was signed."""

    request: KickoffRequest
    signature_digest: str | None


@dataclass(frozen=True, slots=True)
class Challenge:
    """The sender checks that the endpoint exists; `response` is the JSON that it expects, None: an empty response."""

    response: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """`when` is false."""


HookOutcome = Kickoff | Challenge | Ignored


def receive(hook: Hook, webhook: InboundWebhook, now: float) -> HookOutcome:
    """Verify a webhook, then read it. Raises `NotVerified` before anything is parsed, then `RequestRefused`."""
    signature_digest = hook.verifier(webhook.headers, webhook.body, now)
    return read(hook, webhook, signature_digest)


def read(hook: Hook, webhook: InboundWebhook, signature_digest: str | None) -> HookOutcome:
    """Read a webhook whose sender is verified; raises `RequestRefused`."""
    body = _content(webhook)
    if (challenge := _challenge(hook.scheme, webhook.headers, body)) is not None:
        return challenge
    headers = {name: _clean(", ".join(values)) for name, values in webhook.headers.items()}
    query = {_clean(name): _parameter(values) for name, values in webhook.query.items()}
    request = hook.rule.request(mapping.scope(body, headers, query=query), hook.crew)
    return Ignored() if request is None else Kickoff(request, signature_digest)


def _challenge(scheme: str, headers: Headers, body: Any) -> Challenge | None:
    if scheme == "github" and list(headers.get("x-github-event", ())) == ["ping"]:
        return Challenge()
    event = body if scheme == "slack" and isinstance(body, dict) else {}
    challenge = event.get("challenge")
    if event.get("type") == "url_verification" and isinstance(challenge, str):
        return Challenge({"challenge": challenge})
    return None


def _content(webhook: InboundWebhook) -> Any:
    """Parse the body: JSON, or a form, whose only field `payload` may contain JSON.

    Some clients send JSON with the content type of a form; a form cannot begin with a brace, which it must encode.
    """
    content_type = next(iter(webhook.headers.get("content-type", ())), "")
    body = strict_json.without_mark(webhook.body)
    if content_type.partition(";")[0].strip().lower() != FORM or body.startswith((b"{", b"[")):
        return strict_json.parse(body)
    fields = _form(body)
    return strict_json.parse(fields["payload"].encode()) if fields.keys() == {"payload"} else fields


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise RequestRefused("invalid_request", "the body is not a form in UTF-8") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise RequestRefused("invalid_request", "the form contains a field twice")
    return fields


def _parameter(values: Sequence[str]) -> str | list[str]:
    """Return the value of a query parameter, or a list if it occurs repeatedly."""
    cleaned = [_clean(value) for value in values]
    return cleaned[0] if len(cleaned) == 1 else cleaned


def _clean(text: str) -> str:
    """Replace bytes that are not UTF-8, which arrive as surrogates."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
