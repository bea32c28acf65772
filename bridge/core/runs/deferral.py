"""Deferrals: why the next step of a run is postponed, and for how long. Delays grow with each failure in a row."""

from dataclasses import dataclass

DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
"""Seconds after the first failure, the second, and so on; the last one repeats."""


@dataclass(frozen=True, slots=True)
class Deferral:
    """A postponed run: why (`detail`), since when, until when, and after how many failures in a row."""

    detail: str
    since: float
    until: float
    failures: int = 1


def delay_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row."""
    return DELAYS[min(max(failures, 1), len(DELAYS)) - 1]


def deferred_again(before: Deferral | None, detail: str, now: float) -> Deferral:
    """Return the deferral after one more failure; `since` is the first one."""
    failures = 1 if before is None else before.failures + 1
    since = now if before is None else before.since
    return Deferral(detail, since, now + delay_after(failures), failures)
