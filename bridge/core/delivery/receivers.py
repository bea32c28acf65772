"""Rules for callback receivers: identity, concurrency limits, and when one is paused.

A receiver is a scheme, host, and port. A receiver that does not respond occupies a slot until the timeout; so a failing
receiver may occupy few slots, and all new or failing receivers together at most half of them.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from bridge.core.delivery.model import Channel, Destination, Receiver

PAUSE_AFTER = 5 * 86_400.0  # seconds in which every attempt failed

_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class ConcurrencyLimits:
    """How many of the `slots` for calls one receiver may occupy.

    `proven`: a receiver that accepted the last event, or answered it with 410. `unproven`: a new or failing one.
    """

    slots: int
    proven: int = 8
    unproven: int = 1

    @property
    def unproven_total(self) -> int:
        """How many slots all new and failing receivers may occupy together."""
        return max(1, self.slots // 2)

    def per_receiver(self, *, proven: bool) -> int:
        """Return how many slots one receiver may occupy."""
        return self.proven if proven else self.unproven


def receiver_name(destination: Destination) -> str | None:
    """Return the scheme, host, and port of a callback URL; None for broker destinations."""
    if destination.channel is not Channel.CALLBACK:
        return None
    try:
        parts = urlsplit(destination.target)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:  # not a URL: no other destination shares this receiver
        return destination.target
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def after_success(name: str, known: Receiver | None) -> Receiver | None:
    """Return the receiver to store after a success; None: it is already stored as working."""
    return None if known is not None and known.failing_since is None else Receiver(name)


def after_failure(name: str, known: Receiver | None, now: float) -> Receiver | None:
    """Return the receiver to store after a failure, possibly paused; None: it is already stored as failing."""
    since = None if known is None else known.failing_since
    if since is None:
        return Receiver(name, failing_since=now)
    return Receiver(name, since, paused_at=now) if now - since >= PAUSE_AFTER else None
