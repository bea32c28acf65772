"""Exit codes, and the one exception that a verb ends with."""

from enum import IntEnum


class Exit(IntEnum):
    """The codes that scripts may rely on; those from 64 on are the customary ones of sysexits."""

    DONE = 0
    RUN_NOT_SUCCESSFUL = 1
    USAGE = 64
    UNAVAILABLE = 69
    BUG = 70
    STORE_IN_USE = 73
    STORE_DAMAGED = 74
    CONFIGURATION = 78
    INTERRUPTED = 130  # 128 and the number of SIGINT, as a shell says it


class CommandFailed(Exception):
    """Ends the command with a code; each line is one problem, told to the user as it is."""

    def __init__(self, code: Exit, *lines: str) -> None:
        super().__init__(*lines)
        self.code = code
        self.lines = lines
