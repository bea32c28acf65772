"""The command line: its root, and how it ends.

Results go to standard output, everything else to standard error.
"""

import atexit
import gc
import io
import sys

import typer

from bridge import __version__
from bridge.cli._commands import LazyGroup
from bridge.cli._errors import Exit

app = typer.Typer(
    cls=LazyGroup,
    name="kickoff-bridge",
    help="Accept kickoff requests from RabbitMQ, HTTP, and webhooks, and publish an event when each run ends.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    try:
        app()
    except SystemExit as exit_:
        raise SystemExit(Exit.USAGE if exit_.code == 2 else exit_.code) from None  # noqa: PLR2004 - the parser's code
    except Exception as error:  # noqa: BLE001 - `report` logs what is not a CommandFailed
        from bridge.cli._failures import report  # noqa: PLC0415 - only a failure needs to print and to log

        raise SystemExit(report(error)) from None


def _escape_unprintable() -> None:
    """Escape characters that the locale cannot print instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
