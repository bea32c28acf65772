"""The settings file: YAML, safely read, with no name given twice."""

from pathlib import Path
from typing import Any

import yaml

from bridge.config.environment import REFERENCE
from bridge.config.errors import SettingsError, shown

_FAULTS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What PyYAML fails with: its own errors, and whatever its code comes to, as for `!!int ''` or 5000 brackets."""

_INDICATORS = ",?[]{}"
_STAND_INS = "".join(chr(0xFDD0 + at) for at in range(len(_INDICATORS)))  # no characters, by Unicode: in no text
_HIDDEN = str.maketrans(_INDICATORS, _STAND_INS)
_SHOWN = str.maketrans(_STAND_INS, _INDICATORS)
"""Inside `{…}` and `[…]` YAML takes the braces of `${NAME}` for its own, so they are hidden while it reads."""


class _GivenTwice(Exception):
    """A finding on its way to `_parse`."""

    def __init__(self, name: str, line: int) -> None:
        super().__init__()
        self.name = name
        self.line = line


class _Loader(yaml.SafeLoader):
    """PyYAML takes the last of two equal names in silence; here that would make a crew vanish."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        node.value = node.value.translate(_SHOWN)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise _GivenTwice(key.value, key.start_mark.line + 1)
            seen.add(key.value)
        return node


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's content; raises `SettingsError`."""
    tree, fault = _parse(_text(path))
    if fault:
        raise SettingsError([f"{path}: {fault}"])
    if not isinstance(tree, dict):
        raise SettingsError([f"{path}: must hold settings, each as `name: value`"])
    return tree


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        fault = "there is no such settings file; name one with --config or $BRIDGE_CONFIG"
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    except ValueError:
        fault = "is not UTF-8 text"
    raise SettingsError([f"{path}: {fault}"])


def _parse(text: str) -> tuple[Any, str | None]:
    """The content, or what is wrong with it; PyYAML's own messages quote the file and its secrets, so they end here."""
    try:
        tree = _Loader(_hidden(text)).get_single_data()
    except _GivenTwice as twice:
        return None, f"line {twice.line}: {shown(twice.name)} is given twice"
    except _FAULTS as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return None, f"{where}is not valid YAML"
    return {} if tree is None else tree, None


def _hidden(text: str) -> str:
    """The text with its references hidden, as long as before; line by line, for one never closed may be a comment's."""
    lines = text.splitlines(keepends=True)
    return "".join(REFERENCE.sub(lambda found: found[0].translate(_HIDDEN), line) for line in lines)
