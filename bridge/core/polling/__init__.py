"""Polling: when to poll the status of a run, learned from the run times of past runs.

The rest of the product uses only what this package exports: a planner and a queue for each crew. docs/polling.md
explains the method.
"""

from bridge.core.polling.planner import MAX_RUN_TIMES, PollPlanner, RunTimeStats
from bridge.core.polling.queue import PollQueue

__all__ = ["MAX_RUN_TIMES", "PollPlanner", "PollQueue", "RunTimeStats"]
