"""Load the settings for a command."""

from pathlib import Path

from bridge.cli._errors import CommandFailed, Exit
from bridge.config import Renewable, Settings, SettingsError, default_path, load_renewable


def load_settings(config: Path | None) -> Settings:
    """Return the settings; if they are invalid, report all problems and exit with 78."""
    return load_renewable_settings(config)[0]


def load_renewable_settings(config: Path | None) -> tuple[Settings, Renewable]:
    """Return the settings like `load_settings`, and an object that rereads secrets from files."""
    try:
        return load_renewable(config or default_path())
    except SettingsError as error:
        raise CommandFailed(Exit.CONFIGURATION, *error.problems) from None
