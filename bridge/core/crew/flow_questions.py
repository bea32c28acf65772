"""Read a flow's question from the signed webhook of its deployment, and the reply to its answer (contract, 6.6)."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bridge.core.addresses import is_loopback
from bridge.core.callback_url import matches
from bridge.core.crew import responses
from bridge.core.crew.reply import Reply
from bridge.core.crew.webhooks import MAX_OUTPUT
from bridge.core.http.retry_after import parse_retry_after
from bridge.core.human_input.model import QuestionContent
from bridge.core.numbers import read_number

TOLERANCE = 300.0  # seconds by which a timestamp may differ from our clock
_HEADERS = (("X-CrewAI-Signature", "X-CrewAI-Timestamp"), ("X-Signature", "X-Timestamp"))
PLATFORM = ("https://crewai.com", "https://*.crewai.com")
"""Where questions are answered, unless a customer hosts the platform."""

_MAX_OPTIONS = 100
_PREFIX = "whsec_"
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")


@dataclass(frozen=True, slots=True)
class FlowQuestion:
    """A question and the execution that asks it."""

    kickoff_id: str
    content: QuestionContent


def verified(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> bool:
    """Return whether one of the secrets signed `timestamp.body` recently; compares in constant time.

    Both pairs of header names occur, with and without `sha256=` before the digest. The key is the text of the secret,
    including `whsec_`; some deployments read what follows it as hexadecimal instead.
    """
    keys = [key for secret in secrets for key in _keys(secret)]
    for signature_name, timestamp_name in _HEADERS:
        timestamp, signature = headers.get(timestamp_name, ""), headers.get(signature_name, "")
        if signature and _recent(timestamp, now):
            offered = signature.strip().removeprefix("sha256=").lower().encode("utf-8", "replace")
            expected = [_digest(key, timestamp, body) for key in keys]
            return any([hmac.compare_digest(offered, digest) for digest in expected])  # noqa: C419 - constant time: compares with every key
    return False


def read(body: Any, *, crew_url: str, insecure: bool, allow: Sequence[str] = PLATFORM) -> FlowQuestion | None:
    """Read the question from the body of a webhook, flat or nested; return None for anything else.

    A callback URL that must not be called is treated as absent: one that is neither on the crew's host nor matches a
    pattern in `allow`.
    """
    if not isinstance(body, dict):
        return None
    request = body["request"] if isinstance(body.get("request"), dict) else body
    kickoff_id = request.get("flow_id")
    if not responses.usable_kickoff_id(kickoff_id):
        return None
    url = body.get("callback_url", request.get("callback_url"))
    usable = isinstance(url, str) and _may_be_called(url, crew_url, allow, insecure=insecure)
    content = QuestionContent(
        task_id=_text(request.get("id")),
        output=_text(request.get("output")),
        message=_text(request.get("message")),
        options=_options(request.get("emit", request.get("emit_options"))),
        callback_url=url if usable else None,
    )
    return FlowQuestion(str(kickoff_id), content)


def same_host(url: str, crew_url: str) -> bool:
    """Return whether a URL is on the host of the crew itself, which may be private."""
    return urlsplit(url).hostname == urlsplit(crew_url).hostname


def _may_be_called(url: str, crew_url: str, allow: Sequence[str], *, insecure: bool) -> bool:
    """Return whether an answer may be sent here: to the crew's own host, or by https to an allowed one."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port  # raises for an invalid port
    except ValueError:
        return False
    if not host or not url.isascii() or not url.isprintable() or " " in url or parts.username is not None:
        return False
    if same_host(url, crew_url):
        return parts.scheme == "https" or (parts.scheme == "http" and (insecure or is_loopback(host)))
    return parts.scheme == "https" and any(matches(parts, pattern) for pattern in allow)


def _recent(timestamp: str, now: float) -> bool:
    seconds = read_number(timestamp) if timestamp.isascii() and timestamp.isdigit() else None
    return seconds is not None and abs(now - seconds) <= TOLERANCE


def read_answer_reply(reply: Reply) -> responses.ResumeResponse:
    """Classify a response to a flow's callback. Its text is ignored: it may repeat the URL, which is a secret."""
    reason = f"HTTP {reply.code}"
    if 200 <= reply.code < 300:
        return responses.Resumed()
    after = parse_retry_after(reply.retry_after, reply.date)
    if reply.code == 429 or (reply.code == 503 and (after is not None or reply.elapsed < responses.FAST_REFUSAL)):
        return responses.NotStarted(reason, after)
    return responses.InDoubt(reason) if reply.code >= 500 else responses.Refused(reason)


def _keys(secret: str) -> list[bytes]:
    encoded = secret.removeprefix(_PREFIX)
    decoded = [bytes.fromhex(encoded)] if encoded != secret and _HEX.fullmatch(encoded) else []
    return [secret.encode(), *decoded]


def _digest(key: bytes, timestamp: str, body: bytes) -> bytes:
    return hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest().encode()


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)[:128]
    return responses.clean_text(value, MAX_OUTPUT) if isinstance(value, str) and value else None


def _options(value: Any) -> tuple[str, ...]:
    offered = value if isinstance(value, list) else []
    return tuple(
        responses.clean_text(option, MAX_OUTPUT) for option in offered[:_MAX_OPTIONS] if isinstance(option, str)
    )
