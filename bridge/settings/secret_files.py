"""Secrets that live in files: `token_file: path` becomes `token: <the file's text>`.

A relative path starts at the current directory. The path is not repeated in messages: people put secrets there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge.settings.names import SECRETS
from bridge.settings.problems import UNREADABLE, Place, Problem


def read_secret_files(tree: dict[str, Any]) -> list[Problem]:
    """Put each file's text in the place of its `…_file` setting, in the tree itself; gives back what went wrong."""
    return [
        Problem((*place, f"{name}_file"), fault)
        for *parents, name in SECRETS
        for place, section in _sections(tree, parents, ())
        if (fault := _fetch(section, name))
    ]


def _sections(node: Any, path: list[str], place: Place) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The sections that a path leads to, `*` standing for any step."""
    if not path:
        if isinstance(node, dict):
            yield place, node
        return
    for key, child in _children(node):
        if path[0] in ("*", key):
            yield from _sections(child, path[1:], (*place, key))


def _children(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, list):
        return [(str(index), child) for index, child in enumerate(node)]
    return [(str(key), child) for key, child in node.items()] if isinstance(node, dict) else []


def _fetch(section: dict[str, Any], name: str) -> str | None:
    """Replace one `…_file` setting by its file's text; gives back what is wrong with it."""
    file = section.pop(f"{name}_file", None)
    if file is None:
        return None
    if section.get(name) is not None:
        return f"is given beside {name}; keep one of the two"
    section[name] = UNREADABLE
    if file is UNREADABLE:
        return None
    if not isinstance(file, str):
        return "must be the path of a file"
    text, fault = _text(file)
    section[name] = UNREADABLE if fault else text
    return fault


def _text(file: str) -> tuple[str, str | None]:
    try:
        text = Path(file).read_text("utf-8").removesuffix("\n")
    except OSError as error:
        return "", f"the file cannot be read ({error.strerror})"
    except ValueError:
        return "", "the file is not UTF-8 text"
    return text, None if text else "the file is empty"
