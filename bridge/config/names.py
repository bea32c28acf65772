"""List the names of all settings, from the model; `*` stands for a crew, a hook, a destination, or a list index."""

from collections.abc import Iterator, Mapping
from functools import cache
from inspect import isclass
from typing import Any, get_args, get_origin

from bridge.config.model import Settings
from bridge.config.types import Section

SECRETS = (
    ("proxy",),
    ("http", "clients", "*", "token"),
    ("amqp", "url"),
    ("store", "url"),
    ("crews", "*", "token"),
    ("crews", "*", "human", "secret"),
    ("crews", "*", "callback_secret"),
    ("hooks", "*", "verify", "secret"),
    ("hooks", "*", "verify", "password"),
    ("hooks", "*", "verify", "token"),
    ("destinations", "*", "secret"),
    ("callbacks", "secret"),
    ("callbacks", "proxy"),
)
"""The settings that can also be given as `…_file`."""


@cache
def setting_names() -> tuple[str, ...]:
    """Return dotted names such as `http.port` and `crews.*.url`, in the model's order, without the `…_file` forms."""
    return tuple(".".join(path) for path in _paths(Settings))


def siblings(setting: tuple[str, ...]) -> list[str]:
    """Return the names that are valid at the level of this path."""
    paths = [*_paths(Settings), *((*path[:-1], f"{path[-1]}_file") for path in SECRETS)]
    return sorted({path[len(setting) - 1] for path in paths if _shares_parent(path, setting)})


def _shares_parent(path: tuple[str, ...], setting: tuple[str, ...]) -> bool:
    parent = setting[:-1]
    return len(path) >= len(setting) and all(known in ("*", name) for known, name in zip(path, parent, strict=False))


def _paths(section: type[Section]) -> Iterator[tuple[str, ...]]:
    for name, field in section.model_fields.items():
        inner, many = _section_in(field.annotation)
        if inner is None:
            yield (name,)
        else:
            start = (name, "*") if many else (name,)
            yield from ((*start, *rest) for rest in _paths(inner))


def _section_in(annotation: Any) -> tuple[type[Section] | None, bool]:
    """Return the section that an annotation contains, if any, and whether it contains many."""
    if isclass(annotation) and issubclass(annotation, Section):
        return annotation, False
    for argument in get_args(annotation):
        inner, many = _section_in(argument)
        if inner is not None:
            return inner, many or get_origin(annotation) in (tuple, Mapping)
    return None, False
