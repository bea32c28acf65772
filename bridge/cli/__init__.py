"""The command line: one file per kind of verb; what goes wrong becomes one line and an exit code.

Results go to standard output, everything else to standard error.
"""

import typer
from rich.console import Console

from bridge import __version__
from bridge.cli import client, daemon, demo, sandbox
from bridge.cli.outcome import CommandFailed, Exit

app = typer.Typer(
    name="kickoff-bridge",
    help="Takes kickoff requests from RabbitMQ or HTTP, runs them on a deployed crew, tells you when they are over.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
runs = typer.Typer(help="Look at runs of a running bridge, and steer them.", no_args_is_help=True)

app.command()(daemon.run)
app.command()(demo.demo)
app.command()(sandbox.sandbox)
app.command()(daemon.check)
app.command()(client.send)
app.add_typer(runs, name="runs")
runs.command("list")(client.list_runs)
runs.command("show")(client.show_run)
runs.command("cancel")(client.cancel_run)
runs.command("resolve")(client.resolve_run)
app.command()(daemon.migrate)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Options that stand before the verb."""
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line and exit with one of the documented codes."""
    try:
        app()
    except CommandFailed as failure:
        for line in failure.lines:
            Console(stderr=True, soft_wrap=True, highlight=False).print(line, style="red", markup=False)
        raise SystemExit(failure.code) from None
    except SystemExit as exit_:
        raise SystemExit(Exit.USAGE if exit_.code == 2 else exit_.code) from None  # noqa: PLR2004 - the parser's code
