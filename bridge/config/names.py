"""The names of all settings, taken from the model; `*` stands for a crew, a hook or a place in a list."""

from collections.abc import Iterator, Mapping
from functools import cache
from inspect import isclass
from typing import Any, get_args, get_origin

from bridge.config.model import Settings
from bridge.config.types import Section

SECRETS = (
    ("http", "clients", "*", "token"),
    ("amqp", "url"),
    ("store", "url"),
    ("crews", "*", "token"),
    ("crews", "*", "human", "secret"),
    ("crews", "*", "callback_secret"),
    ("hooks", "*", "verify", "secret"),
    ("hooks", "*", "verify", "password"),
    ("hooks", "*", "verify", "token"),
    ("callbacks", "secret"),
)
"""The settings that may also be given as `…_file`."""


@cache
def setting_names() -> tuple[str, ...]:
    """Dotted names such as `http.port` and `crews.*.url`, in the model's order, without the `…_file` forms."""
    return tuple(".".join(path) for path in _paths(Settings))


def siblings(place: tuple[str, ...]) -> list[str]:
    """The names that are known where this one stands."""
    paths = [*_paths(Settings), *((*path[:-1], f"{path[-1]}_file") for path in SECRETS)]
    return sorted({path[len(place) - 1] for path in paths if _shares_parent(path, place)})


def _shares_parent(path: tuple[str, ...], place: tuple[str, ...]) -> bool:
    parent = place[:-1]
    return len(path) >= len(place) and all(known in ("*", name) for known, name in zip(path, parent, strict=False))


def _paths(section: type[Section]) -> Iterator[tuple[str, ...]]:
    for name, field in section.model_fields.items():
        inner, many = _section_in(field.annotation)
        if inner is None:
            yield (name,)
        else:
            start = (name, "*") if many else (name,)
            yield from ((*start, *rest) for rest in _paths(inner))


def _section_in(annotation: Any) -> tuple[type[Section] | None, bool]:
    """The section that an annotation holds, and whether it holds many of them."""
    if isclass(annotation) and issubclass(annotation, Section):
        return annotation, False
    for argument in get_args(annotation):
        inner, many = _section_in(argument)
        if inner is not None:
            return inner, many or get_origin(annotation) in (tuple, Mapping)
    return None, False
