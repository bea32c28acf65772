"""What the steps need to share a store with other processes."""

from collections.abc import Collection
from typing import Protocol

from bridge.core.crew.fair_share import Membership


class Cluster(Protocol):
    """The processes on one store, their heartbeats, and what they own. Awaited calls raise `StoreUnavailable`."""

    async def heartbeat(self, now: float) -> None:
        """Record a heartbeat. Raises `ProcessExpired` if another process has expired this one."""

    async def expire_processes(self, now: float, silent_for: float) -> int:
        """Expire processes without a heartbeat for so many seconds and release their rows; return how many."""

    async def rejoin(self, now: float) -> str:
        """After `ProcessExpired`, register under a new name that owns nothing; return the name."""

    async def membership(self) -> dict[str, Membership]:
        """Return, per crew served here, how many processes serve it and how many of its runs are tracked."""

    async def serve(self, crews: Collection[str]) -> None:
        """Serve these crews from now on instead of the former ones."""

    def release_crews(self, crews: Collection[str]) -> None:
        """Release the runs of crews that this process no longer works on, at the latest before its next claim."""

    async def unserved(self) -> dict[str, int]:
        """Return the number of unfinished runs of each crew that no process serves."""

    async def release_runs(self, run_ids: Collection[str]) -> int:
        """Release runs that this process no longer tracks; return how many."""

    async def delete_ended_runs(self, ended_before: float, limit: int) -> int:
        """Delete at most `limit` runs that ended before then and have no pending delivery; return how many."""
