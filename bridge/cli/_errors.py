"""Exit codes, and the exception that ends a command with one."""

import os
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes, a stable interface for scripts; those from 64 follow sysexits.h."""

    DONE = 0
    RUN_NOT_SUCCESSFUL = 1
    USAGE = 64
    UNAVAILABLE = 69
    BUG = 70
    STORE_IN_USE = 73
    STORE_DAMAGED = 74
    CONFIGURATION = 78
    INTERRUPTED = 130  # 128 plus the number of SIGINT, as in shells


class CommandFailed(Exception):
    """Ends the command with a code; each line is one problem, printed to standard error."""

    def __init__(self, code: Exit, *lines: str) -> None:
        super().__init__(*lines)
        self.code = code
        self.lines = lines


def os_error_text(error: OSError) -> str:
    """Return why a call of the operating system failed, without the number of the error."""
    if not error.errno:
        return str(error)
    reason = os.strerror(error.errno) if error.errno > 0 else error.strerror
    return f"{reason}" if error.filename is None else f"{error.filename}: {reason}"
