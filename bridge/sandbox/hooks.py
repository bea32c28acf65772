"""Read the webhook addresses of a kickoff or a resume from the top level of its body (crew API contract 3.1).

Empty text and null count as absent, because real clients send them.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook address and its Authorization header, if any."""

    url: str
    authorization: str | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """The streaming webhook: its events, and whether each is sent alone (`realtime`)."""

    hook: Hook
    events: frozenset[str]
    realtime: bool


@dataclass(frozen=True, slots=True)
class Hooks:
    """All webhooks requested by one body."""

    task: Hook | None = None
    step: Hook | None = None
    crew: Hook | None = None
    human: Hook | None = None
    stream: Stream | None = None


def read_hooks(body: Mapping[str, Any]) -> Hooks:
    """Return the webhooks the body requests; ignore invalid members.

    The URL members carry no authentication (observed live); only `humanInputWebhook` and `webhooks` support it.
    If both forms of the human-input webhook are present, the one with authentication wins (an assumption).
    """
    return Hooks(
        task=_plain(body.get("taskWebhookUrl")),
        step=_plain(body.get("stepWebhookUrl")),
        crew=_plain(body.get("crewWebhookUrl")),
        human=_authenticated(body.get("humanInputWebhook")) or _plain(body.get("humanInputWebhookUrl")),
        stream=_stream(body.get("webhooks")),
    )


def _plain(url: object) -> Hook | None:
    return Hook(url) if isinstance(url, str) and url else None


def _authenticated(value: object) -> Hook | None:
    if not isinstance(value, dict) or not (plain := _plain(value.get("url"))):
        return None
    return Hook(plain.url, _authorization(value.get("authentication")))


def _stream(value: object) -> Stream | None:
    hook = _authenticated(value)
    if hook is None or not isinstance(value, dict) or not isinstance(events := value.get("events"), list):
        return None
    return Stream(hook, frozenset(map(str, events)), value.get("realtime") is True)


def _authorization(value: object) -> str | None:
    match value:
        case {"strategy": "bearer", "token": str(token)}:
            return f"Bearer {token}"
        case {"strategy": "basic", "username": str(username), "password": str(password)}:
            return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        case _:
            return None
