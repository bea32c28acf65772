"""From a file and the environment to `Settings`, or to every problem at once. The only reader of the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bridge.settings.environment import expand, overlay
from bridge.settings.model import Settings
from bridge.settings.problems import Place, Problem, SettingsError, in_words
from bridge.settings.secret_files import read_secret_files
from bridge.settings.section import known_crews
from bridge.settings.yaml_file import read_yaml

DEFAULT_FILE = "bridge.yaml"


def default_path(environ: Mapping[str, str] | None = None) -> Path:
    """The settings file to read when the command line names none: `$BRIDGE_CONFIG`, else `bridge.yaml`."""
    return Path(_environment(environ).get("BRIDGE_CONFIG") or DEFAULT_FILE)


def load(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this file and environment (default: the process's own); raises `SettingsError`."""
    environ = _environment(environ)
    merged, origins = overlay(read_yaml(path), environ)
    tree, problems = expand(merged, environ)
    problems += read_secret_files(tree)
    settings, found = _validated(tree)
    problems += found
    if settings is None or problems:
        raise SettingsError(dict.fromkeys(problem.line(_origin(problem.place, origins)) for problem in problems))
    return settings


def _environment(environ: Mapping[str, str] | None) -> Mapping[str, str]:
    return os.environ if environ is None else environ  # noqa: TID251  (the one place)


def _validated(tree: Mapping[Any, Any]) -> tuple[Settings | None, list[Problem]]:
    """The settings or what is wrong; pydantic's error ends here, for it holds the values."""
    crews = tree.get("crews")
    known_crews.set(frozenset(map(str, crews)) if isinstance(crews, dict) else None)
    usable = {name: value for name, value in tree.items() if isinstance(name, str) and not name.startswith("_")}
    problems = [Problem((str(name),), "unknown setting") for name in tree if name not in usable]
    try:
        return Settings(**usable), problems
    except ValidationError as error:
        return None, problems + in_words(error)


def _origin(place: Place, origins: Mapping[Place, str]) -> str | None:
    return next((origins[place[:size]] for size in range(len(place), 0, -1) if place[:size] in origins), None)
