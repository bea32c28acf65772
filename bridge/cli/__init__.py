"""The command line: registers the commands, and turns failures into messages and exit codes.

Results go to standard output, everything else to standard error.
"""

import atexit
import gc
import io
import sys

import structlog
import typer
from rich.console import Console

from bridge import __version__
from bridge.cli._commands import LazyGroup
from bridge.cli._errors import CommandFailed, Exit
from bridge.observability import logging as logs

app = typer.Typer(
    cls=LazyGroup,
    name="kickoff-bridge",
    help="Accept kickoff requests from RabbitMQ or HTTP, run them on deployed crews, and publish an event at the end.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
log = structlog.get_logger()


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Options that precede the command."""
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; exit with one of the documented codes."""
    atexit.register(gc.freeze)  # otherwise the interpreter searches all objects for garbage before it exits
    _escape_unprintable()
    logs.configure("info", "auto")  # until a command has read the settings
    try:
        app()
    except CommandFailed as failure:
        _exit(failure)
    except SystemExit as exit_:
        raise SystemExit(Exit.USAGE if exit_.code == 2 else exit_.code) from None  # noqa: PLR2004 - the parser's code
    except Exception:
        log.exception("crashed")
        _exit(CommandFailed(Exit.BUG, "internal error; see the log for the traceback"))


def _exit(failure: CommandFailed) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for line in failure.lines:
        console.print(line, style="red", markup=False)
    raise SystemExit(failure.code) from None


def _escape_unprintable() -> None:
    """Escape characters that the locale cannot print instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
