"""The environment's part: BRIDGE_… variables laid over the file, and ${NAME} expanded in its values.

BRIDGE_CREWS__research__TOKEN is `crews.research.token`: `__` goes one level down. Names of settings are matched
without regard to case; a crew's name also with `_` for `-`, since a shell cannot export a `-`.
"""

import re
from collections.abc import Mapping
from typing import Any

from bridge.config.errors import UNREADABLE, Problem, SettingPath

PREFIX = "BRIDGE_"
OF_THE_COMMAND_LINE = frozenset({"BRIDGE_CONFIG", "BRIDGE_URL", "BRIDGE_TOKEN"})

_SERVICE_LINK = re.compile(
    r"BRIDGE_(?:[A-Z0-9]+_)*"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"BRIDGE_(?:[A-Z0-9]+_)*PORT")
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://[0-9A-Fa-f.:\[\]]+:[0-9]+")
_DEEPEST = 16  # levels; a YAML anchor can contain itself

_NAMED_BY_THE_USER = (("crews",), ("hooks",), ("hooks", "*", "inputs"), ("hooks", "*", "meta"))
REFERENCE = re.compile(r"\$\$|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})?")


def overlay(tree: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[SettingPath, str]]:
    """The file's settings with the environment's over them, and which variable each of these came from."""
    merged = dict(tree)
    origins: dict[SettingPath, str] = {}
    for variable in sorted(environ):
        if _is_setting(variable, environ[variable]):
            steps = variable.removeprefix(PREFIX).split("__")
            # A value from the environment is final: its dollars are not references.
            _put(merged, steps, environ[variable].replace("$", "$$"), variable, origins)
    return merged, origins


def _is_setting(variable: str, value: str) -> bool:
    """Return whether a variable is meant as a setting, be it a misspelled one."""
    if not variable.startswith(PREFIX) or variable in OF_THE_COMMAND_LINE:
        return False
    return not _is_service_link(variable, value)


def _is_service_link(variable: str, value: str) -> bool:
    """Return whether Kubernetes makes this variable in every pod, for a service named `bridge` or `bridge-…`.

    Only its value tells `BRIDGE_HTTP_PORT` of a service from a misspelled `BRIDGE_HTTP__PORT`.
    """
    if _SERVICE_LINK.fullmatch(variable):
        return True
    return _SERVICE_PORT.fullmatch(variable) is not None and _SERVICE_URL.fullmatch(value) is not None


def _put(tree: dict[str, Any], steps: list[str], text: str, variable: str, origins: dict[SettingPath, str]) -> None:
    place: SettingPath = ()
    for step in steps[:-1]:
        key = _key(tree, step, place)
        tree[key] = tree = _copy(tree.get(key))  # a copy: YAML anchors let two places share one mapping
        place += (key,)
    key = _key(tree, steps[-1], place)
    rival = key.removesuffix("_file") if key.endswith("_file") else f"{key}_file"
    if (*place, rival) not in origins:
        tree.pop(rival, None)  # the environment's token_file wins over the file's token
    tree[key] = text
    origins[*place, key] = variable


def _key(tree: Mapping[str, Any], step: str, place: SettingPath) -> str:
    if not any(_leads_to(pattern, place) for pattern in _NAMED_BY_THE_USER):
        return step.lower()
    alike = [str(key) for key in tree if _folded(str(key)) == _folded(step)]
    return step if step in alike or not alike else alike[0]


def _leads_to(pattern: SettingPath, place: SettingPath) -> bool:
    return len(pattern) == len(place) and all(step in ("*", name) for step, name in zip(pattern, place, strict=True))


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")


def _copy(child: Any) -> dict[str, Any]:
    if isinstance(child, list):
        return {str(index): item for index, item in enumerate(child)}
    return dict(child) if isinstance(child, dict) else {}


def expand(tree: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """The settings with each `${NAME}` and `${NAME:-default}` replaced and `$$` read as a dollar.

    Done after the YAML is parsed and in values only, so a variable's content cannot add settings.
    """
    expansion = _Expansion(environ)
    return expansion.of(tree, ()), expansion.problems


class _Expansion:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[Problem] = []

    def of(self, value: Any, place: SettingPath) -> Any:
        if len(place) > _DEEPEST:
            self.problems.append(Problem(place[:1], "is nested too deeply"))
            return UNREADABLE
        if isinstance(value, dict):
            return {key: self.of(child, (*place, str(key))) for key, child in value.items()}
        if isinstance(value, list):
            return [self.of(child, (*place, str(index))) for index, child in enumerate(value)]
        return self._text(value, place) if isinstance(value, str) else value

    def _text(self, text: str, place: SettingPath) -> Any:
        faults = [fault for match in REFERENCE.finditer(text) if (fault := self._fault(match))]
        self.problems += [Problem(place, fault) for fault in faults]
        return UNREADABLE if faults else REFERENCE.sub(self._replacement, text)

    def _fault(self, match: re.Match[str]) -> str | None:
        if match[0] == "$$" or match["default"] is not None:
            return None
        if match["name"] is None:
            return "has a ${ that is not ${NAME} or ${NAME:-default}; a literal dollar is $$"
        return None if match["name"] in self._environ else f"the environment variable {match['name']} is not set"

    def _replacement(self, match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        found = self._environ.get(match["name"], "")
        if match["default"] is None:
            return found
        return found or match["default"].removeprefix(":-")  # as in a shell: empty counts as unset
