"""Filters of the lists that the API shows."""

from dataclasses import dataclass

from bridge.core.delivery.model import DeliveryState
from bridge.core.runs.model import State


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list, newest first: older than `before`. `crews`, `source`: what the asker may see; None: all."""

    state: State | None = None
    crew: str | None = None
    crews: frozenset[str] | None = None
    source: str | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries, the newest ids first. `crews`: what the asker may see; None: all.

    `since` (inclusive) and `until` are about when the event was made. `before`: only ids that sort before this one.
    """

    delivery_id: str | None = None
    state: DeliveryState | None = None
    crew: str | None = None
    crews: frozenset[str] | None = None
    run_id: str | None = None
    since: float | None = None
    until: float | None = None
    before: str | None = None
    limit: int = 50
