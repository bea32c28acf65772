"""The settings of a crew that decide what happens to its runs."""

from dataclasses import dataclass
from enum import StrEnum


class DoubtPolicy(StrEnum):
    """What to do with a run whose POST may or may not have started an execution."""

    HOLD = "hold"
    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class PermanentDestination:
    """A callback URL from the settings for events of a crew; `events`: their kinds, such as `failed`; None: all."""

    url: str
    events: frozenset[str] | None = None

    def accepts(self, kind: str) -> bool:
        """Return whether it receives events of this kind."""
        return self.events is None or kind in self.events


@dataclass(frozen=True, slots=True)
class CrewPolicy:
    """The settings of one crew; durations in seconds."""

    deadline: float = 3600.0
    start_by: float | None = None
    """How long after its acceptance a run may be started; None: without limit."""
    in_doubt: DoubtPolicy = DoubtPolicy.HOLD
    in_doubt_after: float = 900.0
    human_input: bool = False
    optional_events: frozenset[str] = frozenset()
    callback_url: str | None = None
    destinations: tuple[PermanentDestination, ...] = ()
    """Receivers from the settings, besides `callback_url`."""
    results_exchange: bool = False
    routing_key: str = "{crew}.{event}"
    """Template of the routing keys on the results exchange; see `core.delivery.routing`."""
    max_event_bytes: int = 256 * 1024
    """A larger final event contains a link to the result, below `api_url`, instead of the result."""
    api_url: str = ""
    max_response: int = 32 * 1024 * 1024
    """The largest response of the crew API that is read, in bytes."""
    poll_per_run: float = 5.0
    poll_min_interval: float = 1.0
    poll_max_interval: float = 60.0
    is_flow: bool = False
    """A flow accepts any values as inputs, a crew only text; a flow asks for human input by its own webhook."""
    questions_announced: bool = False
    """Whether webhooks report questions. If so, a status alone counts only when a second poll confirms it."""
    human_deadline: float | None = None
    human_default: str | None = None
