"""Report why a command failed: what it found out in lines on standard error, and a bug also in the log."""

import structlog
from rich.console import Console

from bridge.cli._errors import CommandFailed, Exit
from bridge.observability import logging as logs

log = structlog.get_logger()


def report(error: Exception) -> Exit:
    """Print the lines of a failure; return its exit code."""
    failure = error if isinstance(error, CommandFailed) else _log_bug(error)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for line in failure.lines:
        console.print(line, style="red", markup=False)
    return failure.code


def _log_bug(error: Exception) -> CommandFailed:
    if not structlog.is_configured():
        logs.configure("info", "auto")
    log.error("crashed", exc_info=error)
    return CommandFailed(Exit.BUG, "internal error; see the log for the traceback")
