"""One configured crew, as the steps see it."""

from dataclasses import dataclass, field

from bridge.core.gate import Gate
from bridge.core.model import CrewPolicy
from bridge.core.timetable import Timetable
from bridge.ports import CrewApi


@dataclass(frozen=True, slots=True)
class Crew:
    """A crew's API, what the operator decided for it, when its runs are looked at next, whether it may be called."""

    name: str
    api: CrewApi
    policy: CrewPolicy
    max_running: int
    timetable: Timetable = field(default_factory=Timetable)
    gate: Gate = field(default_factory=Gate)
