"""What steps report for traces, so that they know no tracing library."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.core.crew.responses import KickoffResponse
from bridge.core.delivery.model import Delivery
from bridge.core.delivery.outcome import DeliveryOutcome
from bridge.core.runs.model import Envelope, Run


def _ignore(*_: Any) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """Called by steps with what they have stored; by default, nothing is traced. Times are seconds since the epoch.

    `begin` returns the envelope of a new run with the trace context of its acceptance; `accepted` is called with the
    context of the request, and when the run was stored. `kickoff_context` returns the context to send with a POST, if
    any; `answered` is called when its response arrived. `ended`: a run was written with its final event. `addressed`
    gives a delivery the context of its next attempt; `attempted` is called after it.
    """

    begin: Callable[[str, Envelope], Envelope] = lambda _run_id, envelope: envelope
    accepted: Callable[[Run, str | None, float], None] = _ignore
    kickoff_context: Callable[[Run], str | None] = _ignore
    answered: Callable[[Run, KickoffResponse, float], None] = _ignore
    ended: Callable[[Run], None] = _ignore
    addressed: Callable[[Delivery], Delivery] = lambda delivery: delivery
    attempted: Callable[[DeliveryOutcome], None] = _ignore


NOT_TRACED = Tracing()
