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
class InboundWebhook:
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
class Kickoff:
    """A run is wanted. `signature_digest` is the same for the same signed request; None where nothing was signed."""

    request: KickoffRequest
    signature_digest: str | None


@dataclass(frozen=True, slots=True)
class Challenge:
    """The other system only asks whether we are here; `answer` is what it wants to hear, None: nothing."""

    answer: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """`when` does not hold."""


HookOutcome = Kickoff | Challenge | Ignored


def take(hook: Hook, webhook: InboundWebhook, now: float) -> HookOutcome:
    """What becomes of a webhook; raises `NotVerified` before anything is read, then `RequestRefused`."""
    signature_digest = hook.verifier(webhook.headers, webhook.body, now)
    return read(hook, webhook, signature_digest)


def read(hook: Hook, webhook: InboundWebhook, signature_digest: str | None) -> HookOutcome:
    """What becomes of a webhook whose sender is known; raises `RequestRefused`."""
    body = _content(webhook)
    if (challenge := _challenge(hook.scheme, webhook.headers, body)) is not None:
        return challenge
    headers = {name: _clean(", ".join(values)) for name, values in webhook.headers.items() if name not in _NOT_SHOWN}
    query = {_clean(name): _query(values) for name, values in webhook.query.items()}
    request = hook.rule.request(mapping.scope(body, headers, query), hook.crew)
    return Ignored() if request is None else Kickoff(request, signature_digest)


def _challenge(scheme: str, headers: Headers, body: Any) -> Challenge | None:
    if scheme == "github" and list(headers.get("x-github-event", ())) == ["ping"]:
        return Challenge()
    asked = body if scheme == "slack" and isinstance(body, dict) else {}
    challenge = asked.get("challenge")
    if asked.get("type") == "url_verification" and isinstance(challenge, str):
        return Challenge({"challenge": challenge})
    return None


def _content(webhook: InboundWebhook) -> Any:
    """The body's JSON; of a form its fields, or the JSON in its only field `payload`.

    Some clients call everything a form unless told; but no form begins with a brace, which forms must encode.
    """
    named = next(iter(webhook.headers.get("content-type", ())), "")
    if named.partition(";")[0].strip().lower() != FORM or webhook.body.startswith((b"{", b"[")):
        return strict_json.parse(webhook.body)
    fields = _form(webhook.body)
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
