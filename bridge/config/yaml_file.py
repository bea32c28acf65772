"""Read the settings file: safe YAML without duplicate names."""

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.parser import ParserError
from yaml.scanner import ScannerError

from bridge.config.environment import REFERENCE
from bridge.config.errors import SettingsError, shown

_FAULTS = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises: its own errors, and those of its code for input such as `!!int ''` or 5000 brackets."""

_INDICATORS = ",?[]{}"
_STAND_INS = "".join(
    chr(0xFDD0 + at) for at in range(len(_INDICATORS))
)  # Unicode noncharacters, which occur in no text
_HIDDEN = str.maketrans(_INDICATORS, _STAND_INS)
_SHOWN = str.maketrans(_STAND_INS, _INDICATORS)
"""Inside `{…}` and `[…]`, YAML reads the braces of `${NAME}` as its own, so they are replaced while it parses."""


_TEXT = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"})
"""The types that a name may have."""


_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
_OTHER_BASE = re.compile(r"[-+]?0[0-7_]+|.*:.*")
"""Numbers in base 8 and 60, of which hardly anyone knows that YAML reads them so."""


class _Invalid(Exception):
    """Raised by the loader, caught by `_parse`; the message is for users."""

    def __init__(self, node: yaml.Node, fault: str) -> None:
        super().__init__(f"line {node.start_mark.line + 1}: {fault}")


class _Loader(yaml.SafeLoader):
    """Rejects duplicate names, names that are not text, and numbers that are not decimal.

    PyYAML silently keeps the last of two equal names, so that a crew would disappear, and reads `no` as a boolean and
    `007` as a number, so that a crew would get another name. It reads `010` as 8 and `1:30` as 90.
    """

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        node.value = node.value.translate(_SHOWN)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, value in node.value:
            if value.tag in _NUMBERS and _OTHER_BASE.fullmatch(value.value):
                raise _Invalid(value, "a number is not decimal in YAML; write it without 0 in front, or text in quotes")
            if not isinstance(key, yaml.ScalarNode):
                continue
            name = shown(key.value)
            if key.tag not in _TEXT:
                raise _Invalid(key, f'{name} is not text in YAML; write it in quotes: "{name}"')
            if key.value in seen:
                raise _Invalid(key, f"{name} is defined twice; remove one")
            seen.add(key.value)
        return node


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the file's content. Raise `SettingsError`."""
    tree, fault = _parse(_text(path))
    if fault:
        raise SettingsError([f"{path}: {fault}"])
    if not isinstance(tree, dict):
        raise SettingsError([f"{path}: must contain settings, each as `name: value`"])
    return tree


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        fault = "the settings file does not exist; name another with --config or $BRIDGE_CONFIG"
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    except ValueError:
        fault = "is not UTF-8 text"
    raise SettingsError([f"{path}: {fault}"])


def _parse(text: str) -> tuple[Any, str | None]:
    """Return the content, or the problem.

    PyYAML's messages quote the file with its secrets, so only the reason of its scanner and parser is used, which
    quotes at most one character.
    """
    try:
        tree = _Loader(_hidden(text)).get_single_data()
    except _Invalid as error:
        return None, str(error)
    except _FAULTS as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = f": {error.problem}" if isinstance(error, ScannerError | ParserError) else ""
        return None, f"{where}is not valid YAML{reason}".replace(repr("\t"), "tab")
    return {} if tree is None else tree, None


def _hidden(text: str) -> str:
    """Hide the references without changing the length; line by line, because an unclosed one may be in a comment."""
    lines = text.splitlines(keepends=True)
    return "".join(REFERENCE.sub(lambda found: found[0].translate(_HIDDEN), line) for line in lines)
