"""The command line: registers the commands, and turns failures into messages and exit codes.

Results go to standard output, everything else to standard error.
"""

import io
import sys

import structlog
import typer
from rich.console import Console

from bridge import __version__
from bridge.cli import daemon, deliveries, demo, documents, sandbox, store
from bridge.cli import dead_letters as dead_letter_commands
from bridge.cli import hooks as hook_commands
from bridge.cli import runs as run_commands
from bridge.cli import sources as source_commands
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli.send import send
from bridge.observability import logging as logs

app = typer.Typer(
    name="kickoff-bridge",
    help="Accept kickoff requests from RabbitMQ or HTTP, run them on deployed crews, and publish an event at the end.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
dead_letters = typer.Typer(help="List, show, and replay the messages in the dead queue.", no_args_is_help=True)
runs = typer.Typer(help="List and show runs, and send them commands.", no_args_is_help=True)
hooks = typer.Typer(help="Test the settings of inbound webhooks.", no_args_is_help=True)
sources = typer.Typer(help="Test the settings of sources.", no_args_is_help=True)
deliveries_ = typer.Typer(help="List, show, and redeliver deliveries.", no_args_is_help=True)
stores = typer.Typer(help="Copy the bridge's data to another store.", no_args_is_help=True)

app.command()(daemon.run)
app.command()(demo.demo)
app.command()(sandbox.sandbox)
app.command()(daemon.check)
app.command()(send)
app.add_typer(runs, name="runs")
app.add_typer(dead_letters, name="dead")
dead_letters.command("list")(dead_letter_commands.list_dead)
dead_letters.command("show")(dead_letter_commands.show_dead)
dead_letters.command("replay")(dead_letter_commands.replay_dead)
app.add_typer(deliveries_, name="deliveries")
deliveries_.command("list")(deliveries.list_deliveries)
deliveries_.command("show")(deliveries.show_delivery)
deliveries_.command("redeliver")(deliveries.redeliver)
runs.command("list")(run_commands.list_runs)
runs.command("show")(run_commands.show_run)
runs.command("cancel")(run_commands.cancel_run)
runs.command("resume")(run_commands.resume_run)
runs.command("resolve")(run_commands.resolve_run)
app.add_typer(hooks, name="hooks")
hooks.command("test")(hook_commands.preview_hook)
app.add_typer(sources, name="sources")
sources.command("test")(source_commands.preview_source)
app.add_typer(stores, name="store")
stores.command("copy")(store.copy)
app.command()(daemon.migrate)
app.command("openapi")(documents.print_openapi)
app.command("asyncapi")(documents.print_asyncapi)

log = structlog.get_logger()


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Options that precede the command."""
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; exit with one of the documented codes."""
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
