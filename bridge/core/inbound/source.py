"""Turn a message of another system into a kickoff request, or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.core.inbound import mapping
from bridge.core.inbound.mapping import Rule
from bridge.core.runs.model import KickoffRequest


@dataclass(frozen=True, slots=True)
class Source:
    """One configured source: the messages of another system on a separate queue."""

    name: str
    crew: str
    rule: Rule

    @property
    def source(self) -> str:
        """The source of the runs that these messages start, which scopes their idempotency keys."""
        return f"source/{self.name}"


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """A message with its parsed body; `headers` (by lower-case name) and `properties` are JSON values.

    `key`: the idempotency key that the message itself provides.
    """

    body: Any
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    key: str | None = None


def read(source: Source, message: SourceMessage) -> KickoffRequest | None:
    """Return the kickoff request, with the message's priority; None if `when` is false. Raise `RequestRefused`."""
    scope = mapping.scope(message.body, message.headers, properties=message.properties)
    request = source.rule.request(scope, source.crew, message.key)
    return request and replace(request, priority=message.properties.get("priority") or 0)
