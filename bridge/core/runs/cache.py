"""Runs as they were written last, so that the end of a run need not read it from the store first.

Whatever is kept here may be out of date: every write is guarded by the run's version, and who is told that it came too
late reads the run anew.
"""

from dataclasses import replace

from bridge.core.runs.model import Run

MOST = 10_000  # runs, about a KiB each
MUCH = 1000  # characters of what others told of a run, as Python shows it; a run with more is read again


class RunCache:
    """The runs kept last, without their inputs, which nobody needs any more and which may be large."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def put(self, run: Run) -> None:
        """Keep a run as it was written just now."""
        told = (run.request.meta, run.progress, run.human_input.question)
        if any(told) and len(str(told)) > MUCH:
            self._runs.pop(run.run_id, None)
            return
        self._runs[run.run_id] = replace(run, request=replace(run.request, inputs={}))
        if len(self._runs) > MOST:
            del self._runs[next(iter(self._runs))]

    def pop(self, run_id: str) -> Run | None:
        """The run as it was kept, which it is no more from now on."""
        return self._runs.pop(run_id, None)
