"""Whether the bridge can safely accept requests over HTTP, and whether anything else needs attention."""

from collections.abc import Mapping
from enum import StrEnum

REQUIRED = frozenset({"store"})  # the parts without which no request can be accepted


class Readiness(StrEnum):
    """What `/readyz` reports; `unavailable` takes HTTP traffic away from the bridge, `degraded` does not."""

    READY = "ready"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


def readiness(parts: Mapping[str, bool], *, draining: bool) -> Readiness:
    """Judge the bridge by which of its parts work.

    A broker or a crew that is unavailable degrades the bridge, and no more: requests are stored, and wait for it.
    """
    failed = {name for name, ok in parts.items() if not ok}
    if draining or failed & REQUIRED:
        return Readiness.UNAVAILABLE
    return Readiness.DEGRADED if failed else Readiness.READY
