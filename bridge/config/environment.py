"""Apply the environment: BRIDGE_… variables override the file, and ${NAME} is expanded in its values.

BRIDGE_CREWS__research__TOKEN is `crews.research.token`: `__` separates levels. Names of settings match in any case;
a crew's name also matches with `_` for `-`, because a shell cannot export a `-`.
"""

import re
from collections.abc import Mapping
from typing import Any

from bridge.config.errors import UNREADABLE, Problem, SettingPath

PREFIX = "BRIDGE_"
COMMAND_LINE_VARIABLES = frozenset({"BRIDGE_CONFIG", "BRIDGE_URL", "BRIDGE_TOKEN"})

_SERVICE_LINK = re.compile(
    r"BRIDGE_(?:[A-Z0-9]+_)*"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"BRIDGE_(?:[A-Z0-9]+_)*PORT")
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://[0-9A-Fa-f.:\[\]]+:[0-9]+")
_MAX_DEPTH = 16  # levels; a YAML anchor can contain itself

_USER_NAMED = (
    ("crews",),
    ("hooks",),
    ("hooks", "*", "inputs"),
    ("hooks", "*", "meta"),
    ("sources",),
    ("sources", "*", "inputs"),
    ("sources", "*", "meta"),
    ("destinations",),
)
REFERENCE = re.compile(r"\$\$|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})?")


def overlay(tree: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[SettingPath, str]]:
    """Return the file's settings overridden by the environment's, and the variable that each override came from."""
    merged = dict(tree)
    origins: dict[SettingPath, str] = {}
    for variable in sorted(environ):
        if _is_setting(variable, environ[variable]):
            steps = variable.removeprefix(PREFIX).split("__")
            # A value from the environment is final: its dollars are not references.
            _put(merged, steps, environ[variable].replace("$", "$$"), variable, origins)
    return merged, origins


def _is_setting(variable: str, value: str) -> bool:
    """Return whether a variable is meant as a setting, even a misspelled one."""
    if not variable.startswith(PREFIX) or variable in COMMAND_LINE_VARIABLES:
        return False
    return not _is_service_link(variable, value)


def _is_service_link(variable: str, value: str) -> bool:
    """Return whether Kubernetes defines this variable in every pod, for a service named `bridge` or `bridge-…`.

    Only its value distinguishes the `BRIDGE_HTTP_PORT` of a service from a misspelled `BRIDGE_HTTP__PORT`.
    """
    if _SERVICE_LINK.fullmatch(variable):
        return True
    return _SERVICE_PORT.fullmatch(variable) is not None and _SERVICE_URL.fullmatch(value) is not None


def _put(tree: dict[str, Any], keys: list[str], text: str, variable: str, origins: dict[SettingPath, str]) -> None:
    path: SettingPath = ()
    for step in keys[:-1]:
        key = _key(tree, step, path)
        tree[key] = tree = _copy(tree.get(key))  # a copy, because YAML anchors let two paths share one mapping
        path += (key,)
    key = _key(tree, keys[-1], path)
    rival = key.removesuffix("_file") if key.endswith("_file") else f"{key}_file"
    if (*path, rival) not in origins:
        tree.pop(rival, None)  # the environment's token_file wins over the file's token
    tree[key] = text
    origins[*path, key] = variable


def _key(tree: Mapping[str, Any], step: str, path: SettingPath) -> str:
    if not any(_leads_to(pattern, path) for pattern in _USER_NAMED):
        return step.lower()
    alike = [str(key) for key in tree if _folded(str(key)) == _folded(step)]
    return step if step in alike or not alike else alike[0]


def _leads_to(pattern: SettingPath, path: SettingPath) -> bool:
    return len(pattern) == len(path) and all(step in ("*", name) for step, name in zip(pattern, path, strict=True))


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def _copy(child: Any) -> dict[str, Any]:
    if isinstance(child, list):
        return {str(index): item for index, item in enumerate(child)}
    return dict(child) if isinstance(child, dict) else {}


def expand(tree: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the settings with `${NAME}` and `${NAME:-default}` expanded and `$$` as a dollar, and the problems found.

    Expansion follows the YAML parser and affects values only, so a variable's content cannot add settings.
    """
    expansion = _Expansion(environ)
    return expansion.expand(tree, ()), expansion.problems


class _Expansion:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[Problem] = []

    def expand(self, value: Any, path: SettingPath) -> Any:
        if len(path) > _MAX_DEPTH:
            self.problems.append(Problem(path[:1], f"is nested more than {_MAX_DEPTH} levels deep"))
            return UNREADABLE
        if isinstance(value, dict):
            return {key: self.expand(child, (*path, str(key))) for key, child in value.items()}
        if isinstance(value, list):
            return [self.expand(child, (*path, str(index))) for index, child in enumerate(value)]
        return self._text(value, path) if isinstance(value, str) else value

    def _text(self, text: str, path: SettingPath) -> Any:
        faults = [fault for match in REFERENCE.finditer(text) if (fault := self._fault(match))]
        self.problems += [Problem(path, fault) for fault in faults]
        return UNREADABLE if faults else REFERENCE.sub(self._replacement, text)

    def _fault(self, match: re.Match[str]) -> str | None:
        if match[0] == "$$" or match["default"] is not None:
            return None
        if match["name"] is None:
            return "contains a ${ that is not ${NAME} or ${NAME:-default}; write $$ for a literal dollar"
        return None if match["name"] in self._environ else f"the environment variable {match['name']} is not set"

    def _replacement(self, match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        found = self._environ.get(match["name"], "")
        if match["default"] is None:
            return found
        return found or match["default"].removeprefix(":-")  # as in a shell, empty counts as unset
