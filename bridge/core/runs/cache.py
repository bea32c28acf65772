"""A cache of runs as last written, so that the end of a run needs no read.

Measured: 1.0 ms instead of 1.4 from the end to the sender of its event, and 0.6 ms less CPU for a run that ends alone.
Entries may be out of date: the run's version guards every write, and a writer with a conflict reads the run again.
"""

from bridge.core.runs.model import Run
from bridge.core.values import replace

MAX_RUNS = 10_000  # about a KiB each
MAX_VARIABLE_CHARS = 1000  # of `repr(meta, progress, question, tasks)`; a run with more is not cached


class RunCache:
    """The most recently written runs, without their inputs, which may be large and are not needed after the kickoff."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def put(self, run: Run) -> None:
        """Store a run as it was just written."""
        variable = (run.request.meta, run.progress, run.human_input.question, run.tasks)
        if any(variable) and len(str(variable)) > MAX_VARIABLE_CHARS:
            self._runs.pop(run.run_id, None)
            return
        self._runs[run.run_id] = replace(run, request=replace(run.request, inputs={}))
        if len(self._runs) > MAX_RUNS:
            del self._runs[next(iter(self._runs))]

    def pop(self, run_id: str) -> Run | None:
        """Remove a run from the cache and return it, if present."""
        return self._runs.pop(run_id, None)
