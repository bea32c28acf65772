"""Read secrets from files, and list all secrets for redaction."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from bridge.config.errors import UNREADABLE, Problem, SettingPath
from bridge.config.model import Settings
from bridge.config.names import SECRETS


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A setting whose value came from a file; `stamp` changes with the file."""

    setting: SettingPath
    path: str
    stamp: Hashable

    @property
    def name(self) -> str:
        """The dotted name of the `…_file` setting."""
        return f"{'.'.join(self.setting)}_file"


def read_secret_files(tree: dict[str, Any]) -> tuple[list[SecretFile], list[Problem]]:
    """Replace each `…_file` setting in `tree` by the file's text; return the files read and the problems."""
    files, problems = [], []
    for *parents, name in SECRETS:
        for setting, section in _sections(tree, parents, ()):
            path = section.get(f"{name}_file")
            if isinstance(path, str):
                files.append(SecretFile((*setting, name), path, file_stamp(path)))
            if fault := _fetch(section, name):
                problems.append(Problem((*setting, f"{name}_file"), fault))
    return files, problems


def file_stamp(path: str) -> Hashable:
    """Return a value that changes with the file's content, without reading it; None if the file does not exist."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)


def with_secret(tree: Any, setting: SettingPath, text: str) -> Any:
    """A copy of the tree with another text at one setting."""
    if not setting:
        return text
    step, *rest = setting
    if isinstance(tree, list):
        return [with_secret(one, tuple(rest), text) if str(at) == step else one for at, one in enumerate(tree)]
    return {name: with_secret(one, tuple(rest), text) if str(name) == step else one for name, one in tree.items()}


def _sections(node: Any, path: list[str], setting: SettingPath) -> Iterator[tuple[SettingPath, dict[str, Any]]]:
    """Yield the sections that a path matches; `*` matches any key."""
    if not path:
        if isinstance(node, dict):
            yield setting, node
        return
    for key, child in _children(node):
        if path[0] in ("*", key):
            yield from _sections(child, path[1:], (*setting, key))


def _children(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, list):
        return [(str(index), child) for index, child in enumerate(node)]
    return [(str(key), child) for key, child in node.items()] if isinstance(node, dict) else []


def _fetch(section: dict[str, Any], name: str) -> str | None:
    """Replace one `…_file` setting by its file's text; return the problem, if any."""
    file = section.pop(f"{name}_file", None)
    if file is None:
        return None
    if section.get(name) is not None:
        return f"conflicts with {name}; keep only one of them"
    section[name] = UNREADABLE
    if file is UNREADABLE:
        return None
    if not isinstance(file, str):
        return "must be the path of a file"
    text, fault = read_secret(file)
    section[name] = UNREADABLE if fault else text
    return fault


def read_secret(file: str) -> tuple[str, str | None]:
    """Return the file's text, and the problem, if any."""
    try:
        text = Path(file).read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        return "", f"the file cannot be read ({error.strerror})"
    except ValueError:
        return "", "the file is not UTF-8 text"
    return text, None if text else "the file is empty"


def secret_values(settings: Settings) -> frozenset[str]:
    """Return every secret of the settings, including passwords inside URLs, in each form that a log might show."""
    return frozenset(form for secret in _secrets(settings) for form in _forms(secret))


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, Mapping):
        yield from _secrets(tuple(value.values()))
    elif isinstance(value, tuple):
        for item in value:
            yield from _secrets(item)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    if secret.startswith(("whsec_", "whsk_")):
        yield secret.partition("_")[2].rstrip("=")
    if password := _password(secret):
        yield password
        yield unquote(password)


def _password(secret: str) -> str | None:
    """Return the password of a URL; a token may resemble a URL without being one, such as `a://[b`."""
    try:
        return urlsplit(secret).password if "://" in secret else None
    except ValueError:
        return None
