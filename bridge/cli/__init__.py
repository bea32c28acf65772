"""The command line: one file per kind of verb; what goes wrong becomes one line and an exit code.

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
from bridge.cli import hooks as hooks_verbs
from bridge.cli import runs as runs_verbs
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli.send import send
from bridge.observability import logging as logs

app = typer.Typer(
    name="kickoff-bridge",
    help="Takes kickoff requests from RabbitMQ or HTTP, runs them on a deployed crew, tells you when they are over.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
dead_letters = typer.Typer(help="Look at the messages in the dead queue, and send them back.", no_args_is_help=True)
runs = typer.Typer(help="Look at runs of a running bridge, and steer them.", no_args_is_help=True)
hooks = typer.Typer(help="Try inbound webhooks out.", no_args_is_help=True)
deliveries_ = typer.Typer(help="Look at deliveries of a running bridge, send them again.", no_args_is_help=True)
stores = typer.Typer(help="Move to another store.", no_args_is_help=True)

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
runs.command("list")(runs_verbs.list_runs)
runs.command("show")(runs_verbs.show_run)
runs.command("cancel")(runs_verbs.cancel_run)
runs.command("resume")(runs_verbs.resume_run)
runs.command("resolve")(runs_verbs.resolve_run)
app.add_typer(hooks, name="hooks")
hooks.command("test")(hooks_verbs.try_hook)
app.add_typer(stores, name="store")
stores.command("copy")(store.copy)
app.command()(daemon.migrate)
app.command("openapi")(documents.print_openapi)
app.command("asyncapi")(documents.print_asyncapi)

log = structlog.get_logger()


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Options that stand before the verb."""
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line and exit with one of the documented codes."""
    _print_anything()
    logs.configure("info", "auto")  # for what goes wrong before a verb has read the settings
    try:
        app()
    except CommandFailed as failure:
        _end(failure)
    except SystemExit as exit_:
        raise SystemExit(Exit.USAGE if exit_.code == 2 else exit_.code) from None  # noqa: PLR2004 - the parser's code
    except Exception:
        log.exception("crashed")
        _end(CommandFailed(Exit.BUG, "ended because of a bug; the log says where"))


def _end(failure: CommandFailed) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for line in failure.lines:
        console.print(line, style="red", markup=False)
    raise SystemExit(failure.code) from None


def _print_anything() -> None:
    """A character that the locale cannot print is escaped; it is no reason to print nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
