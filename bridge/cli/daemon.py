"""The commands `run`, `check`, and `migrate`."""

import os
import resource
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvloop
from rich.console import Console

from bridge import daemon
from bridge.cli._errors import CommandFailed, Exit, os_error_text
from bridge.cli._options import Config
from bridge.cli._settings import load_renewable_settings, load_settings
from bridge.config import Settings, secret_values
from bridge.core.errors import (
    StoreBroken,
    StoreDamaged,
    StoreInUse,
    StoreMisconfigured,
    StoreReplaced,
    StoreUnavailable,
)
from bridge.observability import logging as logs
from bridge.ports.lifecycle import Health

app = typer.Typer()

T = TypeVar("T")

OPEN_FILES = 16_384

NoMigrate = Annotated[bool, typer.Option("--no-migrate", help="Do not migrate the store's schema.")]
Hold = Annotated[bool, typer.Option("--hold", help="Hold all runs accepted so far until `runs release`.")]
Connect = Annotated[bool, typer.Option("--connect", help="Also connect to the broker, the store, and each crew.")]


@app.command(epilog="Example: kickoff-bridge run --config bridge.yaml")
def run(config: Config = None, no_migrate: NoMigrate = False, hold: Hold = False) -> None:
    """Run the bridge until SIGTERM or SIGINT; a second one skips waiting for work in progress.

    SIGHUP makes it read its settings again.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain every token and secret
    _raise_file_limit()
    settings, renewable = load_renewable_settings(config)
    _set_up_logs(settings)
    notify_socket = os.environ.get("NOTIFY_SOCKET")  # set by systemd for a unit with Type=notify
    run_or_fail(daemon.run(settings, renewable, migrate=not no_migrate, hold=hold, notify_socket=notify_socket))


def _raise_file_limit() -> None:
    """Raise the limit of open files: each connection needs one, and shells default to 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@app.command(epilog="Example: kickoff-bridge check --connect")
def check(config: Config = None, connect: Connect = False) -> None:
    """Validate the settings and report every problem at once."""
    settings = settings_with_logs(config)
    crews = "1 crew" if len(settings.crews) == 1 else f"{len(settings.crews)} crews"
    print(f"settings are valid: {crews}, {'RabbitMQ' if settings.amqp else 'no RabbitMQ'}")
    if connect:
        _connect(settings)


@app.command(epilog="Example: kickoff-bridge migrate --config bridge.yaml")
def migrate(config: Config = None) -> None:
    """Bring the store's schema up to date; `run` also does this, unless --no-migrate is given."""
    settings = settings_with_logs(config)
    revision = run_or_fail(daemon.migrate(settings))
    print(f"the store's schema is at revision {revision}")


def run_or_fail(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; an error of the store or the network ends the command with its exit code."""
    with reported_errors():
        return uvloop.run(work)


@contextmanager
def reported_errors() -> Iterator[None]:
    """End the command with the exit code of an error of the store or the network."""
    try:
        yield
    except StoreInUse as error:
        raise CommandFailed(Exit.STORE_IN_USE, str(error)) from None
    except StoreReplaced as error:
        raise CommandFailed(Exit.STORE_DAMAGED, str(error)) from None
    except StoreDamaged as error:
        raise CommandFailed(
            Exit.STORE_DAMAGED, str(error), "the store was not changed; restore it from a backup"
        ) from None
    except StoreMisconfigured as error:
        raise CommandFailed(Exit.CONFIGURATION, str(error)) from None
    except (StoreBroken, StoreUnavailable) as error:
        raise CommandFailed(Exit.UNAVAILABLE, str(error)) from None
    except OSError as error:
        raise CommandFailed(Exit.UNAVAILABLE, os_error_text(error)) from None


def settings_with_logs(config: Path | None) -> Settings:
    """Load the settings and configure logging first, so that no traceback reveals a secret."""
    settings = load_settings(config)
    _set_up_logs(settings)
    return settings


def _set_up_logs(settings: Settings) -> None:
    logs.configure(settings.log.level, settings.log.format, secrets=secret_values(settings))


def print_health(found: Mapping[str, Health]) -> None:
    """Print one line for each part that was checked."""
    out = Console(soft_wrap=True, highlight=False)
    for name, health in found.items():
        mark, style = ("ok", "green") if health.ok else ("failed", "red")
        out.print(f"{name}: {mark}: {health.detail}", style=style, markup=False)


def _connect(settings: Settings) -> None:
    found = run_or_fail(daemon.try_connections(settings))
    print_health(found)
    if not all(health.ok for health in found.values()):
        raise CommandFailed(Exit.UNAVAILABLE, "some dependencies are unavailable")
