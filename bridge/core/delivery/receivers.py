"""Receivers of callbacks: whose trouble is whose, how many calls each may have under way, when one is left alone.

A receiver is a scheme, host and port. One that does not answer holds each call until its time is up; so it may hold few
of the places for calls, and all those that have never worked hold at most half of them together.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from bridge.core.delivery.model import Channel, Destination, Receiver

PAUSE_AFTER = 5 * 86_400.0  # seconds of nothing but failures

_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class ConcurrencyLimits:
    """How many of the `slots` for calls a receiver may have.

    `proven`: one that took the last event that it was sent, or answered 410. `unproven`: one that is new, or fails.
    """

    slots: int
    proven: int = 8
    unproven: int = 1

    @property
    def unproven_together(self) -> int:
        """How many places all that are new or failing may have between them."""
        return max(1, self.slots // 2)

    def of(self, *, proven: bool) -> int:
        """How many places one receiver may have."""
        return self.proven if proven else self.unproven


def receiver_name(destination: Destination) -> str | None:
    """Scheme, host and port of a callback URL; None for what goes by the broker."""
    if destination.channel is not Channel.CALLBACK:
        return None
    try:
        parts = urlsplit(destination.target)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:  # nothing that could be dialled: it is a receiver of its own
        return destination.target
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def after_success(name: str, known: Receiver | None) -> Receiver | None:
    """What to write of a receiver that took an event, or wants no more of it; None: it is known to work."""
    return None if known is not None and known.failing_since is None else Receiver(name)


def after_failure(name: str, known: Receiver | None, now: float) -> Receiver | None:
    """What to write of a receiver that did not; None: it is known to fail. After days of it it is paused."""
    since = None if known is None else known.failing_since
    if since is None:
        return Receiver(name, failing_since=now)
    return Receiver(name, since, paused_at=now) if now - since >= PAUSE_AFTER else None
