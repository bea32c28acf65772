"""Which module implements each command; a module is imported only when one of its commands is used.

Each module defines `app`, a `typer.Typer`. One with a name is a group of commands; the commands of one without a name
are commands of the root.
"""

import gc
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

MODULES = {
    "run": "daemon",
    "demo": "demo",
    "dev": "dev",
    "sandbox": "sandbox",
    "check": "daemon",
    "send": "send",
    "migrate": "daemon",
    "openapi": "documents",
    "asyncapi": "documents",
    "jsonschema": "documents",
    "runs": "runs",
    "dead": "dead_letters",
    "deliveries": "deliveries",
    "receivers": "receivers",
    "crews": "crews",
    "events": "events",
    "hooks": "hooks",
    "sources": "sources",
    "store": "store",
}
"""The commands in the order of `--help`, and their modules."""


class LazyGroup(TyperGroup):
    """The root. `--help` imports every module, and so does an unknown command, for which similar ones are suggested."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's signature
        """Return the names of all commands."""
        return list(MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the same
        """Return a command, or None if there is none of this name."""
        for module in [MODULES[cmd_name]] if cmd_name in MODULES else set(MODULES.values()):
            self.commands.update(_commands(module))
        return self.commands.get(cmd_name)


def _commands(module: str) -> Any:
    root = typer.Typer()
    gc.disable()  # imports create many objects and hardly any garbage; each pass over all of them would be in vain
    try:
        root.add_typer(import_module(f"bridge.cli.{module}").app)
    finally:
        gc.enable()
    return get_group(root).commands
