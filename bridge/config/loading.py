"""Load `Settings` from a file and the environment, or report every problem. The only reader of the environment."""

import os
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bridge.config.environment import expand, overlay
from bridge.config.errors import UNKNOWN, Problem, SettingPath, SettingsError, describe
from bridge.config.model import Settings
from bridge.config.secrets import SecretFile, file_stamp, read_secret, read_secret_files, with_secret
from bridge.config.yaml_file import read_yaml

DEFAULT_FILE = "bridge.yaml"
_FIXED = (("amqp", "url"), ("store", "url"))  # connections do not move while the bridge runs


def default_path(environ: Mapping[str, str] | None = None) -> Path:
    """Return the settings file to use when the command line names none: `$BRIDGE_CONFIG`, else `bridge.yaml`."""
    return Path(_environment(environ).get("BRIDGE_CONFIG") or DEFAULT_FILE)


def load(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Load the settings of this file and environment (default: the process's own). Raise `SettingsError`."""
    return load_renewable(path, environ)[0]


def load_renewable(path: Path, environ: Mapping[str, str] | None = None) -> tuple[Settings, "Renewable"]:
    """As `load`, with the object that reads them again."""
    renewable = Renewable(path, _environment(environ))
    return renewable.reload(), renewable


def otel_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of OpenTelemetry, whose SDK reads the environment itself."""
    return {name: value for name, value in _environment(environ).items() if name.startswith("OTEL_")}


class Renewable:
    """Keeps the loaded settings, and updates them when a secret's file changes, or on request."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._stamp: Hashable = None
        self._tree = dict[str, Any]()
        self.files: tuple[SecretFile, ...] = ()

    def file_changed(self) -> bool:
        """Return whether the settings file has changed since it was last read."""
        return file_stamp(str(self._path)) != self._stamp

    def reload(self) -> Settings:
        """Read everything again; raise `SettingsError`, and then keep the former settings."""
        self._stamp = file_stamp(str(self._path))
        merged, origins = overlay(read_yaml(self._path), self._environ)
        tree, problems = expand(merged, self._environ)
        files, unreadable = read_secret_files(tree)
        problems += unreadable
        settings, found = _validated(tree)
        problems += found
        if settings is None or problems:
            raise SettingsError(dict.fromkeys(problem.line(_origin(problem, origins)) for problem in problems))
        self._tree, self.files = tree, tuple(file for file in files if file.setting not in _FIXED)
        return settings

    def renewed(self) -> tuple[Settings | None, list[str]]:
        """Return the settings with the files' current secrets, None if unchanged; and the problems found.

        A file whose text is not valid leaves its former secret in use, and is reported once per change of the file.
        """
        settings, problems, files = None, [], []
        for file in self.files:
            files.append(now := replace(file, stamp=file_stamp(file.path)))
            if now.stamp == file.stamp:
                continue
            tree, fault = self._changed(file)
            found, wrong = (None, []) if fault or tree == self._tree else _validated(tree)
            if fault or wrong:
                problems.append(f"{file.name}: {fault or wrong[0].sentence}")
            elif found is not None:
                self._tree, settings = tree, found
        self.files = tuple(files)
        return settings, problems

    def _changed(self, file: SecretFile) -> tuple[dict[str, Any], str | None]:
        text, fault = read_secret(file.path)
        return with_secret(self._tree, file.setting, text), fault


def _environment(environ: Mapping[str, str] | None) -> Mapping[str, str]:
    return os.environ if environ is None else environ  # noqa: TID251  (the only path)


def _validated(tree: Mapping[Any, Any]) -> tuple[Settings | None, list[Problem]]:
    """Return the settings or the problems; pydantic's error goes no further, because it contains the values."""
    usable = {name: value for name, value in tree.items() if isinstance(name, str) and not name.startswith("_")}
    problems = [Problem((str(name),), UNKNOWN) for name in tree if name not in usable]
    try:
        return Settings(**usable), problems
    except ValidationError as error:
        return None, problems + describe(error)


def _origin(problem: Problem, origins: Mapping[SettingPath, str]) -> str | None:
    """Return the variable that a value came from, or the variables below an unknown name."""
    path = problem.path
    of_value = next((origins[path[:size]] for size in range(len(path), 0, -1) if path[:size] in origins), None)
    if of_value is None and problem.sentence.startswith(UNKNOWN):
        return ", ".join(variable for at, variable in origins.items() if at[: len(path)] == path)
    return of_value
