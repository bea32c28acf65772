"""What every long-lived part and every step provides."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Clock = Callable[[], float]
"""The time in seconds since the epoch."""

NewId = Callable[[], str]
"""A new id that sorts by time (UUIDv7)."""

Notify = Callable[[], None]
"""Tells a worker to look now; carries no data, and many wakes are one."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether one part works, in a few words that tell no host and no secret."""

    ok: bool
    detail: str


HealthCheck = Callable[[], Awaitable[Health]]
